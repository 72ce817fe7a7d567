"""Which rows are the few labelled ones, and linear models on frozen features."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


def draw(labels: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Row numbers of `per_class` rows of each class (all of a smaller class), drawn by seed, ascending.

    The rows of a smaller number are among those of a larger one: what more labels bring is then not luck of the draw.
    """
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def probe(
    features: NDArray[np.float32], labels: NDArray[np.int64], tested: NDArray[np.float32], strength: float = 1.0
) -> NDArray[np.int64]:
    """Classes of `tested` (rows, width) by logistic regression on standardised `features` (rows, width).

    `strength` is scikit-learn's C, its default. Alain and Bengio 2016, Linear Classifier Probes, arXiv:1610.01644.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    return model.fit(features, labels).predict(tested)


class Linear(NamedTuple):
    """A linear layer on features as they are: outputs are features @ weight.T + bias."""

    weight: NDArray[np.float32]  # (outputs, width)
    bias: NDArray[np.float32]  # (outputs,)


def linear_model(
    features: NDArray[np.float32],
    labels: NDArray[Any],
    task: str,
    *,
    outputs: int | None = None,
    intercept: bool = True,
    balanced: bool = False,
    strength: float = 1.0,
) -> Linear:
    """The last layer of a network, fitted by scikit-learn on standardised features and folded back onto raw ones.

    Args:
        features: (rows, width).
        labels: (rows,) classes for `single_label_classification`, whose softmax is then `predict_proba`; (rows, k) of
            0 and 1 for `multi_label_classification`, a model each; (rows,) or (rows, k) numbers for `regression`.
        task: one of these, in transformers' words.
        outputs: classes, by default as many as are seen. One without rows is given the mean of the others, less the
            logarithm of the number of rows.
        intercept: whether the layer has a bias; without, it stays 0.
        balanced: weigh classes so that all count alike.
        strength: scikit-learn's C, for regression 1 / alpha.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=intercept)
    scaled = scaler.fit_transform(features)
    if task == "regression":
        weight, bias = _ridge(scaled, labels, intercept, strength)
    else:
        options = {"C": strength, "fit_intercept": intercept, "class_weight": "balanced" if balanced else None}
        options["max_iter"] = 1000
        if task == "single_label_classification":
            weight, bias = _classes(scaled, labels, outputs or int(np.max(labels)) + 1, options)
        else:
            weight, bias = _tags(scaled, np.asarray(labels), options)
    weight = weight / scaler.scale_
    if intercept:
        bias = bias - weight @ scaler.mean_
    return Linear(weight.astype(np.float32), bias.astype(np.float32))


def _ridge(scaled: NDArray[Any], labels: NDArray[Any], intercept: bool, strength: float) -> tuple[Any, Any]:
    from sklearn.linear_model import Ridge

    targets = np.asarray(labels, dtype=float).reshape(len(labels), -1)
    model = Ridge(alpha=1 / strength, fit_intercept=intercept).fit(scaled, targets)
    return model.coef_.reshape(targets.shape[1], -1), np.broadcast_to(model.intercept_, targets.shape[1])


def _classes(scaled: NDArray[Any], labels: NDArray[Any], outputs: int, options: dict[str, Any]) -> tuple[Any, Any]:
    """One row of weights for each class; of two classes, halves of the difference that scikit-learn fits."""
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    if len(present) == 1:
        coef, own = np.zeros((1, scaled.shape[1])), np.zeros(1)
    else:
        model = LogisticRegression(**options).fit(scaled, labels)
        coef, own = model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))
    if len(present) == 2:
        coef, own = np.concatenate([-coef, coef]) / 2, np.concatenate([-own, own]) / 2
    weight = np.repeat(coef.mean(0, keepdims=True), outputs, axis=0)
    bias = np.full(outputs, own.mean() - (np.log(len(labels)) if options["fit_intercept"] else 0))
    weight[present], bias[present] = coef, own
    return weight, bias


def _tags(scaled: NDArray[Any], labels: NDArray[Any], options: dict[str, Any]) -> tuple[Any, Any]:
    """A model for each column; one that is the same in all rows has no weights, and the odds of so many rows."""
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((labels.shape[1], scaled.shape[1])), np.zeros(labels.shape[1])
    for tag, column in enumerate(labels.T.astype(int)):
        if column.min() != column.max():
            model = LogisticRegression(**options).fit(scaled, column)
            weight[tag], bias[tag] = model.coef_[0], model.intercept_[0] if options["fit_intercept"] else 0
        elif options["fit_intercept"]:
            bias[tag] = np.log(len(column) + 1) * (1 if column[0] else -1)
    return weight, bias
