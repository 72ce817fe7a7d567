"""An adapter's folder: what PEFT loads on the untouched base, with the config of the whole beside it."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hftransfer import processes, runs
from hftransfer.adapters.beginning import for_the_untouched
from hftransfer.adapters.talk import first_line, quiet
from hftransfer.adapters.wrapping import mergeable, merged
from hftransfer.errors import HFTransferError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
BASE_CONFIG = "base_config.json"  # of the network that the adapter is on: labels and all, which PEFT does not keep


def save(model: Any, folder: Path, base_name: str) -> None:
    """Writes a wrapper's adapter and new weights, which PEFT puts on the untouched base; on one process.

    Args:
        base_name: a Hub id; or the base folder's own name, which is looked for beside the adapter.
    """
    from peft import get_peft_model_state_dict

    if not processes.is_main():
        return
    network, config = model.get_base_model(), copy.deepcopy(model.peft_config["default"])
    with quiet():
        weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    if model.taken_out:
        weights = for_the_untouched(weights, model.taken_out, config)
    config.inference_mode, config.base_model_name_or_path = True, base_name
    config.task_type = model.saved_task_type
    for field in dataclasses.fields(config):
        if isinstance(getattr(config, field.name), set):  # written in an order of its own in each process
            setattr(config, field.name, sorted(getattr(config, field.name)))
    kind = type(network)
    origin = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    config.save_pretrained(str(folder), auto_mapping_dict=None if config.task_type else origin)
    own = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(own, folder / WEIGHTS, metadata={"format": "pt"})
    write_base_config(network, folder)


def write_base_config(network: nn.Module, folder: Path) -> None:
    """Writes a network's config beside its adapter, anew where it changed after the adapter was saved."""
    whole = json.loads(network.config.to_json_string(use_diff=False))
    whole.pop("_name_or_path", None)
    runs.write_json(folder / BASE_CONFIG, {**whole, "architectures": [type(network).__name__]})


def put_on(network: nn.Module, folder: Path) -> nn.Module:
    """A network with a saved adapter made part of its weights. Reads safetensors only.

    Raises:
        HFTransferError: in one line, when the adapter is not for this network, or cannot be merged.
    """
    import peft

    name = folder.resolve().name
    fields = runs.read_json(folder / CONFIG)
    kinds = {kind.value for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING}
    if fields.get("peft_type") not in kinds or not mergeable(fields):
        raise HFTransferError(
            f"model: {name} is an adapter of {fields.get('peft_type')}, which cannot become part of its base's "
            "weights; give a checkpoint instead"
        )
    trained_before = {key: parameter.requires_grad for key, parameter in network.named_parameters()}
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise HFTransferError(f"model: {name}: {WEIGHTS} cannot be read ({first_line(error)})") from error
    try:
        with quiet():
            config = peft.PeftConfig.from_peft_type(**{**fields, "task_type": None, "auto_mapping": None})
            model = peft.get_peft_model(network, config)
            found = peft.set_peft_model_state_dict(model, weights)
    except Exception as error:  # of whatever another version wrote
        raise HFTransferError(f"model: {name} does not fit its base ({first_line(error)})") from error
    foreign = [key for key in found.unexpected_keys if ".modules_to_save." not in key]  # of `bias: all`, written twice
    if foreign:
        raise HFTransferError(f"model: {name} does not fit its base, which has no {foreign[0]}")
    model.trained_before = trained_before
    return merged(model)
