"""All rows of a data set in their order, so many at a time, from memory, from files or from a stream."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import Audio, Dataset, Features, Image, IterableDataset, Value

from hftransfer.data.demo import DEMOS
from hftransfer.data.read import quiet, read
from hftransfer.data.rows import STORED, column, find_columns, only_content
from hftransfer.data.spec import DataSpec, Spec, display_name, parse
from hftransfer.data.vectors import find_vectors
from hftransfer.errors import HFTransferError, nearest

SPLIT = "split"  # the column that says which, where there are several


class Chunk(NamedTuple):
    """Some rows in their order."""

    numbers: list[int]  # each row's in the data; blank texts are left out
    content: Dataset  # column text, image or audio; images and sounds as they are stored
    kept: Dataset  # what goes with the vectors: the content under its own name, and other columns
    read: int  # rows of the data that this is of, with those that are left out
    end: int  # rows of the data up to here


class Source(NamedTuple):
    """A data set to read through."""

    spec: Spec
    splits: Mapping[str, Any]  # Dataset or IterableDataset by name
    content: str
    label: str | None
    kept: tuple[str, ...]  # columns that are kept
    kind: str

    @property
    def rows(self) -> int | None:
        """How many; of a stream nobody knows."""
        parts = list(self.splits.values())
        return None if any(isinstance(part, IterableDataset) for part in parts) else sum(map(len, parts))

    def chunks(self, size: int, start: int = 0) -> Iterator[Chunk]:
        """At most `size` rows at a time, from `start` on, where an earlier chunk ended.

        Raises:
            HFTransferError: a row has no content (null).
        """
        first = 0
        for name, part in self.splits.items():
            for count, make in _pieces(part, size):
                if first >= start:
                    yield self._chunk(make(), first, name)
                first += count

    def _chunk(self, rows: Dataset, first: int, split: str) -> Chunk:
        if self.kind != "text":
            rows = rows.cast_column(self.content, STORED[self.kind])
        values = column(rows, self.content)
        missing = [first + place + 1 for place, value in enumerate(values) if value is None and self.kind != "text"]
        if missing:
            raise HFTransferError(
                f"{self.spec.key}: row {missing[0]} of '{display_name(self.spec)}' has nothing in the column "
                f"'{self.content}', and {len(missing) - 1} more near it; fill or remove them"
            )
        places = [place for place, value in enumerate(values) if self.kind != "text" or (value or "").strip()]
        read = len(rows)
        rows = rows if len(places) == len(rows) else rows.select(places)
        kept = rows.select_columns(list(self.kept))
        if len(self.splits) > 1:
            kept = kept.add_column(SPLIT, [split] * len(kept))
        return Chunk(
            [first + place for place in places], only_content(rows, self.content, self.kind), kept, read, first + read
        )


def _pieces(part: Any, size: int) -> Iterator[tuple[int, Any]]:
    """(rows, what makes them a Dataset) of each piece."""
    if isinstance(part, IterableDataset):
        for batch in part.iter(batch_size=size):
            count = len(next(iter(batch.values())))
            yield count, lambda batch=batch: Dataset.from_dict(batch, features=part.features)
        return
    for start in range(0, len(part), size):
        places = range(start, min(start + size, len(part)))
        yield len(places), lambda places=places: part.select(places)


def open_source(spec: DataSpec | Spec, *, key: str, kind: str, columns: Sequence[str] | None = None) -> Source:
    """Finds the content's column, and which other columns go with it.

    Args:
        spec: what `parse` takes.
        key: how errors name the data.
        kind: what is read: text, image or sound.
        columns: that are kept beside the content; None: the label's, if there is one.

    Raises:
        HFTransferError: no column of this kind can be told, or one that is asked for is not there.
    """
    parsed = parse(spec, key)
    if parsed.kind == "demo" and DEMOS[parsed.path.removeprefix("demo/")].kind == "vector":
        raise _vectors_already(parsed, kind)
    splits = {name: _typed(part) for name, part in read(parsed, kind).items()}
    splits = {name: part for name, part in splits.items() if isinstance(part, IterableDataset) or len(part)}
    if not splits:
        raise HFTransferError(f"{key}: '{display_name(parsed)}' has no rows")
    features = next(iter(splits.values())).features
    try:
        content, label = find_columns(features, parsed, need_label=False, kind=kind)
    except HFTransferError as error:
        if _only_numbers(features, parsed):
            raise _vectors_already(parsed, kind) from error
        raise
    for name in columns or ():
        if name not in features:
            raise HFTransferError(f"columns: '{display_name(parsed)}' has no column '{name}'{nearest(name, features)}")
    kept = [content, *(columns if columns is not None else [label] if label else [])]
    with quiet():
        if kind != "text":
            splits = {name: part.cast_column(content, STORED[kind]) for name, part in splits.items()}
    return Source(parsed, splits, content, label if label in kept else None, tuple(dict.fromkeys(kept)), kind)


def _only_numbers(features: Features, spec: Spec) -> bool:
    """Whether the rows are vectors, and nothing that a network could read is beside them."""
    try:
        _, label = find_vectors(features, spec)
    except HFTransferError:
        return False
    others = [feature for name, feature in features.items() if name != label]
    return not any(isinstance(feature, Image | Audio) or feature == Value("string") for feature in others)


def _vectors_already(spec: Spec, kind: str) -> HFTransferError:
    holds = f"'{display_name(spec)}' holds vectors already, not {kind}s"
    return HFTransferError(f"{spec.key}: {holds}; `cluster` takes them as they are")


def _typed(part: Any) -> Any:
    """A stream whose columns are known only when it is looked at, looked at."""
    streamed = isinstance(part, IterableDataset) and part.features is None
    return part._resolve_features() if streamed else part
