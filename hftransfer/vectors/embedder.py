"""A checkpoint as a function from rows to vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from hftransfer import inference, inputs, models, processes
from hftransfer.errors import HFTransferError

Array = NDArray[Any]
LONGEST = 512  # tokens, where a checkpoint has no limit of its own
FEW, MANY = 2048, 32768  # tokens of a batch: a CPU's caches hold few, an accelerator idles on them


class Embedded(NamedTuple):
    """The vectors of some rows."""

    vectors: Array  # (n, width) float32
    places: list[int]  # of the rows that they are of: images and sounds that cannot be read are left out
    tokens: int  # of texts, all together
    cut: int  # texts that fill the longest row


@dataclass(frozen=True)
class Manner:
    """How a checkpoint's vectors are made; settled without its weights."""

    model: Any
    kind: inputs.Kind
    pooling: str
    layers: tuple[int, ...]
    normalize: bool
    prompt: str
    width: int
    max_length: int  # of texts, in tokens

    @property
    def says(self) -> str:
        """For people."""
        states = f"layers {', '.join(map(str, self.layers))}" if self.layers else "the last layer"
        made = {
            "mean": f"the mean of {states} over the real tokens",
            "max": f"the largest of {states} over the real tokens",
            "cls": f"the first token of {states}",
            "last": f"the last real token of {states}",
            "own": "the features that its head reads",
        }[self.pooling]
        return f"{self.width} numbers, {made}" + (", of length 1" if self.normalize else "")


def settled(
    model: Any,
    *,
    pooling: str = "auto",
    layers: Sequence[int] | None = None,
    normalize: bool | None = None,
    prompt: str = "",
    truncate_dim: int | None = None,
    max_length: int | None = None,
) -> Manner:
    """Looks at a checkpoint's config and files, and settles what is left open.

    Raises:
        HFTransferError: in one line, for what the checkpoint cannot do.
    """
    config, kind = models.config_of(model), inputs.reads(model)
    name = models.public_name(model)
    if getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"):
        raise HFTransferError(f"model: {name} ({config.model_type}) has two parts and no one vector; choose another")
    alone = config.model_type.endswith("_discriminator")
    told = models.sentences(model)
    if alone and (pooling != "auto" or layers):
        raise HFTransferError(f"{'layers' if layers else 'pooling'}: a discriminator has one vector; leave it out")
    _check_layers(layers or (), config)
    width = int(config.hidden_size)
    if truncate_dim is not None and truncate_dim > width:
        raise HFTransferError(f"truncate_dim: {name} has vectors of {width} numbers, fewer than {truncate_dim}")
    if prompt and kind != "text":
        raise HFTransferError(f"prompt: {name} reads {kind}s, before which no text can be put; remove it")
    return Manner(
        model=model,
        kind=kind,
        pooling="own" if alone else (told.pooling or models.pooling(config)) if pooling == "auto" else pooling,
        layers=tuple(layers or ()),
        normalize=told.normalize if normalize is None else normalize,
        prompt=told.prompts.get(prompt, prompt),
        width=truncate_dim or width,
        max_length=_longest(model, config, told, max_length) if kind == "text" else 0,
    )


def _check_layers(layers: Sequence[int], config: Any) -> None:
    count = getattr(config, "num_hidden_layers", 0)
    wrong = next((layer for layer in layers if not -count - 1 <= layer <= count), None)
    if wrong is not None:
        raise HFTransferError(
            f"layers: there is no layer {wrong}; 0 is what the first one sees, {count} or -1 what the last one gives"
        )


def _longest(model: Any, config: Any, told: models.Sentences, asked: int | None) -> int:
    if asked is not None:
        inputs.check_length(model, asked)
        return asked
    positions = getattr(config, "max_position_embeddings", None) or LONGEST
    own = told.max_length or models.tokenizer(model).model_max_length
    return int(min(own, positions if told.max_length is None else own, 10**6 if told.max_length else LONGEST))


class Embedder:
    """Rows to vectors, on all processes alike.

    Args:
        manner: what `settled` gives.
        bf16: compute in bf16; None: where the hardware does.
        tokens_per_batch: of texts, padding included; None: as many as the hardware takes well.
    """

    def __init__(self, manner: Manner, *, bf16: bool | None = None, tokens_per_batch: int | None = None) -> None:
        self.manner = manner
        self.tokens_per_batch = tokens_per_batch or (MANY if processes.has_accelerator() else FEW)
        self.network = models.load(manner.model, "encoder")
        if self.network.config.model_type == "vit_mae":
            self.network.config.mask_ratio = 0.0
        self.reader = models.reader(manner.model, manner.kind)
        self.bf16 = processes.has_bf16() if bf16 is None else bf16

    def texts(self, texts: Sequence[str]) -> Array:
        """(n, width) of some texts."""
        return self(Dataset.from_dict({"text": list(texts)}), key="texts").vectors

    def __call__(self, content: Dataset, *, key: str, done: Callable[[int], Any] = lambda rows: None) -> Embedded:
        """The vectors of rows with the one column text, image or audio.

        Raises:
            HFTransferError: too many images or sounds cannot be read, or a vector is not finite; names the row.
        """
        manner = self.manner
        if manner.prompt:
            content = Dataset.from_dict({"text": [manner.prompt + text for text in content["text"]]})
        read = inputs.labelled_inputs(
            content, manner.model, key=key, max_length=manner.max_length, kind=manner.kind, reader=self.reader,
            labels=np.arange(len(content)),
        )  # fmt: skip
        device = processes.state().device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            found = inference.over(
                read.rows, read.lengths, read.batch, self.network, self._pooled,
                tokens_per_batch=self.tokens_per_batch, done=done,
            )  # fmt: skip
        vectors = np.stack([one for (one,) in found]).astype(np.float32, copy=False)
        places = [int(place) for place in read.labels]
        wrong = [places[row] for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1))]
        if wrong:
            raise HFTransferError(
                f"model: {models.public_name(manner.model)} gives numbers that are not finite for {len(wrong)} rows, "
                f"first of them {wrong[0] + 1}; its weights or that row are broken"
            )
        lengths = read.lengths if manner.kind == "text" and read.lengths is not None else []
        return Embedded(vectors, places, sum(lengths), sum(length >= manner.max_length for length in lengths))

    def _pooled(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
        how = None if self.manner.pooling == "own" else self.manner.pooling
        vectors = models.features(network, batch, how, self.manner.layers).float()[:, : self.manner.width]
        return (normalize(vectors, dim=1) if self.manner.normalize else vectors,)
