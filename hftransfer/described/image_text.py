"""Image and text: two encoders of one space, as CLIP (softmax over the labels) and SigLIP (a sigmoid for each) are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image
from datasets import Dataset
from torch import Tensor, nn

from hftransfer import models
from hftransfer.data import images
from hftransfer.described.base import Array, Asking, Near
from hftransfer.errors import HFTransferError
from hftransfer.functional.unit import unit

SIGMOID = "siglip"  # how these architectures' names begin: their texts are lower case, and as long as the positions
FLAT = (0, 128, 255)  # images without content: black, grey, white
CHANNELS = 3


class ImageText(Near):
    """Each image is read once, whatever number of labels and templates there is."""

    name = "image_text"

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        self.network = models.load(asking.model, "image_text")
        self.reader = models.reader(asking.model, "image")
        self.tokenizer = models.tokenizer(asking.model)
        self.independent = self.yes_or_no(asking.model)
        scale, shift = self.network.logit_scale, getattr(self.network, "logit_bias", None)
        self.scale = scale.detach().exp().item()
        self.shift = 0.0 if shift is None else shift.detach().item()
        self.describe(self._texts)

    @classmethod
    def yes_or_no(cls, model: Any) -> bool:
        return bool(models.config_of(model).model_type.startswith(SIGMOID))

    @classmethod
    def check(cls, asking: Asking) -> str:
        found = super().check(asking)
        models.reader(asking.model, "image")
        filled = [text for template in asking.prompts.templates for text in asking.prompts.filled(template)]
        tokens(models.tokenizer(asking.model), models.config_of(asking.model), filled)
        return found

    def prepared(self, content: Dataset, *, key: str) -> tuple[Any, list[int]]:
        found = images.readable(content, key=key, channels=CHANNELS)
        return found, found.numbers

    def vectors(self, prepared: Any) -> Array:
        return self._pixels(prepared)

    def _pixels(self, rows: Any) -> Array:
        def make(batch: Sequence[Any]) -> dict[str, Tensor]:
            pictures = [PIL.Image.fromarray(row["pixels"]) for row in batch]
            return dict(self.reader(images=pictures, return_tensors="pt"))

        def run(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (_pooled(network.get_image_features(**batch)),)

        found = self.over(rows, None, make, self.network, run)
        return unit(np.stack([vector for (vector,) in found]))

    def _texts(self, prompts: list[str]) -> Array:
        made = tokens(self.tokenizer, self.network.config, prompts)

        def make(batch: Sequence[Any]) -> dict[str, Tensor]:
            return {name: value[[int(place) for place in batch]] for name, value in made.items()}

        def run(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (_pooled(network.get_text_features(**batch)),)

        found = self.over(range(len(prompts)), None, make, self.network, run)
        return np.stack([vector for (vector,) in found])

    def against(self, vectors: Array, prototypes: Array) -> Array:
        return (self.scale * vectors @ prototypes.T + self.shift) / self.temperature

    def empty(self) -> Array:
        flat = [{"pixels": np.full((64, 64, CHANNELS), level, dtype=np.uint8)} for level in FLAT]
        return self.against(self._pixels(flat), self.prototypes)

    def notes(self) -> list[str]:
        how = "a sigmoid for each label, whose sum need not be 1" if self.independent else "a softmax over the labels"
        return [*super().notes(), f"probabilities: {how}; the answer is the label of the largest one"]


def tokens(tokenizer: Any, config: Any, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Prompts as the text encoder takes them: SigLIP was trained on texts in lower case, padded to all its positions.

    Raises:
        HFTransferError: one is longer than the text encoder's positions.
    """
    longest = config.text_config.max_position_embeddings
    sigmoid = config.model_type.startswith(SIGMOID)
    prompts = [prompt.lower() for prompt in prompts] if sigmoid else list(prompts)
    for prompt in prompts:
        length = len(tokenizer(prompt)["input_ids"])
        if length > longest:
            raise HFTransferError(
                f"labels: '{prompt[:60]}' takes {length} tokens, and the model reads {longest}; describe it in fewer "
                "words"
            )
    how = {"padding": "max_length", "max_length": longest} if sigmoid else {"padding": True}
    return dict(tokenizer(prompts, return_tensors="pt", **how))


def _pooled(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.pooler_output
