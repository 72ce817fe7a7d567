"""PEFT's methods by name, and the options of each, read from its installed source. Imports neither PEFT nor torch."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import nearest
from hftransfer.foreign import FieldError, FieldsOf, source_of

LORA = "LORA"  # what is meant without a `peft_type`
_FILLED_IN = "it is filled in when the adapter is saved"
REFUSED = {
    "peft_type": "the method is chosen by it",
    "task_type": "what is trained decides it",
    "inference_mode": "this is training",
    "base_model_name_or_path": _FILLED_IN,
    "revision": _FILLED_IN,
    "auto_mapping": _FILLED_IN,
    "peft_version": _FILLED_IN,
    "runtime_config": "a recipe cannot hold that object",
    "arrow_config": "it mixes adapters that are there already",
    "corda_config": "it needs hooks of its own; use init_lora_weights: pissa",
    "lora_ga_config": "it needs hooks of its own; use init_lora_weights: pissa",
    "loftq_config": "it is for weights of few bits",
    "megatron_config": "no network here is Megatron's",
    "megatron_core": "no network here is Megatron's",
    "monteclora_config": "its part of the loss is not computed here",
    "use_asa": "ranks that move between steps could not be resumed exactly",
}
REFUSED_METHODS = {
    "ADALORA": "moves its ranks between steps, which could not be resumed exactly",
    "CPT": "wants to be told the part that each token plays",
    "MULTITASK_PROMPT_TUNING": "wants a task's number with each row",
    "POLY": "wants a task's number with each row",
    "XLORA": "mixes adapters that are there already",
}
REFUSED_BEGINNINGS = {
    "corda": "needs hooks of its own; use pissa",
    "loftq": "is for weights of few bits; use pissa",
}
UNMERGEABLE = (  # they act on what the network reads, or on its blocks' states
    "ADAPTION_PROMPT",
    "CARTRIDGE",
    "LILY",
    "P_TUNING",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "SHADOW",
    "CPT",
    "MULTITASK_PROMPT_TUNING",
    "POLY",
    "XLORA",
)


@functools.cache
def peft_methods() -> dict[str, tuple[str, str]]:
    """`{"LORA": (module, config class), ...}`: each config class says in its source which method it is of."""
    found = {}
    for folder in sorted(source_of("peft.tuners").parent.iterdir()):
        file = folder / "config.py"
        name = ""
        for match in re.finditer(
            r"^class (\w+)|\bself\.peft_type = PeftType\.(\w+)",
            file.read_text(encoding="utf-8") if file.is_file() else "",
            re.MULTILINE,
        ):
            name = match[1] or name
            if match[2]:
                found[match[2]] = (f"peft.tuners.{folder.name}.config", name)
    return found


@dataclass(frozen=True)
class AdapterFields:
    """Marks a mapping whose keys are those of a PEFT config: LoRA's, or with `peft_type` another method's."""

    type_name = "fields of LoraConfig, or of another PEFT method's config"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, core_schema.dict_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        lora = self._fields(LORA).__get_pydantic_json_schema__(schema, handler)
        lora["properties"] = {"peft_type": {"type": "string", "enum": [LORA]}, **lora["properties"]}
        others = sorted(peft_methods().keys() - {LORA})
        named = {"type": "object", "properties": {"peft_type": {"type": "string", "enum": others}}}
        return {"anyOf": [lora, {**named, "required": ["peft_type"]}]}  # with the fields of all it would be too long

    def check(self, values: Any) -> dict[str, Any]:
        """Coerces each value to its field's type. Raises `ValueError` naming the first bad key."""
        if not isinstance(values, Mapping):
            raise ValueError(f"expected the fields of LoraConfig as a mapping, found {values!r}")
        method = str(values.get("peft_type") or LORA)
        if method not in peft_methods():
            raise FieldError("peft_type", f"PEFT has no method '{method}'{nearest(method, sorted(peft_methods()))}")
        if method in REFUSED_METHODS:
            raise FieldError("peft_type", f"{method} {REFUSED_METHODS[method]}; choose another method")
        given = {key: value for key, value in values.items() if key != "peft_type"}
        chosen = {"peft_type": method} if values.get("peft_type") else {}
        checked = self._fields(method).check(given)
        if reason := REFUSED_BEGINNINGS.get(str(checked.get("init_lora_weights"))):
            raise FieldError("init_lora_weights", f"{checked['init_lora_weights']} {reason}")
        return {**chosen, **checked}

    def _fields(self, method: str) -> FieldsOf:
        return FieldsOf(*peft_methods()[method], REFUSED)
