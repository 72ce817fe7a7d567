"""Sounds become waveforms of one rate; what cannot be heard is named, skipped or refused."""

import io
import logging
import sys

import numpy as np
import pyarrow as pa
import pytest
from datasets import Audio, Dataset, Features

from hftransfer.data import sounds
from hftransfer.errors import HFTransferError

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000


def tone(seconds: float, rate: int = RATE, pitch: float = 440.0, channels: int = 1) -> np.ndarray:
    """(samples, channels), a sine."""
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None].astype(np.float32), channels, axis=1)


def packed(wave: np.ndarray, rate: int = RATE, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=kind)
    return file.getvalue()


def content(files: list[bytes | None]) -> Dataset:
    audio = [{"bytes": file, "path": f"folder/{number}.wav"} for number, file in enumerate(files)]
    return Dataset(pa.table({"audio": audio}, schema=Features({"audio": Audio(decode=False)}).arrow_schema))


def read(files: list[bytes | None], rate: int = RATE) -> sounds.SoundRows:
    return sounds.readable(content(files), key="data", sampling_rate=rate)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_every_format_is_one_float_waveform(kind):
    row = read([packed(tone(0.5, channels=2), kind=kind)])[0]
    assert row["waveform"].dtype == np.float32 and row["row"] == 0
    assert len(row["waveform"]) == pytest.approx(0.5 * RATE, rel=0.2)  # mp3 pads


def test_channels_are_averaged_and_files_on_disk_are_read(tmp_path):
    two = tone(0.2, channels=2)
    two[:, 1] = 0
    path = tmp_path / "sound.wav"
    path.write_bytes(packed(two))
    audio = {"audio": [{"bytes": None, "path": str(path)}]}
    on_disk = Dataset(pa.table(audio, schema=Features({"audio": Audio(decode=False)}).arrow_schema))
    found = sounds.readable(on_disk, key="data", sampling_rate=RATE)[0]["waveform"]
    np.testing.assert_allclose(found, two[:, 0] / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_another_rate_is_resampled_and_said_once(rate, caplog):
    with caplog.at_level(logging.INFO, "hftransfer"):
        rows = read([packed(tone(0.5, rate), rate)] * 3 + [packed(tone(0.5))])
    assert [record.message for record in caplog.records] == [f"data: resampled 3 sounds from {rate} to {RATE} Hz"]
    inside = slice(500, 7500)
    np.testing.assert_allclose(rows[0]["waveform"][inside], rows[3]["waveform"][inside], atol=2e-3)


BAD = {
    "does not decode": b"no sound at all",
    "is empty": packed(tone(0)),
    "is shorter than 25 ms": packed(tone(0.02)),
    "is silent": packed(tone(0.5) * 0 + 0.25),
}


@pytest.mark.parametrize("wrong", BAD)
def test_one_unusable_sound_is_skipped_and_named(wrong, caplog):
    good = packed(tone(0.3))
    rows = read([good, BAD[wrong], good])
    assert len(rows) == 2 and [row["row"] for row in rows] == rows.numbers == [0, 2]
    assert f"1 of 3 sounds cannot be used and are skipped: 1.wav {wrong}" in caplog.text


def test_no_bytes_and_no_path_do_not_decode():
    with pytest.raises(HFTransferError, match="none of 1 sounds"):
        sounds.readable(content([None]), key="data", sampling_rate=RATE)


@pytest.mark.parametrize(
    "good, bad, message", [(3, 2, "2 of 5 sounds cannot"), (0, 1, "none of 1"), (0, 3, "none of 3")]
)
def test_too_many_unusable_sounds_are_an_error(good, bad, message):
    with pytest.raises(HFTransferError, match=f"^data: {message}") as caught:
        read([packed(tone(0.3))] * good + [BAD["is silent"]] * bad)
    assert "\n" not in str(caught.value)


def test_selected_rows_keep_their_numbers():
    rows = read([packed(tone(0.1 * (place + 1))) for place in range(4)]).select([3, 1])
    assert [row["row"] for row in rows] == [3, 1] and len(rows[0]["waveform"]) == int(0.4 * RATE)


def test_without_the_packages_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(HFTransferError, match=r"pip install 'hftransfer\[sound\]'"):
        read([packed(tone(0.1))])


def test_a_batch_is_padded_as_its_reader_says():
    from transformers import Wav2Vec2FeatureExtractor

    rows = list(read([packed(tone(0.1)), packed(tone(0.2))]))
    batch = sounds.padded(Wav2Vec2FeatureExtractor(return_attention_mask=True), rows)
    assert batch["input_values"].shape == (2, 3200) and batch["attention_mask"].sum(1).tolist() == [1600, 3200]
    assert list(sounds.padded(Wav2Vec2FeatureExtractor(), rows)) == ["input_values"]
