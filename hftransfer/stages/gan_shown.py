"""The pictures that `gan` leaves: samples beside real ones, the same latents over time, an interpolation."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hftransfer import processes
from hftransfer.data.samples import Sampled
from hftransfer.evidence import Picture
from hftransfer.functional.interpolation import slerp
from hftransfer.report import gan_pictures

SHOWN, POINTS = 64, 500  # latents whose samples are drawn, as images and as points
MOST_CLASSES = 20  # that have a row of samples
STRIPS, STEPS = 5, 8  # rows of the interpolation, and samples in each


def pictures(folder: Path, found: Any) -> list[Picture]:
    """Draws them on the main process; the evidence names files and captions."""
    made = _images(found) if found.shipped.config.is_image else _points(found)
    if processes.is_main():
        for file, _, content in made:
            (folder / file).write_bytes(content)
    own = ("over_time.png", "interpolation.png") if found.shipped.config.is_image else ()  # points stand beside rows
    return [{"file": file, "caption": caption, "shareable": file in own} for file, caption, _ in made]


def _images(found: Any) -> list[tuple[str, str, bytes]]:
    frames = [(step, _bytes(images)) for step, images in found.frames]
    names = found.rows.names if found.shipped.config.num_classes else None
    return [
        ("samples.png", "samples of the kept generator, not chosen", gan_pictures.sheet(_samples(found), names=names)),
        ("real.png", "held-out samples of the data", gan_pictures.sheet(_real(found.rows))),
        ("over_time.png", "the same latents at each look", gan_pictures.over_time(frames)),
        ("training.gif", "the same latents over the training", gan_pictures.animation(frames)),
        ("interpolation.png", "from one latent to another, on the sphere", gan_pictures.strip(_strip(found))),
    ]


def _points(found: Any) -> list[tuple[str, str, bytes]]:
    real = found.rows.test.double().numpy() * found.rows.scale + found.rows.offset
    if real.shape[1] != 2:
        return []
    fake = found.shipped.generate(len(real), seed=found.given["seed"] + 1, output_type="np")
    return [
        ("samples.png", "held-out and generated samples", gan_pictures.cloud(real, fake)),
        ("over_time.png", "the same latents at each look", gan_pictures.cloud_over_time(real, found.frames)),
        ("training.gif", "the same latents over the training", gan_pictures.cloud_animation(real, found.frames)),
    ]


def _samples(found: Any) -> np.ndarray:
    """New samples; of a conditional generator a row of eight for each class."""
    classes = min(found.shipped.config.num_classes, MOST_CLASSES)
    labels = [number // 8 for number in range(8 * classes)] if classes else None
    made = found.shipped.generate(8 * classes or SHOWN, seed=found.given["seed"] + 1, labels=labels, output_type="np")
    return _bytes(np.asarray(made))


@torch.no_grad()
def _strip(found: Any) -> np.ndarray:
    """(STRIPS, STEPS, h, w, c) uint8: between pairs of latents, of one label each."""
    generator = found.shipped.eval()
    ends = generator.latents(2 * STRIPS, torch.Generator().manual_seed(found.given["seed"]))
    shares = torch.linspace(0, 1, STEPS)
    latents = torch.stack([slerp(a, b, float(t)) for a, b in ends.view(STRIPS, 2, -1) for t in shares])
    classes = generator.config.num_classes
    labels = torch.arange(STRIPS).repeat_interleave(STEPS) % classes if classes else None
    made = generator(latents, None if labels is None else labels.to(latents.device))
    images = _bytes(generator.in_units(made.float().cpu()).permute(0, 2, 3, 1).numpy())
    return images.reshape(STRIPS, STEPS, *images.shape[1:])


def shown(generator: Any, seed: int) -> np.ndarray:
    """Samples of the same latents each time: of a conditional generator eight of each class, as far as they go."""
    classes, count = generator.config.num_classes, SHOWN if generator.config.is_image else POINTS
    labels = [number // 8 % classes for number in range(count)] if classes else None
    return np.asarray(generator.generate(count, seed=seed, labels=labels, output_type="np"))


def _real(rows: Sampled) -> np.ndarray:
    return np.asarray(rows.test[:64].permute(0, 2, 3, 1))


def _bytes(images: np.ndarray) -> np.ndarray:
    """uint8 of images in [0, 1]."""
    return (images * 255).round().astype(np.uint8)
