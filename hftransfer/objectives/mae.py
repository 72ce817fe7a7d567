"""Masked autoencoder: three patches in four are hidden, and what they show is painted in from the rest."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hftransfer.errors import HFTransferError
from hftransfer.functional.patches import (
    hide_patches,
    normalised,
    num_kept,
    patchify,
    position_table,
    rate_that_keeps,
    statistics,
    unpatchify,
)
from hftransfer.objectives import OBJECTIVES
from hftransfer.objectives.base import Losses
from hftransfer.objectives.masked_patches import MaskedPatches, geometry, rates_of, refill

_ENCODER, _DECODER = "vit.embeddings.", "decoder."


class MAE(MaskedPatches):
    """He et al. 2021, on transformers' `ViTMAEForPreTraining`; the encoder sees the visible patches only.

    The default learning rate is the paper's for 256 images an update, right for going on from a checkpoint; a small
    network from scratch wants about 1e-3.
    """

    name = "mae"
    job = "mae"
    loss_name = "error on hidden patches"
    title = "Masked autoencoding of unlabelled images"
    citations: ClassVar[tuple[str, ...]] = (
        "He et al. 2021, Masked Autoencoders Are Scalable Vision Learners, arXiv:2111.06377",
    )
    settings = OBJECTIVES["mae"].settings

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        super().check(config, reader, settings)
        size, patch, _ = geometry(config)
        number = (size // patch) ** 2
        for rate in rates_of(settings):
            kept = num_kept(number, rate)
            if not 0 < kept < number:
                raise HFTransferError(
                    f"mask_rate: {rate} of {number} patches leaves {kept}; at least one must stay and one be hidden"
                )
        for name in ("hidden_size", "decoder_hidden_size"):
            if getattr(config, name, 4) % 4:
                raise HFTransferError(f"model: its {name} must be a multiple of 4, which its positions need")

    @classmethod
    def mend(cls, network: nn.Module, new: Sequence[str]) -> None:
        """Fills the fixed positions, the CLS and mask tokens and, of a new network, the patch projection.

        transformers leaves the first three at zero, so that a network from scratch cannot tell places apart; its own
        initialisation of the projection, the authors', is skipped with them.
        """
        embeddings, decoder, std = network.vit.embeddings, network.decoder, network.config.initializer_range
        size, patch, _ = geometry(network.config)
        for table, name in (
            (embeddings.position_embeddings, _ENCODER + "position_embeddings"),
            (decoder.decoder_pos_embed, _DECODER + "decoder_pos_embed"),
        ):
            refill(table, name, new, position_table(size // patch, table.shape[-1]), std)
        refill(embeddings.cls_token, _ENCODER + "cls_token", new, None, std)
        refill(decoder.mask_token, _DECODER + "mask_token", new, None, std)
        if _ENCODER + "patch_embeddings.projection.weight" in new:
            weight = embeddings.patch_embeddings.projection.weight
            with torch.no_grad():
                nn.init.xavier_uniform_(weight.view(len(weight), -1))

    def hide(self, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        return hide_patches(self.side**2, rate, rng)

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        hidden = batch["hidden"]
        target = patchify(batch["pixel_values"].float(), self.patch)
        target = self.chosen(target, hidden)  # (batch, hidden patches, patch pixels)
        if self.network.config.norm_pix_loss:
            target = normalised(target)
        predicted = self.chosen(self._predicted(runner, batch), hidden).float()
        return Losses((predicted - target).square().mean(-1).sum(-1), hidden.sum(1))

    def _predicted(self, runner: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """(batch, patches, patch pixels), the network's own forward with our choice of what is hidden."""
        hidden = batch["hidden"]
        number = hidden.shape[1]
        self.network.config.mask_ratio = rate_that_keeps(number, int((~hidden[0]).sum()))
        # the patches of the lowest noise stay: distinct values, so that no tie is broken by chance
        noise = hidden * number + torch.arange(number, device=hidden.device)
        return runner(pixel_values=batch["pixel_values"], noise=noise).logits

    def painted(self, batch: Mapping[str, Tensor]) -> Tensor:
        patches = self._predicted(self.network, batch).float()
        if self.network.config.norm_pix_loss:  # predictions are relative to the true patch's own statistics
            mean, deviation = statistics(patchify(batch["pixel_values"].float(), self.patch))
            patches = patches * deviation + mean
        return unpatchify(patches, self.patch)

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        made = super().picture(before, after)
        if self.network.config.norm_pix_loss:
            made["pictures"][0]["caption"] += " Each patch is painted in its true brightness and contrast."
        return made

    def save(self, folder: Any) -> None:
        self.network.config.mask_ratio = float(rates_of(self.options)[-1])
        super().save(folder)
