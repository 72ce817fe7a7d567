"""What is in a file: its bytes as they are, and what its suffix says that it holds.

Tables, archives of estimators, pictures' texts and the headers of weights are looked into, since what is compressed or
escaped cannot be found from outside. Whatever its size, a few megabytes of a file are in memory; of a table, its rows
are read so many at a time.
"""

import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageSequence

from hftransfer.hub.search import ABSOLUTE, BETWEEN, SECRET, Kind, Search

AT_ONCE = 1 << 22  # bytes that are searched at once
OVERLAP, MARGIN = 1 << 16, 64  # of two such pieces: a finding may be as long, and what stands before it is seen
JSON_AT_MOST = 1 << 26  # bytes; a larger file is read as lines of text
# README.md, recipe.yaml, config.json, tokenizer_config.json, ...: written here, or copied with our knowledge
OURS = re.compile(r"README\.md|.*\.ya?ml|(.*_)?config\.json|all_results\.json|manifest\.json")
FREE = {"chat_template", "added_tokens_decoder", "id2label", "label2id"}  # keys whose text is not ours


class Found(NamedTuple):
    """One thing that must not be published."""

    place: str
    spot: str  # where in it: a line, a key, a row
    what: str


def look_into(search: Search, file: IO[bytes], name: str, place: str) -> Iterator[Found]:
    """A file, or a member of an archive: what its suffix says that it holds, and then its bytes as they are."""
    reader = READERS.get(PurePosixPath(name).suffix.lower())
    kind = Kind.OURS if OURS.fullmatch(PurePosixPath(name).name) else Kind.TEXT
    if reader is _json and file.seek(0, os.SEEK_END) > JSON_AT_MOST:
        reader = None
    file.seek(0)
    secret = False
    if reader:
        try:
            for found in reader(search, file, place, kind):
                secret |= found.what == SECRET
                yield found
            if reader is _json or secret:
                return
            kind = Kind.BYTES
        except Exception:  # a file that is cut off raises many kinds
            yield Found(place, "", "is not what its name says")
        file.seek(0)
    yield from _stream(search, file, place, kind)


