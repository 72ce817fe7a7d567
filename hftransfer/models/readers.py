"""What turns content into a network's inputs: tokenizers, image processors, feature extractors."""

import copy
import json
from pathlib import Path
from typing import Any

from torch import nn

from hftransfer import runs
from hftransfer.errors import HFTransferError
from hftransfer.models.checkpoints import resolve
from hftransfer.models.quiet import brief, quiet_transformers

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "tokenizer.model", "vocab.json")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
_SPACE = {"type": "Prepend", "prepend": " "}
READERS = {"text": "AutoTokenizer", "image": "AutoImageProcessor", "sound": "AutoFeatureExtractor"}


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
    if _alone(Path(model).expanduser()):
        folder, name = Path(model).expanduser(), Path(model).name
    else:
        checkpoint = resolve(model)
        folder, name = checkpoint.holding(*TOKENIZER), checkpoint.name
    if not any((folder / file).exists() for file in TOKENIZER):
        raise HFTransferError(f"model: {name} has no tokenizer; save one into it with save_pretrained")
    try:
        with quiet_transformers():
            found = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain `Exception` for a broken file
        raise HFTransferError(f"model: {name}: its tokenizer cannot be read ({brief(error)})") from error
    if found.pad_token is None:
        found.pad_token = found.eos_token
    return found


def _alone(folder: Path) -> bool:
    """Whether a folder holds a tokenizer and no checkpoint: `architecture.tokenizer` takes one."""
    stored = any((folder / file).exists() for file in TOKENIZER)
    return stored and not any((folder / file).exists() for file in ("config.json", "adapter_config.json"))


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
            return getattr(transformers, READERS[kind]).from_pretrained(checkpoint.holding(*PROCESSOR), **backend)
    except (OSError, ValueError, ImportError) as error:
        wanted = {"image": "an image processor", "sound": "a feature extractor"}[kind]
        raise HFTransferError(
            f"model: {checkpoint.name} has no preprocessor_config.json that gives {wanted} ({brief(error)}); save "
            "one into it with save_pretrained"
        ) from error


def hears(model: Any) -> bool:
    """Whether what makes a checkpoint's inputs takes sounds: it has a sampling rate."""
    name = getattr(model, "name_or_path", "") if isinstance(model, nn.Module) else model
    return bool(name) and "sampling_rate" in runs.read_json(
        resolve(name).holding(*PROCESSOR) / "preprocessor_config.json"
    )


def for_words(reader: Any) -> Any:
    """A tokenizer that takes texts cut into words: those of bytes need to be told that a space precedes each.

    GPT-2's kind has a setting for it. Where a rule of its own cuts texts before (Llama 3, Qwen), that setting would
    put a space before each of the rule's cuts, so the space is put there when a text is normalised.
    """
    stored = json.loads(reader.backend_tokenizer.to_str())
    cuts = stored["pre_tokenizer"] or {}
    steps = cuts.get("pretokenizers", [cuts])
    rules = stored["normalizer"] or {"type": "Sequence", "normalizers": []}
    rules = rules["normalizers"] if rules["type"] == "Sequence" else [rules]
    bytes_only = any(step.get("type") == "ByteLevel" for step in steps)
    if not bytes_only or _SPACE in rules or any(step.get("add_prefix_space") for step in steps):
        return reader
    changed = copy.deepcopy(reader)
    if "pretokenizers" in cuts:
        stored["normalizer"] = {"type": "Sequence", "normalizers": [*rules, _SPACE]}
    else:
        cuts["add_prefix_space"] = changed.add_prefix_space = True
    made = type(reader.backend_tokenizer).from_str(json.dumps(stored))
    backend = changed.backend_tokenizer
    backend.normalizer, backend.pre_tokenizer = made.normalizer, made.pre_tokenizer
    return changed
