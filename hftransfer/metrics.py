"""Metrics that compute offline: `evaluate.Metric`s of our own, combined with `evaluate.combine`.

`evaluate.load("accuracy")` downloads code at run time; these do not. A name that is not in `METRICS` is left to
`evaluate.load`, so any metric of the Hub still works by name.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
from sklearn import metrics as sklearn_metrics

from hftransfer.errors import HFTransferError, nearest
from hftransfer.functional.calibration import expected_calibration_error
from hftransfer.functional.entities import is_bio, matched, precision_recall_f1

_IDS = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
_ROWS = datasets.Features(
    {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
)


class _Classification(evaluate.Metric):
    """Takes class ids or rows of probabilities as `predictions`, class ids as `references`."""

    formats: ClassVar[list[datasets.Features]] = [_ROWS, _IDS]

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__ or "", citation="", inputs_description="", features=self.formats
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        predicted = np.asarray(predictions)
        return self.score(predicted.argmax(1) if predicted.ndim == 2 else predicted, np.asarray(references))

    def score(self, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        raise AssertionError("each metric says how it is computed")


class Accuracy(_Classification):
    """Share of rows predicted right."""

    def score(self, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        return {"accuracy": float((predicted == true).mean())}


class BalancedAccuracy(_Classification):
    """Mean over the classes that occur of the share of each predicted right (mean recall)."""

    def score(self, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        return {"balanced_accuracy": float(np.mean([(predicted[true == c] == c).mean() for c in np.unique(true)]))}


class MacroF1(_Classification):
    """Mean over the classes of their F1."""

    def score(self, predicted: np.ndarray, true: np.ndarray) -> dict[str, Any]:
        return {"macro_f1": float(sklearn_metrics.f1_score(true, predicted, average="macro", zero_division=0))}


class ExpectedCalibrationError(_Classification):
    """How far confidence is from accuracy, over 15 bins of confidence (Guo et al. 2017, arXiv:1706.04599)."""

    formats: ClassVar[list[datasets.Features]] = [_ROWS]

    def _compute(self, predictions: Any, references: Any) -> dict[str, Any]:
        return {
            "expected_calibration_error": float(
                expected_calibration_error(np.asarray(predictions, dtype=float), np.asarray(references))
            )
        }


METRICS: dict[str, type[evaluate.Metric]] = {
    "accuracy": Accuracy,
    "balanced_accuracy": BalancedAccuracy,
    "macro_f1": MacroF1,
    "expected_calibration_error": ExpectedCalibrationError,
}


def load(names: Sequence[str] = tuple(METRICS)) -> evaluate.CombinedEvaluations:
    """Metrics by name as one `evaluate` object: `load([...]).compute(predictions=, references=)`.

    Raises:
        HFTransferError: when a name is neither ours nor to be had from the Hub.
    """
    return evaluate.combine([_one(name) for name in names])


def _one(name: str) -> Any:
    if name in METRICS:
        return METRICS[name](keep_in_memory=True)
    try:
        return evaluate.load(name)
    except (FileNotFoundError, ConnectionError, OSError) as error:
        hint = nearest(name, METRICS)
        raise HFTransferError(f"metrics: '{name}' is not one of ours, nor to be had from the Hub{hint}") from error


def score(probabilities: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """All of `METRICS` on (rows, classes) probabilities and (rows,) class ids."""
    computed = load().compute(predictions=probabilities.tolist(), references=true.tolist())
    return {name: float(value) for name, value in computed.items()}


def per_class(predicted: np.ndarray, true: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and number of rows of each class: an average hides the class that was lost."""
    columns = sklearn_metrics.precision_recall_fscore_support(
        true, predicted, labels=range(len(labels)), zero_division=0
    )
    return [_class_score(label, *numbers) for label, *numbers in zip(labels, *columns, strict=True)]


def confusion(predicted: np.ndarray, true: np.ndarray, num_classes: int) -> list[list[int]]:
    """Counts, rows true and columns predicted."""
    return sklearn_metrics.confusion_matrix(true, predicted, labels=range(num_classes)).tolist()


