"""An adapter put on a network, and made part of its weights."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from hftransfer import tuning
from hftransfer.adapters.beginning import matrices_taken_out
from hftransfer.adapters.parts import holders, named, targets
from hftransfer.adapters.talk import quiet, told
from hftransfer.errors import HFTransferError
from hftransfer.peft_methods import LORA, UNMERGEABLE

_STAYS = "acts beside the weights and cannot become part of them; choose another method, or do not merge"
TASK_TYPES = {"text_classification": "SEQ_CLS", "token_classification": "TOKEN_CLS", "causal_lm": "CAUSAL_LM"}


def wrapped(
    network: nn.Module,
    fields: Mapping[str, Any],
    *,
    new: Sequence[str] = (),
    job: str | None = None,
    batches: Iterable[Mapping[str, Any]] | None = None,
) -> Any:
    """PEFT's wrapper around a network, which is changed itself; the adapter and the new weights train, nothing else.

    Without `target_modules`, every linear layer in the repeated blocks is adapted: with these LoRA equals the training
    of all weights (Dettmers et al. 2023, arXiv:2305.14314). LoRA: Hu et al. 2021, arXiv:2106.09685.

    Args:
        fields: of `LoraConfig`, or with `peft_type` of another method's config.
        new: names of weights that no checkpoint gave; the modules that hold them train and are saved whole.
        job: a key of `models.AUTO_CLASSES`; prompt methods work for texts only.
        batches: what the network reads, for `init_lora_weights: eva`, whose matrices are begun from data.

    Raises:
        HFTransferError: in one line, when the fields fit no part of the network.
    """
    import peft

    trained_before = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    config, kept = _config(network, fields, holders(network, new), job)
    with told(), quiet():
        model = peft.get_peft_model(network, config)
    _train_exactly(model, kept)
    if getattr(config, "init_lora_weights", None) == "eva":
        _begin_from_data(model, batches, job)
    model.trained_before, model.saved_task_type = trained_before, TASK_TYPES.get(job or "")
    model.taken_out = matrices_taken_out(model)
    return model


def check(network: nn.Module, fields: Mapping[str, Any], *, job: str | None = None, merge: bool) -> None:
    """Tries fields on a network without memory for its weights (`models.skeleton`), which is changed.

    `merge` is whether the adapter shall become part of the weights.

    Raises:
        HFTransferError: as `wrapped` does, as far as it can be known without weights.
    """
    import peft

    if merge and not mergeable(fields):
        raise HFTransferError(f"lora: {fields.get('peft_type') or LORA} as set {_STAYS}")
    config, _ = _config(network, fields, [], job)
    if hasattr(config, "init_lora_weights"):
        config.init_lora_weights = True  # others compute with the weights
    try:
        with told(), quiet():
            peft.get_peft_model(network, config)
    except HFTransferError as error:
        if "meta" not in str(error):  # some methods compute with the weights in any case
            raise


def mergeable(fields: Mapping[str, Any]) -> bool:
    """Whether the adapters of a method with these fields can become part of the weights."""
    barred = ("alora_invocation_tokens", "layer_replication", "arrow_config")
    return (fields.get("peft_type") or LORA) not in UNMERGEABLE and not any(fields.get(field) for field in barred)


def can_merge(model: Any) -> bool:
    """Whether a wrapper's adapter can become part of the weights."""
    config = model.peft_config["default"]
    return mergeable({field.name: getattr(config, field.name) for field in dataclasses.fields(config)})


def merged(model: Any) -> nn.Module:
    """The network as it was built, the adapter part of its weights; what trained before the adapter trains again.

    Raises:
        HFTransferError: the method's adapters cannot be merged.
    """
    from peft.utils import ModulesToSaveWrapper

    if not can_merge(model):
        raise HFTransferError(f"lora: {_method(model)} as set {_STAYS}")
    with torch.no_grad(), told(), quiet():
        network = model.merge_and_unload()
    for name, module in list(network.named_modules()):  # LN_TUNING leaves them
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, module.modules_to_save["default"])
    for name, parameter in network.named_parameters():
        tuning.train([parameter], model.trained_before.get(name, True))
    return network


