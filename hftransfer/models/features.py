"""What a network says of an example: one vector from a backbone, and class logits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hftransfer.errors import HFTransferError


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
    """(batch, length, width) -> (batch, width): mean or max over real tokens, the last real one, or the first."""
    if attention_mask is None:
        if how in ("mean", "max"):
            return states.mean(1) if how == "mean" else states.amax(1)
        return states[:, 0 if how == "cls" else -1]
    if how == "max":
        return states.masked_fill(~attention_mask[..., None].bool(), -torch.inf).amax(1)
    if how == "mean":
        weights = attention_mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
    positions = torch.arange(states.shape[1], device=states.device)
    # also right when the padding is on the left
    place = attention_mask.int().argmax(1) if how == "cls" else (positions * attention_mask).argmax(1)
    return states[torch.arange(len(states), device=states.device), place]


def features(
    backbone: nn.Module, inputs: dict[str, Tensor], how: str | None = None, layers: Sequence[int] = ()
) -> Tensor:
    """One vector for each example, (batch, width), from a BERT-, GPT- or ViT-style backbone, or a discriminator.

    `how` its states become one is `pool`'s, by default the backbone's own; the states are the last ones, or the mean
    of some `layers`' as transformers numbers them, 0 what the first layer sees. A discriminator has but one vector.

    Raises:
        HFTransferError: the layers' states are of several sizes.
    """
    from hftransfer.gans import Discriminator

    if isinstance(backbone, Discriminator):
        return backbone.features(inputs["pixel_values"])
    if backbone.config.model_type == "vit_mae":  # it would hide a random part: of a mask_ratio of 0 it hides none
        pixels = inputs["pixel_values"]
        count = (pixels.shape[-1] // backbone.config.patch_size) * (pixels.shape[-2] // backbone.config.patch_size)
        inputs = {**inputs, "noise": torch.arange(float(count), device=pixels.device).expand(len(pixels), -1)}
    if layers:
        hidden = backbone(**inputs, output_hidden_states=True).hidden_states
        chosen = [hidden[layer] for layer in layers]
        if len({one.shape for one in chosen}) > 1:
            raise HFTransferError("layers: these have states of several sizes, which have no mean; name one of them")
        states = torch.stack(chosen).mean(0)
    else:
        states = backbone(**inputs).last_hidden_state  # (batch, length, width)
    mask = inputs.get("attention_mask")
    if mask is not None and mask.shape != states.shape[:2]:  # speech networks shorten their input
        shorten = getattr(backbone, "_get_feature_vector_attention_mask", None)
        mask = shorten(states.shape[1], mask) if shorten else None
    return pool(states, mask, how or pooling(backbone.config))


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


def last_names(model: nn.Module) -> frozenset[str]:
    """The names of `last_linear`'s parameters."""
    own = {id(parameter) for parameter in last_linear(model).parameters()}
    return frozenset(name for name, value in model.named_parameters() if id(value) in own)


def first_position(model: nn.Module) -> int:
    """The position number of a text's first token: RoBERTa's relatives count from the padding token on."""
    for module in model.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, nn.Embedding) and table.padding_idx is not None:
            return table.padding_idx + 1
    return 0
