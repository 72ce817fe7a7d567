"""The spoken digits: ten different words, the same on every build, by speakers that the other config has not."""

import hashlib
import io
import subprocess
import sys
import wave

import numpy as np
import pytest

from hftransfer.data import demo_speech
from hftransfer.data.demo_speech import SPEAKERS, TAKES, WORDS, spoken_digits
from hftransfer.errors import HFTransferError

pytest.importorskip("espeakng_loader")


@pytest.fixture(scope="module")
def built():
    return spoken_digits("test_voices")


def samples(file: bytes) -> np.ndarray:
    with wave.open(io.BytesIO(file)) as reader:
        assert (reader.getnchannels(), reader.getsampwidth(), reader.getframerate()) == (1, 2, 22050)
        return np.frombuffer(reader.readframes(reader.getnframes()), np.int16)


def test_each_speaker_says_each_word_equally_often(built):
    assert built.features["label"].names == [str(digit) for digit in range(10)]
    pairs = list(zip(built["speaker"], built["label"], strict=True))
    assert len(pairs) == len(SPEAKERS["test_voices"]) * len(WORDS) * TAKES
    assert {pairs.count(pair) for pair in set(pairs)} == {TAKES}


def test_no_two_utterances_are_equal_and_none_is_silent_or_long(built):
    sounds = [samples(file["bytes"]) for file in built["audio"]]
    assert len({sound.tobytes() for sound in sounds}) == len(sounds)
    assert min(np.abs(sound).max() for sound in sounds) > 1000
    assert max(len(sound) for sound in sounds) < 1.5 * 22050


def test_a_build_is_bit_equal_to_one_in_another_process(built):
    code = (
        "from hftransfer.data.demo_speech import spoken_digits; import hashlib; "
        "print(hashlib.sha256(b''.join(f['bytes'] for f in spoken_digits('test_voices')['audio'])).hexdigest())"
    )
    theirs = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert theirs == hashlib.sha256(b"".join(file["bytes"] for file in built["audio"])).hexdigest()


def test_the_configs_share_no_speaker():
    assert not set(SPEAKERS["train_voices"]) & set(SPEAKERS["test_voices"])
    assert all(len(set(speakers)) == len(speakers) for speakers in SPEAKERS.values())


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(HFTransferError, match=r"pip install 'hftransfer\[sound\]'") as caught:
        spoken_digits()
    assert "\n" not in str(caught.value)


def test_what_the_synthesiser_refuses_is_one_line(monkeypatch):
    monkeypatch.setitem(demo_speech.SPEAKERS, "test_voices", ["nobody/../at all"])
    monkeypatch.setattr(demo_speech, "ACCENTS", ["tlh-none"])
    with pytest.raises(HFTransferError, match="no voice") as caught:
        spoken_digits("test_voices")
    assert "\n" not in str(caught.value)
