"""Are generated samples among the real ones, and real ones among the generated: shares of each other's neighbourhoods.

Precision and recall: Kynkäänniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative Models,
arXiv:1904.06991. Density and coverage: Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative
Models, arXiv:2002.09797.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hftransfer.functional.samples import two_samples

BLOCK = 1000  # rows whose distances are in memory at once


class Overlap(NamedTuple):
    """Four numbers, 1 for a sample and itself; all but the density are at most 1."""

    precision: float  # share of fake rows in the neighbourhood of a real row
    recall: float  # share of real rows in the neighbourhood of a fake row
    density: float  # in how many real neighbourhoods a fake row is, in units of what is expected of a real row
    coverage: float  # share of real rows with a fake row in their neighbourhood


def overlap(real: ArrayLike, fake: ArrayLike, *, nearest_precision: int = 3, nearest_density: int = 5) -> Overlap:
    """Precision, recall, density, coverage. A row's neighbourhood is the ball up to its k-th nearest of its own kind.

    The edge belongs to the ball, so that rows that occur many times have a neighbourhood, too. Not so for the density,
    which is to count k rows in each ball with the row itself, not k + 1.

    Args:
        real: (n, d).
        fake: (m, d).
        nearest_precision: k for precision and recall.
        nearest_density: k for density and coverage.
    """
    rows = two_samples(real, fake, least=1 + max(nearest_precision, nearest_density))
    true, made = (torch.from_numpy(np.ascontiguousarray(sample)) for sample in rows)
    radius_true, radius_made = _radius(true, nearest_precision), _radius(made, nearest_precision)  # (n,), (m,)
    radius_dense = _radius(true, nearest_density)  # (n,)
    precise = torch.zeros(len(made), dtype=torch.bool)
    recalled = dense = covered = 0
    for start in range(0, len(true), BLOCK):
        block = slice(start, start + BLOCK)
        distances = _distances(true[block], made)  # (block, m)
        precise |= (distances <= radius_true[block, None]).any(dim=0)
        recalled += int((distances <= radius_made).any(dim=1).sum())
        dense += int((distances < radius_dense[block, None]).sum())
        covered += int((distances.amin(dim=1) <= radius_dense[block]).sum())
    return Overlap(
        precision=float(precise.double().mean()),
        recall=recalled / len(true),
        density=dense / (nearest_density * len(made)),
        coverage=covered / len(true),
    )


def _radius(rows: Tensor, nearest: int) -> Tensor:
    """(rows,) each one's distance to its k-th nearest other."""
    blocks = (_distances(block, rows).kthvalue(nearest + 1).values for block in rows.split(BLOCK))
    return torch.cat(list(blocks))


def _distances(one: Tensor, two: Tensor) -> Tensor:
    """Without the |x|^2 + |y|^2 - 2xy shortcut, by which equal rows are not at distance 0."""
    return torch.cdist(one, two, compute_mode="donot_use_mm_for_euclid_dist")
