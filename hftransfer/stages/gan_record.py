"""What `gan` leaves to read: quality beside its floor, the players' curves, samples over time, the outcome."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hftransfer import comparison, data, models, processes
from hftransfer.data.samples import Sampled
from hftransfer.functional.gan_losses import LOSSES
from hftransfer.quality import Quality
from hftransfer.runs import StageFolder
from hftransfer.stages import gan_shown
from hftransfer.stages.gan import QUALITIES
from hftransfer.trainers.gan_model import GanModel
from hftransfer.trainers.gan_watch import alarms, told

MOST_CLASSES = 20  # that a table has
PAPERS = {
    "augment": "Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training, arXiv:2006.10738",
    "adaptive": "Karras et al. 2020, Training GANs with Limited Data, arXiv:2006.06676",
    "freeze": "Mo et al. 2020, Freeze the Discriminator, arXiv:2002.10964",
    "ema": "Yazici et al. 2018, The Unusual Effectiveness of Averaging in GAN Training, arXiv:1806.04498",
}


@dataclass
class Found:
    """A game that has ended, and all that is known of it."""

    given: dict[str, Any]
    rows: Sampled
    model: GanModel
    history: list[dict[str, Any]]
    frames: list[tuple[int, np.ndarray]]
    quality: Quality
    notes: list[str]
    step: int | None  # whose networks are kept

    @property
    def shipped(self) -> Any:
        return self.model.averaged()

    @functools.cached_property
    def baseline(self) -> Any:
        """The other run's generator; None where nothing is compared."""
        model = self.given["baseline"]
        return None if model is None else models.load(model, "encoder").to(processes.state().device)


def finish(folder: StageFolder, found: Found) -> None:
    """Measures on the held-out rows, draws, writes the record."""
    given = found.given
    measured = _measured(found)
    outcome = told(found.history, by=f"eval_{given['by']}", higher_is_better=QUALITIES[given["by"]])
    by, floor = given["by"].replace("_", " "), measured["floor"][given["by"]]
    # a training that has come to its end may have ended far from the data
    text = (
        f"{outcome.text} On held-out samples: {by} {measured['shipped'][given['by']]:.3g}, of real ones {floor:.3g}."
        f"{_raw_is_better(given['by'], measured)}"
    )
    metrics: dict[str, Any] = dict(measured["shipped"])
    metrics |= {
        f"{name}.{key}": value for name, side in measured.items() if name != "shipped" for key, value in side.items()
    }
    metrics |= {"train_rows": len(found.rows.train), "test_rows": len(found.rows.test)}
    metrics |= {"quality_rows": found.quality.n}
    metrics |= {"parameters": sum(p.numel() for p in found.shipped.parameters())}
    if found.step is not None:
        metrics["step"] = found.step
    name = data.display_name(data.parse(given["data"], "data"))
    evidence = {
        "stage": "gan",
        "title": f"A generator against a discriminator: {given['loss'].replace('_', ' ')}",
        "settings": given,
        "notes": [
            *found.notes,
            *found.rows.notes,
            found.quality.says,
            *_chosen(found),
            *alarms(found.history).values(),
        ],
        "outcome": {"outcome": outcome.outcome, "text": text},
        "features": found.quality.by,
        "curves": _curves(found),
        "tables": [_table(found, measured), *_classes(found)],
        "data": [{"role": "learnt from", "name": name, "rows": len(found.rows.train), "labels": _labels(found.rows)}],
        "citations": _citations(given),
        "pictures": gan_shown.pictures(folder.work, found),
    }
    if given["baseline"] is not None:
        evidence |= _against_baseline(found, text)
    folder.finish(metrics, evidence)


def _against_baseline(found: Found, ended: str) -> dict[str, Any]:
    """The kernel distance to held-out samples beside the other run's, and whether it is measurably less."""
    gain = found.quality.gain(found.baseline, found.shipped)
    line = {
        "name": "kernel distance",
        "protocol": "held-out samples, and as many of each generator",
        "rows": gain.rows,
        "before": gain.before,
        "after": gain.after,
        "higher_is_better": False,
        **gain.interval._asdict(),
    }
    what = "the kernel distance to held-out samples"
    verdict = comparison.words(line, what=what, subject="Transfer", unit="samples")
    names = {"before_name": models.public_name(found.given["baseline"]), "after_name": "this run"}
    return {**names, "comparison": [line], "verdict": {**verdict, "text": f"{verdict['text']} {ended}"}}


