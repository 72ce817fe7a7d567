"""What `compare` does: every method on every number of labels and seed, each training once."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from hftransfer.stages.cells import budget
from hftransfer.stages.contenders import Line, lines, sides
from hftransfer.stages.fitting import division
from hftransfer.trainers.exact import estimated_steps

logger = logging.getLogger("hftransfer")
RECORD = "cells.json"  # in the working folder: what each finished training came to


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what can be checked without weights, and counts rows and steps."""
    task, parts = _read(given)
    found = _checked(given, task)
    strata = task.strata(task.labels(parts["train"]))
    rows = len(parts["train"])
    drawn = [_drawn(strata, rows, number, given["seed"]) for number in given["labels_per_class"]]
    steps = 0
    for line in found:
        if line.contender.given is None:
            continue
        for chosen in drawn:
            own = _long_enough(line.contender.given, len(chosen), given["min_steps"])
            labels = task.labels(parts["train"].select(chosen.tolist()))
            trained = len(division(task, labels, own, given["seed"])[0])
            steps += finetuning.steps({**own, "model": line.side.model}, task, trained) * given["seeds"]
    job = task.job if any(line.contender.given is not None for line in found) else "encoder"
    name = models.class_for(job, models.config_of(given["model"])).__name__
    return {"class": name, "rows": {"labelled": rows, "test": len(parts["test"])}, "steps": steps}


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


def _long_enough(own: Mapping[str, Any], rows: int, least: int) -> dict[str, Any]:
    """A method's options with a training of at least so many steps, unless the steps are told."""
    training = own["training"]
    if training.get("max_steps", -1) > 0 or estimated_steps(training, rows) >= least:
        return dict(own)
    return {**own, "training": {**training, "max_steps": least}}


def _checked(given: Mapping[str, Any], task: Any) -> list[Line]:
    """All lines, after a look at each method's options."""
    found = lines(given, task.name)
    for line in found:
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
    """Row numbers of a budget: so many of each of the task's strata; of all rows where it has none."""
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
                label = f"{line.name}, {budget(number, task)}, seed {trial + 1} of {given['seeds']}"
                logger.info("%s", label)
                if line.contender.given is None:
                    cells[key] = _probed(line, task, train, test, rows, given, trial, kept)
                else:
                    cells[key] = _fitted(line, task, train.select(rows.tolist()), test, place, cache, given, trial)
                if processes.is_main():
                    runs.write_json(path / RECORD, cells)
                    shutil.rmtree(place, ignore_errors=True)
                processes.barrier()
    floor = task.floor(*(part.labels for part in read[every[0].name])) | _as_it_is(given, task, read[every[0].name][1])
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
        own = _long_enough(line.contender.given, len(rows.labels), given["min_steps"])
        own |= {"model": line.side.model, "seed": seed}
        start = _begun(line, task, own, seed)
        fit = finetuning.made_fit(own, task, start, rows, place, cache, seed)
        fit.name = line.name
        choosing.fit_to_the_end(fit)
    outputs = task.predict(fit.network, test)
    return {
        "rows": task.row_scores(outputs, test.labels).tolist(),
        "metrics": task.score(outputs, test.labels),
        "labels": len(rows.labels),
        "seconds": spent.seconds + spent.saved,
        "peak": spent.peak,
        "trainable": fit.trainable,
        "bytes": _shipped(fit),
        "base": 0 if fit.adapter is None else _weights(fit.network),
    }


def _as_it_is(given: Mapping[str, Any], task: Any, test: Inputs) -> dict[str, float]:
    """The floor of a task whose head a checkpoint has already: what it scores before it has learnt anything."""
    if task.name != "causal_lm":
        return {}
    network = models.load(given["model"], task.job, **task.head)
    return {f"untrained_{task.metric}": task.score(task.predict(network, test), test.labels)[task.metric]}


def _begun(line: Line, task: Any, own: Mapping[str, Any], seed: int) -> finetuning.Start:
    start = finetuning.begin(own, task, seed, new=line.side.new)
    if not line.side.new:
        return start
    # to a method that keeps the backbone, a new one's weights are given like any other's
    return start._replace(new=sorted(models.last_names(start.network)) if task.names else [])


def _shipped(fit: Any) -> int:
    """Bytes on disk of what a method leaves: the adapter, where there is one, else the whole network."""
    if fit.adapter is not None:
        return sum(path.stat().st_size for path in Path(fit.adapter).rglob("*") if path.is_file())
    return _weights(fit.network)


def _weights(network: Any) -> int:
    return sum(value.numel() * value.element_size() for value in network.parameters())


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
    costs = {"seconds": spent.seconds, "peak": spent.peak, "trainable": numbers, "bytes": 4 * numbers, "base": 0}
    return {"rows": right.tolist(), "metrics": {task.metric: float(right.mean())}, "labels": len(rows), **costs}
