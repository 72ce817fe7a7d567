"""LoRA that begins with matrices taken out of the weights (PiSSA, OLoRA), made to fit the untouched weights.

PiSSA: Meng et al. 2024, arXiv:2404.02948; OLoRA: Büyükakyüz 2024, arXiv:2406.01775.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hftransfer.adapters.talk import quiet
from hftransfer.errors import HFTransferError

TAKE_OUT = ("pissa", "olora")


def matrices_taken_out(model: Any) -> dict[str, Tensor]:
    """The matrices that a wrapper began with, where they were taken out of the weights; else nothing."""
    from peft import get_peft_model_state_dict

    config = model.peft_config["default"]
    begun = str(getattr(config, "init_lora_weights", "")).lower()
    if not begun.startswith(TAKE_OUT):
        return {}
    if config.use_rslora and (config.rank_pattern or config.alpha_pattern):
        raise HFTransferError(
            f"lora.init_lora_weights: {begun} with use_rslora and a rank_pattern or alpha_pattern cannot be saved; "
            "remove one of them"
        )
    with quiet():
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
    matrices = {name: value for name, value in state.items() if ".lora_A." in name or ".lora_B." in name}
    return {name: value.detach().clone() for name, value in matrices.items()}


def for_the_untouched(
    weights: Mapping[str, Tensor], taken_out: Mapping[str, Tensor], config: Any
) -> dict[str, Tensor]:
    """An adapter's weights as those of one of twice the rank, for the weights that nothing was taken out of.

    `(W - s B0 A0) + s B A = W + s [B, -B0] [A; A0]`. The config is changed with it. All else stays: PEFT's own
    conversion (0.21) leaves a head that was trained out.
    """
    converted = dict(weights)
    for name, first in taken_out.items():
        both = (weights[name], first) if ".lora_A." in name else (weights[name], -first)
        converted[name] = torch.cat(both, dim=0 if ".lora_A." in name else 1)
    config.init_lora_weights = True
    config.r *= 2
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the scale stays
    config.rank_pattern = {key: 2 * value for key, value in config.rank_pattern.items()}
    config.alpha_pattern = {key: 2 * value for key, value in config.alpha_pattern.items()}
    return converted
