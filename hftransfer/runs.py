"""Folders that appear complete or not at all: manifests, locks, fingerprints, and the result a stage hands on.

A stage works in `.NAME.partial/` and is renamed to `NAME/` when everything is on disk. Done means: the manifest is
there and every file has the size and hash that it says.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hftransfer import processes
from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")

MANIFEST = "manifest.json"
IDENTITY = "identity.json"  # of a stage that is still at work
CHECKPOINTS = "checkpoints"  # of its trainings


@dataclass(frozen=True)
class Result:
    """What a stage leaves: a folder that plain `from_pretrained` loads, and its metrics."""

    path: Path
    metrics: dict[str, Any] = field(repr=False)
    reused: bool = False  # the folder was complete already, and nothing ran

    @property
    def evidence(self) -> dict[str, Any]:
        """The record behind the report: verdict, comparisons, curves (see `hftransfer.evidence`)."""
        return read_json(self.path / "evidence.json")

    def model(self) -> Any:
        """The model, with the class that its config names."""
        from hftransfer import models

        return models.reopen(self.path)

    def tokenizer(self) -> Any:
        """The tokenizer saved with the model."""
        from hftransfer import models

        return models.tokenizer(self.path)


@dataclass(frozen=True)
class Published:
    """What a push did, or with `dry_run` what it would have done."""

    repo_id: str
    url: str  # of the commit or the pull request; of the repository where nothing had changed
    files: dict[str, int]  # all that is published, and how many bytes each has
    added: list[str]  # those that the Hub did not have, or had otherwise
    deleted: list[str]  # what an earlier push had left
    dry_run: bool


@dataclass
class StageFolder:
    """One stage's folder while it is open. `work` is where the stage writes until it is finished."""

    path: Path
    identity: dict[str, Any]
    finished: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def work(self) -> Path:
        return self.path.parent / f".{self.path.name}.partial"

    def begin(self, measuring: Sequence[str] = ()) -> Path:
        """Makes the working folder, keeping an interrupted one only when it belongs to the same stage settings.

        Settings named in `measuring` only decide what is measured after the training, which goes on whatever they are.
        """
        if processes.is_main():
            started = self.work / IDENTITY
            before = read_json(started)
            changed = self._changed(before) - set(measuring)
            if self.work.exists() and changed:
                why = f"other settings: {', '.join(sorted(changed))}" if before else "no record of its settings"
                logger.warning("%s: an interrupted run is deleted and begun anew, it has %s", self.path, why)
                shutil.rmtree(self.work)
            make_folder(self.work)
            (self.work / MANIFEST).unlink(missing_ok=True)  # it no longer says what is here
            write_json(started, self.identity)
        processes.barrier()
        return self.work

    def _changed(self, before: Mapping[str, Any]) -> set[str]:
        """The settings in which an identity is not this one."""
        now = self.identity
        return {name for name in {*before, *now} if [before.get(name), name in before] != [now.get(name), name in now]}

    def finish(self, metrics: Mapping[str, Any], evidence: Mapping[str, Any]) -> None:
        """Writes the record, drops the training checkpoints, and renames the folder into place."""
        processes.barrier()
        if processes.is_main():
            name = re.sub(r"^\d+-", "", self.path.name)
            seconds = round(time.monotonic() - self.started, 1)
            write_json(self.work / "metrics.json", metrics)
            write_json(self.work / "evidence.json", {**evidence, "id": name, "seconds": seconds})
            if evidence.get("curves"):
                from hftransfer.report.figures import loss_curve_png

                loss_curve_png(evidence["curves"], self.work / "loss.png")
            write_manifest(self.work, but=(IDENTITY, CHECKPOINTS), identity=self.identity)
            self._settle()
        processes.barrier()

    def is_done(self) -> bool:
        """Whether a complete folder of these settings is there. One that lacks only its new name is given it."""
        if self._holds(self.path):
            return True
        if self._holds(self.work):
            self._settle()
            return True
        return False

    def _holds(self, folder: Path) -> bool:
        return read_json(folder / MANIFEST).get("identity") == self.identity and verified(folder) is not None

    def _settle(self) -> None:
        """What follows the manifest. Killed at any point here, the next run goes on from the manifest."""
        shutil.rmtree(self.work / CHECKPOINTS, ignore_errors=True)
        (self.work / IDENTITY).unlink(missing_ok=True)
        replace_folder(self.work, self.path)

    def result(self) -> Result:
        return Result(self.path, read_json(self.path / "metrics.json"), reused=self.finished)


