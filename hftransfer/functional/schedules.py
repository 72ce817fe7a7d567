"""Numbers that change over training, as functions of the *fraction* of training done.

Counted in absolute steps, a short run is another method: a ramp over 10 000 steps ends at .245 in a run of 500.
"""

import math
from collections.abc import Sequence


def sigmoid(progress: float, sharpness: float = 10.0) -> float:
    """From 0 to 1, steep at first: 2 / (1 + exp(-10 p)) - 1 (Ganin et al. 2016, arXiv:1505.07818)."""
    return 2 / (1 + math.exp(-sharpness * progress)) - 1


def scheduled(value: float | Sequence[float], progress: float) -> float:
    """A number as it is, or [start, end] read at this share (0 to 1) of the training, linearly.

    Ankner et al. 2023, Dynamic Masking Rate Schedules for MLM Pretraining, arXiv:2305.15096.
    """
    if isinstance(value, int | float):
        return float(value)
    start, end = value
    return float(start + (end - start) * progress)
