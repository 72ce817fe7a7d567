"""SimMIM: blocks of the image give way to a mask token, and one linear layer paints their pixels in."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from hftransfer.errors import HFTransferError
from hftransfer.functional.patches import hide_blocks, patchify
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.base import Losses
from hftransfer.objectives.masked_patches import MaskedPatches, geometry, rates_of, refill, vit_config

BLOCK, FEWEST_BLOCKS = 32, 6  # pixels a side; of small images fewer, so that a side has this many blocks


class SimMIM(MaskedPatches):
    """Xie et al. 2021, on transformers' `ViTForMaskedImageModeling`; the encoder sees every place.

    Blocks are 32 pixels a side, as in the paper, where an image has six of them a side; else the nearest multiple of
    the patch below a sixth of the image, and at least the patch.
    """

    name = "simmim"
    job = "simmim"
    loss_name = "absolute error on hidden patches"
    title = "Masked image modelling on unlabelled images"
    citations = ("Xie et al. 2021, SimMIM, arXiv:2111.09886",)
    settings = OBJECTIVES["simmim"].settings

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.block = block_of(self.size, self.patch)

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        super().check(config, reader, settings)
        if config.model_type != "vit":
            raise HFTransferError(f"model: simmim hides patches of a ViT, and this is {config.model_type}; choose one")
        size, patch, _ = geometry(config)
        if config.encoder_stride != patch:
            raise HFTransferError(
                f"model: its encoder_stride {config.encoder_stride} must be its patch_size {patch} for simmim; "
                f"set config: {{encoder_stride: {patch}}}"
            )
        blocks = (size // patch // block_of(size, patch)) ** 2
        for rate in rates_of(settings):
            if math.ceil(blocks * rate) >= blocks:
                raise HFTransferError(f"mask_rate: {rate} of {blocks} blocks hides all; at least one must stay")

    @classmethod
    def new_config(cls, config: Any) -> Any:
        return vit_config(config)

    @classmethod
    def mend(cls, network: nn.Module, new: Sequence[str]) -> None:
        """A mask token of zeros, as transformers begins with, becomes the paper's small random one."""
        token = network.vit.embeddings.mask_token
        refill(token, "vit.embeddings.mask_token", new, None, network.config.initializer_range)

    def hide(self, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        return hide_blocks(self.side, self.block, rate, rng)

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        hidden = batch["hidden"]
        painted = runner(pixel_values=batch["pixel_values"], bool_masked_pos=hidden).reconstruction
        errors = (painted.float() - batch["pixel_values"].float()).abs()
        return Losses(self.chosen(patchify(errors, self.patch), hidden).mean(-1).sum(-1), hidden.sum(1))

    def painted(self, batch: Mapping[str, Tensor]) -> Tensor:
        network = self.network
        return network(pixel_values=batch["pixel_values"], bool_masked_pos=batch["hidden"]).reconstruction


def block_of(size: int, patch: int) -> int:
    """The side of a hidden block, in patches; it divides the image's."""
    side = size // patch
    most = max(1, min(BLOCK, size // FEWEST_BLOCKS) // patch)
    return max(block for block in range(1, most + 1) if side % block == 0)