@contextlib.contextmanager
def open_stage(output_dir: str | Path, identity: Mapping[str, Any]) -> Iterator[StageFolder]:
    """Opens a stage's folder under a lock. `identity` is everything that decides its outcome (JSON-able).

    Every process gets the same `finished`: whether a complete folder of the same identity is already there.

    Raises:
        HFTransferError: when another run holds the folder, it cannot be written, or it holds what no stage wrote.
    """
    path = Path(output_dir)
    folder = StageFolder(path, json.loads(canonical(identity)))
    with lock(path.parent / f".{path.name}.lock"):
        if processes.agree(processes.is_main() and _is_foreign(path)):
            raise HFTransferError(f"output_dir: {path} holds what no stage wrote and would be lost; choose another")
        folder.finished = processes.agree(processes.is_main() and folder.is_done())
        yield folder


def _is_foreign(path: Path) -> bool:
    """Whether there is a file, or a folder with content and none of a stage's records."""
    if not path.is_dir():
        return path.exists()
    names = {entry.name for entry in path.iterdir()}
    return bool(names) and not names & {MANIFEST, IDENTITY, "metrics.json", "evidence.json"}


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock file on the main process. It is the operating system's: a killed run leaves none behind.

    Raises:
        HFTransferError: when another run holds it, or the folder cannot be written.
    """
    problem = ""
    with contextlib.ExitStack() as held:
        if processes.is_main():
            try:
                held.enter_context(alone(path))
            except HFTransferError as error:
                problem = str(error)
        problem = processes.agree(problem)
        if problem:
            raise HFTransferError(problem)
        yield


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds a lock file in this process, whatever others do; raises as `lock` does."""
    from filelock import FileLock, Timeout

    held = FileLock(path, timeout=0)
    make_folder(path.parent)
    try:
        held.acquire()
    except Timeout:
        raise HFTransferError(
            f"{path.parent}: another run is working in this folder; wait for it or choose another folder"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps an open file
            path.unlink()  # before the release: filelock refuses a lock on a file that has lost its name
        held.release()


def make_folder(path: Path) -> None:
    """Makes a folder, or says in one line why it cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise HFTransferError(
            f"output_dir: cannot write to {path} ({error.strerror}); choose another folder"
        ) from error


def write_manifest(folder: Path, *, but: Sequence[str] = (), open_to_all: bool = True, **facts: Any) -> None:
    """Lists every file with size and sha256, after flushing each to disk. Written last: its presence means done.

    `but` names what in the folder does not belong to it. Files that have a second name elsewhere keep their rights
    where `open_to_all` is false.
    """
    files = {}
    listed = (p for p in folder.rglob("*") if p.is_file() and p.relative_to(folder).parts[0] not in (MANIFEST, *but))
    for path in sorted(listed):
        if open_to_all:
            path.chmod(0o644)  # safetensors writes 0600, which another user's `from_pretrained` could not read
        _flush(path)
        files[path.relative_to(folder).as_posix()] = {"size": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / MANIFEST, {**facts, "files": files})


def verified(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder whose files all match it, else None."""
    manifest = read_json(folder / MANIFEST)
    for name, facts in manifest.get("files", {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["size"] or sha256(path) != facts["sha256"]:
            return None
    return manifest or None


def record_of(stages: Mapping[str, Path]) -> str:
    """What `final/` and the report were made from: a run killed before it wrote them must not pass for done."""
    return fingerprint({id_: read_json(folder / MANIFEST) for id_, folder in stages.items()})


def replace_folder(new: Path, final: Path) -> None:
    """Puts `new` in the place of `final`; at no moment is a half-written folder called `final`."""
    old = final.parent / f".{final.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    _flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """A short hash of anything JSON-able."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file, or an empty dict when it is missing or cut off."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_list(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file that holds a list, or an empty list when it is missing, cut off or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON: a number that is not finite becomes null, an object its type's name."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=_named, allow_nan=False)
    write_text(path, text + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _named(value: Any) -> str:
    return str(value) if isinstance(value, Path) else f"<{type(value).__name__} in memory>"


def write_text(path: Path, text: str) -> None:
    """Writes a file so that it is either the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    _flush(temporary)
    temporary.replace(path)


def _flush(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
