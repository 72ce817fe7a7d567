"""What `cluster` groups: the vectors that `embed` left, or a table's numbers, with what is known of each row."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Image
from numpy.typing import NDArray

from hftransfer import runs
from hftransfer.data.cards import describe
from hftransfer.data.load import not_streamed
from hftransfer.data.read import quiet, read
from hftransfer.data.rows import column, encode_labels, label_names_of
from hftransfer.data.spec import VECTORS, DataSpec, Spec, display_name, parse
from hftransfer.data.targets import train_of
from hftransfer.data.vectors import find_vectors, table
from hftransfer.errors import HFTransferError, nearest
from hftransfer.vectors import open_vectors

Array = NDArray[Any]


@dataclass(frozen=True)
class Rows:
    """Vectors with their rows."""

    vectors: Array  # (rows, width), perhaps a memory map
    columns: Dataset  # as many rows: what was kept of the data
    numbers: Array  # (rows,) each row's number in the data
    content: str | None  # the column that holds what the vectors are of
    kind: str  # text, image, sound or vector
    label: str | None
    embedded: bool  # by `embed`; else numbers of a table
    name: str
    axes: tuple[str, ...]  # a table's columns

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def truth(self) -> "Truth | None":
        """The labels, if there are at least two of them and fewer than rows that have one."""
        if self.label is None:
            return None
        feature, values = self.columns.features[self.label], column(self.columns, self.label)
        classes = isinstance(feature, ClassLabel)
        known = np.array([value is not None and not (classes and value < 0) for value in values])
        if not known.any():
            return None
        spec = Spec("data", "memory", data=self.columns)
        rows = self.columns.select(np.flatnonzero(known))
        try:
            names = label_names_of(rows, self.label, spec)
            coded = encode_labels(rows, self.label, names, spec, "itself")
        except HFTransferError:  # numbers that are no classes
            return None
        if not 1 < len(set(coded)) < len(rows):
            return None
        labels = np.zeros(len(self), dtype=np.int64)
        labels[known] = coded
        return Truth(labels, names, known)

    def texts(self) -> list[str]:
        """The texts that the vectors are of."""
        assert self.content is not None
        return [str(text) for text in column(self.columns, self.content)]

    def stored(self) -> Dataset:
        """The columns, images as they are stored."""
        if self.kind != "image":
            return self.columns
        return self.columns.cast_column(self.content, Image(decode=False))

    def card(self) -> dict[str, Any]:
        """The record's card of the data."""
        told = Dataset.from_dict({"row": self.numbers})
        if self.truth is not None and self.truth.known.all():
            told = told.add_column("label", self.truth.labels, feature=ClassLabel(names=self.truth.names))
        return describe(told, name=self.name, role="clustered")


@dataclass(frozen=True)
class Truth:
    """Labels that judge and take no part."""

    labels: Array  # (rows,) 0 where none is known
    names: list[str]
    known: Array  # (rows,) whether a row has one


def read_rows(spec: DataSpec | Spec, key: str) -> Rows:
    """Opens the vectors of a folder that `embed` left, or reads a table's numbers.

    Raises:
        HFTransferError: in one line, for anything that makes the data unusable.
    """
    parsed = not_streamed(parse(spec, key))
    return _embedded(parsed) if parsed.kind == "vectors" else _numbers(parsed)


def _embedded(spec: Spec) -> Rows:
    vectors = open_vectors(spec.path)
    columns = vectors.rows()
    info = vectors.info
    label = spec.columns.get("label", info.get("label"))
    _check_label(label, columns, spec)
    kept = columns.remove_columns(["row"])
    return Rows(
        vectors.array(), kept, np.asarray(column(columns, "row")), info.get("content"), info["kind"], label,
        True, str(info.get("data") or display_name(spec)), (),
    )  # fmt: skip


def _check_label(label: str | None, columns: Dataset, spec: Spec) -> None:
    if label is not None and label not in columns.column_names:
        raise HFTransferError(
            f"{spec.key}.columns.label: there is no column '{label}'{nearest(label, columns.features)}"
        )


def _numbers(spec: Spec) -> Rows:
    splits = read(spec, "vector")
    rows = train_of(splits, spec)
    try:
        found, label = find_vectors(rows.features, spec)
    except HFTransferError as error:
        if "cannot tell which column" not in str(error):
            raise
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' holds no vectors (columns found: {', '.join(rows.features)}); embed "
            "it first, or name a column of lists of numbers: columns: {vector: NAME}"
        ) from error
    with quiet():
        vectors = table(rows, found, spec)
        kept = rows.select_columns([name for name in rows.column_names if name not in found.names or not found.lists])
    numbers = np.arange(len(vectors))
    axes = tuple(found.names_of(vectors.shape[1]))
    return Rows(vectors, kept, numbers, None, "vector", label, False, display_name(spec), axes)


def planned_rows(spec: DataSpec | Spec, key: str) -> tuple[int, int]:
    """How many rows of how many numbers there will be; of a folder that `embed` left, by its own account."""
    parsed = not_streamed(parse(spec, key))
    if parsed.kind == "vectors":
        info = runs.read_json(Path(parsed.path) / VECTORS)
        return int(info["rows"]), int(info["width"])
    found = _numbers(parsed)
    return found.vectors.shape[0], found.vectors.shape[1]
