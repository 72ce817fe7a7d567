"""Sounds as rows to learn from: decoded once, mixed to one channel, brought to the network's sampling rate."""

import io
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from hftransfer.errors import HFTransferError

logger = logging.getLogger("hftransfer")

Waveform = NDArray[np.float32]  # (samples,), -1 to 1
MOST_UNUSABLE = 0.01  # share of the rows (one row always) that may not decode or say nothing
NAMED = 3  # files that an error or a log line names
SHORTEST = 0.025  # seconds: one window of every speech network
QUIETEST = 1e-4  # largest distance from the mean below which nothing is heard: three steps of 16 bits


class SoundRow(TypedDict):
    """One sound and its place in what was read, which keys what is hidden in it."""

    waveform: Waveform
    row: int


class SoundRows:
    """Usable sounds, all at one sampling rate, in memory."""

    def __init__(
        self, waveforms: Sequence[Waveform], sampling_rate: int, numbers: Sequence[int] | None = None
    ) -> None:
        self.waveforms, self.sampling_rate = waveforms, sampling_rate
        self.numbers = range(len(waveforms)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.waveforms)

    def __getitem__(self, place: int) -> SoundRow:
        return {"waveform": self.waveforms[place], "row": self.numbers[place]}

    def __iter__(self) -> Iterator[SoundRow]:
        return (self[place] for place in range(len(self)))

    def select(self, places: Sequence[int]) -> "SoundRows":
        """Some of the rows, under their numbers."""
        waveforms = [self.waveforms[place] for place in places]
        return SoundRows(waveforms, self.sampling_rate, [self.numbers[place] for place in places])


def readable(
    rows: Dataset, *, key: str, sampling_rate: int, shortest: float = SHORTEST, most: float = MOST_UNUSABLE
) -> SoundRows:
    """Decodes every sound and keeps those in which something is heard.

    Args:
        rows: column `audio`, not decoded: {"bytes", "path"}.
        key: names the data in errors.
        sampling_rate: in Hz; sounds of another are resampled, and a log line says so.
        shortest: in seconds; shorter sounds cannot be used.
        most: share of the rows that cannot be used; of 1 all may, and nothing is left.

    Raises:
        HFTransferError: more than `most` of the sounds do not decode, are too short or silent, or all are;
            or a package is missing.
    """
    soundfile, soxr = _packages()
    waveforms: list[Waveform] = []
    good: list[int] = []
    bad: list[str] = []
    resampled: Counter[int] = Counter()
    for place, audio in enumerate(rows["audio"]):
        try:
            waveform, rate = decoded(audio, soundfile)
        except (OSError, ValueError, TypeError, soundfile.SoundFileError):
            bad.append(f"{_named(audio, place)} does not decode")
            continue
        wrong = _fault(waveform, rate, shortest)
        if wrong:
            bad.append(f"{_named(audio, place)} {wrong}")
            continue
        if rate != sampling_rate:
            resampled[rate] += 1
            waveform = soxr.resample(waveform, rate, sampling_rate)
        waveforms.append(waveform)
        good.append(place)
    _judge(bad, len(rows), key, most)
    for rate, number in sorted(resampled.items()):
        logger.info("%s: resampled %d sounds from %d to %d Hz", key, number, rate, sampling_rate)
    return SoundRows(waveforms, sampling_rate, good)


def padded(reader: Any, rows: Sequence[SoundRow]) -> dict[str, Tensor]:
    """A batch as a network of waveforms takes it: input_values (rows, samples), and an attention_mask where its
    feature extractor makes one.
    """
    waveforms = [row["waveform"] for row in rows]
    return dict(reader(waveforms, sampling_rate=reader.sampling_rate, padding=True, return_tensors="pt"))


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile  # type: ignore[import-untyped, unused-ignore]
        import soxr  # type: ignore[import-untyped, unused-ignore]
    except (ImportError, OSError) as error:  # OSError: soundfile without its library
        raise HFTransferError(
            f"sounds are read with the packages soundfile and soxr ({error}); pip install 'hftransfer[sound]'"
        ) from error
    return soundfile, soxr


def decoded(audio: Any, soundfile: Any) -> tuple[Waveform, int]:
    """One undecoded sound as the mean of its channels, and its sampling rate.

    Raises:
        OSError, ValueError, TypeError, SoundFileError: it is no sound.
    """
    if audio is None or (audio["bytes"] is None and audio["path"] is None):
        raise ValueError("no sound")
    file = io.BytesIO(audio["bytes"]) if audio["bytes"] is not None else audio["path"]
    channels, rate = soundfile.read(file, dtype="float32", always_2d=True)  # (samples, channels)
    return (channels[:, 0] if channels.shape[1] == 1 else channels.mean(axis=1, dtype=np.float32)), rate


def _fault(waveform: Waveform, rate: int, shortest: float) -> str:
    """What is wrong with a decoded sound, or nothing."""
    if len(waveform) == 0:
        return "is empty"
    if len(waveform) < shortest * rate:
        return f"is shorter than {shortest * 1000:.0f} ms"
    if not np.isfinite(waveform).all():
        return "holds values that are no numbers"
    return "is silent" if np.abs(waveform - waveform.mean()).max() < QUIETEST else ""


def _judge(bad: list[str], total: int, key: str, most: float) -> None:
    told = ", ".join(bad[:NAMED]) + (", ..." if len(bad) > NAMED else "")
    if len(bad) == total and most < 1:
        raise HFTransferError(
            f"{key}: none of {total} sounds can be used ({told}); give sounds, as wav, flac, ogg or mp3"
        )
    if len(bad) > max(1, most * total):
        raise HFTransferError(f"{key}: {len(bad)} of {total} sounds cannot be used ({told}); repair or remove them")
    if bad:
        logger.warning("%s: %d of %d sounds cannot be used and are skipped: %s", key, len(bad), total, told)


def _named(audio: Any, row: int) -> str:
    path = (audio or {}).get("path")
    return str(path).replace("\\", "/").rsplit("/", 1)[-1] if path else f"row {row}"
