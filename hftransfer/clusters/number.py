"""How many clusters: all curves are shown, and a rule that is stated chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from hftransfer.clusters.checks import different
from hftransfer.clusters.methods import TREES, by_size, hierarchy
from hftransfer.clusters.scores import quick, silhouette, stability
from hftransfer.errors import HFTransferError
from hftransfer.functional.gap_statistic import dispersion, first_within, gap, knee, uniform_reference
from hftransfer.functional.tree_cut import tree_cut

Array = NDArray[Any]
MOST_ROWS = 3000  # that numbers are tried on
REFERENCES = 10
Curve = list[tuple[int, float, float]]  # (number, value, spread)


@dataclass(frozen=True)
class Choice:
    """A number of clusters, and what it was chosen by."""

    k: int
    rule: str
    curves: dict[str, Curve]


def choose(vectors: Array, ks: Sequence[int], method: str, seed: int) -> Choice:
    """Tries numbers of clusters on at most 3000 rows."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:MOST_ROWS])
    sample = np.asarray(vectors[rows], dtype=np.float64)
    apart = different(sample, max(ks) + 1)
    ks = [k for k in ks if k < apart]  # as many clusters as there are different rows would be without spread
    if not ks:
        raise HFTransferError(f"try_k: only {apart} of the rows differ, so no number can be chosen; give k")
    curves: dict[str, Curve] = {name: [] for name in _CURVES}
    noise = np.random.default_rng(seed)
    boxes = [uniform_reference(sample, noise) for _ in range(REFERENCES)]
    own, others = _groupings(sample, ks, method, seed), [_groupings(box, ks, method, seed) for box in boxes]
    for place, k in enumerate(ks):
        labels = own[place]
        logs = [np.log(dispersion(box, other[place])) for box, other in zip(boxes, others, strict=True)]
        within = dispersion(sample, labels)
        stable = stability(sample, method, k, seed)
        several = len(np.unique(labels)) > 1
        curves["silhouette"].append((k, silhouette(sample, labels, seed) if several else np.nan, 0.0))
        curves["gap"].append((k, *gap(np.log(max(within, 1e-300)), logs)))
        curves["stability"].append((k, float(stable.mean()), float(stable.std(ddof=1) / np.sqrt(len(stable)))))
        curves["Calinski-Harabasz"].append((k, float(metrics.calinski_harabasz_score(sample, labels)), 0.0))
        curves["Davies-Bouldin (low is good)"].append((k, float(metrics.davies_bouldin_score(sample, labels)), 0.0))
        curves["spread within"].append((k, within, 0.0))
    chosen, rule = vote(curves)
    told = f"of {len(vectors):,} rows, " if len(sample) == len(vectors) else f"of {len(sample):,} of the rows, "
    return Choice(chosen, f"Number of clusters, {told}{ks[0]} to {ks[-1]} tried: {rule}", curves)


_CURVES = ("silhouette", "gap", "stability", "Calinski-Harabasz", "Davies-Bouldin (low is good)", "spread within")


def vote(curves: dict[str, Curve]) -> tuple[int, str]:
    """The median of what three curves are for, and that in words; of two the larger, for too few clusters hide more.

    The silhouette is for where it is highest, and for none where that is the largest number tried. The gap is for the
    smallest number whose gap is no worse than the next one's less its standard error (Tibshirani et al. 2001), if no
    later one is better by more than its own; else it goes on rising, and is for its knee. Stability is for the largest
    number that is as stable as the most stable one, within one standard error.
    """
    numbers = [k for k, _, _ in curves["gap"]]
    shapes = {name: np.array([value for _, value, _ in curves[name]]) for name in ("silhouette", "gap", "stability")}
    highest = numbers[int(np.nanargmax(shapes["silhouette"]))]
    rising = len(numbers) > 1 and highest == numbers[-1]
    best = int(shapes["stability"].argmax())
    least = shapes["stability"][best] - curves["stability"][best][2]
    errors = np.array([spread for _, _, spread in curves["gap"]])
    first = first_within(numbers, list(shapes["gap"]), list(errors))
    if first is not None and (shapes["gap"] - errors).max() > shapes["gap"][numbers.index(first)]:
        first = None
    bend = None if first is not None else knee(numbers, list(shapes["gap"]))
    votes = {
        "silhouette": None if rising else highest,
        "gap": bend if first is None else first,
        "stability": max(k for k, value in zip(numbers, shapes["stability"], strict=True) if value >= least),
    }
    given = sorted(number for number in votes.values() if number is not None)
    chosen = given[len(given) // 2]
    told = {
        "silhouette": "silhouette still rising at the end" if rising else f"silhouette {highest}",
        "gap": f"gap {first}" if first is not None else f"gap always rising, its knee {bend}" if bend else "gap none",
        "stability": f"stability {votes['stability']}",
    }
    agree = len(set(given)) == 1
    how = "they agree" if agree else "their median" if len(given) == 3 else "the larger of the two"
    return chosen, f"{'; '.join(told.values())}; {how}, {chosen}, is taken"


def _groupings(rows: Array, ks: Sequence[int], method: str, seed: int) -> list[Array]:
    """The labels for each number; a hierarchy is made once and cut for each."""
    if method in TREES:
        tree = hierarchy(rows, method, seed)[0]
        return [by_size(tree_cut(tree, k))[0] for k in ks]
    return [quick(rows, method, k, seed) for k in ks]
