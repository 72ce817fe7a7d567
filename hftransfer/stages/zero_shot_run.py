"""The run of `zero_shot`: prompts, logits, and what is made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer import described, processes
from hftransfer.described import WAYS
from hftransfer.described.base import Asking, Near, Way
from hftransfer.described.choosing import chosen
from hftransfer.described.labels import prompts
from hftransfer.errors import HFTransferError
from hftransfer.functional import few_labels, prototypes
from hftransfer.functional.softmax import softmax
from hftransfer.runs import StageFolder
from hftransfer.stages.zero_shot_rows import Read, contents, read

Array = NDArray[Any]
SHOTS, DRAWS = (1, 4, 8), 5  # labels a class, and how often they are drawn anew
AXES, SHRINKAGE = 3, 0.1  # of the mixture: principal axes a label and fewest rows an axis; see `prototypes`
REFINABLE = ("similarity", "image_text")


@dataclass
class Told:
    """All that is known when the rows are told."""

    given: dict[str, Any]
    way: Way
    rows: Read
    content: Any  # of the told rows, as the way takes it
    places: list[int]  # which of them could be read
    steps: dict[str, Array]  # what was done: logits (rows, labels); the last one is the answer
    labels: Array | None  # (rows,) classes, or (rows, labels) marks
    shots: dict[int, Array] = field(default_factory=dict)  # labels a class: (draws, rows) 1 for right
    refined_on: int = 0  # rows that the labels' vectors were moved by

    @property
    def names(self) -> tuple[str, ...]:
        return self.way.prompts.names

    @property
    def logits(self) -> Array:
        return list(self.steps.values())[-1]

    @property
    def probabilities(self) -> Array:
        """(rows, labels)."""
        mixed = self.given["refine"] == "em"  # of classes that exclude each other, whatever the way
        return softmax(self.logits) if mixed else self.way.probabilities(self.logits)

    @property
    def training_labels(self) -> Array:
        """Those that tell which class is most frequent: the training rows', or the told rows' own."""
        return np.asarray((self.rows.others or self.rows.told)["label"])


def plan(given: Mapping[str, Any]) -> dict[str, Any]:
    """Checks everything that needs no weights."""
    name, rows, asking = _opened(given)
    counts = {"told": len(rows.told)}
    if _few(given, rows) and rows.others is not None:
        counts["few labels from"] = len(rows.others)
    return {"class": described.find(name).check(asking), "rows": counts, "steps": 0}


def run(folder: StageFolder, given: dict[str, Any]) -> None:
    """Tells the rows and writes the record."""
    from hftransfer.stages.zero_shot_answers import Answers
    from hftransfer.stages.zero_shot_record import record

    name, rows, asking = _opened(given)
    cls = described.find(name)
    cls.check(asking)
    told = _told(given, cls(asking), rows)
    work = folder.begin()
    if processes.is_main():
        Answers(told).write(work)
        folder.finish(*record(work, told))
    else:
        folder.finish({}, {})


def _opened(given: Mapping[str, Any]) -> tuple[str, Read, Asking]:
    name = chosen(given["model"], given["way"])
    _check(given, name)
    rows = read(given, "image" if name == "image_text" else "text")
    asked = prompts(given["labels"], rows.names, given["templates"] or WAYS[name].templates)
    if given["shots"] and not _few(given, rows):
        why = (
            "rows of several labels are of no one class" if rows.several else "no labelled rows are left to draw from"
        )
        raise HFTransferError(f"shots: {why}; remove it")
    options = ("multi_label", "max_length", "temperature", "bf16", "tokens_per_batch")
    return name, rows, Asking(given["model"], asked, **{option: given[option] for option in options})


def _check(given: Mapping[str, Any], name: str) -> None:
    if given["refine"] and given["multi_label"]:
        raise HFTransferError(
            "refine: each row moves the vector of one label, and multi_label gives it several; remove one of the two"
        )
    if given["refine"] and name not in REFINABLE:
        raise HFTransferError(
            f"refine: {name} has no vectors of labels that could be moved; use way: {' or '.join(REFINABLE)}"
        )


def _few(given: Mapping[str, Any], rows: Read) -> tuple[int, ...]:
    """Numbers of labels to compare with."""
    possible = rows.others is not None and not rows.several
    return tuple(sorted(set(SHOTS if given["shots"] is None else given["shots"]))) if possible else ()


def _told(given: dict[str, Any], way: Way, rows: Read) -> Told:
    content, places = way.prepared(contents(rows.told, rows.kind), key="data")
    few = _few(given, rows)
    vectors: Array | None
    if isinstance(way, Near):
        vectors = way.vectors(content)
        by_template = way.of_vectors(vectors)
    else:
        vectors = way.vectors(content) if few else None
        by_template = way.logits(content)
    labels = np.asarray(rows.told["label"])[places] if rows.labelled else None
    found = Told(given, way, rows, content, places, _named(by_template, way), labels)
    if given["calibrate"]:
        found.steps["calibrated"] = way.calibrated(found.logits)
    if vectors is not None and (few or given["refine"]):
        others = _Others.made(way, rows, few, given)
        if given["refine"]:
            _refine(found, vectors, others.vectors)
        _compare(found, few, vectors, others)
    return found


def _named(by_template: Array, way: Way) -> dict[str, Array]:
    """Logits of the first template alone, where there are several, and of all."""
    if len(way.prompts.templates) == 1:
        return {"as asked": way.ensemble(by_template)}
    return {"first template": by_template[0], "all templates": way.ensemble(by_template)}


@dataclass(frozen=True)
class _Others:
    """Vectors of training rows: of all, or of those that few labels are drawn from."""

    numbers: Array  # (n,) which of the training rows
    vectors: Array  # (n, width)
    drawn: Mapping[int, list[Array]]  # labels a class: the training rows of each draw

    @classmethod
    def made(cls, way: Way, rows: Read, few: Sequence[int], given: Mapping[str, Any]) -> "_Others":
        if rows.others is None:
            return cls(np.zeros(0, int), np.zeros((0, 1)), {})
        labels = np.asarray(rows.others["label"])
        drawn = {k: [few_labels.draw(labels, k, given["seed"] + draw) for draw in range(DRAWS)] for k in few}
        used = np.arange(len(labels))
        if not given["refine"]:
            used = np.unique(np.concatenate([part for parts in drawn.values() for part in parts]))
        content, places = way.prepared(contents(rows.others.select(used), rows.kind), key="data")
        return cls(used[places], way.vectors(content), drawn)


def _refine(told: Told, vectors: Array, others: Array) -> None:
    """Moves the labels' vectors from where their descriptions are to where the rows are that they are told of."""
    way = told.way
    assert isinstance(way, Near)
    rows = np.concatenate([vectors, others]) if len(others) else vectors
    logits = way.ensemble(way.of_vectors(rows))
    logits = way.calibrated(logits) if told.given["calibrate"] else logits
    if told.given["refine"] == "kmeans":
        centres, _ = prototypes.spherical_kmeans(rows, logits.argmax(1), way.prototypes)
        found = way.against(vectors, centres)
    else:
        found = _mixed(rows, logits, way.prototypes)[: len(vectors)]
    told.steps[f"refined by {told.given['refine']}"] = found
    told.refined_on = len(rows)


