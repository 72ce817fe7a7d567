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
from hftransfer.data import text
from hftransfer.errors import HFTransferError

Array = NDArray[Any]
LONGEST = 512  # tokens, where a tokenizer has no limit of its own
UNLIMITED = 10**6  # tokens, from which on a tokenizer means none
PIECE = 512  # images or sounds that are decoded together: more would not be kept until they are embedded
NAMED = 3  # rows that an error names
FEW, MANY = 2048, 32768  # tokens of a batch: a CPU's caches hold few, an accelerator idles on them


class Embedded(NamedTuple):
    """The vectors of some rows."""

    vectors: Array  # (n, width) float32
    places: list[int]  # of the rows that they are of: images and sounds that cannot be read are left out
    lengths: list[int]  # of texts, in tokens


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
    missing: tuple[str, ...] = ()  # modules of sentence-transformers that the vectors do not go through

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
    prompt: str | None = None,
    truncate_dim: int | None = None,
    max_length: int | None = None,
) -> Manner:
    """Looks at a checkpoint's config and files, and settles what is left open.

    Raises:
        HFTransferError: in one line, for what the checkpoint cannot do.
    """
    config, kind = models.config_of(model), inputs.reads(model)
    name, width = models.public_name(model), getattr(config, "hidden_size", None)
    if getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"):
        raise HFTransferError(f"model: {name} ({config.model_type}) has two parts and no one vector; choose another")
    if not isinstance(width, int):
        raise HFTransferError(f"model: {name} ({config.model_type}) has no states of one width; choose another")
    if not hasattr(config, "hidden_size"):
        more = "; give its discriminator" if config.model_type.endswith("_generator") else ""
        raise HFTransferError(f"model: {name} ({config.model_type}) reads no rows that it has a vector for{more}")
    alone = config.model_type.endswith("_discriminator")
    if alone and (pooling != "auto" or layers):
        raise HFTransferError(f"{'layers' if layers else 'pooling'}: a discriminator has one vector; leave it out")
    _check_layers(layers or (), config)
    if truncate_dim is not None and truncate_dim > width:
        raise HFTransferError(f"truncate_dim: {name} has vectors of {width} numbers, fewer than {truncate_dim}")
    if prompt and kind != "text":
        raise HFTransferError(f"prompt: {name} reads {kind}s, before which no text can be put; remove it")
    told = models.sentences(model)
    return Manner(
        model=model,
        kind=kind,
        pooling="own" if alone else (told.pooling or models.pooling(config)) if pooling == "auto" else pooling,
        layers=tuple(layers or ()),
        normalize=told.normalize if normalize is None else normalize,
        prompt=told.prompt if prompt is None else told.prompts.get(prompt, prompt),
        width=truncate_dim or width,
        max_length=_longest(model, told, max_length) if kind == "text" else 0,
        missing=told.unknown,
    )


def _check_layers(layers: Sequence[int], config: Any) -> None:
    if layers and config.model_type == "lstm":
        raise HFTransferError("layers: this lstm runs all its layers at once and tells the last one's; leave it out")
    count = getattr(config, "num_hidden_layers", 0)
    wrong = next((layer for layer in layers if not -count - 1 <= layer <= count), None)
    if wrong is not None:
        raise HFTransferError(
            f"layers: there is no layer {wrong}; 0 is what the first one sees, {count} or -1 what the last one gives"
        )


