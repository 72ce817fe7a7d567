"""Which config and which class of transformers do a job, before any weights are read."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hftransfer import runs
from hftransfer.adapters import BASE_CONFIG
from hftransfer.errors import HFTransferError, nearest
from hftransfer.models.checkpoints import SCRATCH, Checkpoint, is_scratch, resolve
from hftransfer.models.features import last_linear
from hftransfer.models.quiet import brief, quiet_transformers
from hftransfer.models.readers import tokenizer

AUTO_CLASSES = {
    "encoder": "AutoModel",
    "masked_lm": "AutoModelForMaskedLM",
    "causal_lm": "AutoModelForCausalLM",
    "mae": "ViTMAEForPreTraining",
    "simmim": "ViTForMaskedImageModeling",
    "next_pixel": "ImageGPTForCausalImageModeling",
    "audio_mae": "ViTMAEForPreTraining",
    "wav2vec2": "Wav2Vec2ForPreTraining",
    "text_classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "image_classification": "AutoModelForImageClassification",
    "audio_classification": "AutoModelForAudioClassification",
    "image_text": "AutoModelForZeroShotImageClassification",
}
TAKES = {  # the architectures whose weights a class without an Auto class can begin with
    "ViTMAEForPreTraining": ("vit_mae", "vit"),
    "ViTForMaskedImageModeling": ("vit", "vit_mae"),
    "ImageGPTForCausalImageModeling": ("imagegpt",),
    "Wav2Vec2ForPreTraining": ("wav2vec2",),
}
MASKED_LM_USERS = "pretrain, and adapt's method: udalm or masked_lm_weight,"  # keys to name where masks are missing


def check(model: Any, job: str, **overrides: Any) -> str:
    """Makes sure, without reading weights, that a model can do a job. Returns the class's name.

    Raises:
        HFTransferError: when the architecture has no such class, or the checkpoint no tokenizer.
    """
    found = class_for(job, config_of(model, overrides, job))
    if job in ("masked_lm", "causal_lm", "text_classification", "token_classification") and not is_scratch(model):
        read = None if isinstance(model, nn.Module) else tokenizer(model)
        if job == "masked_lm" and read is not None and read.mask_token is None:
            raise HFTransferError(
                f"model: {resolve(model).name}: its tokenizer has no mask_token, which {MASKED_LM_USERS} need; "
                "choose another checkpoint"
            )
    return str(found.__name__)


def config_of(model: Any, overrides: Mapping[str, Any] | None = None, job: str | None = None) -> Any:
    """The config of a checkpoint, a model object or a new network, with fields of it set otherwise.

    With a job it is the config that the job's class takes: a ViT's for an MAE has a decoder's fields too.

    Raises:
        HFTransferError: when there is no such architecture, field or value.
    """
    if isinstance(model, nn.Module):
        config = type(model.config).from_dict(model.config.to_dict())
    else:
        config = _new_config(model.removeprefix(SCRATCH)) if is_scratch(model) else read_config(resolve(model))
    config = config if job is None else _taken_by(class_for(job, config), config)
    known = config.to_dict()
    for name in overrides or {}:
        if name not in known and not hasattr(config, name):
            raise HFTransferError(f"config.{name}: {type(config).__name__} has no such field{nearest(name, known)}")
    if not overrides:
        return config
    try:
        with quiet_transformers():
            return type(config).from_dict({**known, **overrides})
    except Exception as error:  # of the dataclass's own checks
        raise HFTransferError(f"config: {type(config).__name__} refuses it ({brief(error)})") from error


def _new_config(model_type: str) -> Any:
    import transformers
    from transformers import CONFIG_MAPPING

    register_own()
    if model_type not in CONFIG_MAPPING:
        raise HFTransferError(
            f"model: transformers has no model type '{model_type}'{nearest(model_type, CONFIG_MAPPING.keys())}"
        )
    with quiet_transformers():  # special tokens beyond a small vocabulary: the tokenizer will say which they are
        return transformers.AutoConfig.for_model(model_type)


def register_own() -> None:
    """Makes transformers know our own architectures, wherever a config or a checkpoint is read."""
    import hftransfer.gans
    import hftransfer.lstm  # noqa: F401


def read_config(checkpoint: Checkpoint) -> Any:
    """A checkpoint's config, its weight files' headers read too: a cut file is found before anything trains."""
    import transformers
    from safetensors import SafetensorError, safe_open

    register_own()
    if checkpoint.base is not None:
        config = read_config(checkpoint.base)
        return type(config).from_dict({**config.to_dict(), **runs.read_json(checkpoint.folder / BASE_CONFIG)})
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(checkpoint.folder)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise HFTransferError(f"model: {checkpoint.name}: config.json cannot be read ({brief(error)})") from error
    index = runs.read_json(checkpoint.folder / "model.safetensors.index.json")
    for name in sorted(set(index.get("weight_map", {"": "model.safetensors"}).values())):
        try:
            with safe_open(checkpoint.folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise HFTransferError(f"model: {checkpoint.name}: {name} cannot be read ({brief(error)})") from error
    return config


def class_for(job: str, config: Any) -> Any:
    """The model class that does a job for an architecture.

    Raises:
        HFTransferError: when there is none.
    """
    import transformers

    auto = getattr(transformers, AUTO_CLASSES[job])
    if not hasattr(auto, "_model_mapping"):
        if config.model_type in TAKES[auto.__name__]:
            return auto
        takes = " or ".join(TAKES[auto.__name__])
        raise HFTransferError(f"model: {auto.__name__} is made from {takes} weights, not from {config.model_type}")
    if type(config) not in auto._model_mapping:
        wanted = f", which {MASKED_LM_USERS} need" if job == "masked_lm" else ""
        raise HFTransferError(
            f"model: {config.model_type} has no {AUTO_CLASSES[job]} class{wanted}; choose another checkpoint"
        )
    found = auto._model_mapping[type(config)]
    return found[0] if isinstance(found, tuple) else found


def fresh_network(cls: Any, config: Any) -> nn.Module:
    """A network of new weights; `cls` is a model class or an Auto class."""
    if hasattr(cls, "_model_mapping"):
        return cls.from_config(config)
    return cls(_taken_by(cls, config))


def _taken_by(cls: Any, config: Any) -> Any:
    """The config as this class takes it: a ViT's sizes for an MAE."""
    if hasattr(cls, "_model_mapping") or isinstance(config, cls.config_class):
        return config
    return cls.config_class.from_dict({k: v for k, v in config.to_dict().items() if k != "model_type"})


def skeleton(config: Any, job: str) -> nn.Module:
    """The network of a job without memory for its weights, to look at its parts."""
    with torch.device("meta"):
        return fresh_network(class_for(job, config), config)


def head_has_bias(model: Any) -> bool:
    """Whether the class logits of a model, as a text classifier, have a bias. Reads no weights."""
    import transformers

    config = model.config if isinstance(model, nn.Module) else read_config(resolve(model))
    with torch.device("meta"):
        return last_linear(transformers.AutoModelForSequenceClassification.from_config(config)).bias is not None
