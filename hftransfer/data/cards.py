"""What a report says about data, and the fingerprint that tells whether it is still the same."""

import hashlib
import importlib.metadata
import json
import math
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from numpy.typing import NDArray

from hftransfer import runs
from hftransfer.data import demo as demo_module
from hftransfer.data.spec import DataSpec, Spec, parse

NUM_BINS = 12
VECTOR_FILES = (".safetensors", ".parquet")
STREAM_FINGERPRINT_ROWS = 100
# arguments of `load_dataset` that say how to fetch, not what
_HOW = ("cache_dir", "num_proc", "keep_in_memory", "download_mode", "download_config", "save_infos", "storage_options")


def describe(dataset: Dataset, *, name: str, role: str, lengths: Sequence[int] | None = None) -> dict[str, Any]:
    """The "data" card of a stage's evidence.

    Args:
        dataset: columns text and perhaps label, as `labelled` or `unlabelled` return for one part.
        name: what `display_name` says.
        role: "source", "target", ...
        lengths: tokens of each row; without them words are counted.

    Returns:
        role, name, rows, labels ({name: rows} or None), lengths (unit, edges, counts; the last bin also counts the
        `longer` rows beyond the last edge) and median_length.
    """
    feature = dataset.features.get("label")
    labels = None
    if isinstance(feature, ClassLabel):
        counts = np.bincount(np.asarray(dataset.with_format("numpy")["label"][:]), minlength=feature.num_classes)
        labels = {label: int(count) for label, count in zip(feature.names, counts, strict=True)}
    card = {"role": role, "name": name, "rows": len(dataset), "labels": labels}
    if lengths is None and "text" not in dataset.column_names:
        return card
    if lengths is None:
        return {**card, **lengths_of(Counter(len(text.split()) for text in dataset["text"]), "words")}
    return {**card, **lengths_of(Counter(int(length) for length in lengths), "tokens")}


def lengths_of(rows: Mapping[int, int], unit: str) -> dict[str, Any]:
    """What a card says of lengths: `lengths` and `median_length`.

    Args:
        rows: how many there are of each length.
        unit: "words" or "tokens".
    """
    values = np.array(sorted(rows), dtype=np.int64)
    counts = np.array([rows[value] for value in values.tolist()], dtype=np.int64)
    median = int(_quantile(values, counts, 0.5)) if len(values) else 0
    return {"lengths": {"unit": unit, **_histogram(values, counts)}, "median_length": median}


def _quantile(values: NDArray[np.int64], counts: NDArray[np.int64], share: float) -> float:
    """As of `counts[i]` rows of each value in order; between two rows, the share of the way."""
    place = share * (int(counts.sum()) - 1)
    low, high = values[np.searchsorted(counts.cumsum(), [math.floor(place), math.ceil(place)], side="right")]
    return float(low + (high - low) * (place - math.floor(place)))


def _histogram(values: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, Any]:
    """Bins of a round width that reach the 98th percentile: one huge document must not flatten the picture."""
    reach = _quantile(values, counts, 0.98) if len(values) else 1.0
    steps = (factor * 10**power for power in range(9) for factor in (1, 2, 4, 5, 8))
    step = next(step for step in steps if step * NUM_BINS > reach)
    edges = np.arange(0, step * (NUM_BINS + 1), step)
    binned, _ = np.histogram(np.minimum(values, edges[-1]), bins=edges, weights=counts)
    return {"edges": edges.tolist(), "counts": binned.tolist(), "longer": int(counts[values > edges[-1]].sum())}


def fingerprint(spec: DataSpec | Spec, key: str = "data") -> str:
    """A hash that changes when the data changes: what is in the files or rows, not where they lie or their dates.

    Embedded data counts as changed with the packages that it is made from. Data on the Hub is known by what was asked
    for only: name `revision` to pin it. A stream in memory is known by its first rows.
    """
    parsed = parse(spec, key)
    asked = {name: value for name, value in parsed.arguments.items() if name not in _HOW}
    settings = [parsed.builder, dict(parsed.columns), asked]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for piece in _content(parsed):
        digest.update(piece)
    return digest.hexdigest()[:32]


def _content(spec: Spec) -> Iterable[bytes]:
    if spec.kind == "hub":
        yield spec.path.encode()
    elif spec.kind == "demo":
        name = spec.path.removeprefix("demo/")
        yield name.encode()
        for file in sorted(Path(demo_module.__file__).parent.glob("demo*.py")):
            yield file.read_bytes()
        for package in demo_module.DEMOS[name].packages:
            yield f"{package} {_version(package)}".encode()
    elif spec.kind == "memory":
        yield from _rows(spec.data)
    else:
        yield from _files(spec)


def _version(package: str) -> str:
    """A missing package is told when the data are built."""
    if package == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _files(spec: Spec) -> Iterable[bytes]:
    if spec.kind == "saved":
        paths = sorted(Path(spec.path).rglob("*.arrow"))
        named = [(path.relative_to(spec.path).as_posix(), path) for path in paths]
    elif spec.kind == "vectors":
        named = [(path.name, path) for path in sorted(Path(spec.path).glob("*-*.*")) if path.suffix in VECTOR_FILES]
    else:
        named = [(split, Path(path)) for split, part in spec.files.items() for path in part]
    for name, path in named:
        yield f"{name} {runs.sha256(path)}".encode()


def _rows(data: Any) -> Iterable[bytes]:
    """The content of a dataset in memory: `Dataset._fingerprint` would change with the date of a cache file."""
    if isinstance(data, dict):
        for split, part in data.items():
            yield str(split).encode()
            yield from _rows(part)
    elif isinstance(data, Dataset):
        yield str(data.features).encode()
        for table in data.with_format("arrow").iter(batch_size=1000):
            for batch in table.combine_chunks().to_batches():
                yield batch.serialize().to_pybytes()
    else:
        yield repr(list(data.take(STREAM_FINGERPRINT_ROWS))).encode()
