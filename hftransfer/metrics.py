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
    return [
        {
            "label": label,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    ]


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
