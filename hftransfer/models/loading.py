"""Weights: loaded for a job, and saved so that plain `from_pretrained` loads them."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from torch import nn

from hftransfer import adapters, processes, runs
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
    return _loaded(resolve(model), job, options)


def _loaded(checkpoint: Checkpoint, job: str, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    import transformers

    if checkpoint.base is not None:
        return _with_adapter(checkpoint, job, options)
    auto = getattr(transformers, AUTO_CLASSES[job])
    checkpoint = _with_its_head(checkpoint, job)
    reporting = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    with quiet_transformers():
        try:
            loaded, report = auto.from_pretrained(checkpoint.folder, use_safetensors=True, **reporting, **options)
        except (ValueError, RuntimeError) as error:
            raise HFTransferError(
                f"model: {checkpoint.name} does not load as {AUTO_CLASSES[job]}: {brief(error)}"
            ) from error
    new_head = bool({"num_labels", "config"} & options.keys())
    resized = _resized(loaded, report["mismatched_keys"], new_head, checkpoint)
    new = sorted({*report["missing_keys"], *resized})
    layers = ", ".join(dict.fromkeys(_layer(name, resized) for name in new))
    logger.info("model %s as %s: new weights: %s", checkpoint.name, type(loaded).__name__, layers or "none")
    _keep_what_the_head_dropped(loaded, checkpoint)
    return ready(loaded), new


def _with_adapter(checkpoint: Checkpoint, job: str, options: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """An adapter's base with the adapter part of its weights, for any job that the base can do."""
    import transformers

    assert checkpoint.base is not None
    merged = _merged(checkpoint, checkpoint.base)
    if type(merged) is class_for(job, merged.config):
        auto = getattr(transformers, AUTO_CLASSES[job])
        return _from_object(auto, merged, options) if options else (ready(merged), [])
    network, new = _loaded(checkpoint.base, job, options)
    weights, places = merged.base_model.state_dict(), network.base_model.state_dict()
    kept = {name: value for name, value in weights.items() if name in places}
    network.base_model.load_state_dict(kept, strict=False)
    prefix = "" if network.base_model is network else f"{network.base_model_prefix}."
    return network, [name for name in new if name.removeprefix(prefix) not in kept]


def _merged(checkpoint: Checkpoint, base: Checkpoint) -> nn.Module:
    """An adapter's base in the class that the adapter was trained in, the adapter merged into it."""
    config = read_config(checkpoint)
    job = _trained_for(checkpoint, config)
    network, _ = _loaded(base, job, {"config": config})
    labels = _labels(checkpoint, network)
    if labels not in (0, config.num_labels):  # an adapter of PEFT's own saving does not say how many there are
        config.num_labels = labels
        network, _ = _loaded(base, job, {"config": config})
    merged = adapters.put_on(network, checkpoint.folder)
    merged.name_or_path = merged.config.name_or_path = str(checkpoint.folder)  # its tokenizer may be there
    logger.info("model %s: an adapter, merged into its base %s", checkpoint.name, base.name)
    return merged


def _trained_for(checkpoint: Checkpoint, config: Any) -> str:
    """The job that an adapter was trained for."""
    given = runs.read_json(checkpoint.folder / adapters.CONFIG)
    whole = runs.read_json(checkpoint.folder / adapters.BASE_CONFIG)
    named = (whole.get("architectures") or [(given.get("auto_mapping") or {}).get("base_model_class")])[0]
    types = {**adapters.TASK_TYPES, "encoder": "FEATURE_EXTRACTION"}
    for job in AUTO_CLASSES:
        with contextlib.suppress(HFTransferError):  # the architecture does not do this one
            if class_for(job, config).__name__ == named or types.get(job, "") == given.get("task_type"):
                return job
    raise HFTransferError(
        f"model: {checkpoint.name} is an adapter for no class that is known here (its task_type is "
        f"{given.get('task_type')}); give its merged checkpoint"
    )


def _labels(checkpoint: Checkpoint, network: nn.Module) -> int:
    """How many labels an adapter's own head has; 0 where it has none."""
    from safetensors import SafetensorError, safe_open

    heads = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    # a file that cannot be read is told when its weights are
    with (
        contextlib.suppress(SafetensorError, OSError),
        safe_open(checkpoint.folder / adapters.WEIGHTS, "pt") as stored,
    ):
        for key in set(stored.keys()) & {f"base_model.model.{name}.weight" for name in heads}:
            return int(stored.get_slice(key).get_shape()[0])
    return 0


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
    config = options.get("config") or type(model.config).from_dict({**model.config.to_dict(), **options})
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
    """Decoders classify the last real token, so they need to know which token pads.

    A discriminator that becomes a classifier lets go of its spectral normalisation: its weights are what they were.
    """
    from hftransfer.gans import ImageClassifier, fold

    if isinstance(model, ImageClassifier):
        fold(model)
    config = model.config
    if getattr(config, "pad_token_id", None) is None and getattr(config, "eos_token_id", None) is not None:
        end = config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end
    return model


def reopen(folder: Path) -> nn.Module:
    """A saved checkpoint with the class that its own config names; an adapter merged into its base."""
    import transformers

    checkpoint = resolve(folder)
    if checkpoint.base is not None:
        return _merged(checkpoint, checkpoint.base)
    config = runs.read_json(folder / "config.json")
    named = (config.get("architectures") or ["AutoModel"])[0]
    cls = getattr(transformers, named, None) or _own_class(named)
    with quiet_transformers():
        return cls.from_pretrained(folder, use_safetensors=True)


def _own_class(name: str) -> Any:
    from hftransfer import gans, lstm

    return getattr(gans if name.startswith("Gan") else lstm, name)


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
    config = model.config.to_dict() if isinstance(model, nn.Module) else resolve(model).config()
    heads = [name for name in config.get("architectures") or [] if "Classification" in name]
    stored = config.get("id2label") or {}
    return bool(heads) and [stored[key] for key in sorted(stored, key=int)] == names


def save(model: nn.Module, folder: Path, tokenizer: Any = None) -> None:
    """Writes a checkpoint that plain `from_pretrained` loads, with no local path in its config; on one process."""
    if not processes.is_main():
        return
    vars(model.config).pop("auto_map", None)  # of a published folder with its code, which does not go along
    with quiet_transformers():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
