"""The model-index of a card: what was measured on the final checkpoint, as the Hub lists it."""

import math
import re
from typing import Any

from hftransfer.evidence import Comparison, DataCard
from hftransfer.report import words
from hftransfer.report.record import RunRecord, StageRecord, distinct_data

SCORES = (  # metrics of tasks that say how good a checkpoint is; the first that is there is the one it is judged by
    "entity_f1", "example_f1", "accuracy", "mae", "perplexity", "macro_f1", "micro_f1", "balanced_accuracy", "f1",
    "exact_match", "token_accuracy", "entity_precision", "entity_recall", "rmse", "r2", "pearson", "spearman",
)  # fmt: skip
SAMPLES = {  # of a generator's samples, against held-out ones
    "frechet": "Frechet distance",
    "kernel": "kernel distance",
    "precision": "sample precision",
    "recall": "sample recall",
    "density": "density",
    "coverage": "coverage",
    "label_divergence": "label divergence",
    "modes": "modes",
    "good_share": "share of good samples",
}
_MEASURING = ("finetune", "evaluate")  # stages that measure a checkpoint alone, without the one before


def eval_results(record: RunRecord, task: str) -> list[Any]:
    """An `EvalResult` for every finite number that is true of the final checkpoint.

    Comparisons of earlier stages describe checkpoints that were trained on; they stay in the text.
    """
    from huggingface_hub import EvalResult

    results = []
    for stage in record.final_stages():
        data = evaluated_data(stage, record)
        where = {
            "dataset_type": _dataset_type(data),
            "dataset_name": words.public_name(data["name"]) if data else "target",
            "dataset_split": _split(stage, data),
        }
        results += [
            EvalResult(
                task_type=task,
                metric_type=_metric_type(name),
                metric_value=value,
                metric_name=f"{name} ({protocol})" if protocol else name,
                verified=False,
                **where,
            )
            for name, value, protocol in _measured(stage)
        ]
    return results


def _measured(stage: StageRecord) -> list[tuple[str, float, str]]:
    """(name, value, protocol) of the stage's comparisons, or else of its own metrics."""
    compared = stage.evidence.get("comparison") or []
    found = [(item["name"], item["after"], words.one_line(item.get("protocol") or "")) for item in compared]
    return [one for one in found or scores(stage) if math.isfinite(one[1])]


def scores(stage: StageRecord) -> list[tuple[str, float, str]]:
    """What a stage that compares nothing measured."""
    if stage.evidence["stage"] == "gan":
        return _of_samples(stage)
    if stage.evidence.get("comparison") or stage.evidence["stage"] not in _MEASURING:
        return []
    return [(name.replace("_", " "), stage.metrics[name], "") for name in SCORES if name in stage.metrics]


def _of_samples(stage: StageRecord) -> list[tuple[str, float, str]]:
    """A distance says nothing without what it is between, and what real samples have."""
    found = []
    for key, name in SAMPLES.items():
        if key in stage.metrics:
            floor = stage.metrics.get(f"floor.{key}")
            told = [stage.evidence.get("features"), None if floor is None else f"real samples: {words.number(floor)}"]
            found.append((name, stage.metrics[key], words.one_line("; ".join(filter(None, told)))))
    return found


def measured_rows(stage: StageRecord) -> int:
    """How many examples a stage's numbers rest on; 0 where that is not told."""
    compared = max((item.get("rows") or 0 for item in stage.evidence.get("comparison") or []), default=0)
    told = (int(stage.metrics.get(key) or 0) for key in ("quality_rows", "test_rows", "rows"))
    return compared or (next(filter(None, told), 0) if scores(stage) else 0)


def comparisons(stages: list[StageRecord]) -> list[Comparison]:
    return [item for stage in stages for item in stage.evidence.get("comparison") or []]


def evaluated_data(stage: StageRecord, record: RunRecord) -> DataCard | None:
    """The data set that a stage's numbers are of."""
    data = (stage.evidence.get("data") or []) or distinct_data(record.stages)
    targets = [item for item in data if "target" in item["role"] or "eval" in item["role"] or "test" in item["role"]]
    if targets:
        return targets[0]
    return data[-1] if data else None


def _split(stage: StageRecord, item: DataCard | None) -> str | None:
    if item is None:
        return None
    held_out = stage.evidence["stage"] in ("finetune", "gan") and scores(stage)
    return item.get("split") or ("held out" if held_out else item["role"])


def _dataset_type(item: DataCard | None) -> str:
    if item is None:
        return "target"
    return words.hub_id(item["name"]) or _slug(words.public_name(item["name"]).split(" (")[0])


def _metric_type(name: str) -> str:
    slug = _slug(name).replace("-", "_")
    return "f1" if "f1" in slug.split("_") else slug


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unnamed"
