"""What sentence-transformers wrote beside a checkpoint: how its states become one vector, and what it was given."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from hftransfer import runs
from hftransfer.models.checkpoints import resolve

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
}
_MODES = {"cls": "cls", "max": "max", "mean": "mean", "lasttoken": "last"}


class Sentences(NamedTuple):
    """None and empty where nothing is told."""

    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None
    prompts: Mapping[str, str] = MappingProxyType({})
    prompt: str = ""  # that stands before each text where none is asked for
    unknown: tuple[str, ...] = ()  # kinds of further modules, which change its vectors


def sentences(model: Any) -> Sentences:
    """Reads the modules of a checkpoint, or of what an adapter is put on; of one in memory, where it was loaded from.

    Where there is a module that we do not know, nothing is told of pooling: what it would be for is missing.

    Files and fields are those of sentence-transformers: `modules.json`, `1_Pooling/config.json`,
    `sentence_bert_config.json` and `config_sentence_transformers.json`.
    """
    name = getattr(model, "name_or_path", "") if isinstance(model, nn.Module) else model
    if not name:
        return Sentences()
    folder = resolve(name).holding("modules.json")
    modules = runs.read_list(folder / "modules.json")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    own = runs.read_json(folder / "config_sentence_transformers.json")
    length = runs.read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    prompts = {key: text for key, text in (own.get("prompts") or {}).items() if text}
    paths = [module.get("path", "") for module, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
    how = _pooling(runs.read_json(folder / paths[0] / "config.json")) if len(paths) == 1 else None
    unknown = tuple(kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize"))
    return Sentences(
        pooling=None if unknown else how,
        normalize=not unknown and "Normalize" in kinds,
        max_length=length,
        prompts=prompts,
        prompt=prompts.get(own.get("default_prompt_name"), ""),
        unknown=unknown,
    )


def _pooling(config: dict[str, Any]) -> str | None:
    """The one way of pooling that a config names, if it names one that is known here."""
    named = config.get("pooling_mode")
    if named is not None:
        return _MODES.get(named) if isinstance(named, str) else None
    flags = [name for name, value in config.items() if name.startswith("pooling_mode_") and value is True]
    return _FLAGS.get(flags[0]) if len(flags) == 1 else None
