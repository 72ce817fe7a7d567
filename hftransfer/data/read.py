"""Rows from where a spec says they are: the one place that calls `load_dataset(`."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
import huggingface_hub
from datasets import DatasetDict

from hftransfer.data.demo import DEMOS, demo
from hftransfer.data.sound_folder import sound_folder
from hftransfer.data.spec import BUILDERS, Spec, demo_names, display_name
from hftransfer.errors import HFTransferError, nearest

Splits = dict[str, Any]  # split -> Dataset, or IterableDataset when streaming
BAR_FROM_BYTES = 100 << 20  # smaller files load before a progress bar could be read


def read(spec: Spec, kind: str = "text") -> Splits:
    """All splits of a spec as they are stored, with every column; embedded data must be of this kind.

    Raises:
        HFTransferError: when a file is empty or cannot be parsed, or the Hub cannot be reached.
    """
    if spec.kind == "demo":
        return _splits(_demo(spec, kind))
    if spec.kind == "memory":
        return _splits(spec.data)
    if spec.kind == "vectors":
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' holds vectors, which `cluster` reads, not {kind}s")
    with quiet(show_bars=_size(spec) >= BAR_FROM_BYTES):
        if spec.kind == "saved":
            return _read_saved(spec)
        return _splits(_read_files(spec) if spec.kind == "files" else _read_hub(spec))


@contextlib.contextmanager
def quiet(show_bars: bool = False) -> Iterator[None]:
    """Silences the progress bars, warnings and log lines of `datasets`; its exceptions carry what matters."""
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub", "fsspec")]
    levels = [logger.level for logger in loggers]
    bars = not datasets.utils.are_progress_bars_disabled()
    if bars and not show_bars:
        datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()


def _splits(loaded: Any) -> Splits:
    if isinstance(loaded, Mapping):
        return {str(name): part for name, part in loaded.items()}
    return {"train": loaded}


def _size(spec: Spec) -> float:
    if spec.kind == "hub":
        return float("inf")
    return sum(os.path.getsize(path) for part in spec.files.values() for path in part)


def _demo(spec: Spec, kind: str) -> Any:
    name = spec.path.removeprefix("demo/")
    if DEMOS[name].kind != kind:
        fitting = " or ".join(f"demo/{name}" for name, entry in DEMOS.items() if entry.kind == kind)
        holds = f"demo/{name} holds {DEMOS[name].kind}s and this stage reads {kind}"
        raise HFTransferError(f"{spec.key}: {holds}; use {fitting or 'data of your own'}")
    return demo(name, spec.arguments.get("name"))


def _read_saved(spec: Spec) -> Splits:
    try:
        loaded = datasets.load_from_disk(spec.path)
    except Exception as error:
        raise HFTransferError(f"{spec.key}: cannot read the folder '{spec.path}': {_first_line(error)}") from error
    splits = _splits(loaded)
    wanted = spec.arguments.get("split")
    if wanted is None or not isinstance(loaded, DatasetDict):
        return splits
    if wanted not in splits:
        raise HFTransferError(f"{spec.key}.split: '{spec.path}' has no split '{wanted}'{nearest(wanted, splits)}")
    return {"train": splits[wanted]}


def _read_files(spec: Spec) -> Any:
    for path in (path for part in spec.files.values() for path in part):
        if os.path.getsize(path) == 0:
            raise HFTransferError(f"{spec.key}: the file '{path}' is empty")
    files = {split: list(paths) for split, paths in spec.files.items()}
    if spec.builder == "audiofolder":
        return DatasetDict({split: sound_folder(paths, spec.key) for split, paths in files.items()})
    try:
        return datasets.load_dataset(spec.builder, data_files=files, **spec.arguments)
    except Exception as error:
        if "corresponds to no data" in str(error):
            raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows") from error
        path, cause = _culprit(spec, error)
        raise HFTransferError(f"{spec.key}: cannot read '{path}' as {spec.builder}: {_first_line(cause)}") from error


def _culprit(spec: Spec, error: Exception) -> tuple[str, Exception]:
    """The first file that cannot be read alone, and why; else all of them, and the error of reading them together."""
    paths = [path for part in spec.files.values() for path in part]
    if len(paths) == 1:
        return paths[0], error
    alone = {name: value for name, value in spec.arguments.items() if name not in ("split", "streaming")}
    for path in paths:
        try:
            datasets.load_dataset(spec.builder, data_files=[path], **alone)
        except Exception as found:
            return path, found
    return spec.path, error


def _read_hub(spec: Spec) -> Any:
    # a builder's name stands for files at other addresses
    cached_only = spec.path not in BUILDERS and not _hub_answers()
    try:
        with _offline() if cached_only else contextlib.nullcontext():
            return datasets.load_dataset(spec.path, **spec.arguments)
    except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
        if "gated" in str(error).lower():
            raise HFTransferError(f"{spec.key}: '{spec.path}' is gated; accept its terms and set HF_TOKEN") from error
        close = nearest(spec.path, ["demo/api_docs", *demo_names()])
        hint = close if "did you mean" in close else "; embedded data that needs no network: demo/api_docs"
        found = f"nothing local is named '{spec.path}', and the Hub has no such dataset or cannot be reached"
        raise HFTransferError(f"{spec.key}: {found}{hint}") from error
    except Exception as error:
        raise HFTransferError(f"{spec.key}: cannot load '{display_name(spec)}': {_first_line(error)}") from error


def _hub_answers() -> bool:
    """Whether a connection to the Hub can be made: one try. `load_dataset` makes six, in 23 s, before it gives up."""
    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=10)
    except Exception as error:  # ConnectError, ConnectTimeout; a slow answer (ReadTimeout) is an answer
        return "Connect" not in type(error).__name__
    return True


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """`datasets` looks into its cache at once, as with HF_HUB_OFFLINE=1."""
    places = (huggingface_hub.constants, datasets.config)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _first_line(error: BaseException) -> str:
    """The innermost cause in one line: `datasets` wraps a parser's message in a general one."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