def _mixed(rows: Array, logits: Array, centres: Array) -> Array:
    """(rows, labels) log p(row, label) of a mixture on the axes along which rows differ most: few tell no wide one."""
    labels = logits.shape[1]
    mean, axes = prototypes.principal_axes(rows, min(AXES * labels, max(1, len(rows) // AXES)))
    fewer = (rows - mean) @ axes
    mixture = prototypes.expectation_maximisation(fewer, softmax(logits), (centres - mean) @ axes, shrinkage=SHRINKAGE)
    return mixture.log_joint(fewer)


def _compare(told: Told, few: Sequence[int], vectors: Array, others: _Others) -> None:
    """A logistic regression on a few labels a class, on the same rows."""
    if told.rows.others is None or told.labels is None:
        return
    labels = np.asarray(told.rows.others["label"])
    place = {int(number): place for place, number in enumerate(others.numbers)}
    for count in few:
        right = []
        for drawn in others.drawn[count]:
            kept = [int(row) for row in drawn if int(row) in place]
            if len(set(labels[kept].tolist())) < 2:  # what was drawn of the others cannot be read
                continue
            fitted = others.vectors[[place[row] for row in kept]]
            right.append(few_labels.probe(fitted, labels[kept], vectors) == told.labels)
        if right:
            told.shots[count] = np.stack(right).astype(float)