def _longest(model: Any, told: models.Sentences, asked: int | None) -> int:
    """Tokens of the longest text: as asked for, else the checkpoint's own limit, and never beyond its positions."""
    if asked is not None:
        inputs.check_length(model, asked)
        return asked
    own = told.max_length or models.tokenizer(model).model_max_length
    own = own if own < UNLIMITED else LONGEST
    positions = inputs.positions(model)
    return int(min(own, positions or own))


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
        reader = models.reader(manner.model, manner.kind)
        self.reader = inputs.padding_behind(reader, self.network.config) if manner.kind == "text" else reader
        self.bf16 = processes.has_bf16() if bf16 is None else bf16

    def texts(self, texts: Sequence[str]) -> Array:
        """(n, width) of some texts."""
        return self(Dataset.from_dict({"text": list(texts)}), key="texts").vectors

    def __call__(
        self,
        content: Dataset,
        *,
        key: str,
        numbers: Sequence[int] | None = None,
        done: Callable[[int], Any] = lambda rows: None,
    ) -> Embedded:
        """The vectors of rows.

        Args:
            content: the one column text, image or audio.
            key: how errors name the data.
            numbers: each row's in the data, by which errors name it; by default its place here.
            done: told how many rows each batch of this process had.

        Raises:
            HFTransferError: a vector is not finite; names the rows.
        """
        size = PIECE if self.manner.kind != "text" else len(content)
        vectors, places, lengths = [np.zeros((0, self.manner.width), np.float32)], [], []
        for start in range(0, len(content), size or 1):
            piece = content.select(range(start, min(start + size, len(content))))
            found = self._piece(piece, key, done)
            vectors.append(found.vectors)
            places += [start + place for place in found.places]
            lengths += found.lengths
        made = Embedded(np.concatenate(vectors), places, lengths)
        self._check(made.vectors, places if numbers is None else [numbers[place] for place in places])
        return made

    def _piece(self, content: Dataset, key: str, done: Callable[[int], Any]) -> Embedded:
        """The vectors of as many rows as are read together."""
        manner, read = self.manner, self._read(content, key)
        device = processes.state().device.type
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            found = inference.over(
                read.rows, read.lengths, read.batch, self.network, self._pooled,
                tokens_per_batch=self._budget, done=done,
            )  # fmt: skip
        vectors = np.stack([one for (one,) in found]) if found else np.zeros((0, manner.width), np.float32)
        places = [int(place) for place in read.labels]
        lengths = [int(length) for length in read.lengths or ()] if manner.kind == "text" else []
        return Embedded(vectors, places, lengths)

    def _read(self, content: Dataset, key: str) -> inputs.Inputs:
        """The rows that can be read, each labelled by its place."""
        manner, places = self.manner, np.arange(len(content))
        if manner.kind != "text":
            return inputs.labelled_inputs(
                content, manner.model, key=key, max_length=manner.max_length, kind=manner.kind, reader=self.reader,
                labels=places, left_out=True,
            )  # fmt: skip
        texts = [manner.prompt + one for one in content["text"][:]]
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
        ids = self.reader(texts, truncation=True, max_length=manner.max_length, **only_ids)["input_ids"]
        rows = [{"input_ids": row} for row in ids]
        return inputs.Inputs(rows, places, lambda batch: text.padded(self.reader, batch), [len(row) for row in ids])

    @property
    def _budget(self) -> int:
        """Of a batch, in what rows' lengths are counted. A sound is alone where padding would change it."""
        if self.manner.kind != "sound":
            return self.tokens_per_batch
        config = self.network.config
        masked = getattr(self.reader, "return_attention_mask", False)
        told = masked and getattr(config, "feat_extract_norm", "group") == "layer"
        return self.tokens_per_batch * int(config.inputs_to_logits_ratio) if told else 1

    def _check(self, vectors: Array, numbers: Sequence[int]) -> None:
        wrong = [numbers[int(place)] + 1 for place in np.flatnonzero(~np.isfinite(vectors).all(axis=1))]
        if wrong:
            named = ", ".join(map(str, wrong[:NAMED])) + (", ..." if len(wrong) > NAMED else "")
            raise HFTransferError(
                f"model: {models.public_name(self.manner.model)} gives numbers that are not finite for {len(wrong)} "
                f"rows (row {named}); its weights or these rows are broken{', or bf16: false helps' * self.bf16}"
            )

    def _pooled(self, network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
        how = None if self.manner.pooling == "own" else self.manner.pooling
        vectors = models.features(network, batch, how, self.manner.layers).float()[:, : self.manner.width]
        return (normalize(vectors, dim=1) if self.manner.normalize else vectors,)
