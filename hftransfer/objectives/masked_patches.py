"""What `mae` and `simmim` share: image rows, which patches are hidden, pictures, and a plain ViT as what they leave.

Everything but `rows` and `pixel_batch` takes any square picture, (batch, channels, size, size) float: a spectrogram
too.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hftransfer import models, scratch
from hftransfer.data.images import ImageRows, PixelBatch, check_augment, readable
from hftransfer.errors import HFTransferError
from hftransfer.functional.patches import patchify, unpatchify
from hftransfer.objectives.base import Kind, Objective, rate_at
from hftransfer.report import pictures

SHOWN = 6  # held-out pictures in the report
Hide = Callable[[float, np.random.Generator], NDArray[np.bool_]]
_TRAINING, _FIXED = 0, 1  # separate random streams for masks that change with the epoch and masks that do not


class MaskedPatchCollator:
    """Makes `pixel_values` (batch, channels, size, size) float32 and `hidden` (batch, patches) bool of rows.

    One generator a row, keyed on (seed, epoch, row), first cuts and mirrors the picture and then chooses what is
    hidden: batch, worker and process do not matter. With `fixed` nothing is cut, and the epoch does not matter either.

    Args:
        pixels: rows and their generators (or None: as they are) -> pixel values.
        hide: a rate and a generator -> which patches are hidden.
        mask_rate: one, or the first and last of a schedule.
    """

    def __init__(
        self,
        pixels: Callable[[Sequence[Any], Sequence[np.random.Generator] | None], Tensor],
        hide: Hide,
        *,
        mask_rate: float | Sequence[float],
        seed: int,
        fixed: bool,
    ) -> None:
        self.pixels, self.hide, self.mask_rate = pixels, hide, mask_rate
        self.seed, self.fixed, self.epoch = seed, fixed, 0

    def set_epoch(self, epoch: int) -> None:
        """Draws anew from now on, unless it is fixed."""
        self.epoch = epoch

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        stream = (self.seed, _FIXED, 0) if self.fixed else (self.seed, _TRAINING, self.epoch)
        rngs = [np.random.default_rng((*stream, int(row["row"]))) for row in rows]
        pixels = self.pixels(rows, None if self.fixed else rngs)
        rate = rate_at(self.mask_rate, rows)
        hidden = np.stack([self.hide(rate, rng) for rng in rngs])
        return {"pixel_values": pixels, "hidden": torch.from_numpy(hidden)}


class MaskedPatches(Objective):
    """Learning to paint in what is hidden of a picture. A subclass says what is hidden, and the loss."""

    kind: ClassVar[Kind] = "image"
    unit = "hidden patches"

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.size, self.patch, self.channels = geometry(network.config)
        self.side = self.size // self.patch  # patches in a row
        self.pixels = self.pixel_batch()

    def pixel_batch(self) -> Any:
        """What makes pixel values of rows (`__call__`) and draws them (`drawn`), as `data.images.PixelBatch` does."""
        augment = self.options["augment"]
        return PixelBatch(self.reader, size=self.size, channels=self.channels, augment=augment)

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        geometry(config)
        for rate in rates_of(settings):
            if not 0 < rate < 1:
                raise HFTransferError(f"mask_rate: expected a share between 0 and 1, found {rate}")
        check_augment(settings.get("augment", False))

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        return scratch.image_processor(config)

    def rows(self, content: Any, *, key: str) -> ImageRows:
        return readable(content, key=key, channels=self.channels)

    @abc.abstractmethod
    def hide(self, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        """(patches,), True where hidden; as many for every generator."""

    @abc.abstractmethod
    def painted(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The network's picture of a batch, (batch, channels, size, size), as pixel values."""

    def collator(self, *, fixed: bool) -> MaskedPatchCollator:
        rate = self.options["mask_rate"]
        return MaskedPatchCollator(self.pixels, self.hide, mask_rate=rate, seed=self.seed, fixed=fixed)

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        return batch["hidden"].sum()

    def chosen(self, patches: Tensor, hidden: Tensor) -> Tensor:
        """(batch, hidden patches, width) of (batch, patches, width): every row hides as many."""
        return patches[hidden].reshape(len(patches), -1, patches.shape[-1])

    @torch.no_grad()
    def show(self, rows: Any) -> dict[str, NDArray[np.uint8]]:
        """The first pictures, what is left of them, and them painted in, each (pictures, height, width, channels)."""
        device = next(self.network.parameters()).device
        batch = self.collator(fixed=True)([rows[i] for i in range(min(SHOWN, len(rows)))])
        batch = {name: value.to(device) for name, value in batch.items()}
        training = self.network.training
        self.network.eval()
        try:
            painted = self.painted(batch).float()
        finally:
            self.network.train(training)
        true = patchify(batch["pixel_values"], self.patch)
        hidden = batch["hidden"][..., None]
        seen = unpatchify(true.masked_fill(hidden, 0), self.patch)
        whole = unpatchify(torch.where(hidden, patchify(painted, self.patch), true), self.patch)
        drawn = self.pixels.drawn
        return {"original": drawn(batch["pixel_values"]), "seen": drawn(seen), "painted": drawn(whole)}

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        told = ["held out", "what the network sees", *(["painted in before"] if before else []), "painted in after"]
        lines = [after["original"], after["seen"], *([before["painted"]] if before else []), after["painted"]]
        picture = {"file": f"{self.name}.png", "caption": f"From top to bottom: {', '.join(told)} pretraining."}
        return {"pictures": [{**picture, "png": pictures.grid(lines)}]}

    def save(self, folder: Any) -> None:
        """A plain ViT, which every later stage loads, and beside it in `pretraining` the whole network, to go on."""
        models.save(plain_vit(self.network), Path(folder), self.reader)
        models.save(self.network, Path(folder) / "pretraining", self.reader)


