"""Square spectrograms are those that the saved reader would make too."""

import io

import numpy as np
import pyarrow as pa
import pytest
from datasets import Audio, Dataset, Features

from hftransfer.data import sounds, spectrograms

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000
SIZE = 32


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


@pytest.fixture(scope="module")
def reader():
    files = content([packed(tone(0.2 + 0.1 * place, pitch=200 * (place + 1))) for place in range(5)])
    return spectrograms.new_reader(files, SIZE, key="data")


def rows_of(reader, *waves):
    return spectrograms.spectrograms(read([packed(wave) for wave in waves]), reader)


def test_short_sounds_are_what_the_saved_reader_makes(reader, tmp_path):
    reader.save_pretrained(tmp_path)
    saved = type(reader).from_pretrained(tmp_path)
    rows = read([packed(tone(seconds)) for seconds in (0.03, 0.1, 0.33)])
    waveforms = [row["waveform"] for row in rows]
    expected = saved(waveforms, sampling_rate=RATE, return_tensors="pt")["input_values"]
    found = spectrograms.SpectrogramBatch(saved)(list(spectrograms.spectrograms(rows, saved)), None)
    assert found.shape == (3, 1, SIZE, SIZE)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def test_a_new_reader_gives_its_own_sounds_mean_zero_and_deviation_one_half(reader):
    waves = [tone(0.2 + 0.1 * place, pitch=200 * (place + 1)) for place in range(5)]
    energies = np.concatenate([row["energies"] for row in rows_of(reader, *waves)])
    values = (energies - reader.mean) / (2 * reader.std)
    assert values.mean() == pytest.approx(0, abs=1e-4) and values.std() == pytest.approx(0.5, abs=1e-4)


def test_long_sounds_are_cut_in_the_middle_or_where_their_generator_says(reader):
    rows = rows_of(reader, np.concatenate([tone(0.5), tone(0.5, pitch=900)]), tone(2.0))
    batch = spectrograms.SpectrogramBatch(reader)
    middle = batch([rows[0]], None)
    start = (len(rows[0]["energies"]) - SIZE) // 2
    cut = rows[0]["energies"][start : start + SIZE]
    np.testing.assert_allclose(middle[0, 0], (cut - reader.mean) / (2 * reader.std), atol=1e-5)

    def at(seed):
        return batch([rows[0]], [np.random.default_rng(seed)])

    assert (at(1) == at(1)).all() and not (at(1) == at(2)).all()


def test_a_picture_has_the_low_pitches_below_and_is_bright_where_it_is_loud(reader):
    rows = rows_of(reader, tone(0.33, pitch=200), tone(0.33, pitch=5000))
    batch = spectrograms.SpectrogramBatch(reader)
    low, high = batch.drawn(batch(list(rows), None))[..., 0].astype(float)
    assert low[SIZE // 2 :].mean() > low[: SIZE // 2].mean()
    assert high[SIZE // 2 :].mean() < high[: SIZE // 2].mean()
