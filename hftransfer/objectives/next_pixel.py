"""Order prediction on images: each pixel's colour is told from those above it and left of it (Image GPT)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hftransfer import processes
from hftransfer.data import palette
from hftransfer.data.images import readable
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

    def select(self, places: Sequence[int]) -> "TokenRows":
        """Some of the rows."""
        return TokenRows(self.tokens[list(places)])


class TokenCollator:
    """Stacks rows of colours into `input_ids` (batch, pixels). Nothing is drawn, so epochs are alike."""

    def set_epoch(self, epoch: int) -> None:
        pass

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        tokens = np.stack([row["input_ids"] for row in rows])
        return {"input_ids": torch.from_numpy(tokens.astype(np.int64))}


class NextPixel(Objective):
    """Chen et al. 2020, on transformers' `ImageGPTForCausalImageModeling`.

    The palette is the checkpoint's own, and a new network's is learnt from the images to train on. The loss is over
    every pixel, the first after the start token; transformers' own leaves the last one out.
    """

    name = "next_pixel"
    kind = "image"
    job = "next_pixel"
    loss_name = "next-pixel loss"
    unit = "pixels"
    title = "Next-pixel prediction on unlabelled images"
    citations = ("Chen et al. 2020, Generative Pretraining from Pixels, ICML 2020",)

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        super().__init__(network, reader, settings, seed=seed)
        self.size = palette.size_of(reader, network.config)
        self.palette = np.asarray(reader.clusters, dtype=np.float32)
        self.start = network.config.vocab_size - 1

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        if config.model_type != "imagegpt":
            raise HFTransferError(
                f"model: next_pixel trains an Image GPT, and this is {config.model_type}; choose one"
            )
        if reader is not None:  # a new network's is made to fit
            palette.size_of(reader, config)

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        images = readable(content, key="data", channels=3)
        size = math.isqrt(config.n_positions)  # as large as its positions reach
        found = palette.learnt_processor(images, size, config.vocab_size - 1, seed=0)
        return processes.agree(found)  # one palette for all processes

    def rows(self, content: Any, *, key: str) -> TokenRows:
        images = readable(content, key=key, channels=3)
        return TokenRows(np.stack([palette.tokens_of(row["pixels"], self.reader) for row in images]))

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
