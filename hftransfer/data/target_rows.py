"""Rows with labels that are no single class: several at once, numbers, one for each word, answers; pairs of texts.

Each `encode_...` takes rows, their spec and the names that the labels must be among (None: those that are found).
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, List, Value

from hftransfer.data.load import check_classes
from hftransfer.data.rows import STORED, column, encode_labels, find_columns, label_names_of, with_content
from hftransfer.data.spec import CONTENT, Spec, display_name
from hftransfer.data.targets import (
    answer_columns,
    is_list,
    label_column,
    pair_columns,
    tag_column,
    token_column,
    unclear,
)
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
SPEAKERS = {"human": "user", "gpt": "assistant"}  # other names of roles
ANSWERING = "assistant"
Talk = list[dict[str, str]]


def encode_classes(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, list[str]]:
    """One class a row."""
    label = label_column(rows.features, spec, kind)
    rows, columns = contents(rows, spec, kind)
    names = list(known) if known else label_names_of(rows, label, spec)
    coded = encode_labels(rows, label, names, spec, "the checkpoint or the training split")
    if not known:
        check_classes(coded, names, label, spec)
    return _only(rows, columns, coded, ClassLabel(names=names)), names


def encode_tags(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, list[str]]:
    """Several labels a row: (k,) zeros and ones. They are stored as lists of names, or as such zeros and ones."""
    label = label_column(rows.features, spec, kind)
    rows, columns = contents(rows, spec, kind)
    marks = _marks(rows, label)
    if marks is None:
        named, found = _named_lists(rows, label, spec)
        names = list(known) if known else found
        marks = _marked(named, _indexed(named, names, spec))
    else:
        names = list(known) if known else [str(number) for number in range(marks.shape[1])]
    if marks.shape[1] != len(names):
        raise HFTransferError(
            f"{spec.key}: the column '{label}' marks {marks.shape[1]} labels, and {len(names)} are known: "
            f"{', '.join(names[:10])}"
        )
    if len(names) < 2:
        raise _alike(names[0] if names else "none", spec)
    return _only(rows, columns, marks.tolist(), List(Value("float32"))), names


def encode_numbers(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, list[str]]:
    """One number a row."""
    label = label_column(rows.features, spec, kind)
    rows, columns = contents(rows, spec, kind)
    values = column(rows, label)
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has {value!r} in the column '{label}', and a "
                "regression needs numbers; fill or remove it, or set task"
            )
    return _only(rows, columns, [float(value) for value in values], Value("float32")), ["value"]


def encode_word_tags(rows: Dataset, spec: Spec, known: Any) -> tuple[Dataset, list[str]]:
    """A label for each word."""
    tokens, label = token_column(rows.features, spec), tag_column(rows.features, spec)
    if tokens is None or label is None:
        raise unclear("tokens" if tokens is None else "label", rows.features, spec)
    words = column(rows, tokens)
    kept = [number for number, row in enumerate(words) if row]
    if not kept:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows with words in the column '{tokens}'")
    if len(kept) < len(words):
        logger.info("%s: dropped %d rows without words", spec.key, len(words) - len(kept))
        rows, words = rows.select(kept), [words[number] for number in kept]
    named, found = _named_lists(rows, label, spec)
    for number, row, tags in zip(kept, words, named, strict=True):
        if len(row) != len(tags) or not all(isinstance(word, str) for word in row):
            wrong = f"{len(row)} words and {len(tags)} labels" if len(row) != len(tags) else "a word that is no text"
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has {wrong}; each word needs one label"
            )
    names = list(known) if known else found
    index = _indexed(named, names, spec)
    coded = [[index[name] for name in tags] for tags in named]
    if len(names) < 2:
        raise _alike(names[0], spec)
    return _only(rows, {"tokens": tokens}, coded, List(Value("int64"))), names


def encode_answers(rows: Dataset, spec: Spec, known: Any) -> tuple[Dataset, list[str]]:
    """Messages, or prompts with completions; these as messages of a user and of the assistant."""
    found = answer_columns(rows.features, spec)
    if not found:
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has neither messages nor prompts with completions; columns found: "
            f"{', '.join(rows.features)}; write columns: {{prompt: NAME, completion: NAME}}"
        )
    sides = [_said(rows, name, spec, role) for name, role in zip(found, ("user", ANSWERING), strict=False)]
    talks = [[message for side in row for message in side] for row in zip(*sides, strict=True)]
    for number, talk in enumerate(talks):
        if not any(message["role"] == ANSWERING for message in talk):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has no message of the role {ANSWERING} to "
                "learn"
            )
    return Dataset.from_dict({"messages": talks, "label": [0] * len(talks)}), []


def contents(rows: Dataset, spec: Spec, kind: str) -> tuple[Dataset, dict[str, str]]:
    """The rows that have content, and which columns hold it: {"text": ..., "text_pair": ...}, or the one of a kind."""
    pair = pair_columns(rows.features, spec) if kind == "text" else None
    if pair is None:
        found = find_columns(rows.features, spec, need_label=False, kind=kind)[0]
        return with_content(rows, found, spec, kind), {CONTENT[kind]: found}
    for name in pair:
        rows = with_content(rows, name, spec, kind)
    return rows, dict(zip(("text", "text_pair"), pair, strict=True))


def _only(rows: Dataset, columns: Mapping[str, str], labels: Sequence[Any], feature: Any) -> Dataset:
    """The named columns under their roles, and the labels."""
    taken = rows.with_format(None).select_columns(list(columns.values()))
    taken = taken.rename_columns({name: role for role, name in columns.items() if role != name})
    for role in ("text", "text_pair"):
        if role in columns:  # files may give other types of text
            taken = taken.cast_column(role, STORED["text"])
    return taken.add_column("label", list(labels), feature=feature)


def _said(rows: Dataset, name: str, spec: Spec, role: str) -> list[Talk]:
    """A column's messages; a text is one message of a role."""
    if not is_list(rows.features[name]):
        return [[{"role": role, "content": text}] for text in _texts(rows, name, spec)]
    talks = []
    for number, row in enumerate(column(rows, name)):
        made = [_message(message) for message in row or []]
        if not made or None in made:
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has messages in the column '{name}' without "
                "a role or a content; each needs both, as texts"
            )
        talks.append([message for message in made if message is not None])
    return talks


