"""`demo/spoken_digits`: the words zero to nine, spoken at run time by the synthesiser espeak-ng.

The PyPI package `espeakng-loader` carries the library and its voices. espeak-ng keeps state between utterances that no
call resets, so one process's words depend on what it said before: each build speaks in a process of its own, in one
order, after one seed. That makes the same call bit-equal, and leaves nothing behind in ours.
"""

import ctypes
import io
import json
import struct
import subprocess
import sys
import wave
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hftransfer.errors import HFTransferError

if TYPE_CHECKING:
    from datasets import Dataset

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TRAIN = "f1 f2 f4 m1 m2 m4 m5 m7 Alicia Annie Denis Henrique Lee Michael Nguyen adam belinda boris david edward"
_TEST = "f3 f5 m3 m6 Andrea Hugo benjamin steph"
SPEAKERS = {  # espeak-ng's voice variants that sound like people; no speaker is in both configs
    "train_voices": [*_TRAIN.split(), "linda", "marcelo", "michel", "rob"],
    "test_voices": _TEST.split(),
}
ACCENTS = ["en", "en-us", "en-029", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-us-nyc"]
TAKES = 12  # of each word by each speaker, in accents, at rates and pitches of their own
REMEDY = "pip install 'hftransfer[sound]'"


class _Utterance(NamedTuple):
    word: str
    voice: str
    rate: int  # words a minute
    pitch: int  # 0 to 100, around the voice's own
    range: int  # of the pitch, 0 to 100


def spoken_digits(config: str | None = None) -> "Dataset":
    """Spoken digits: columns audio (a wav file's bytes, 22050 Hz, 16 bit, mono), label (ClassLabel "0".."9"), speaker.

    Args:
        config: `train_voices` (2880 utterances of 24 speakers; the default) or `test_voices` (960 of 8 others).

    Raises:
        HFTransferError: espeak-ng is missing or does not speak.
    """
    import pyarrow as pa
    from datasets import Audio, ClassLabel, Dataset, Features, Value

    planned = list(_planned(config or "train_voices"))
    rate, sounds = _spoken([utterance for _, _, utterance in planned])
    names = [f"{utterance.word}-{speaker}-{number}.wav" for number, (speaker, _, utterance) in enumerate(planned)]
    files = [{"bytes": _wav(sound, rate), "path": name} for sound, name in zip(sounds, names, strict=True)]
    features = Features(
        {
            "audio": Audio(decode=False),
            "label": ClassLabel(names=[str(digit) for digit in range(10)]),
            "speaker": Value("string"),
        }
    )
    columns = {
        "audio": files,
        "label": [digit for _, digit, _ in planned],
        "speaker": [speaker for speaker, _, _ in planned],
    }
    # not `Dataset.from_dict`: that encodes, and to encode a sound `datasets` wants torchcodec, even for bytes
    return Dataset(pa.Table.from_pydict(columns, schema=features.arrow_schema))


def _planned(config: str) -> Iterator[tuple[str, int, _Utterance]]:
    """(speaker, digit, how it is said), by a fixed seed."""
    import numpy as np

    rng = np.random.default_rng((0, list(SPEAKERS).index(config)))
    for speaker in SPEAKERS[config]:
        for digit, word in enumerate(WORDS):
            for _ in range(TAKES):
                accent = ACCENTS[rng.integers(len(ACCENTS))]
                rate, pitch, spread = (int(rng.integers(*bounds)) for bounds in ((130, 210), (30, 71), (30, 71)))
                yield speaker, digit, _Utterance(word, f"{accent}+{speaker}", rate, pitch, spread)


def _spoken(utterances: list[_Utterance]) -> tuple[int, list[bytes]]:
    """The sampling rate, and each utterance as 16-bit samples; spoken by a fresh process."""
    try:
        import espeakng_loader  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise HFTransferError(
            f"demo/spoken_digits is spoken by espeak-ng, which is not installed; {REMEDY}"
        ) from error
    order = {
        "library": str(espeakng_loader.get_library_path()),
        "voices": str(espeakng_loader.get_data_path()),
        "utterances": utterances,
    }
    code = f"import sys; sys.path[:] = {sys.path!r}; from hftransfer.data import demo_speech; demo_speech.speak()"
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(order).encode(), capture_output=True)
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise HFTransferError(f"demo/spoken_digits: espeak-ng does not speak ({said}); {REMEDY} anew")
    stream = io.BytesIO(done.stdout)
    (rate,) = struct.unpack("<i", stream.read(4))
    return rate, [stream.read(struct.unpack("<i", stream.read(4))[0]) for _ in utterances]


def speak() -> None:
    """What the fresh process does: an order as JSON on standard input, samples on standard output, each with its size.

    Raises:
        RuntimeError: espeak-ng refuses.
    """
    order = json.load(sys.stdin)
    library = ctypes.CDLL(order["library"])
    said: list[bytes] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    def hear(samples: int | None, number: int, _: int | None) -> int:
        if samples and number > 0:
            said.append(ctypes.string_at(samples, 2 * number))
        return 0

    # 2: as samples, before the call returns; 0x8000: an error is a return value, not an exit
    rate = library.espeak_Initialize(2, 0, order["voices"].encode(), 0x8000)
    if rate <= 0:
        raise RuntimeError(f"espeak_Initialize returned {rate}")
    library.espeak_SetSynthCallback(hear)
    library.espeak_ng_SetRandSeed(ctypes.c_long(0))
    sys.stdout.buffer.write(struct.pack("<i", rate))
    for utterance in order["utterances"]:
        said.clear()
        _say(library, _Utterance(*utterance))
        samples = b"".join(said)
        sys.stdout.buffer.write(struct.pack("<i", len(samples)) + samples)


def _say(library: ctypes.CDLL, utterance: _Utterance) -> None:
    if library.espeak_SetVoiceByName(utterance.voice.encode()):
        raise RuntimeError(f"no voice {utterance.voice}")
    for number, value in ((1, utterance.rate), (3, utterance.pitch), (4, utterance.range)):  # espeak_PARAMETER
        library.espeak_SetParameter(number, value, 0)
    text = utterance.word.encode()
    # from position 0, counted in characters (1), to the end (0); the text is UTF-8 (1)
    library.espeak_Synth(text, ctypes.c_size_t(len(text) + 1), 0, 1, 0, 1, None, None)
    library.espeak_Synchronize()


def _wav(samples: bytes, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples)
    return file.getvalue()
