"""The ways of self-supervision, one a file, and the one table that names them."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hftransfer.objectives.base import Objective


class Entry(NamedTuple):
    """One line of `OBJECTIVES`."""

    home: str  # the file that holds the class
    cls: str
    does: str
    settings: Mapping[str, Any]  # the options of `pretrain` that only some objectives have, with this one's defaults
    training: Mapping[str, Any] = {}  # fields of TrainingArguments that its paper sets otherwise than `TRAINING`


TRAINING = {
    "learning_rate": 5e-5,
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}
_MASKED_PATCHES = {"learning_rate": 1.5e-4, "adam_beta2": 0.95, "weight_decay": 0.05}  # for 256 images an update
OBJECTIVES = {
    "masked_lm": Entry(
        "masked_lm",
        "MaskedLM",
        "fill in hidden words from both sides",
        {"mask_rate": 0.15, "whole_word": False, "pack": False, "max_length": 128},
    ),
    "causal_lm": Entry("causal_lm", "CausalLM", "tell the next token", {"max_length": 128, "pack": True}),
    "mae": Entry(
        "mae", "MAE", "paint in hidden patches of an image", {"mask_rate": 0.75, "augment": True}, _MASKED_PATCHES
    ),
    "simmim": Entry(
        "simmim",
        "SimMIM",
        "paint in hidden blocks of an image, with a light head",
        {"mask_rate": 0.6, "augment": True},
        {"learning_rate": 1e-4, "weight_decay": 0.05},
    ),
    "next_pixel": Entry(
        "next_pixel",
        "NextPixel",
        "tell the next pixel's colour",
        {},
        {"learning_rate": 1e-3, "adam_beta2": 0.95, "weight_decay": 0.0},
    ),
    "audio_mae": Entry(
        "audio_mae", "AudioMAE", "paint in hidden patches of a spectrogram", {"mask_rate": 0.8}, _MASKED_PATCHES
    ),
    "wav2vec2": Entry(
        "wav2vec2",
        "Wav2Vec2",
        "tell a hidden stretch of sound from others",
        {"mask_rate": 0.65},
        {"adam_beta2": 0.98, "adam_epsilon": 1e-6},
    ),
}


def own(option: str) -> dict[str, Any]:
    """The objectives that have an option of their own, each with its default."""
    return {name: entry.settings[option] for name, entry in OBJECTIVES.items() if option in entry.settings}


def find(name: str) -> "type[Objective]":
    """The class of an objective; importing it imports torch."""
    entry = OBJECTIVES[name]
    return getattr(importlib.import_module(f"{__name__}.{entry.home}"), entry.cls)
