"""Arrays that cost a pass over the data, kept on disk under the facts that decide them, and read without loading.

An entry is a folder of `.npy` files that appears complete or not at all: it is filled as `.HASH.partial`, a list of
its files' sizes is written last, and then it is renamed. What is cut off or broken is made again.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from hftransfer import processes, runs

KEY = "key.json"
Arrays = dict[str, NDArray[Any]]
Made = Mapping[str, NDArray[Any]] | Iterable[tuple[str, NDArray[Any]]]


class Cache:
    """A folder of entries. Several runs may share it: whoever comes second waits, and finds what the first made."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def arrays(self, key: Mapping[str, Any], make: Callable[[], Made]) -> Arrays:
        """The arrays of a key, memory-mapped, on every process alike.

        Args:
            key: JSON-able facts, all that decides what the arrays hold.
            make: called on every process where there is no entry yet. It gives arrays by name, at once or one after
                another; those of one name are joined along their first axis as they come, so that what does not fit
                into memory can be stored. The main process writes.
        """
        entry = self.folder / runs.fingerprint(key)
        with self._alone(entry):
            if not processes.agree(processes.is_main() and _opened(entry, runs.canonical(key)) is not None):
                self._fill(entry, runs.canonical(key), make())
        found = _opened(entry, runs.canonical(key))
        assert found is not None, entry
        return found

    def like(self, key: Mapping[str, Any]) -> list[Arrays]:
        """Every whole entry whose key has these facts and more, oldest first, on every process alike."""
        wanted, names = json.loads(runs.canonical(key)), []
        if processes.is_main() and self.folder.is_dir():
            keys = {path.parent: runs.read_json(path) for path in self.folder.glob(f"*/{KEY}")}
            alike = [entry for entry, facts in keys.items() if {**facts, **wanted} == facts]
            names = [e.name for e in sorted(alike, key=lambda e: (e.stat().st_mtime, e.name)) if e.name[0] != "."]
        found = [_opened(self.folder / name, None) for name in processes.agree(names)]
        return [arrays for arrays in found if arrays is not None]

    @contextlib.contextmanager
    def _alone(self, entry: Path) -> Iterator[None]:
        """Holds the entry's lock on the main process; it is the operating system's, so a killed run leaves none."""
        from filelock import FileLock

        held = FileLock(self.folder / f".{entry.name}.lock")
        if processes.is_main():
            runs.make_folder(self.folder)
            held.acquire()
        try:
            yield
        finally:
            if held.is_locked:
                with contextlib.suppress(OSError):  # Windows keeps an open file
                    Path(held.lock_file).unlink()  # before the release: filelock refuses a lock without its name
                held.release()

    def _fill(self, entry: Path, key: str, made: Made) -> None:
        """Only the main process writes, yet all go through what is made: they share the work."""
        work = self.folder / f".{entry.name}.partial"
        with contextlib.ExitStack() as opened:
            writer = opened.enter_context(_Writer(work)) if processes.is_main() else None
            for name, array in made.items() if isinstance(made, Mapping) else made:
                if writer is not None:
                    writer.add(name, array)
        if writer is not None:
            runs.write_text(work / KEY, key)
            sizes = {path.name: path.stat().st_size for path in sorted(work.iterdir())}
            runs.write_json(work / runs.MANIFEST, {"sizes": sizes})
            runs.replace_folder(work, entry)
        processes.barrier()


class _Writer:
    """A folder of arrays that grow along their first axis: numpy leaves room in the header for any number of rows."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder = folder
        self.open: dict[str, tuple[BinaryIO, dict[str, Any]]] = {}

    def __enter__(self) -> "_Writer":
        return self

    def add(self, name: str, array: NDArray[Any]) -> None:
        """Writes an array behind what there is of its name."""
        array = np.ascontiguousarray(array)
        header = {**np.lib.format.header_data_from_array_1_0(array), "shape": (0, *array.shape[1:])}
        if name not in self.open:
            self.open[name] = ((self.folder / f"{name}.npy").open("wb"), header)
            np.lib.format.write_array_header_1_0(*self.open[name])
        file, known = self.open[name]
        if {**known, "shape": known["shape"][1:]} != {**header, "shape": array.shape[1:]}:
            raise ValueError(f"{name}: {array.dtype} {array.shape} does not go on from {known}")
        known["shape"] = (known["shape"][0] + len(array), *array.shape[1:])
        file.write(array.tobytes())

    def __exit__(self, *_: object) -> None:
        for file, header in self.open.values():
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            os.fsync(file.fileno())
            file.close()


def _opened(entry: Path, key: str | None) -> Arrays | None:
    """An entry's arrays, or None where it is not whole, or of another key."""
    sizes = runs.read_json(entry / runs.MANIFEST).get("sizes", {})
    files = [entry / name for name in sizes]
    if not files or any(not file.is_file() or file.stat().st_size != sizes[file.name] for file in files):
        return None
    if key is not None and (entry / KEY).read_text(encoding="utf-8") != key:
        return None
    try:
        return {file.stem: np.load(file, mmap_mode="r") for file in files if file.suffix == ".npy"}
    except (OSError, ValueError):  # as many bytes, but no array
        return None
