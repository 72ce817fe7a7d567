"""Two models on the same rows: intervals, the verdict in words, and the numbers behind the report's pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer import metrics
from hftransfer.functional.bootstrap import Interval, paired_bootstrap, verdict
from hftransfer.functional.projection import principal_plane
from hftransfer.inference import Predictions

PICTURED = 400  # points of each domain in the 2-D picture: more would hide each other


def loss_curve(name: str, history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """A Trainer's log history as a curve of the report."""
    return {"name": name, "x": "step", "y": "loss", "points": [[entry["step"], entry["loss"]] for entry in history]}


def compare_scores(
    name: str, before: np.ndarray, after: np.ndarray, *, protocol: str, higher_is_better: bool = True
) -> dict[str, Any]:
    """One line of the before/after table from each row's score: means, and the paired bootstrap of the difference."""
    interval = paired_bootstrap(before, after)
    return {
        "name": name,
        "protocol": protocol,
        "rows": len(before),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": interval.difference,
        "low": interval.low,
        "high": interval.high,
        "higher_is_better": higher_is_better,
    }


def compare_classifiers(
    before: np.ndarray, after: np.ndarray, true: np.ndarray, *, protocol: str
) -> list[dict[str, Any]]:
    """Accuracy and balanced accuracy of two models' classes (rows,) on the same labelled rows."""
    first, second = metrics.row_scores(before, true), metrics.row_scores(after, true)
    return [compare_scores(name.replace("_", " "), first[name], second[name], protocol=protocol) for name in first]


def words(line: Mapping[str, Any], *, what: str, subject: str, unit: str = "examples") -> dict[str, str]:
    """The verdict on one line of the table: `subject` helped, made no measurable difference, or hurt."""
    interval = Interval(line["difference"], line["low"], line["high"])
    outcome = verdict(interval, higher_is_better=line["higher_is_better"])
    said = {"helped": "helped", "hurt": "hurt", "no measurable difference": "made no measurable difference"}[outcome]
    text = (
        f"{subject} {said}: {what} went from {line['before']:.3f} to {line['after']:.3f} ({line['difference']:+.3f}, "
        f"95 % interval {line['low']:+.3f} to {line['high']:+.3f}, {line['rows']} {unit})."
    )
    return {"outcome": outcome, "text": text}


def pictures(
    before: Mapping[str, Predictions],
    after: Mapping[str, Predictions],
    source_labels: np.ndarray,
    target_labels: np.ndarray | None,
    names: Sequence[str],
) -> dict[str, Any]:
    """Source and target features in the plane of their two largest principal components, for both models."""
    return {
        "before": _plane(before, source_labels, target_labels),
        "after": _plane(after, source_labels, target_labels),
        "labels": list(names),
    }


def _plane(
    found: Mapping[str, Predictions], source_labels: np.ndarray, target_labels: np.ndarray | None
) -> dict[str, Any]:
    source = found["source test"].features[:PICTURED]
    target = np.concatenate([found["target"].features, found["target test"].features])[:PICTURED]
    points = principal_plane(np.concatenate([source, target])).round(4)
    return {
        "source": points[: len(source)].tolist(),
        "target": points[len(source) :].tolist(),
        "source_labels": source_labels[:PICTURED].tolist(),
        "target_labels": None if target_labels is None else target_labels[:PICTURED].tolist(),
    }
