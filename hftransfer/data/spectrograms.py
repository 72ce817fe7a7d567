"""Sounds as square pictures: log-mel energies, a row a moment (10 ms), a column a pitch.

The reader is transformers' `ASTFeatureExtractor` with as many moments as pitches: it makes the pictures, holds the
mean and deviation that they are normalised by, and is saved with the checkpoint. So what a later stage computes with
the saved reader is what the network was trained on.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from hftransfer.data.sounds import SoundRows, Waveform, readable

Energies = NDArray[np.float32]  # (moments, pitches), natural logarithm
SAMPLING_RATE = 16000  # Hz, of a new reader
WINDOW, HOP = 0.025, 0.01  # seconds, which the reader has built in
SAMPLE = 500  # sounds that mean and deviation are measured on
DRAWN = 2.5  # deviations from the mean to either side, of which a picture shows the range


class SpectrogramRow(TypedDict):
    """One sound's energies over its whole length, and its place in what was read, which keys cuts and masks."""

    energies: Energies
    row: int


class SpectrogramRows:
    """Spectrograms of usable sounds, not normalised, each as long as its sound."""

    def __init__(self, spectrograms: Sequence[Energies], numbers: Sequence[int]) -> None:
        self.spectrograms, self.numbers = spectrograms, numbers

    def __len__(self) -> int:
        return len(self.spectrograms)

    def __getitem__(self, place: int) -> SpectrogramRow:
        return {"energies": self.spectrograms[place], "row": self.numbers[place]}

    def __iter__(self) -> Iterator[SpectrogramRow]:
        return (self[place] for place in range(len(self)))

    def select(self, places: Sequence[int]) -> "SpectrogramRows":
        """Some of the rows, under their numbers."""
        return SpectrogramRows([self.spectrograms[i] for i in places], [self.numbers[i] for i in places])


def spectrograms(sounds: SoundRows, reader: Any) -> SpectrogramRows:
    """Every sound's spectrogram, computed once: a cut of a sound is a cut of it."""
    return SpectrogramRows([energies(waveform, reader) for waveform in sounds.waveforms], sounds.numbers)


def energies(waveform: Waveform, reader: Any) -> Energies:
    """A sound's log-mel energies over its whole length, as the reader computes them before it normalises."""
    rate = reader.sampling_rate
    whole = copy.copy(reader)
    whole.max_length = 1 + (len(waveform) - int(WINDOW * rate)) // int(HOP * rate)
    whole.do_normalize = False
    found: Energies = whole(waveform, sampling_rate=rate, return_tensors="np")["input_values"][0]
    return found


def new_reader(content: Dataset, size: int, *, key: str) -> Any:
    """A reader of `size` x `size` spectrograms, normalised by at most `SAMPLE` of these sounds (column `audio`).

    Raises:
        HFTransferError: sounds cannot be read, as `sounds.readable` says it.
    """
    step = -(-len(content) // SAMPLE) or 1
    sounds = readable(content.select(range(0, len(content), step)), key=key, sampling_rate=SAMPLING_RATE)
    reader = _reader(sounds.sampling_rate, size, mean=0.0, std=0.5)
    values = np.concatenate([energies(waveform, reader).ravel() for waveform in sounds.waveforms])
    return _reader(sounds.sampling_rate, size, mean=float(values.mean()), std=float(max(values.std(), 1e-3)))


def _reader(rate: int, size: int, *, mean: float, std: float) -> Any:
    from transformers import ASTFeatureExtractor

    with warnings.catch_warnings():  # from 113 pitches on, the lowest one lies between two frequencies and is empty
        warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
        return ASTFeatureExtractor(sampling_rate=rate, num_mel_bins=size, max_length=size, mean=mean, std=std)


class SpectrogramBatch:
    """Makes `pixel_values` of spectrogram rows: cut or padded to the reader's size, normalised as it does."""

    def __init__(self, reader: Any) -> None:
        self.size: int = reader.max_length
        self.mean: float
        self.scale: float
        # the reader's own arithmetic: it divides by twice the deviation
        self.mean, self.scale = (reader.mean, 2 * reader.std) if reader.do_normalize else (0.0, 1.0)

    def __call__(self, rows: Sequence[SpectrogramRow], rngs: Sequence[np.random.Generator] | None) -> Tensor:
        """(batch, 1, size, size) float32; `rngs`, one a row, choose where a long sound is cut, else its middle stays.

        A short sound is padded behind with zeros before it is normalised, as the reader does.
        """
        batch = np.zeros((len(rows), 1, self.size, self.size), dtype=np.float32)
        for place, row in enumerate(rows):
            spare = max(len(row["energies"]) - self.size, 0)
            start = spare // 2 if rngs is None else int(rngs[place].integers(spare + 1))
            cut = row["energies"][start : start + self.size]
            batch[place, 0, : len(cut)] = cut
        return torch.from_numpy((batch - np.float32(self.mean)) / np.float32(self.scale))

    def drawn(self, values: Tensor) -> NDArray[np.uint8]:
        """(batch, height, width, 1) of `pixel_values`: time to the right, pitch upwards, loud is bright."""
        levels = values.detach().float().cpu() * 2 / DRAWN  # -1 to 1, as the reader halves the deviations
        grey = ((levels + 1) / 2 * 255).round().clamp(0, 255).byte()  # (batch, 1, moments, pitches)
        return grey.permute(0, 3, 2, 1).flip(1).numpy()
