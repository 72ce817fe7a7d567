"""What sees samples when they are compared: a checkpoint that reads images, or a mixture whose modes are known."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from hftransfer import inputs, models, processes
from hftransfer.data.images import MODES
from hftransfer.data.samples import Sampled
from hftransfer.functional.modes import Modes, modes

AT_ONCE = 64
Array = NDArray[Any]


class Judge(NamedTuple):
    """A checkpoint whose features images are compared by."""

    network: nn.Module
    reader: Any  # its image processor
    name: str


class Seen(NamedTuple):
    """Samples as they are compared."""

    features: Array  # (n, width)
    counts: Array | None  # how many are taken for each class that whoever judges knows
    taken: Array | None  # (n,) what each is taken for, by the data's numbers; -1: a class that the data do not have


class Mixture(NamedTuple):
    """Labelled vectors as a mixture: each label is a mode."""

    labels: Array  # (modes,) their numbers
    centres: Array  # (modes, numbers) in the data's own units
    std: Array  # (numbers,) of a label's rows, the same for all labels

    def counted(self, samples: Array) -> Modes:
        """In units of `std`."""
        return modes(samples / self.std, self.centres / self.std, 1.0)

    def nearest(self, samples: Array) -> Array:
        """(n,) the label whose mode each is nearest to."""
        far = [np.square((samples - centre) / self.std).sum(axis=1) for centre in self.centres]
        return self.labels[np.argmin(far, axis=0)]


def mixture_of(rows: Sampled) -> Mixture | None:
    """The labels' means, and how far each number is from its label's, over all rows."""
    if not rows.offset or rows.train_labels is None or rows.test_labels is None:
        return None
    points = torch.cat([rows.train, rows.test]).double().numpy() * rows.scale + rows.offset
    labels = torch.cat([rows.train_labels, rows.test_labels]).numpy()
    found, places = np.unique(labels, return_inverse=True)
    centres = np.stack([points[labels == label].mean(axis=0) for label in found])
    std = np.sqrt(np.square(points - centres[places]).sum(axis=0) / max(1, len(points) - len(found)))
    return Mixture(found, centres, np.where(std > 0, std, rows.scale))


@torch.no_grad()
def judged(judge: Judge, samples: Array, names: list[str]) -> Seen:
    """Features of images (n, height, width, channels) uint8, and where the judge knows the data's classes, its own."""
    network, config = judge.network.to(processes.state().device).eval(), judge.network.config
    batch = inputs.image_batch(judge.reader, config)
    channels = getattr(config, "num_channels", 3)
    features, logits = [], []
    for start in range(0, len(samples), AT_ONCE):
        rows = [{"pixels": _converted(pixels, channels), "row": 0} for pixels in samples[start : start + AT_ONCE]]
        given = {name: value.to(network.device) for name, value in batch(rows).items()}
        if "ForImageClassification" in type(network).__name__:
            found, told = models.classify(network, given)
            logits.append(told.float().cpu())
        else:
            found = models.features(network, given)
        features.append(found.float().cpu())
    seen = torch.cat(features).double().numpy()
    if not knows(config, names):
        return Seen(seen, None, None)
    best = torch.cat(logits).argmax(dim=1)
    numbers = {name: number for number, name in enumerate(names)}
    own = np.array([numbers.get(config.id2label[number], -1) for number in range(config.num_labels)])
    return Seen(seen, best.bincount(minlength=config.num_labels).numpy(), own[best.numpy()])


def knows(config: Any, names: list[str]) -> bool:
    """Whether a judge was trained to tell these classes: a head that was made when it was loaded was not."""
    trained = any("ForImageClassification" in name for name in config.architectures or [])
    return bool(names) and trained and set(names) <= set(config.id2label.values())


def _converted(pixels: Array, channels: int) -> Array:
    """(height, width, channels) of an image of 1 or 3 channels, by Pillow as when it is read from a file."""
    if pixels.shape[2] == channels:
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert(MODES[channels])
    return np.asarray(image).reshape(*pixels.shape[:2], channels)
