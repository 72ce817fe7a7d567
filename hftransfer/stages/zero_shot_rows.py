"""The rows of `zero_shot`: those that are told, those that few labels come from, and their numbers in the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from datasets import Dataset

from hftransfer.data import target_rows, targets
from hftransfer.data.divide import random_division
from hftransfer.data.read import quiet
from hftransfer.data.rows import column, find_columns, has_labels, label_names_of, only_content, with_content
from hftransfer.data.spec import CONTENT, Spec, display_name
from hftransfer.errors import HFTransferError

ROW = "row"


@dataclass(frozen=True)
class Read:
    """Each part has the content's column, `row`, and `label` (a class, or marks of several) where there are names."""

    spec: Spec
    told: Dataset
    others: Dataset | None  # the training rows, where they are not told themselves
    names: list[str] | None  # of the data's labels; None: unlabelled
    several: bool  # whether a row may have several
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        return self.names is not None


def read(given: Mapping[str, Any], kind: str) -> Read:
    """Loads the rows.

    Raises:
        HFTransferError: in one line, for anything that makes the data unusable.
    """
    parsed, splits = targets.opened(given["data"], "data", kind)
    features = targets.train_of(splits, parsed).features
    if kind == "text" and targets.pair_columns(features, parsed) is not None:
        raise HFTransferError(
            f"data: '{display_name(parsed)}' has two texts a row, and labels are told of one; write columns: "
            "{text: NAME}"
        )
    _, label = find_columns(features, parsed, need_label=False, kind=kind)
    with quiet():
        splits = _numbered(splits)
        if label is None or not targets.filled(targets.train_of(splits, parsed), label):
            return _unlabelled(parsed, splits, label, given, kind)
        if _others(targets.train_of(splits, parsed), label, given["labels"], parsed):
            return _unlabelled(parsed, splits, label, given, kind)
        return _labelled(parsed, splits, label, given, kind)


def _others(train: Dataset, label: str, asked: Any, spec: Spec) -> bool:
    """Whether none of the labels that are asked for is one of the data's: then they judge nothing."""
    if asked is None or targets.is_list(train.features[label]):
        return False
    return not set(asked) & set(label_names_of(train, label, spec))


def _numbered(splits: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """Rows are numbered over all splits, one after another."""
    made, first = {}, 0
    for name, part in splits.items():
        part = part.remove_columns([ROW]) if ROW in part.column_names else part
        made[name] = part.add_column(ROW, list(range(first, first + len(part))))
        first += len(part)
    return made


def _unlabelled(spec: Spec, splits: Mapping[str, Any], label: str | None, given: Mapping[str, Any], kind: str) -> Read:
    notes = []
    train = targets.train_of(splits, spec)
    if label is not None and targets.filled(train, label):
        own = ", ".join(f"'{name}'" for name in label_names_of(train, label, spec)[:5])
        notes.append(f"the data's labels ({own}) are not those that are told, so that nothing is measured")
    elif label is not None:
        missing = sum(not has_labels(part, label) for part in splits.values())
        notes.append(f"labels are missing in {missing} of {len(splits)} splits, so that nothing is measured")
    parts = {name: _content(part, spec, kind) for name, part in splits.items() if len(part)}
    told = _part(parts, given["split"] or "all", given["seed"])
    return Read(spec, told, None, None, False, kind, tuple(notes))


def _part(parts: Mapping[str, Dataset], split: str, seed: int) -> Dataset:
    """All rows, or those of a split; data of one split is divided as for a training."""
    if split == "all":
        return datasets.concatenate_datasets(list(parts.values()))
    train = parts.get("train", next(iter(parts.values())))
    own = next((parts[name] for name in ("test", "validation") if name in parts), None) if "train" in parts else None
    if own is not None:
        return train if split == "train" else own
    kept, held = random_division(len(train), 0.2, seed)
    return train.select(kept if split == "train" else held)


def _content(part: Dataset, spec: Spec, kind: str) -> Dataset:
    content, _ = find_columns(part.features, spec, need_label=False, kind=kind)
    rows = with_content(part, content, spec, kind)
    return only_content(rows, content, kind).add_column(ROW, column(rows, ROW))


def _labelled(spec: Spec, splits: Mapping[str, Any], label: str, given: Mapping[str, Any], kind: str) -> Read:
    train = targets.train_of(splits, spec)
    several = targets.is_list(train.features[label])
    if several and not given["multi_label"]:
        raise HFTransferError(
            f"multi_label: the column '{label}' of '{display_name(spec)}' holds lists of labels; set multi_label: true"
        )

    def encode(rows: Dataset, spec: Spec, known: Any) -> tuple[Dataset, Any]:
        content, _ = find_columns(rows.features, spec, need_label=False, kind=kind)
        kept = with_content(rows, content, spec, kind)
        made = target_rows.encode_tags if several else target_rows.encode_classes
        found, names = made(kept, spec, known, kind=kind)
        return found.add_column(ROW, column(kept, ROW)), names

    parts, names = targets.divided(
        spec, splits, seed=given["seed"], label=label, encode=encode,
        strata=lambda rows: None if several else np.asarray(rows["label"]),
    )  # fmt: skip
    return _chosen(spec, parts, given, names, several, kind)


def _chosen(
    spec: Spec, parts: Mapping[str, Dataset], given: Mapping[str, Any], names: Sequence[str], several: bool, kind: str
) -> Read:
    split = given["split"] or "test"
    if split == "all":
        told = datasets.concatenate_datasets([parts["train"], parts["test"]])
        told, others = told.select(np.argsort(told[ROW])), None
    else:
        told, others = parts[split], parts["train"] if split == "test" else None
    if not several and given["multi_label"]:  # one class a row, told by yes or no of each
        told, others = (None if part is None else _marked(part, len(names)) for part in (told, others))
        assert told is not None
    return Read(spec, told, others, list(names), given["multi_label"], kind)


def _marked(rows: Dataset, classes: int) -> Dataset:
    marks = np.eye(classes, dtype=np.float32)[np.asarray(rows["label"])]
    return rows.remove_columns(["label"]).add_column("label", marks.tolist())


def contents(rows: Dataset, kind: str) -> Dataset:
    """The content's column alone."""
    return rows.select_columns([CONTENT[kind]])
