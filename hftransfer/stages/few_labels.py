"""What `compare` does: draws of few labels, a probe and a fine-tuning on each, from both sides alike."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import set_seed

from hftransfer import comparison, data, inference, inputs, models, processes, runs
from hftransfer.data.text import id2label
from hftransfer.errors import HFTransferError
from hftransfer.functional.few_labels import draw, probe
from hftransfer.inputs import Inputs
from hftransfer.runs import StageFolder
from hftransfer.stages.beginning import new_network
from hftransfer.trainers.classifier import train_classifier
from hftransfer.trainers.exact import estimated_steps

NAMES = {"probe": "probe", "finetune": "fine-tuned"}
SHOWN = 5  # classes that an error or a note names
RECORD = "trials.json"  # in the working folder: which rows each finished trial got right


def sides(given: dict[str, Any]) -> tuple[str, str]:
    """What the two sides are called in metrics: the other one first."""
    return ("scratch" if given["against"] is None else "against", "pretrained")


class Side(NamedTuple):
    """Where a network comes from, and what its inputs are made of."""

    model: Any  # None: a new network of the pretrained one's config
    train: Inputs
    test: Inputs


def plan(given: dict[str, Any]) -> dict[str, Any]:
    """Checks what can be checked without weights, and counts rows and steps."""
    name, parts = _checked(given), _parts(given)
    steps = 0
    if "finetune" in given["ways"]:
        counts = np.bincount(parts["train"]["label"])
        rows = [int(np.minimum(counts, number).sum()) for number in given["labels_per_class"]]
        steps = sum(estimated_steps(given["training"], number) for number in rows)
    rows_of = {"labelled": len(parts["train"]), "test": len(parts["test"])}
    kind = inputs.reads(given["model"])
    return {"class": name, "rows": rows_of, "steps": steps * given["trials"] * 2, "kind": kind}


def _checked(given: dict[str, Any]) -> str:
    """The name of the class that both sides are, after a look at what they read and for how long texts.

    Raises:
        HFTransferError: they read different kinds of data, have no such class, or too few positions.
    """
    kind = inputs.reads(given["model"])
    if given["against"] is not None and inputs.reads(given["against"]) != kind:
        raise HFTransferError(f"against: it reads {inputs.reads(given['against'])}, and model reads {kind}")
    for model in (given["model"], given["against"]):
        if model is not None:
            inputs.check_length(model, given["max_length"])
    job = inputs.job(given["model"]) if "finetune" in given["ways"] else "encoder"  # a probe needs no classifier
    return str(models.class_for(job, models.config_of(given["model"])).__name__)


def _parts(given: dict[str, Any]) -> dict[str, Dataset]:
    """Labelled rows to draw from and to test on."""
    kind = inputs.reads(given["model"])
    common = {"seed": given["seed"], "max_samples": given["max_train_samples"], "kind": kind}
    parts = data.labelled(given["data"], key="data", **common)
    tested = np.random.default_rng(given["seed"]).permutation(len(parts["test"]))[: given["test_rows"]]
    parts = {"train": parts["train"], "test": parts["test"].select(np.sort(tested))}
    _check_classes(parts, given["max_train_samples"])
    return parts


def _check_classes(parts: dict[str, Dataset], max_train_samples: int | None) -> None:
    """What is left after sampling must have classes to tell apart, and every class that is tested."""
    names = parts["train"].features["label"].names
    drawn, tested = (set(parts[name]["label"]) for name in ("train", "test"))
    if len(drawn) < 2:
        rows = f"{len(parts['train'])} row{'s' if len(parts['train']) > 1 else ''} to draw from"
        if max_train_samples is None:
            raise HFTransferError(f"data: the {rows} are of one class; comparing needs two")
        raise HFTransferError(f"max_train_samples: {rows} are of one class; raise it")
    if tested - drawn:
        lacking = ", ".join(f"'{names[label]}'" for label in sorted(tested - drawn)[:SHOWN])
        way_out = "remove its test rows" if max_train_samples is None else "raise max_train_samples"
        raise HFTransferError(f"data: {lacking} is tested and has no row to train on; {way_out}")


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Runs every trial that is not on record yet, then writes the record."""
    _checked(given)
    parts = _parts(given)
    ours = _side(given["model"], given["model"], parts, given)
    other = given["model"] if given["against"] is None else given["against"]
    both = dict(zip(sides(given), (_side(other, given["against"], parts, given), ours), strict=True))
    path = folder.begin()
    right: dict[str, list[int]] = processes.agree(runs.read_json(path / RECORD))
    kept: dict[Any, Any] = {}  # a checkpoint's frozen features are the same in every trial
    for trial in range(given["trials"]):
        for side in both:
            _try(right, both[side], side, trial, parts["train"], path, given, kept)
    shown = {key: np.array(value, dtype=float) for key, value in right.items()}
    if processes.is_main():
        (path / RECORD).unlink(missing_ok=True)
    metrics, evidence = _record(given, shown, parts, ours)
    folder.finish(metrics, evidence)


def _side(reader_of: Any, model: Any, parts: dict[str, Dataset], given: dict[str, Any]) -> Side:
    read = {
        name: inputs.labelled_inputs(part, reader_of, key="data", max_length=given["max_length"])
        for name, part in parts.items()
    }
    return Side(model, read["train"], read["test"])


