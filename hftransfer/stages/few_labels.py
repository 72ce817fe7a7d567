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
from hftransfer.trainers.classifier import train_classifier
from hftransfer.trainers.exact import estimated_steps

NAMES = {"probe": "probe", "finetune": "fine-tuned"}
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
    kind, parts = inputs.reads(given["model"]), _parts(given)
    steps = 0
    if "finetune" in given["ways"]:
        classes = parts["train"].features["label"].num_classes
        steps = sum(estimated_steps(given["training"], n * classes) for n in given["labels_per_class"])
    rows = {"labelled": len(parts["train"]), "test": len(parts["test"])}
    name = models.class_for(inputs.job(given["model"]), models.config_of(given["model"])).__name__
    return {"class": name, "rows": rows, "steps": steps * given["trials"] * 2, "kind": kind}


def _parts(given: dict[str, Any]) -> dict[str, Dataset]:
    """Labelled rows to draw from and to test on; both sides must read the same kind of data."""
    kind = inputs.reads(given["model"])
    if given["against"] is not None and inputs.reads(given["against"]) != kind:
        raise HFTransferError(f"against: it reads {inputs.reads(given['against'])}, and model reads {kind}")
    common = {"seed": given["seed"], "max_samples": given["max_train_samples"], "kind": kind}
    parts = data.labelled(given["data"], key="data", **common)
    tested = np.random.default_rng(given["seed"]).permutation(len(parts["test"]))[: given["test_rows"]]
    return {"train": parts["train"], "test": parts["test"].select(np.sort(tested))}


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Runs every trial that is not on record yet, then writes the record."""
    parts = _parts(given)
    ours = _side(given["model"], given["model"], parts, given)
    other = given["model"] if given["against"] is None else given["against"]
    both = dict(zip(sides(given), (_side(other, given["against"], parts, given), ours), strict=True))
    path = folder.begin()
    right: dict[str, list[int]] = processes.agree(runs.read_json(path / RECORD))
    for trial in range(given["trials"]):
        for side in both:
            _try(right, both[side], side, trial, parts["train"], path, given)
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
    right: dict[str, list[int]], side: Side, name: str, trial: int, train: Dataset, path: Path, given: dict[str, Any]
) -> None:
    """Probe and fine-tuning of one side in one trial, for every number of labels; `right` takes the outcome."""
    seed, features = given["seed"] + trial, None
    for way in given["ways"]:
        for number in given["labels_per_class"]:
            key = f"{way}.{number}.{name}.{trial}"
            if key in right:
                continue
            rows = draw(side.train.labels, number, seed)
            if way == "probe":
                if features is None:
                    features = _features(side, given, train, seed)
                found = probe(features[0][rows], side.train.labels[rows], features[1])
            else:
                found = _fitted(
                    side, rows, given, train, seed, path / "checkpoints" / key, f"{name}, {number} a class"
                )
            right[key] = (found == side.test.labels).astype(int).tolist()
            if processes.is_main():
                runs.write_json(path / RECORD, right)
                shutil.rmtree(path / "checkpoints" / key, ignore_errors=True)
            processes.barrier()


def _network(side: Side, given: dict[str, Any], train: Dataset, seed: int) -> nn.Module:
    set_seed(seed)
    job, labels = inputs.job(given["model"]), id2label(train.features["label"].names)
    if side.model is not None:
        return models.load(side.model, job, **labels)
    config = models.config_of(given["model"], labels)
    return models.fresh_network(models.class_for(job, config), config)


def _features(side: Side, given: dict[str, Any], train: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    encoder = _network(side, given, train, seed).base_model
    return inference.features(encoder, side.train), inference.features(encoder, side.test)


def _fitted(
    side: Side, rows: np.ndarray, given: dict[str, Any], train: Dataset, seed: int, folder: Path, label: str
) -> np.ndarray:
    network = _network(side, given, train, seed)
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
            means, spreads = [float(s.mean()) for s in scores], [float(s.mean(1).std()) for s in scores]
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


def _named(side: str, given: dict[str, Any]) -> str:
    if side == "pretrained":
        return side
    return "from scratch" if given["against"] is None else models.public_name(given["against"])
