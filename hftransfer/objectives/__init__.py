"""The ways of self-supervision, one a file, and the one table that names them."""

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hftransfer.objectives.base import Objective


class Entry(NamedTuple):
    """One line of `OBJECTIVES`."""

    home: str  # the file that holds the class
    cls: str
    does: str


OBJECTIVES = {
    "masked_lm": Entry("masked_lm", "MaskedLM", "fill in hidden words from both sides"),
    "causal_lm": Entry("causal_lm", "CausalLM", "tell the next token"),
    "mae": Entry("mae", "MAE", "paint in hidden patches of an image"),
    "simmim": Entry("simmim", "SimMIM", "paint in hidden blocks of an image, with a light head"),
    "next_pixel": Entry("next_pixel", "NextPixel", "tell the next pixel's colour"),
    "audio_mae": Entry("audio_mae", "AudioMAE", "paint in hidden patches of a spectrogram"),
    "wav2vec2": Entry("wav2vec2", "Wav2Vec2", "tell a hidden stretch of sound from others"),
}


def find(name: str) -> "type[Objective]":
    """The class of an objective; importing it imports torch."""
    entry = OBJECTIVES[name]
    return getattr(importlib.import_module(f"{__name__}.{entry.home}"), entry.cls)