def _measured(found: Found) -> dict[str, dict[str, float]]:
    """Quality on the held-out rows by whom: what is shipped, the generator itself, another run's, real samples."""
    sides = {"shipped": found.quality(found.shipped)}
    if found.model.generator_ema is not None:
        sides["raw"] = found.quality(found.model.generator)
    if found.baseline is not None:
        sides["baseline"] = found.quality(found.baseline)
    floor = dict(found.quality.floor)
    if "asked_accuracy" in sides["shipped"] and found.quality.real_accuracy is not None:
        floor["asked_accuracy"] = found.quality.real_accuracy
    return {**sides, "floor": floor}


def _raw_is_better(by: str, measured: dict[str, dict[str, float]]) -> str:
    """A sentence where the average, which is shipped, is worse than what it is an average of."""
    if "raw" not in measured:
        return ""
    shipped, raw = measured["shipped"][by], measured["raw"][by]
    if not (raw > shipped if QUALITIES[by] else raw < shipped):
        return ""
    return f" The generator that was not averaged, in raw/, is better by that number: {raw:.3g}; lower ema."


def _table(found: Found, measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    names = {
        "shipped": "generator, averaged" if found.model.generator_ema is not None else "generator",
        "raw": "generator, not averaged",
        "floor": "as many real training samples",
    }
    if found.given["baseline"] is not None:
        names["baseline"] = f"baseline: {models.public_name(found.given['baseline'])}"
    columns = list(measured["shipped"])
    rows = [[names[side], *(_cell(values.get(name)) for name in columns)] for side, values in measured.items()]
    shown = [
        f"{name.replace('_', ' ')} {'↑' if {**QUALITIES, 'asked_accuracy': True}[name] else '↓'}" for name in columns
    ]
    return {"title": "Quality on held-out samples (arrows: better)", "columns": ["samples of", *shown], "rows": rows}


def _classes(found: Found) -> list[dict[str, Any]]:
    """How often each class is made, beside how often it is real, both as the judge sees it."""
    told = found.quality.classes(found.shipped)
    if told is None:
        return []
    rows = [row for row in zip(*told, strict=True) if row[0] in found.rows.names or any(row[1:])]
    title = "Share of samples taken for each class"
    if len(rows) > MOST_CLASSES:
        rows = sorted(rows, key=lambda row: -abs(row[1] - row[2]))[:MOST_CLASSES]
        title += f": the {MOST_CLASSES} that differ most"
    cells = [[name, f"{made:.3f}", f"{real:.3f}"] for name, made, real in rows]
    return [{"title": title, "columns": ["class", "generated", "held out"], "rows": cells}]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _chosen(found: Found) -> list[str]:
    if found.step is None or not found.given["keep_best"]:
        return ["the networks of the last step are kept"]
    return [
        f"the networks of step {found.step} are kept, whose {found.given['by'].replace('_', ' ')} was best against "
        "training samples; the held-out ones chose nothing"
    ]


def _curves(found: Found) -> list[dict[str, Any]]:
    def curve(key: str, name: str, y: str) -> dict[str, Any]:
        points = [[entry["step"], entry[key]] for entry in found.history if key in entry]
        return {"name": name, "x": "step", "y": y, "points": points}

    by = found.given["by"].replace("_", " ")
    curves = [
        curve("loss", "generator", "loss"),
        curve("discriminator_loss", "discriminator", "loss"),
        curve("accuracy_real", "of real samples", "share it gets right"),
        curve("accuracy_fake", "of generated samples", "share it gets right"),
        curve("diversity", "diversity", "diversity"),
        curve(f"eval_{found.given['by']}", "averaged" if found.model.generator_ema is not None else "generator", by),
        curve(f"eval_raw_{found.given['by']}", "not averaged", by),
    ]
    return [one for one in curves if one["points"]]


def _labels(rows: Sampled) -> dict[str, int] | None:
    if rows.train_labels is None:
        return None
    counts = torch.bincount(rows.train_labels, minlength=len(rows.names))
    return dict(zip(rows.names, counts.tolist(), strict=True))


def _citations(given: dict[str, Any]) -> list[str]:
    used = {
        "augment": bool(given["augment"]),
        "adaptive": bool(given["augment"]) and given["augment_p"] == "adaptive",
        "freeze": bool(given["freeze"]),
        "ema": given["ema"] is not None,
    }
    return [LOSSES[given["loss"]].paper, *(PAPERS[name] for name, value in used.items() if value)]
