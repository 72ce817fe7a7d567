"""What can be counted exactly: the modes of a known mixture that were found, and how often each class was made.

Srivastava et al. 2017, VEEGAN, arXiv:1705.07761, section 5; the divergence with the generated sample first is that of
Metz et al. 2017, Unrolled Generative Adversarial Networks, arXiv:1611.02163.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hftransfer.functional.samples import two_samples


class Modes(NamedTuple):
    """What a sample holds of a mixture."""

    found: int  # modes with good samples
    good: float  # share of samples that are near a centre
    counts: NDArray[np.int64]  # (k,) good samples of each mode


def modes(samples: ArrayLike, centres: ArrayLike, std: float, *, radius: float = 3.0, least: int = 1) -> Modes:
    """Counts samples within `radius` standard deviations of the nearest centre; only these are good.

    Not even the mixture's own samples are all good: of two dimensions 98.9 % are within three standard deviations.

    Args:
        samples: (n, d).
        centres: (k, d).
        std: of every mode, the same in each dimension.
        radius: in units of `std`.
        least: good samples that make a mode found.
    """
    points, middles = two_samples(samples, centres, least=1)
    distances = np.stack([np.linalg.norm(points - middle, axis=1) for middle in middles])  # (k, n)
    near = distances.min(axis=0) <= radius * std
    counts = np.bincount(distances.argmin(axis=0)[near], minlength=len(middles))
    return Modes(int((counts >= least).sum()), float(near.mean()), counts)


def label_divergence(generated: ArrayLike, real: ArrayLike, *, smoothing: float = 1e-3) -> float:
    """KL(generated || real) between class frequencies, in nats: 0 if equal, log k if one of k even classes is made.

    Args:
        generated: (k,) counts or shares.
        real: (k,) counts or shares.
        smoothing: share of both that is spread evenly, so that a class without real samples costs a finite price.
    """
    one, two = (_shares(counts, smoothing) for counts in (generated, real))
    return float((one * np.log(one / two)).sum())


def _shares(counts: ArrayLike, smoothing: float) -> NDArray[np.float64]:
    shares = np.asarray(counts, dtype=float) / np.sum(counts)
    return (1 - smoothing) * shares + smoothing / len(shares)
