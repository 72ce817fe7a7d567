"""Weights: loaded for a job, and saved so that plain `from_pretrained` loads them."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from hftransfer import processes, runs
from hftransfer.errors import HFTransferError
from hftransfer.models.checkpoints import Checkpoint, resolve
from hftransfer.models.classes import AUTO_CLASSES, class_for, fresh_network, read_config, register_own
from hftransfer.models.quiet import brief, quiet_transformers

logger = logging.getLogger("hftransfer")
PRETRAINING = "pretraining"  # folder beside an encoder: the whole network, with what was needed to pretrain it


def load(model: Any, job: str, **options: Any) -> nn.Module:
    """A model for a job (a key of `AUTO_CLASSES`), from a folder, a Hub id, or a model object.

    With `num_labels` a classification head of another size gives way to a new one. A model object of another class is
    re-headed through its state dict, so that the caller's object is left alone.
    """
    return load_reported(model, job, **options)[0]


def load_reported(model: Any, job: str, **options: Any) -> tuple[nn.Module, list[str]]:
    """A model for a job, and the names of its weights that the checkpoint does not hold."""
    import transformers

    register_own()
    auto = getattr(transformers, AUTO_CLASSES[job])
    if "num_labels" in options:  # a regression's or a multi-label checkpoint's own loss would be kept
        options = {"problem_type": "single_label_classification", **options}
    if isinstance(model, nn.Module):
        return _from_object(auto, model, options)
    checkpoint = _with_its_head(resolve(model), job)
    reporting = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with quiet_transformers():
        try:
            loaded, report = auto.from_pretrained(checkpoint.folder, use_safetensors=True, **reporting, **options)
        except (ValueError, RuntimeError) as error:
            raise HFTransferError(
                f"model: {checkpoint.name} does not load as {AUTO_CLASSES[job]}: {brief(error)}"
            ) from error
    resized = _resized(loaded, report["mismatched_keys"], "num_labels" in options, checkpoint)
    new = sorted({*report["missing_keys"], *resized})
    layers = ", ".join(dict.fromkeys(_layer(name, resized) for name in new))
    logger.info("model %s as %s: new weights: %s", checkpoint.name, type(loaded).__name__, layers or "none")
    _keep_what_the_head_dropped(loaded, checkpoint)
    return ready(loaded), new


def _with_its_head(checkpoint: Checkpoint, job: str) -> Checkpoint:
    """The whole network that pretraining left beside an encoder, where its class is the one that does this job."""
    whole = Checkpoint(checkpoint.folder / PRETRAINING, checkpoint.name, checkpoint.origin)
    if not (whole.folder / "config.json").exists():
        return checkpoint
    named = runs.read_json(whole.folder / "config.json").get("architectures") or []
    try:
        return whole if class_for(job, read_config(whole)).__name__ in named else checkpoint
    except HFTransferError:  # it does another job
        return checkpoint


def _resized(loaded: nn.Module, mismatched: Any, new_head: bool, checkpoint: Checkpoint) -> set[str]:
    """The names of weights of another size in the checkpoint: a head's, and only where a new one is wanted."""
    for name, stored, wanted in sorted(mismatched):
        if not new_head or name.startswith(f"{loaded.base_model_prefix}."):
            raise HFTransferError(
                f"model: {checkpoint.name}: {name} is {tuple(stored)} in its weights and {tuple(wanted)} by its "
                "config.json; they are not of one checkpoint"
            )
    return {name for name, _, _ in mismatched}


def _layer(name: str, resized: set[str]) -> str:
    return name.rsplit(".", 1)[0] + (" (of another size in the checkpoint)" if name in resized else "")


def _keep_what_the_head_dropped(loaded: nn.Module, checkpoint: Checkpoint) -> None:
    """BERT's masked-LM class has no pooler. Without this, a chain pretrain -> classify would start from a new one."""
    import transformers

    base = loaded.base_model
    parts = {part for name in _stored_names(checkpoint.folder) for part in name.split(".")[:2]}
    dropped = [part for part in sorted(parts) if getattr(base, part, base) is None]
    if dropped:
        with quiet_transformers():
            whole = transformers.AutoModel.from_pretrained(checkpoint.folder, use_safetensors=True)
        for part in dropped:
            setattr(base, part, getattr(whole, part))


def _stored_names(folder: Path) -> list[str]:
    from safetensors import safe_open

    index = runs.read_json(folder / "model.safetensors.index.json")
    if index:
        return list(index["weight_map"])
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return list(weights.keys())


def _from_object(auto: Any, model: nn.Module, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    config = type(model.config).from_dict({**model.config.to_dict(), **options})
    fresh = fresh_network(auto, config)
    base = getattr(model, "base_model", model)
    weights = {f"{fresh.base_model_prefix}.{name}": value for name, value in base.state_dict().items()}
    if type(model) is type(fresh):
        weights |= model.state_dict()
    shapes = {name: value.shape for name, value in fresh.state_dict().items()}
    kept = {name: value for name, value in weights.items() if shapes.get(name) == value.shape}
    missing = fresh.load_state_dict(kept, strict=False).missing_keys
    return ready(fresh), sorted(missing)


def ready(model: nn.Module) -> nn.Module:
    """Decoders classify the last real token, so they need to know which token pads."""
    config = model.config
    if getattr(config, "pad_token_id", None) is None and getattr(config, "eos_token_id", None) is not None:
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end
    return model


def reopen(folder: Path) -> nn.Module:
    """A saved checkpoint with the class that its own config names."""
    import transformers

    config = runs.read_json(folder / "config.json")
    named = (config.get("architectures") or ["AutoModel"])[0]
    cls = getattr(transformers, named, None) or _own_class(named)
    with quiet_transformers():
        return cls.from_pretrained(folder, use_safetensors=True)


def _own_class(name: str) -> Any:
    import hftransfer.lstm

    return getattr(hftransfer.lstm, name)


def masked_lm_on(network: nn.Module, reference: Any) -> nn.Module:
    """A masked-LM head (from `reference`) on the encoder of `network`: one encoder, trained by both losses."""
    masked = load(reference, "masked_lm")
    if masked.base_model_prefix != network.base_model_prefix:
        raise HFTransferError(
            f"masked_lm_model: {type(masked).__name__} does not share {type(network).__name__}'s encoder"
        )
    setattr(masked, masked.base_model_prefix, network.base_model)
    masked.tie_weights()
    return masked


def classifies(model: Any, names: list[str]) -> bool:
    """Whether a checkpoint already is a classifier of exactly these labels, in this order."""
    if isinstance(model, nn.Module):
        config = model.config.to_dict()
    else:
        config = runs.read_json(resolve(model).folder / "config.json")
    heads = [name for name in config.get("architectures") or [] if "Classification" in name]
    stored = config.get("id2label") or {}
    return bool(heads) and [stored[key] for key in sorted(stored, key=int)] == names


def save(model: nn.Module, folder: Path, tokenizer: Any = None) -> None:
    """Writes a checkpoint that plain `from_pretrained` loads, with no local path in its config; on one process."""
    if not processes.is_main():
        return
    with quiet_transformers():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
