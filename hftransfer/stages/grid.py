"""What `compare` does: every method on every number of labels and seed, each training once."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from transformers import set_seed

from hftransfer import inference, inputs, models, processes, runs, tasks
from hftransfer.cache import Cache
from hftransfer.errors import HFTransferError
from hftransfer.functional.few_labels import draw, probe
from hftransfer.inputs import Inputs
from hftransfer.runs import StageFolder
from hftransfer.spending import spending
from hftransfer.stages import choosing, finetuning, grid_record
from hftransfer.stages.beginning import new_network
from hftransfer.stages.contenders import Contender, contenders
from hftransfer.trainers.exact import estimated_steps

logger = logging.getLogger("hftransfer")
RECORD = "cells.json"  # in the working folder: what each finished training came to
SCRATCH = "scratch"  # as `against`: the same network, new


class Side(NamedTuple):
    """Where the networks of a line come from."""

    name: str  # "" where there is but one side
    model: Any
    new: bool  # a new network of the model's config


@dataclass(frozen=True)
class Line:
    """A method from a side: a line in the picture."""

    contender: Contender
    side: Side

    @property
    def name(self) -> str:
        return f"{self.contender.name}.{self.side.name}" if self.side.name else self.contender.name


def sides(given: Mapping[str, Any]) -> list[Side]:
    """The pretrained side first."""
    if given["against"] is None:
        return [Side("", given["model"], False)]
    other = Side(SCRATCH, given["model"], True) if given["against"] == SCRATCH else None
    return [Side("pretrained", given["model"], False), other or Side("against", given["against"], False)]


def lines(given: Mapping[str, Any]) -> list[Line]:
    """All lines; a method that begins anyway from nothing has no second side."""
    return [
        Line(contender, side)
        for contender in contenders(given)
        for side in sides(given)
        if not (side.name and side.name != "pretrained" and contender.method == "scratch")
    ]


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what can be checked without weights, and counts rows and steps."""
    task, parts = _read(given)
    found = _checked(given, task)
    strata = task.strata(task.labels(parts["train"]))
    steps = 0
    for line in found:
        if line.contender.given is None or line.contender.method == "frozen":
            continue
        counts = [len(_drawn(strata, len(parts["train"]), number, 0)) for number in given["labels_per_class"]]
        steps += sum(estimated_steps(line.contender.given["training"], count) for count in counts) * given["seeds"]
    job = task.job if any(line.contender.given is not None for line in found) else "encoder"
    name = models.class_for(job, models.config_of(given["model"])).__name__
    rows = {"labelled": len(parts["train"]), "test": len(parts["test"])}
    return {"class": name, "rows": rows, "steps": steps}


def _read(given: Mapping[str, Any]) -> tuple[Any, dict[str, Dataset]]:
    _check_sides(given)
    task, parts = tasks.read(
        given["data"], given["model"], key="data", seed=given["seed"], name=given["task"],
        max_samples=given["max_train_samples"],
    )  # fmt: skip
    tested = np.random.default_rng(given["seed"]).permutation(len(parts["test"]))[: given["test_rows"]]
    parts = {"train": parts["train"], "test": parts["test"].select(np.sort(tested))}
    if task.name == "single_label_classification":
        grid_record.check_classes(parts, given["max_train_samples"])
    return task, parts


def _check_sides(given: Mapping[str, Any]) -> None:
    """A look at what both sides read, and for how long texts, before any data is."""
    for side in sides(given)[1:]:
        kind, other = inputs.reads(given["model"]), inputs.reads(side.model)
        if kind != other:
            raise HFTransferError(f"against: it reads {other}, and model reads {kind}")
    for side in sides(given):
        if inputs.reads(side.model) == "text":
            inputs.check_length(side.model, given["max_length"])


def _checked(given: Mapping[str, Any], task: Any) -> list[Line]:
    """All lines, after a look at each method's options."""
    found = lines(given)
    for line in found:
        if line.side.new and line.contender.given is not None and line.contender.given["architecture"] is not None:
            raise HFTransferError(
                "against: a new network is not built with changed parts; remove against or architecture"
            )
        if line.contender.given is not None:
            try:
                finetuning.check({**line.contender.given, "model": line.side.model}, task)
            except HFTransferError as error:
                key = str(error).partition(":")[0]
                placed = key if key in given and key not in ("training",) else f"methods: {line.contender.name}.{key}"
                raise HFTransferError(f"{placed}{str(error)[len(key) :]}") from error
        elif task.name != "single_label_classification":
            raise HFTransferError(f"methods: probe is a classifier of one class a row, and the task is {task.name}")
    return found


