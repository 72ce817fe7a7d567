"""What `finetune` leaves to read: metrics beside the most frequent answer, curves, tables."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from hftransfer import comparison, data
from hftransfer.functional.calibration import expected_calibration_error
from hftransfer.functional.softmax import softmax
from hftransfer.functional.weight_space import interpolated
from hftransfer.inputs import Inputs
from hftransfer.methods import METHODS, PAPERS
from hftransfer.runs import StageFolder
from hftransfer.stages import choosing
from hftransfer.stages.choosing import CALIBRATED, Ended
from hftransfer.stages.fitting import Fit


@dataclass
class Found:
    """A fitted network and all that is known of it."""

    given: dict[str, Any]
    task: Any
    start: Any
    fit: Fit
    ended: Ended
    test: Inputs
    general: Inputs | None
    part: Any  # the training rows as loaded
    folds: list[dict[str, float]]
    metrics: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    curves: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def _curve_back(self, share: float) -> None:
        """The metric along the way from the start to the end, on all held-out rows; the network stays as it is."""
        parts = {"held out": self.test, "general": self.general, "validation": self.fit.validation}
        along = copy.deepcopy(self.fit.network)
        for name, part in parts.items():
            if part is None:
                continue
            known = self.ended.along if part is self.fit.validation else {}
            found = known or {step: self._at(along, step, part) for step in choosing.SHARES}
            axes = {"x": "share of the fine-tuned weights", "y": self.task.metric.replace("_", " ")}
            self.curves.append({"name": name, **axes, "points": [list(point) for point in found.items()]})
        self.metrics["wise_ft.share"] = share
        chosen = "chosen on validation rows" if self.fit.near["wise_ft"] == "best" else "as asked"
        self.notes.append(f"{share:g} of the fine-tuned weights, {chosen}; the test rows choose nothing")

    def _at(self, along: nn.Module, share: float, part: Inputs) -> float:
        """The metric of rows at a share of the fine-tuned weights, as they were before they were calibrated."""
        along.load_state_dict(interpolated(self.ended.start, self.ended.end, share))
        return float(self.task.score(self.task.predict(along, part), part.labels)[self.task.metric])

    def measure(self) -> None:
        """All numbers on the held-out rows, and on the general ones."""
        if self.ended.share is not None:
            self._curve_back(self.ended.share)
        task, network = self.task, self.fit.network
        outputs = task.predict(network, self.test)
        scores = task.score(outputs, self.test.labels)
        floor = task.floor(self.fit.train.labels, self.test.labels)
        self.metrics |= {**scores, **floor, "test_rows": len(self.test.rows), "train_rows": len(self.fit.train.rows)}
        if self.fit.validation is not None:
            self.metrics["validation_rows"] = len(self.fit.validation.rows)
        self.metrics |= {"trainable": self.fit.trainable, "parameters": sum(p.numel() for p in network.parameters())}
        if self.general is not None:
            seen = task.predict(network, self.general)
            elsewhere = task.score(seen, self.general.labels)
            self.metrics |= {f"general.{name}": value for name, value in elsewhere.items()}
            if self.ended.temperature is not None:
                self._tell_calibration(seen, self.general.labels, self.ended.temperature, "general.")
            self.notes.append(f"on {len(self.general.rows)} rows of the general data: {self._shown('general.')}")
        for name in scores if self.folds else ():
            values = [fold[name] for fold in self.folds]
            self.metrics |= {
                f"folds.{name}": float(np.mean(values)),
                f"folds.{name}.spread": float(np.std(values, ddof=1)),
            }
        if self.folds:
            spread = self.metrics[f"folds.{task.metric}.spread"]
            told = f"{self._shown('folds.')} on average, standard deviation {spread:.3f}"
            self.notes.append(f"on {len(self.folds)} folds of the training rows, each by a network of its own: {told}")
        if self.ended.temperature is not None:
            self._tell_calibration(outputs, self.test.labels, self.ended.temperature)
        self.evidence |= task.evidence(outputs, self.test.labels)
        self._against_the_usual(outputs)

    def _against_the_usual(self, outputs: Any) -> None:
        """The result beside the most frequent answer, which knows nothing of the content."""
        task, metric = self.task, self.task.metric.replace("_", " ")
        usual = task.usual(self.fit.train.labels, self.test.labels)
        if usual is None:
            return
        rows = task.row_scores(outputs, self.test.labels)
        options: dict[str, Any] = {"protocol": "held-out rows", "higher_is_better": task.higher_is_better}
        line = comparison.compare_scores(metric, usual, rows, **options)
        self.evidence |= {"comparison": [line], "before_name": "the most frequent answer", "after_name": "fine-tuned"}
        self.evidence["verdict"] = comparison.words(line, what=metric, subject="Fine-tuning")

    def _shown(self, prefix: str) -> str:
        return f"{self.task.metric.replace('_', ' ')} {self.metrics[prefix + self.task.metric]:.3f}"

    def _tell_calibration(self, outputs: Any, labels: Any, temperature: float, of: str = "") -> None:
        """The calibration error with and without the temperature, of held-out rows or of the general ones."""
        before = [row * temperature for row in outputs]
        errors = {"before": _calibration(self.task, before, labels), "after": _calibration(self.task, outputs, labels)}
        self.metrics |= {f"{of}calibration_error.{when}": value for when, value in errors.items()}
        self.metrics["temperature"] = temperature
        self.notes.append(
            f"temperature {temperature:.3f}, fitted on validation rows and built into the last layer: "
            f"calibration error on {'general' if of else 'held-out'} rows {errors['before']:.3f} -> "
            f"{errors['after']:.3f}"
        )


def _calibration(task: Any, outputs: Any, labels: Any) -> float:
    """Expected calibration error; of several classes at once, the mean over the yes-or-no questions."""
    logits, true = choosing.flat(task.name, np.asarray(outputs) if task.name in CALIBRATED[:2] else outputs, labels)
    if task.name == "multi_label_classification":
        yes = (1 + np.tanh(logits / 2)) / 2  # the sigmoid, without an overflow
        classes = range(yes.shape[1])
        return float(np.mean([expected_calibration_error(yes[:, [k]], true[:, [k]]) for k in classes]))
    return expected_calibration_error(softmax(logits), true)


def finish(folder: StageFolder, found: Found) -> None:
    """Writes the record."""
    given, fit, task = found.given, found.fit, found.task
    name = data.display_name(data.parse(given["data"], "data"))
    known = fit.train.lengths if "text" in found.part.column_names else None
    lengths = list(known) if known is not None and len(known) == len(found.part) else None
    curves = [
        comparison.loss_curve(f"{phase}: loss" if len(fit.curves) > 1 else "fine-tuning loss", history)
        for phase, history in fit.curves.items()
        if history
    ]
    if fit.watched:
        key = f"eval_{task.metric}"
        points = [[entry["step"], entry[key]] for entry in fit.watched]
        curves.append({"name": "validation", "x": "step", "y": task.metric.replace("_", " "), "points": points})
    evidence = {
        "stage": "finetune",
        "title": "Fine-tune on labels" if given["method"] == "full" else f"Fine-tune on labels: {given['method']}",
        "settings": given,
        "notes": [_summary(found), *found.start.notes, *fit.notes, *found.notes],
        "data": [data.describe(found.part, name=name, role="labelled", lengths=lengths)],
        "curves": [*curves, *found.curves],
        "citations": _citations(given),
        **found.evidence,
    }
    if found.start.table is not None:
        evidence["tables"] = [found.start.table]
    folder.finish(found.metrics, evidence)


def _summary(found: Found) -> str:
    """What was trained on how much, and what it came to."""
    task, numbers = found.task, found.metrics
    taken = f" and {numbers['validation_rows']} validation rows" if "validation_rows" in numbers else ""
    floor = {name: value for name, value in numbers.items() if name.startswith("majority")}
    beside = f" ({next(iter(floor)).replace('_', ' ')}: {next(iter(floor.values())):.3f})" if floor else ""
    return (
        f"{METHODS[found.given['method']].does}: {numbers['trainable']:,} of {numbers['parameters']:,} numbers, on "
        f"{numbers['train_rows']} labelled rows{taken}; on {numbers['test_rows']} held out of the same data, "
        f"{task.metric.replace('_', ' ')} {numbers[task.metric]:.3f}{beside}"
    )


def _citations(given: dict[str, Any]) -> list[str]:
    near, loss = given["near"] or {}, given["loss"] or {}
    used = {
        "l2_sp": near.get("l2_sp"),
        "ema": near.get("ema"),
        "wise_ft": near.get("wise_ft") is not None,
        "soup": near.get("soup", 1) > 1,
        "focal": loss.get("focal"),
        "layer_decay": given["layer_decay"],
        "calibrate": given["calibrate"],
    }
    papers = [METHODS[given["method"]].paper, *(PAPERS[name] for name, value in used.items() if value)]
    return [paper for paper in papers if paper]
