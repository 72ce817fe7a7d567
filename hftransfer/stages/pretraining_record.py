"""What a pretraining leaves for the report: losses before and after, the verdict, what was forgotten, pictures."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hftransfer import comparison, data, inference
from hftransfer.objectives.base import Objective
from hftransfer.runs import StageFolder

STARTS = {
    "new network": "'before' is the untrained network: all that is learnt here counts",
    "fitted head": "'before' is fair: a new head was fitted first, encoder frozen",
    "own head": "'before' is fair: the checkpoint brought its head",
}
STILL_FALLING = 0.02  # of the whole fall, in the last evaluation


@dataclass
class Found:
    """One pretraining while it runs."""

    objective: Objective
    given: dict[str, Any]
    corpus: Any
    rows: Any
    held_out: Any
    extended: dict[str, Any] | None
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    costs: dict[str, np.ndarray] = field(default_factory=dict)  # (rows, 2) each, by "before", "general after", ...
    shown: dict[str, Any] = field(default_factory=dict)
    watched: list[dict[str, float]] = field(default_factory=list)
    trainable: int = 0

    def measure(self, when: str) -> None:
        """Measures the held-out rows, and the general ones, on every process alike."""
        self.costs[when] = inference.costs(self.objective, self.held_out.measured)
        if self.held_out.general is not None:
            self.costs[f"general {when}"] = inference.costs(self.objective, self.held_out.general)
        self.shown[when] = self.objective.show(self.held_out.measured)

    def watch(self) -> float:
        """The mean loss on the watched rows."""
        return mean(inference.costs(self.objective, self.held_out.watched))


def mean(costs: np.ndarray) -> float:
    """The loss of a unit, from (rows, 2) sums and counts."""
    return float(costs[:, 0].sum() / costs[:, 1].sum())


def finish(folder: StageFolder, found: Found, *, start: str) -> None:
    """Writes metrics, evidence and pictures, and ends the stage."""
    metrics, lines = _measured(found)
    loss, protocol = found.objective.loss_name, lines[0]["protocol"]
    verdict = comparison.words(lines[0], what=f"held-out {loss}", subject="Pretraining", unit="rows")
    told = [_shape_of(found), _forgotten(lines, found)]
    pictures = found.objective.picture(found.shown["before"], found.shown["after"])
    evidence = {
        "stage": "pretrain",
        "title": found.objective.title,
        "settings": found.given,
        "notes": [STARTS[start], *_notes(found, protocol)],
        "before_name": "before",
        "after_name": "after",
        "comparison": lines,
        "verdict": {**verdict, "text": " ".join([verdict["text"], *filter(None, told)])},
        "curves": _curves(found),
        "data": _cards(found),
        "citations": list(found.objective.citations),
        **{name: part for name, part in pictures.items() if name != "pictures"},
    }
    if pictures.get("pictures"):
        evidence["pictures"] = _written(pictures["pictures"], folder.work)
    folder.finish(metrics, evidence)


def _measured(found: Found) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Metrics, and the lines of the before/after table; the first is what the verdict is about."""
    name, protocol = found.objective.loss_name, "held out of the same data, same things hidden"
    before, after = found.costs["before"], found.costs["after"]
    metrics: dict[str, Any] = {
        "held_out_rows": len(before),
        f"held_out_{found.objective.unit.replace(' ', '_')}": int(before[:, 1].sum()),
        "trained_weights": found.trainable,
    }
    lines = [_line(name, before, after, protocol)]
    for when in ("before", "after"):
        loss = mean(found.costs[when])
        metrics[f"loss.{when}"] = loss
        further = found.objective.measures(loss, found.held_out.measured)
        metrics |= {f"{key}.{when}": value for key, value in further.items()}
    for key in found.objective.measures(1.0, found.held_out.measured):
        values = {when: metrics[f"{key}.{when}"] for when in ("before", "after")}
        if all(map(math.isfinite, values.values())):
            row = {"name": key.replace("_", " "), "rows": len(before), "protocol": protocol, "higher_is_better": False}
            lines.append({**row, **values})
    if "general before" in found.costs:
        pair = found.costs["general before"], found.costs["general after"]
        metrics |= {f"general_loss.{when}": mean(c) for when, c in zip(("before", "after"), pair, strict=True)}
        lines.append(_line(f"{name} on general data", *pair, "held out of the general data, same things hidden"))
    if found.extended:
        metrics |= found.extended
    return metrics, lines


