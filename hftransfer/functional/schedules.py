"""Numbers that change over training, as functions of the *fraction* of training done.

Counted in absolute steps, a short run is another method: a ramp over 10 000 steps ends at .245 in a run of 500.
"""

import math


def constant(progress: float) -> float:
    """1, always."""
    return 1.0


def linear(progress: float, start: float = 0.0, end: float = 1.0) -> float:
    """From `start` to `end` in a straight line."""
    return start + (end - start) * progress


def sigmoid(progress: float, sharpness: float = 10.0) -> float:
    """From 0 to 1, steep at first: 2 / (1 + exp(-10 p)) - 1 (Ganin et al. 2016, arXiv:1505.07818)."""
    return 2 / (1 + math.exp(-sharpness * progress)) - 1
