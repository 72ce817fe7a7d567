"""Order prediction on images: each pixel's colour is told from those above it and left of it (Image GPT)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hftransfer import processes
from hftransfer.data import palette
from hftransfer.data.images import ImageRows, readable, resized
from hftransfer.errors import HFTransferError
from hftransfer.objectives.base import Losses, Objective
from hftransfer.report import pictures

SHOWN = 6  # held-out images that are completed in the report


class TokenRows:
    """Images as rows of colours: {"input_ids": (pixels,), "row"}."""

    def __init__(self, tokens: NDArray[np.int16]) -> None:
        self.tokens = tokens  # (rows, pixels)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.tokens[row], "row": int(row) % len(self)}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[row] for row in range(len(self)))


class TokenCollator:
    """Stacks rows of colours into `input_ids` (batch, pixels). Nothing is drawn, so epochs are alike."""

    def set_epoch(self, epoch: int) -> None:
        pass

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        tokens = np.stack([row["input_ids"] for row in rows])
        return {"input_ids": torch.from_numpy(tokens.astype(np.int64))}


class NextPixel(Objective):
    """Chen et al. 2020, on transformers' `ImageGPTForCausalImageModeling`.

    The palette is the checkpoint's own; without one it is learnt from the first rows that are made, those to train
    on. The loss is over every pixel, the first after the start token; transformers' own leaves the last one out.
    """

    name = "next_pixel"
    kind = "image"
    job = "next_pixel"
    loss_name = "next-pixel loss"
    unit = "pixels"
    title = "Next-pixel prediction on unlabelled images"
    citations = ("Chen et al. 2020, Generative Pretraining from Pixels, ICML 2020",)
    training: ClassVar[Mapping[str, Any]] = {"learning_rate": 1e-3, "adam_beta2": 0.95, "weight_decay": 0.0}

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.size = size_of(network.config, reader)
        found = getattr(reader, "clusters", None)
        self.palette = None if found is None else np.asarray(found, dtype=np.float32)
        self.start = network.config.vocab_size - 1
        if self.palette is None:
            self.reader = palette.processor(self.size, None, resample=int(getattr(reader, "resample", None) or 2))

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        size = size_of(config, reader)
        if size**2 > config.n_positions:
            raise HFTransferError(
                f"model: {size} x {size} pixels are more than its {config.n_positions} positions; "
                f"set config: {{n_positions: {size**2}}}"
            )
        clusters = getattr(reader, "clusters", None)
        if clusters is not None and len(clusters) > config.vocab_size - 1:
            raise HFTransferError(
                f"model: its palette has {len(clusters)} colours and its vocabulary room for {config.vocab_size - 1}; "
                "they are not of one checkpoint"
            )

    def rows(self, content: Any, *, key: str) -> TokenRows:
        images = readable(content, key=key, channels=3)
        if self.palette is None:
            self.palette = processes.agree(self._learnt(images))
            self.reader = palette.processor(self.size, self.palette, resample=self.reader.resample)
        return TokenRows(np.stack([self._tokens(row["pixels"]) for row in images]))

    def _learnt(self, images: ImageRows) -> NDArray[np.float32]:
        order = np.random.default_rng(self.seed).permutation(len(images))[: palette.IMAGES]
        pixels = np.concatenate([self._small(images[int(row)]["pixels"]).reshape(-1, 3) for row in np.sort(order)])
        return palette.learn(pixels, self.start, seed=self.seed)

    def _small(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return resized(pixels, self.size, self.reader.resample)

    def _tokens(self, pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
        assert self.palette is not None
        return palette.nearest(palette.scaled(self._small(pixels).reshape(-1, 3)), self.palette)

    def collator(self, *, fixed: bool) -> TokenCollator:
        return TokenCollator()

    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor(batch["input_ids"].numel(), device=batch["input_ids"].device)

    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        pixels = batch["input_ids"]
        shifted = torch.cat([torch.full_like(pixels[:, :1], self.start), pixels[:, :-1]], dim=1)
        logits = runner(input_ids=shifted, use_cache=False).logits  # (batch, pixels, colours)
        nats = cross_entropy(logits.float().transpose(1, 2), pixels, reduction="none")
        return Losses(nats.sum(1), torch.full_like(pixels[:, 0], pixels.shape[1]))

    def measures(self, loss: float, rows: Any) -> dict[str, float]:
        return {"bits_per_pixel": loss / math.log(2)}

    def show(self, rows: Any) -> dict[str, NDArray[np.uint8]]:
        """The first images, their upper halves, and these completed, each (images, size, size, 3)."""
        assert self.palette is not None
        tokens = np.stack([rows[i]["input_ids"] for i in range(min(SHOWN, len(rows)))])
        given = self.size // 2 * self.size
        colours = palette.coloured(tokens, self.palette)
        seen = np.where(np.arange(self.size**2)[None, :, None] < given, colours, 127).astype(np.uint8)
        completed = palette.coloured(self.completed(tokens, given), self.palette)
        shape = (-1, self.size, self.size, 3)
        return {"original": colours.reshape(shape), "seen": seen.reshape(shape), "completed": completed.reshape(shape)}

    @torch.no_grad()
    def completed(self, tokens: NDArray[Any], given: int) -> NDArray[np.int64]:
        """Rows of colours whose first `given` stay and whose others are drawn from the network, always alike."""
        network, training = self.network.eval(), self.network.training
        device = next(network.parameters()).device
        generator = torch.Generator().manual_seed(self.seed)
        known = torch.from_numpy(tokens[:, :given].astype(np.int64)).to(device)
        out = torch.cat([torch.full_like(known[:, :1], self.start), known], dim=1)
        seen, past = out, None
        for _ in range(self.size**2 - given):
            step = network(input_ids=seen, past_key_values=past, use_cache=True)
            chances = step.logits[:, -1].float().softmax(-1).cpu()
            seen, past = torch.multinomial(chances, 1, generator=generator).to(device), step.past_key_values
            out = torch.cat([out, seen], dim=1)
        network.train(training)
        return out[:, 1:].cpu().numpy()

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        told = ["held out", "what the network sees", *(["completed before"] if before else []), "completed after"]
        lines = [after["original"], after["seen"], *([before["completed"]] if before else []), after["completed"]]
        picture = {"file": "next_pixel.png", "caption": f"From top to bottom: {', '.join(told)} pretraining."}
        return {"pictures": [{**picture, "png": pictures.grid(lines)}]}


def size_of(config: Any, reader: Any) -> int:
    """Height and width of what an Image GPT reads: its processor's, else as large as its positions reach.

    Raises:
        HFTransferError: it is no Image GPT, or its processor's images are not square.
    """
    if not hasattr(config, "n_positions") or config.model_type != "imagegpt":
        raise HFTransferError(f"model: next_pixel trains an Image GPT, and this is {config.model_type}; choose one")
    if getattr(reader, "clusters", None) is None:  # a processor that was not made for this network
        return math.isqrt(config.n_positions)
    height, width = reader.size["height"], reader.size["width"]
    if height != width:
        raise HFTransferError(f"model: its images of {height} x {width} are not square; choose another checkpoint")
    return int(height)