def _line(name: str, before: np.ndarray, after: np.ndarray, protocol: str) -> dict[str, Any]:
    share = before[:, 1] / before[:, 1].mean()  # so that the mean over rows is the loss of a unit
    scored = [share * costs[:, 0] / costs[:, 1].clip(min=1) for costs in (before, after)]
    return comparison.compare_scores(name, *scored, protocol=protocol, higher_is_better=False)


def _forgotten(lines: list[dict[str, Any]], found: Found) -> str:
    """A sentence about the general data."""
    line = next((line for line in lines if line["name"].endswith("on general data")), None)
    if line is None:
        return ""
    change = "rose" if line["low"] > 0 else "fell" if line["high"] < 0 else "did not measurably change"
    said = {
        "rose": "Forgetting",
        "fell": "Nothing was forgotten",
        "did not measurably change": "Nothing was forgotten",
    }
    return (
        f"{said[change]}: on general data the loss {change}, from {line['before']:.3f} to {line['after']:.3f} "
        f"({line['difference']:+.3f}, 95 % interval {line['low']:+.3f} to {line['high']:+.3f})."
    )


def _shape_of(found: Found) -> str:
    """Whether more training would go on helping, from the loss on the watched rows."""
    losses = [entry["eval_loss"] for entry in found.watched]
    if len(losses) < 3:
        return ""
    fall, last = losses[0] - losses[-1], losses[-2] - losses[-1]
    if losses[-1] > min(losses) + 0.1 * max(losses[0] - min(losses), 1e-9):
        return "The watched loss has risen again since its lowest: train shorter, or with a lower learning rate."
    if fall > 0 and last > STILL_FALLING * fall:
        return "The watched loss is still falling: a longer training would lower it further."
    return "The watched loss has flattened, as it does when the learning rate runs out."


def _notes(found: Found, protocol: str) -> list[str]:
    held_out = found.held_out
    notes = [f"{len(found.rows)} rows to train on, {len(held_out.measured)} measured, {len(held_out.watched)} watched"]
    if found.given["replay"]:
        notes.append(f"{found.given['replay']:.0%} of the training documents are general ones")
    if found.extended:
        words = found.extended["new_words"]
        fewer = f"{found.extended['tokens_per_word.before']:.2f} to {found.extended['tokens_per_word.after']:.2f}"
        notes.append(f"{words} words of the corpus were added to the vocabulary: tokens per word went from {fewer}")
        old = found.extended.get("bits_per_byte.with_old_words")
        told = f"; with the old vocabulary bits per byte were {old:.3f}" if old is not None else ""
        notes.append(f"'before' already has the new words, not yet trained{told}")
    return notes


def _curves(found: Found) -> list[dict[str, Any]]:
    curves = [comparison.loss_curve(name, history) for name, history in found.curves.items() if history]
    if found.watched:
        watched = [{"step": entry["step"], "loss": entry["eval_loss"]} for entry in found.watched]
        curves.append(comparison.loss_curve(f"{found.objective.loss_name}, watched rows", watched))
    return curves


def _cards(found: Found) -> list[dict[str, Any]]:
    given = found.given
    specs = given["data"] if isinstance(given["data"], list) else [given["data"]]
    named = [(spec, part, "unlabelled") for spec, part in zip(specs, found.corpus.parts, strict=True)]
    if found.corpus.general is not None:
        named.append((given["general"], found.corpus.general, "general"))
    cards = []
    for spec, part, role in named:
        lengths = None
        if found.objective.kind == "text":
            tokens = found.objective.reader(part["train"]["text"][:], verbose=False)["input_ids"]
            lengths = [len(ids) for ids in tokens]
        name = data.display_name(data.parse(spec, "data"))
        cards.append(data.describe(part["train"], name=name, role=role, lengths=lengths))
    return cards


def _written(pictures: list[dict[str, Any]], folder: Path) -> list[dict[str, str]]:
    """Writes each picture into the stage folder; the evidence names its file and caption."""
    from hftransfer import processes

    if processes.is_main():
        for picture in pictures:
            (folder / picture["file"]).write_bytes(picture["png"])
    return [{"file": picture["file"], "caption": picture["caption"]} for picture in pictures]
