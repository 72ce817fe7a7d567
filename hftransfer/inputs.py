"""Labelled content as what a classifier reads: texts, images and sounds behind one face."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from hftransfer import models
from hftransfer.data import framing, images, sounds, spectrograms, text
from hftransfer.errors import HFTransferError
from hftransfer.objectives.text import check_positions

Kind = Literal["text", "image", "sound"]
JOBS = {"text": "text_classification", "image": "image_classification", "sound": "audio_classification"}


@dataclass(frozen=True)
class Inputs:
    """Rows with their labels, and how a batch is made of them."""

    rows: Any  # has a length and gives a row for a number
    labels: np.ndarray  # (rows, ...)
    batch: Callable[[Sequence[Any]], dict[str, Tensor]]
    lengths: Sequence[int] | None = None  # where rows differ

    def select(self, places: Sequence[int]) -> "Inputs":
        """Some of the rows."""
        lengths = None if self.lengths is None else [self.lengths[place] for place in places]
        return Inputs([self.rows[place] for place in places], self.labels[list(places)], self.batch, lengths)


def kind_of(config: Any) -> Kind:
    """What an architecture reads. A ViT of one channel may read spectrograms: its reader tells.

    Raises:
        HFTransferError: it is a player of `gan` that takes or makes vectors.
    """
    if hasattr(config, "sample_shape") and not config.is_image:
        raise HFTransferError(
            f"model: {config.model_type} is of vectors, and reads no texts, images or sounds; give another checkpoint"
        )
    if hasattr(config, "image_size") or config.model_type == "imagegpt":
        return "image"
    heard = hasattr(config, "num_conv_pos_embeddings") or config.model_type == "audio-spectrogram-transformer"
    return "sound" if heard else "text"


def reads(model: Any) -> Kind:
    """What a checkpoint reads."""
    kind = kind_of(models.config_of(model))
    return "sound" if kind == "image" and models.hears(model) else kind


def job(model: Any) -> str:
    """The key of `models.AUTO_CLASSES` that classifies what a checkpoint reads; a ViT sees spectrograms as images."""
    return JOBS["image" if kind_of(models.config_of(model)) == "image" else reads(model)]


def check_length(model: Any, max_length: int) -> None:
    """Refuses texts longer than a checkpoint has positions for; only the config is read.

    Raises:
        HFTransferError: naming the most tokens that it takes.
    """
    if reads(model) == "text":
        config = models.config_of(model)
        check_positions(config, max_length, models.first_position(models.skeleton(config, "encoder")))


def positions(model: Any) -> int | None:
    """Tokens of the longest text that a checkpoint has positions for; None where it counts none."""
    config = models.config_of(model)
    count = getattr(config, "max_position_embeddings", None) or 0  # XLNet says -1
    return count - models.first_position(models.skeleton(config, "encoder")) if count > 0 else None


def padding_behind(reader: Any, config: Any) -> Any:
    """A tokenizer that pads where a network can bear it: a decoder counts positions from the row's first token.

    XLNet does not count them, and takes what it classifies from the row's last place.
    """
    if reader.pad_token is None:
        raise HFTransferError(
            "model: its tokenizer has neither a padding token nor one that ends texts, so texts of different lengths "
            "make no batch; set pad_token and save it again"
        )
    if reader.padding_side == "right" or models.pooling(config) != "last" or config.model_type == "xlnet":
        return reader
    changed = copy.deepcopy(reader)
    changed.padding_side = "right"
    return changed


def labelled_inputs(
    content: Dataset,
    model: Any,
    *,
    key: str,
    max_length: int,
    kind: str | None = None,
    reader: Any = None,
    labels: np.ndarray | None = None,
    left_out: bool = False,
) -> Inputs:
    """Rows of a labelled data set (columns text, image or audio, and label) for a checkpoint's classifier.

    Args:
        content: the rows.
        model: whose config says what the network takes; a network whose parts were changed needs the next two.
        key: how errors name the data.
        max_length: longest row of a text, in tokens.
        kind: what the network reads, where the checkpoint does not tell.
        reader: what makes its inputs, by default the checkpoint's own.
        labels: (rows, ...) the column `label` by default.
        left_out: whether any number of images or sounds may be left out because they cannot be read.

    Raises:
        HFTransferError: when too many images or sounds cannot be read.
    """
    config, kind = models.config_of(model), kind or reads(model)
    limit = {"most": 1.0} if left_out else {}
    labels = np.asarray(content["label"]) if labels is None else labels
    reader = models.reader(model, kind) if reader is None else reader
    if kind == "text":
        reader = padding_behind(reader, config)
        rows = text.tokenize(content, reader, max_length)
        return Inputs(rows, labels, lambda batch: text.padded(reader, batch), text.lengths(rows))
    if kind == "image":
        found = images.readable(content, key=key, channels=getattr(config, "num_channels", 3), **limit)
        return Inputs(found, labels[found.numbers], image_batch(reader, config))
    heard = sounds.readable(content, key=key, sampling_rate=reader.sampling_rate, **limit)
    labels = labels[list(heard.numbers)]
    if kind_of(config) == "image":
        pictures = spectrograms.SpectrogramBatch(reader)
        rows = spectrograms.spectrograms(heard, reader)
        return Inputs(rows, labels, lambda batch: {"pixel_values": pictures(batch, None)})
    alike = hasattr(reader, "num_mel_bins")  # spectrograms of one length
    lengths = None if alike else [len(waveform) for waveform in heard.waveforms]
    return Inputs(heard, labels, lambda batch: sounds.padded(reader, batch), lengths)


def image_batch(reader: Any, config: Any) -> Callable[[Sequence[Any]], dict[str, Tensor]]:
    """How an image classifier's batch is made: pixel values, or for ImageGPT the numbers of colours."""
    if config.model_type == "imagegpt":
        from hftransfer.data import palette

        return palette.classifier_batch(reader, config)
    size = framing.side_of(reader, config.num_channels) or config.image_size
    if size != config.image_size:
        _check_seen(config, size)
    pixels = images.PixelBatch(reader, size=size, channels=config.num_channels, augment=False)
    return lambda batch: {"pixel_values": pixels(batch, None)}


def _check_seen(config: Any, size: int) -> None:
    """Some networks take images of any size (DINOv2 is published with a smaller one than its config names)."""
    images_of_it = torch.empty(1, config.num_channels, size, size, device="meta")
    try:
        models.skeleton(config, "encoder")(pixel_values=images_of_it)
    except (ValueError, RuntimeError) as error:
        raise HFTransferError(
            f"model: its image processor makes images of {size} x {size} and its config says {config.image_size}; "
            "they are not of one checkpoint"
        ) from error
