"""What `finetune` does: begins a network as the method wants, fits it, chooses, measures, saves."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import set_seed

from hftransfer import adapters, inputs, models, processes, tasks, tuning
from hftransfer.cache import Cache
from hftransfer.errors import HFTransferError
from hftransfer.inputs import Inputs
from hftransfer.methods import METHODS
from hftransfer.runs import CHECKPOINTS, StageFolder
from hftransfer.stages import choosing, contradictions, finetuning_record
from hftransfer.stages.beginning import new_network
from hftransfer.stages.finetuning_record import Found
from hftransfer.stages.fitting import Fit, divided, division, training_of
from hftransfer.stages.ways import ON_VECTORS, by_gradients
from hftransfer.trainers.exact import estimated_steps

CACHE = ".features"  # beside the stages of a run: what frozen parts made, for all of them


class Start(NamedTuple):
    """A network before it is fitted."""

    network: nn.Module
    new: list[str]  # names of weights that no checkpoint gave
    reader: Any
    table: dict[str, Any] | None  # what was carried over, where parts changed
    notes: list[str]


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what can be checked without weights, counts rows and steps, and tells the fields of the head's config."""
    task, parts = _read(given)
    check(given, task)
    if given["general"] is not None:
        _read_general(given, task)
    labels = task.labels(parts["train"]) if task.name in ON_VECTORS else range(len(parts["train"]))
    trained, taken = division(task, labels, given, given["seed"])
    rows = {"train": len(trained), "validation": len(taken), "test": len(parts["test"])}
    name = models.class_for(task.job, models.config_of(given["model"])).__name__
    count = steps(given, task, len(trained))
    if given["folds"] is not None:
        _check_folds(given["folds"], len(parts["train"]))
        count += given["folds"] * steps(given, task, len(trained) * (given["folds"] - 1) // given["folds"])
    rows = {part: count for part, count in rows.items() if count}
    return {"class": name, "rows": rows, "steps": count, "head": task.head}


def steps(given: Mapping[str, Any], task: Any, rows: int) -> int:
    """Steps of all phases on so many rows; a head that is solved for takes none."""
    phases = METHODS[given["method"]].phases
    each = [estimated_steps(training_of(given, phase), rows) for phase in phases]
    each[-1] *= (given["near"] or {}).get("soup", 1)
    still = task.name in ON_VECTORS and not by_gradients(given) and _ends_in_one_layer(given, task)
    return sum(count for phase, count in zip(phases, each, strict=True) if not (phase == "head" and still))


def _ends_in_one_layer(given: Mapping[str, Any], task: Any) -> bool:
    """Whether a network's head is its last layer alone, or is fitted alone."""
    if given["method"] == "few_shot" or models.classifies(given["model"], task.names):
        return True
    network = models.skeleton(models.config_of(given["model"]), task.job)
    last, inside = models.last_names(network), f"{network.base_model_prefix}."
    return all(name in last or name.startswith(inside) for name, _ in network.named_parameters())


def _read(given: Mapping[str, Any]) -> tuple[Any, Any]:
    common = {"seed": given["seed"], "max_samples": given["max_train_samples"]}
    return tasks.read(given["data"], given["model"], key="data", name=given["task"], **common)


def check(given: Mapping[str, Any], task: Any) -> None:
    """Refuses options that contradict each other, the task or the network's config.

    Raises:
        HFTransferError: in one line.
    """
    method, config = given["method"], models.config_of(given["model"])
    models.check(given["model"], task.job)
    if inputs.reads(given["model"]) == "text":
        inputs.check_length(given["model"], given["max_length"])
    contradictions.check(given, task.name, models.classifies(given["model"], task.names))
    if given["architecture"] is None:  # else it is seen when the parts are changed
        if method == "partial":
            tuning.reach(models.skeleton(config, task.job), given["trainable"])
        if method == "lora":
            options = {"job": task.job, "merge": given["merge"]}
            adapters.check(models.skeleton(config, task.job), given["lora"] or {}, **options)


def _check_start(given: Mapping[str, Any], start: Start) -> None:
    """What only the network itself shows."""
    choosing.check_start(given, start.new)
    if given["method"] == "partial":
        tuning.reach(start.network, given["trainable"])


def begin(given: Mapping[str, Any], task: Any, seed: int, *, new: bool = False) -> Start:
    """The network as the method begins with it, under a seed that decides its new weights; `new`: all of them are."""
    set_seed(seed)
    new = new or METHODS[given["method"]].new
    if given["architecture"] is not None:
        from hftransfer import architecture

        made = architecture.changed(given["model"], task.job, task.head, given["architecture"], kind=task.kind)
        reader = task.reader(made.network, made.reader)
        if not new:
            return Start(made.network, list(made.new), reader, made.table, list(made.notes))
        set_seed(seed)
        return _all_new(models.ready(models.fresh_network(type(made.network), made.network.config)), reader)
    if new:
        return _all_new(new_network(given["model"], task.job, task.head), task.reader(given["model"]))
    network, missing = models.load_reported(given["model"], task.job, **task.head)
    return Start(network, missing, task.reader(given["model"]), None, [])


def _all_new(network: nn.Module, reader: Any) -> Start:
    return Start(network, [name for name, _ in network.named_parameters()], reader, None, ["every weight is new"])


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Fits and records; what can be wrong is found before the folder is begun."""
    task, parts = _read(given)
    check(given, task)
    start = begin(given, task, given["seed"])
    _check_start(given, start)
    read = {name: read_inputs(part, task, start, given, "data") for name, part in parts.items()}
    general = _general(given, task, start)
    path = folder.begin()
    cache = Cache(folder.path.parent / CACHE)
    scores = _folds(given, task, start, read["train"], path / CHECKPOINTS, cache)
    fit = made_fit(given, task, start, read["train"], path / CHECKPOINTS / "whole", cache, given["seed"])
    ended = choosing.fit_to_the_end(fit)
    found = Found(given, task, start, fit, ended, read["test"], general, parts["train"], scores)
    found.measure()
    _save(fit, start, path, given)
    finetuning_record.finish(folder, found)


def made_fit(
    given: Mapping[str, Any], task: Any, start: Start, rows: Inputs, folder: Path, cache: Cache, seed: int
) -> Fit:
    """A network about to be fitted to rows, some of which are taken out where something is chosen on them."""
    train, validation = divided(task, rows, given, seed)
    start.network.to(processes.state().device)
    fit = Fit(given, task, start.network, start.new, train, validation, folder, cache, seed)
    if task.name == "regression":
        _centre(fit)
    return fit


@torch.no_grad()
def _centre(fit: Fit) -> None:
    """A new head of numbers begins with the labels' mean: gradients would take hundreds of steps to get there."""
    last = models.last_linear(fit.network)
    new = models.last_names(fit.network) & set(fit.new)
    if last.bias is not None and any(name.endswith("bias") for name in new):
        last.bias.fill_(float(np.mean(fit.train.labels)))


def read_inputs(part: Any, task: Any, start: Start, given: Mapping[str, Any], key: str) -> Inputs:
    """Rows as the network reads them."""
    model = start.network if given["architecture"] is not None else given["model"]
    return task.inputs(part, model, key=key, max_length=given["max_length"], reader=start.reader)


def _general(given: Mapping[str, Any], task: Any, start: Start) -> Inputs | None:
    if given["general"] is None:
        return None
    return read_inputs(_read_general(given, task)["test"], task, start, given, "general")


def _read_general(given: Mapping[str, Any], task: Any) -> Any:
    return tasks.read(given["general"], given["model"], key="general", seed=given["seed"], task_like=task)[1]


def _folds(
    given: Mapping[str, Any], task: Any, start: Start, rows: Inputs, folder: Path, cache: Cache
) -> list[dict[str, float]]:
    """The scores of each fold, by a network that was fitted without it."""
    if given["folds"] is None:
        return []
    count = given["folds"]
    of = _fold_of(task, rows, count, given["seed"])
    scores = []
    for fold in range(count):
        begun = begin(given, task, given["seed"])
        kept, held = (np.flatnonzero(where).tolist() for where in (of != fold, of == fold))
        fit = made_fit(given, task, begun, rows.select(kept), folder / f"fold-{fold}", cache, given["seed"])
        fit.name = f"fold {fold + 1} of {count}"
        choosing.fit_to_the_end(fit)
        held_out = rows.select(held)
        scores.append(task.score(task.predict(fit.network, held_out), held_out.labels))
    set_seed(given["seed"])
    return scores


def _check_folds(count: int, rows: int) -> None:
    if count > rows:
        raise HFTransferError(f"folds: {rows} rows cannot be divided into {count}; lower it")


def _fold_of(task: Any, rows: Inputs, count: int, seed: int) -> np.ndarray:
    """(rows,) each row's fold: classes spread evenly over the folds."""
    _check_folds(count, len(rows.rows))
    strata = task.strata(rows.labels)
    strata = np.zeros(len(rows.rows), dtype=int) if strata is None else strata
    shuffled = np.random.default_rng((seed, count)).permutation(len(rows.rows))
    by_class = shuffled[np.argsort(np.asarray(strata)[shuffled], kind="stable")]
    fold = np.empty(len(rows.rows), dtype=int)
    fold[by_class] = np.arange(len(rows.rows)) % count
    return fold


def _save(fit: Fit, start: Start, path: Path, given: Mapping[str, Any]) -> None:
    """The checkpoint with its reader; an adapter beside it, or alone: that of a changed network has no base."""
    if processes.is_main() and fit.adapter is not None and given["architecture"] is None:
        target = path / "adapter" if given["merge"] else path
        shutil.copytree(fit.adapter, target, dirs_exist_ok=True)
    if fit.adapter is None or given["merge"]:
        models.save(fit.network, path, start.reader)
    elif processes.is_main():
        start.reader.save_pretrained(path)
