"""What a stage that makes a new network will leave, before it has: a folder that later stages can be planned with."""

import io
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
from datasets import Audio, Dataset, Features, Image
from safetensors.torch import save_file
from torch import nn

from hftransfer import inputs, models, objectives, runs, scratch
from hftransfer.clusters.saved import INFO
from hftransfer.data.spec import VECTORS
from hftransfer.objectives.masked_patches import vit_config
from hftransfer.stages.pretraining import starts_anew


def checkpoint(given: Mapping[str, Any], folder: Path) -> Path | None:
    """Writes the config and a reader of what this `pretrain` will make, and no weights.

    Only its sizes and kind are true: a tokenizer knows bytes, a palette is black.

    Returns:
        The folder, or None where what it will make is like its model.

    Raises:
        HFTransferError: no reader of the wanted sizes can be made.
    """
    if isinstance(given["model"], nn.Module):
        return None
    cls = objectives.find(given["objective"])
    config = models.config_of(given["model"], given["config"], cls.job)
    config = cls.new_config(config) if starts_anew(given) else config
    with_decoder = config.model_type == "vit_mae"
    if not (starts_anew(given) or given["config"] or with_decoder):
        return None
    new = models.is_scratch(given["model"])
    reader = cls.new_reader(config, _anything(cls.kind)) if new else models.reader(given["model"], cls.kind)
    with models.quiet_transformers():
        (vit_config(config) if with_decoder else config).save_pretrained(folder)
        reader.save_pretrained(folder)
    save_file({}, folder / "model.safetensors")
    return folder


def classifier(given: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> Path | None:
    """Writes the config and the reader of what this `finetune` will make, and no weights.

    Args:
        given: its options.
        found: its plan.
    """
    if isinstance(given["model"], nn.Module):
        return None
    config = models.config_of(given["model"], found["head"])
    config.architectures = [found["class"]]
    with models.quiet_transformers():
        config.save_pretrained(folder)
        models.reader(given["model"], inputs.reads(given["model"])).save_pretrained(folder)
    save_file({}, folder / "model.safetensors")
    return folder


def players(found: Mapping[str, Any], folder: Path) -> Path:
    """Writes the configs of the two networks that this `gan` will make, and no weights.

    Args:
        found: its plan.
    """
    for network, place in zip(found["networks"], (folder, folder / "discriminator"), strict=True):
        with models.quiet_transformers():
            network.config.save_pretrained(place)
        if place != folder and network.config.is_image:
            scratch.image_processor(network.config).save_pretrained(place)
        save_file({}, place / "model.safetensors")
    return folder


def vectors(found: Mapping[str, Any], folder: Path) -> Path:
    """Writes how many vectors of how many numbers this `embed` will leave, and no vectors; of a stream 0.

    Args:
        found: its plan.
    """
    folder.mkdir(parents=True)
    runs.write_json(folder / VECTORS, {**found["vectors"], "shards": []})
    return folder


def clusters(found: Mapping[str, Any], folder: Path) -> Path:
    """Writes how wide the vectors are that this `cluster` is made of, and no clusters.

    Args:
        found: its plan.
    """
    folder.mkdir(parents=True)
    runs.write_json(folder / INFO, {"reduction": {"width": found["width"]}})
    return folder


def _anything(kind: str) -> Dataset:
    """One text, image or sound, as data of a kind is loaded."""
    if kind == "text":
        return Dataset.from_dict({"text": [""]})
    file = io.BytesIO()
    if kind == "image":
        PIL.Image.new("RGB", (8, 8)).save(file, "PNG")
    else:
        noise = np.random.default_rng(0).integers(-9999, 9999, 16000, dtype=np.int16)
        with wave.open(file, "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", ""))
            sound.writeframes(noise.tobytes())
    column, feature = ("image", Image(decode=False)) if kind == "image" else ("audio", Audio(decode=False))
    features = Features({column: feature})
    content = {column: [{"bytes": file.getvalue(), "path": None}]}
    return Dataset(pa.Table.from_pydict(content, schema=features.arrow_schema))
