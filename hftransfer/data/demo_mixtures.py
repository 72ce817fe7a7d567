"""Mixtures of Gaussians in the plane whose modes can be counted exactly: what adversarial training is tried on first.

`ring8`: Metz et al. 2017, Unrolled Generative Adversarial Networks, arXiv:1611.02163. `grid25`, and both with the
numbers that are usual since: Srivastava et al. 2017, VEEGAN, arXiv:1705.07761.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset

POINTS = 10_000


class Mixture(NamedTuple):
    """Where the modes are, and how wide each is in both directions."""

    centres: tuple[tuple[float, float], ...]
    std: float


_GRID = (-4.0, -2.0, 0.0, 2.0, 4.0)
_TURNS = [2 * math.pi * number / 8 for number in range(8)]
MIXTURES = {  # the first is the default
    "grid25": Mixture(tuple((x, y) for x in _GRID for y in _GRID), 0.05),
    "ring8": Mixture(tuple((2 * math.cos(turn), 2 * math.sin(turn)) for turn in _TURNS), 0.02),
}


def mixture(config: str | None = None) -> "Dataset":
    """Columns vector (two float32), label (ClassLabel of the mode's number, all as often, in turn)."""
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, List, Value

    centres, std = MIXTURES[config or "grid25"]
    labels = np.arange(POINTS) % len(centres)
    noise = np.random.default_rng(0).standard_normal((POINTS, 2))
    vectors = (np.asarray(centres)[labels] + std * noise).astype(np.float32)
    names = [str(number) for number in range(len(centres))]
    features = Features({"vector": List(Value("float32"), length=2), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"vector": vectors.tolist(), "label": labels.tolist()}, features=features)