def _stream(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    """A file as it is, in pieces that overlap; what holds a zero byte is no text."""
    before, begun = 0, False
    for data, low, high in _pieces(file):
        kind = Kind.BYTES if not begun and b"\0" in data[:8000] else kind
        begun = True
        if kind is Kind.BYTES and not search.needles:
            return
        if found := search(data, kind, low, high):
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
            for at, what in found:
                line = f"line {before + np.searchsorted(ends, at) + 1}"
                yield Found(place, "" if kind is Kind.BYTES else line, what)
        if kind is not Kind.BYTES:
            before += data.count(b"\n", 0, max(len(data) - OVERLAP, 0))


def _pieces(file: IO[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """(bytes, low, high): everything begins once in a piece at `low` or later and before `high`."""
    data, low = file.read(AT_ONCE), 0
    while more := file.read(AT_ONCE):
        yield data, low, len(data) - OVERLAP + MARGIN
        data, low = data[-OVERLAP:] + more, MARGIN
    yield data, low, len(data)


def _texts(search: Search, texts: Sequence[bytes], kind: Kind) -> Iterator[tuple[int, str]]:
    """(number of the text, what) of everything found in one of them."""
    data = BETWEEN.join(texts)
    if found := search(data, kind):
        ends = np.cumsum([len(text) + len(BETWEEN) for text in texts]) - len(BETWEEN)
        yield from ((int(np.searchsorted(ends, at)), what) for at, what in found)


def _json(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    yield from _parsed(search, json.loads(file.read(), object_pairs_hook=tuple), place, kind)


def _parsed(search: Search, value: Any, place: str, kind: Kind) -> Iterator[Found]:
    """JSON whose objects are tuples of pairs, so that a key which is there twice is seen twice."""
    found: dict[int, list[str]] = {}
    for number, what in _texts(search, [_encoded(text) for _, text in _leaves(value)], kind):
        found.setdefault(number, []).append(what)
    for number, (path, _) in enumerate(_leaves(value)) if found else ():
        for what in found.get(number, ()):
            if what != ABSOLUTE or FREE.isdisjoint(path):
                key = said(search, ".".join(map(str, path)))
                yield Found(place, key and f"key {key}", what)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """(where, text) of every text, whole number and name."""
    if isinstance(value, tuple):
        for key, inner in value:
            yield path, key
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, number))
    elif isinstance(value, str | int):
        yield path, str(value)


def _safetensors(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    """The header: JSON, whose length is the first eight bytes. It says how long the file is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if 8 + length > size:
        raise ValueError("cut off")
    header = json.loads(file.read(length), object_pairs_hook=tuple)
    ends = [dict(entry)["data_offsets"][1] for name, entry in header if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise ValueError("cut off")
    yield from _parsed(search, header, place, kind)


def _archive(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as opened:
                    name = member.filename
                    yield from look_into(search, opened, name, f"{place} member {said(search, name)}")


def _picture(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    with Image.open(file) as image:
        image.verify()  # the sums in a PNG; it cannot be read on afterwards
    file.seek(0)
    with Image.open(file) as image:
        texts = dict(getattr(image, "text", {}))  # reads on behind the pixels
        for number, frame in enumerate(ImageSequence.Iterator(image)):
            frame.load()
            texts |= {(key, number): text for key, text in frame.info.items()}
    known = [(key, _encoded(text)) for key, text in texts.items() if isinstance(text, str | bytes)]
    for number, what in _texts(search, [text for _, text in known], kind):
        key = known[number][0]
        yield Found(place, f"text {said(search, str(key[0] if isinstance(key, tuple) else key))}", what)


def _parquet(search: Search, file: IO[bytes], place: str, kind: Kind) -> Iterator[Found]:
    table = pq.ParquetFile(file)
    schema, about = table.schema_arrow, table.metadata
    notes = [schema.metadata or {}, *(found for field in schema for found in _field_notes(field))]
    texts = [text for note in notes for pair in note.items() for text in pair]
    for _, what in _texts(search, texts, kind):
        yield Found(place, "schema", what)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    widest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    rows = min(max(int(AT_ONCE / max(widest, 1)), 1), 10_000)
    columns = [field.name for field in schema if _holds_texts(field.type)]
    first = 0
    for batch in table.iter_batches(rows, columns=columns) if columns else ():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for path, values in _values(column, name):
                rows_here = values.to_pylist()
                media = any(isinstance(value, bytes) and b"\0" in value[:8000] for value in rows_here[:20])
                texts = [b"" if value is None else _encoded(value) for value in rows_here]
                for number, what in _texts(search, texts, Kind.BYTES if media else Kind.ROWS):
                    spot = "" if "[]" in path else f"row {first + number}"
                    yield Found(f"{place} column {said(search, path)}", spot, what)
        first += len(batch)


def _field_notes(field: Any) -> Iterator[dict[bytes, bytes]]:
    """A column's name and what is noted of it, and those of the columns within."""
    yield {field.name.encode(): b"", **(field.metadata or {})}
    for number in range(field.type.num_fields):
        yield from _field_notes(field.type.field(number))


def _holds_texts(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_texts(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _holds_texts(kind.value_type)
    if kind.num_fields:
        return any(_holds_texts(kind.field(number).type) for number in range(kind.num_fields))
    return _is_text(kind)


def _is_text(kind: Any) -> bool:
    types = pa.types
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary,
             types.is_fixed_size_binary, types.is_binary_view)  # fmt: skip
    return any(test(kind) for test in tests)


def _values(array: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(name, texts or bytes) of a column and of the columns within; behind `[]` no longer one a row."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _values(array.storage, path)
    elif pa.types.is_dictionary(kind):
        yield from _values(array.dictionary_decode(), path)
    elif pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _values(array.field(number), f"{path}.{kind.field(number).name}")
    elif pa.types.is_map(kind):
        yield from _values(array.keys, f"{path}[].key")
        yield from _values(array.items, f"{path}[].value")
    elif hasattr(array, "flatten") and kind.num_fields:
        yield from _values(array.flatten(), f"{path}[]")
    elif _is_text(kind):
        yield path, array


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


def said(search: Search, name: str) -> str:
    """A name as a finding may say it: a name can be a secret, too."""
    return "(a name that is not repeated)" if search(_encoded(name), Kind.TEXT) else name


READERS: dict[str, Callable[[Search, IO[bytes], str, Kind], Iterator[Found]]] = {
    **dict.fromkeys((".skops", ".zip", ".npz"), _archive),
    **dict.fromkeys((".png", ".gif", ".jpg", ".jpeg", ".webp"), _picture),
    ".json": _json,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