@contextlib.contextmanager
def trained(network: nn.Module, lora: Mapping[str, Any] | None) -> Iterator[None]:
    """Trains an adapter in place of the weights; at the end it is merged, and the network is as it was built.

    Without `lora` nothing happens.

    Raises:
        HFTransferError: as `wrapped` does, and when the method's adapters cannot be merged.
    """
    if lora is None:
        yield
        return
    model = wrapped(network, lora)
    yield
    merged(model)


def _method(model: Any) -> str:
    return str(getattr(model.peft_type, "value", model.peft_type))


def _config(
    network: nn.Module, fields: Mapping[str, Any], kept: Sequence[str], job: str | None
) -> tuple[Any, list[str]]:
    """PEFT's config of an adapter for this network, and the names of all modules that train whole beside it."""
    import peft

    given = dict(fields)
    method = str(given.pop("peft_type", None) or LORA)
    cls = peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(method)]
    known = {field.name for field in dataclasses.fields(cls)}
    whole = sorted({*kept, *named(network, given.pop("modules_to_save", None) or [])})
    if whole and "modules_to_save" not in known:
        raise HFTransferError(f"lora.peft_type: {method} cannot train a new head beside it; choose another method")
    if whole:
        given["modules_to_save"] = whole
    if "target_modules" in known:
        given["target_modules"] = targets(network, given, method, whole)
    if "feedforward_modules" in known:
        given.setdefault("feedforward_modules", [])
    if "fan_in_fan_out" in known:
        given.setdefault("fan_in_fan_out", any(isinstance(module, Conv1D) for module in network.modules()))
    if given.get("init_lora_weights") == "olora" and given["fan_in_fan_out"]:
        raise HFTransferError(f"lora.init_lora_weights: olora cannot begin in {type(network).__name__}; use pissa")
    if method == "SHADOW" and job not in TASK_TYPES:
        raise HFTransferError("lora.peft_type: SHADOW is for language models; choose another method")
    if "num_virtual_tokens" in known:
        _check_prompts(network, method, given, job)
        given["task_type"] = TASK_TYPES[str(job)]
    with told(), quiet():
        return cls(**given), whole


def _check_prompts(network: nn.Module, method: str, given: Mapping[str, Any], job: str | None) -> None:
    """What prompts in front of a text cannot do."""
    from hftransfer.models.features import pooling

    if job not in TASK_TYPES:
        raise HFTransferError(f"lora.peft_type: {method} puts words in front of texts; choose another method")
    if not given.get("num_virtual_tokens"):
        raise HFTransferError(f"lora.num_virtual_tokens: {method} needs it, and it is not given")
    as_words = method not in ("PREFIX_TUNING", "CARTRIDGE")  # these leave the words to the network
    if as_words and job == "text_classification" and pooling(network.config) == "last":
        raise HFTransferError(
            f"lora.peft_type: {method} hides from {type(network).__name__} where a text ends, which its class is told "
            "by; choose PREFIX_TUNING"
        )


def _train_exactly(model: Any, kept: Sequence[str]) -> None:
    """Holds still what PEFT lets train because its name ends like that of a new module."""
    from peft.utils import ModulesToSaveWrapper

    network = model.get_base_model()
    for name, module in network.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and name not in kept:
            tuning.train(module.parameters(), False)
    training = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if all(".modules_to_save." in name for name in training):
        raise HFTransferError(f"lora: {_method(model)} adapts no layer of {type(network).__name__}")


def _begin_from_data(model: Any, batches: Iterable[Mapping[str, Any]] | None, job: str | None) -> None:
    from peft import initialize_lora_eva_weights

    if batches is None or job not in TASK_TYPES:
        raise HFTransferError("lora.init_lora_weights: eva reads texts before training, and none are given; use pissa")
    with told(), quiet():
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
