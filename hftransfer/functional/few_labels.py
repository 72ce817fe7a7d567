"""Which rows are the few labelled ones, and a probe on frozen features."""

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