def rates_of(settings: Mapping[str, Any]) -> list[float]:
    """The mask rate, or the first and last of its schedule."""
    rates = settings["mask_rate"]
    return list(rates) if isinstance(rates, list | tuple) else [rates]


def geometry(config: Any) -> tuple[int, int, int]:
    """Image size, patch size and channels of a ViT's config.

    Raises:
        HFTransferError: it is no ViT's, an image or a patch is not square, or patches do not cover an image.
    """
    if not hasattr(config, "patch_size"):
        raise HFTransferError(f"model: {config.model_type} cuts no image into patches; choose a ViT")
    size, patch = (_side(getattr(config, name), name) for name in ("image_size", "patch_size"))
    if size % patch:
        raise HFTransferError(f"model: its image_size {size} is no multiple of its patch_size {patch}; set config")
    return size, patch, config.num_channels


def _side(value: Any, name: str) -> int:
    sides = set(value) if isinstance(value, list | tuple) else {value}
    if len(sides) > 1:
        raise HFTransferError(f"model: its {name} {tuple(value)} is not square; choose another checkpoint")
    return int(sides.pop())


def plain_vit(network: nn.Module) -> nn.Module:
    """The encoder of a pretraining network as a `ViTModel` of equal states, without decoder and mask token."""
    from transformers import ViTModel

    weights = {n: v for n, v in network.base_model.state_dict().items() if n != "embeddings.mask_token"}
    pooled = any(name.startswith("pooler.") for name in weights)
    plain = ViTModel(vit_config(network.config), add_pooling_layer=pooled)
    plain.load_state_dict(weights)
    return plain


def vit_config(config: Any) -> Any:
    """The fields of a config that a plain ViT has, with what makes it fit for SimMIM."""
    from transformers import ViTConfig

    known = set(ViTConfig().to_dict()) - {"model_type", "architectures", "transformers_version"}
    fields = {name: value for name, value in config.to_dict().items() if name in known}
    return ViTConfig.from_dict({**fields, "encoder_stride": geometry(config)[1]})


@torch.no_grad()
def refill(parameter: Tensor, name: str, new: Sequence[str], values: Tensor | None, std: float) -> None:
    """Gives a weight that is new or all zero these values, or without them small random ones (for one token)."""
    if name in new or not parameter.any():
        if values is not None:
            parameter.copy_(values)
        else:
            nn.init.trunc_normal_(parameter, std=std)