def row_scores(predicted: np.ndarray, true: np.ndarray) -> dict[str, np.ndarray]:
    """Each row's contribution, so that the mean over the rows is the metric: what the paired bootstrap resamples."""
    right = (predicted == true).astype(float)
    classes, counts = np.unique(true, return_counts=True)
    share = dict(zip(classes, len(true) / (len(classes) * counts), strict=True))
    return {"accuracy": right, "balanced_accuracy": right * np.array([share[c] for c in true])}


def as_predictions(probabilities: np.ndarray, names: Sequence[str]) -> list[Any]:
    """What `load(names)` wants: probabilities for our metrics, class ids as soon as one comes from the Hub."""
    return probabilities.tolist() if set(names) <= set(METRICS) else probabilities.argmax(1).tolist()


def multi_label(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Of (rows, classes) yes or no: F1 over all answers, over the classes, over the rows; and rows wholly right."""
    options = {"zero_division": 0}
    return {
        "micro_f1": float(sklearn_metrics.f1_score(true, predicted, average="micro", **options)),
        "macro_f1": float(sklearn_metrics.f1_score(true, predicted, average="macro", **options)),
        "example_f1": float(example_f1(predicted, true).mean()),
        "exact_match": float((predicted == true).all(1).mean()),
    }


def example_f1(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(rows,) the F1 of each row's classes; 1 where it has none and gets none."""
    both, either = (predicted & true).sum(1), predicted.sum(1) + true.sum(1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


def per_tag(predicted: np.ndarray, true: np.ndarray, labels: Sequence[str]) -> list[dict[str, Any]]:
    """What `per_class` tells, of classes that are each a yes or no."""
    columns = sklearn_metrics.precision_recall_fscore_support(true, predicted, zero_division=0)
    return [_class_score(label, *numbers) for label, *numbers in zip(labels, *columns, strict=True)]


def _class_score(label: str, precision: float, recall: float, f1: float, support: int) -> dict[str, Any]:
    numbers = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {"label": label, **numbers, "support": int(support)}


def numbers(predicted: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Of (rows,) numbers: mean absolute and root mean squared error, R squared, and both correlations."""
    predicted, true = predicted.astype(float), true.astype(float)
    error, spread = predicted - true, true - true.mean()
    unexplained, varies = float((error**2).sum()), float((spread**2).sum())
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1 - unexplained / varies if varies else 0.0,
        "pearson": _correlation(predicted, true),
        "spearman": _correlation(_ranks(predicted), _ranks(true)),
    }


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of them does not vary."""
    first, second = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """(rows,) places in order, equal values sharing the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]


def tags(predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, float]:
    """Of each row's classes (words,): entities found whole where labels are B-, I-, O; else macro F1 of the words."""
    flat, wanted = np.concatenate(list(predicted)), np.concatenate(list(true))
    accuracy = float((flat == wanted).mean()) if len(wanted) else 1.0
    if not is_bio(names):
        macro = sklearn_metrics.f1_score(wanted, flat, average="macro", zero_division=0) if len(wanted) else 1.0
        return {"macro_f1": float(macro), "token_accuracy": accuracy}
    counts = matched(_named(true, names), _named(predicted, names)).values()
    total = [sum(column) for column in zip(*counts, strict=True)] or [0, 0, 0]
    precision, recall, f1 = precision_recall_f1(*total)
    return {"entity_f1": f1, "entity_precision": precision, "entity_recall": recall, "token_accuracy": accuracy}


def per_entity(
    predicted: Sequence[np.ndarray], true: Sequence[np.ndarray], names: Sequence[str]
) -> list[dict[str, Any]]:
    """What `per_class` tells, of types of entities."""
    counts = matched(_named(true, names), _named(predicted, names))
    return [_class_score(kind, *precision_recall_f1(*found), found[2]) for kind, found in counts.items()]


def _named(rows: Sequence[np.ndarray], names: Sequence[str]) -> list[list[str]]:
    return [[names[label] for label in row] for row in rows]