def _try(
    right: dict[str, list[int]],
    side: Side,
    name: str,
    trial: int,
    train: Dataset,
    path: Path,
    given: dict[str, Any],
    kept: dict[Any, Any],
) -> None:
    """Probe and fine-tuning of one side in one trial, for every number of labels; `right` takes the outcome."""
    seed, same = given["seed"] + trial, (name, trial if side.model is None else None)
    for way in given["ways"]:
        for number in given["labels_per_class"]:
            key = f"{way}.{number}.{name}.{trial}"
            if key in right:
                continue
            rows = draw(side.train.labels, number, seed)
            if way == "probe":
                if same not in kept:
                    kept[same] = _features(side, given, train, seed)
                features, tested = kept[same]
                found = probe(features[rows], side.train.labels[rows], tested)
            else:
                found = _fitted(
                    side, rows, given, train, seed, path / "checkpoints" / key, f"{name}, {number} a class"
                )
            right[key] = (found == side.test.labels).astype(int).tolist()
            if processes.is_main():
                runs.write_json(path / RECORD, right)
                shutil.rmtree(path / "checkpoints" / key, ignore_errors=True)
            processes.barrier()


def _network(side: Side, job: str, given: dict[str, Any], train: Dataset, seed: int) -> nn.Module:
    set_seed(seed)
    labels = {} if job == "encoder" else id2label(train.features["label"].names)
    return new_network(given["model"], job, labels) if side.model is None else models.load(side.model, job, **labels)


def _features(side: Side, given: dict[str, Any], train: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    encoder = _network(side, "encoder", given, train, seed)
    return inference.features(encoder, side.train), inference.features(encoder, side.test)


def _fitted(
    side: Side, rows: np.ndarray, given: dict[str, Any], train: Dataset, seed: int, folder: Path, label: str
) -> np.ndarray:
    network = _network(side, inputs.job(given["model"]), given, train, seed)
    few = side.train.select(rows.tolist())
    batch_rows, collate = inputs.with_labels(few)
    training = {"save_strategy": "no", **given["training"]}
    options: dict[str, Any] = {"training": training, "seed": seed, "folder": folder, "label": label}
    train_classifier(network, batch_rows, collate, lengths=few.lengths, **options)
    return inference.classes(network, side.test)


def _record(
    given: dict[str, Any], right: dict[str, np.ndarray], parts: dict[str, Dataset], side: Side
) -> tuple[dict[str, Any], dict[str, Any]]:
    metrics: dict[str, Any] = {"test_rows": len(side.test.labels), "trials": given["trials"]}
    lines, curves = [], []
    protocol = f"held-out rows, mean of {given['trials']} draws of labels"
    for way in given["ways"]:
        for name in reversed(sides(given)):
            scores = [_trials(right, way, n, name, given) for n in given["labels_per_class"]]
            means, spreads = [float(s.mean()) for s in scores], [_spread(s) for s in scores]
            for number, mean, spread in zip(given["labels_per_class"], means, spreads, strict=True):
                metrics |= {f"accuracy.{way}.{number}.{name}": mean, f"spread.{way}.{number}.{name}": spread}
            points = [list(pair) for pair in zip(given["labels_per_class"], means, strict=True)]
            told = _named(name, given)
            curve = {"name": f"{told}, {NAMES[way]}", "x": "labels of each class", "y": "accuracy"}
            curves.append({**curve, "points": points, "spread": spreads})
        for number in given["labels_per_class"]:
            pair = [_trials(right, way, number, name, given).mean(0) for name in sides(given)]
            lines.append(comparison.compare_scores(f"{NAMES[way]}, {number} a class", *pair, protocol=protocol))
    first = given["ways"][0]
    overall = [
        np.mean([_trials(right, first, n, name, given).mean(0) for n in given["labels_per_class"]], axis=0)
        for name in sides(given)
    ]
    line = comparison.compare_scores("accuracy", *overall, protocol=protocol)
    counts = ", ".join(map(str, given["labels_per_class"]))
    what = f"mean accuracy with {counts} labels a class ({NAMES[first]})"
    name = data.display_name(data.parse(given["data"], "data"))
    return metrics, {
        "stage": "compare",
        "title": "What the pretraining is worth on few labels",
        "settings": given,
        "notes": [
            f"both sides got the same rows, steps and seeds: {given['trials']} draws of each number of labels",
            "probe: logistic regression on the frozen encoder's mean-pooled states; fine-tuned: every weight trained",
            "bands in the plot are a standard deviation over the draws to each side",
            *_small_classes(side.train.labels, parts["train"].features["label"].names, given["labels_per_class"]),
        ],
        "before_name": _named(sides(given)[0], given),
        "after_name": "pretrained",
        "comparison": lines,
        "verdict": comparison.words(line, what=what, subject="Pretraining"),
        "curves": curves,
        "data": [data.describe(parts["train"], name=name, role="labelled, drawn from")],
    }


def _trials(right: dict[str, np.ndarray], way: str, number: int, name: str, given: dict[str, Any]) -> np.ndarray:
    """(trials, rows): which test rows were right."""
    return np.stack([right[f"{way}.{number}.{name}.{trial}"] for trial in range(given["trials"])])


def _spread(right: np.ndarray) -> float:
    """The sample's standard deviation of a few trials' accuracies; of one trial there is none to tell."""
    return float(right.mean(1).std(ddof=1)) if len(right) > 1 else 0.0


def _small_classes(labels: np.ndarray, names: list[str], numbers: list[int]) -> list[str]:
    """A note where "20 a class" is not true of every class."""
    counts = np.bincount(labels, minlength=len(names))
    small = [f"'{names[c]}' ({counts[c]})" for c in np.argsort(counts) if 0 < counts[c] < max(numbers)]
    told = ", ".join(small[:SHOWN]) + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
    return [f"classes with fewer rows than were asked for are drawn whole: {told}"] if small else []


def _named(side: str, given: dict[str, Any]) -> str:
    if side == "pretrained":
        return side
    return "from scratch" if given["against"] is None else models.public_name(given["against"])