def _message(stored: Any) -> dict[str, str] | None:
    if not isinstance(stored, Mapping):
        return None
    role, content = (stored.get(name, stored.get(other)) for name, other in (("role", "from"), ("content", "value")))
    if not isinstance(role, str) or not isinstance(content, str):
        return None
    return {"role": SPEAKERS.get(role, role), "content": content}


def _texts(rows: Dataset, name: str, spec: Spec) -> list[str]:
    """A column's texts; classes by their names."""
    feature, values = rows.features[name], column(rows, name)
    if isinstance(feature, ClassLabel):
        return [feature.names[value] for value in values]
    empty = next((number for number, value in enumerate(values) if value is None or not str(value).strip()), None)
    if empty is not None:
        raise HFTransferError(
            f"{spec.key}: row {empty + 1} of '{display_name(spec)}' has nothing in the column '{name}'; fill or "
            "remove it"
        )
    return [str(value) for value in values]


def _marks(rows: Dataset, label: str) -> np.ndarray | None:
    """(rows, k) zeros and ones, where lists are that: as fractions, as truths, or at least three whole numbers.

    Numbers of classes never come twice in a row, and of three or more zeros and ones some do.
    """
    feature = rows.features[label]
    if not is_list(feature) or not isinstance(feature.feature, Value):
        return None
    values = column(rows, label)
    widths = {len(row) if row is not None else 0 for row in values}
    if len(widths) != 1 or widths == {0} or not all(value in (0, 1) for row in values for value in row):
        return None
    plain = feature.feature.dtype.startswith(("float", "double", "bool"))
    return np.asarray(values, np.float32) if plain or min(widths) > 2 else None


def _marked(named: Sequence[Sequence[str]], index: Mapping[str, int]) -> np.ndarray:
    marks = np.zeros((len(named), len(index)), dtype=np.float32)
    for row, labels in enumerate(named):
        marks[row, [index[name] for name in labels]] = 1
    return marks


def _named_lists(rows: Dataset, label: str, spec: Spec) -> tuple[list[list[str]], list[str]]:
    """Each row's labels by name, and all names: a ClassLabel's own, else those that occur, sorted."""
    feature = rows.features[label]
    if not is_list(feature):
        kind = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise HFTransferError(
            f"{spec.key}: the label column '{label}' holds {kind}, and this task needs lists of labels"
        )
    values, classes = column(rows, label), isinstance(feature.feature, ClassLabel)
    for number, row in enumerate(values):
        if row is None or any(value is None or (classes and value < 0) for value in row):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' lacks a label in the column '{label}'; fill "
                "or remove it"
            )
        if not all(isinstance(value, str | int) for value in row):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has {row!r} in the column '{label}'; labels "
                "are names or whole numbers"
            )
    if classes:
        names = list(feature.feature.names)
        return [[names[value] for value in row] for row in values], names
    named = [[str(value) for value in row] for row in values]
    seen = {name for row in named for name in row}
    whole = all(name.removeprefix("-").isdigit() for name in seen)
    return named, sorted(seen, key=int) if whole else sorted(seen)


def _indexed(named: Sequence[Sequence[str]], names: Sequence[str], spec: Spec) -> dict[str, int]:
    index = {name: number for number, name in enumerate(names)}
    unseen = sorted({name for row in named for name in row} - set(index))
    if unseen:
        shown = ", ".join(f"'{name}'" for name in unseen[:5])
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has labels that its training rows, or the checkpoint, lack: {shown}"
            f"{nearest(unseen[0], names)}"
        )
    return index


def _alike(name: str, spec: Spec) -> HFTransferError:
    only = f"every label of '{display_name(spec)}' is '{name}'"
    return HFTransferError(f"{spec.key}: {only}; a classifier needs at least two classes")