def _drawn(strata: Any, rows: int, number: int | str, seed: int) -> np.ndarray:
    """Row numbers of a budget: so many of each class; of all rows where the task has no classes."""
    if number == "all":
        return np.arange(rows)
    labels = np.zeros(rows, dtype=np.int64) if strata is None else np.asarray(strata)
    return draw(labels, int(number), seed)


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Runs every training that is not on record yet, then writes the record."""
    task, parts = _read(given)
    every = _checked(given, task)
    read = _all_inputs(task, parts, every, given)
    path = folder.begin()
    cells: dict[str, Any] = processes.agree(runs.read_json(path / RECORD))
    cache = Cache(folder.path.parent / finetuning.CACHE)
    strata = task.strata(read[every[0].name][0].labels)
    kept: dict[Any, Any] = {}  # a checkpoint's mean states are the same in every trial
    for number in given["labels_per_class"]:
        for trial in range(given["seeds"]):
            for line in every:
                key = f"{line.name}.{number}.{trial}"
                if key in cells:
                    continue
                train, test = read[line.name]
                rows = _drawn(strata, len(train.labels), number, given["seed"] + trial)
                place = path / runs.CHECKPOINTS / key
                label = f"{line.name}, {number} labels a class, seed {trial + 1} of {given['seeds']}"
                logger.info("%s", label)
                if line.contender.given is None:
                    cells[key] = _probed(line, task, train, test, rows, given, trial, kept)
                else:
                    cells[key] = _fitted(line, task, train.select(rows.tolist()), test, place, cache, given, trial)
                if processes.is_main():
                    runs.write_json(path / RECORD, cells)
                    shutil.rmtree(place, ignore_errors=True)
                processes.barrier()
    floor = task.floor(*(part.labels for part in read[every[0].name]))
    if processes.is_main():
        (path / RECORD).unlink(missing_ok=True)
    grid_record.finish(folder, given, task, parts, every, cells, floor)


def _all_inputs(
    task: Any, parts: Mapping[str, Dataset], every: list[Line], given: Mapping[str, Any]
) -> dict[str, tuple[Inputs, Inputs]]:
    """Train and test rows as each line's network reads them; lines of one side share them, changed networks do not."""
    common = {"key": "data", "max_length": given["max_length"]}
    shared: dict[str, tuple[Inputs, Inputs]] = {}
    found: dict[str, tuple[Inputs, Inputs]] = {}
    for line in every:
        own, side = line.contender.given, line.side
        if own is not None and own["architecture"] is not None:
            start = finetuning.begin({**own, "model": side.model}, task, given["seed"])
            train, test = (finetuning.read_inputs(parts[name], task, start, own, "data") for name in ("train", "test"))
            found[line.name] = (train, test)
            continue
        if side.name not in shared:
            train, test = (task.inputs(parts[name], side.model, **common) for name in ("train", "test"))
            shared[side.name] = (train, test)
        found[line.name] = shared[side.name]
    return found


def _fitted(
    line: Line, task: Any, rows: Inputs, test: Inputs, place: Path, cache: Cache, given: Mapping[str, Any], trial: int
) -> dict[str, Any]:
    """One training of a line: what each test row is worth, all metrics, and what it cost."""
    seed = given["seed"] + trial
    assert line.contender.given is not None
    with spending() as spent:
        own = {**line.contender.given, "model": line.side.model, "seed": seed}
        start = _begun(line, task, own, seed)
        fit = finetuning.made_fit(own, task, start, rows, place, cache, seed)
        fit.name = line.name
        choosing.fit_to_the_end(fit)
    outputs = task.predict(fit.network, test)
    return {
        "rows": task.row_scores(outputs, test.labels).tolist(),
        "metrics": task.score(outputs, test.labels),
        "labels": len(rows.labels),
        "seconds": spent.seconds,
        "peak": spent.peak,
        "trainable": fit.trainable,
        "bytes": _shipped(fit),
    }


def _begun(line: Line, task: Any, own: Mapping[str, Any], seed: int) -> finetuning.Start:
    if not line.side.new:
        return finetuning.begin(own, task, seed)
    set_seed(seed)
    network = new_network(line.side.model, task.job, task.head)
    # to a method that keeps the backbone, a new one's weights are given like any other's
    new = models.last_names(network) if task.names else ()
    return finetuning.Start(network, sorted(new), None, None, [])


def _shipped(fit: Any) -> int:
    """Bytes on disk of what a method leaves: the adapter, where there is one, else the whole network."""
    if fit.adapter is not None:
        return sum(path.stat().st_size for path in Path(fit.adapter).rglob("*") if path.is_file())
    return sum(value.numel() * value.element_size() for value in fit.network.parameters())


def _probed(
    line: Line,
    task: Any,
    train: Inputs,
    test: Inputs,
    rows: np.ndarray,
    given: Mapping[str, Any],
    trial: int,
    kept: dict[Any, Any],
) -> dict[str, Any]:
    """A logistic regression on the mean of the states, of a network that needs no class for the task."""
    side, seed = line.side, given["seed"] + trial
    same = (side.name, trial if side.new else None)
    with spending() as spent:
        if same not in kept:
            set_seed(seed)
            encoder = new_network(side.model, "encoder", {}) if side.new else models.load(side.model, "encoder")
            kept[same] = inference.features(encoder, train), inference.features(encoder, test)
        states, tested = kept[same]
        right = (probe(states[rows], train.labels[rows], tested) == test.labels).astype(int)
    numbers = (states.shape[1] + 1) * len(task.names)
    costs = {"seconds": spent.seconds, "peak": spent.peak, "trainable": numbers, "bytes": 4 * numbers}
    return {"rows": right.tolist(), "metrics": {task.metric: float(right.mean())}, "labels": len(rows), **costs}
