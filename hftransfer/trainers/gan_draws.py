"""Which rows an update sees, and the random numbers that belong to them.

A random number is a function of (seed, step, move, purpose, row within the update). So nothing has to be saved to go
on exactly, and neither processes nor accumulation change what is drawn: two processes draw together what one draws.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

PURPOSES = ("latents", "mix", "real", "fake")


class Samples(Dataset[dict[str, Tensor]]):
    """Samples in memory and perhaps their labels, handed out a batch at a time: no row is touched by itself.

    Args:
        pixel_values: (n, ...) in [-1, 1], or uint8, which is scaled to that when a batch is made.
        labels: (n,) whole numbers.
    """

    def __init__(self, pixel_values: Tensor, labels: Tensor | None = None) -> None:
        self.pixel_values, self.labels = pixel_values, labels

    def __len__(self) -> int:
        return len(self.pixel_values)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.__getitems__([row]).items()}

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """A batch; torch's loader asks for it under this name."""
        where = torch.as_tensor(rows)
        values = self.pixel_values[where]
        batch = {"pixel_values": values / 127.5 - 1 if values.dtype == torch.uint8 else values}
        return batch if self.labels is None else {**batch, "labels": self.labels[where]}


def as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The collator of `Samples`, whose batches are made."""
    return batch


class WholeUpdates(Sampler[int]):
    """A sampler's rows as far as they fill whole updates; the others come when an epoch shuffles them elsewhere.

    A smaller last update would weigh its rows more, and differ by the number of processes.
    """

    def __init__(self, sampler: Sampler[int], size: int) -> None:
        self.sampler, self.size = sampler, size

    def __len__(self) -> int:
        return len(self.sampler) // self.size * self.size

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(iter(self.sampler), len(self))


class Draws:
    """The random numbers of one move: a discriminator's step, or the generator's.

    Args:
        key: seed, step, number of the move in the step.
        start: the first row, of the move's rows on all processes, that is asked about.
    """

    def __init__(self, key: tuple[int, ...], start: int = 0) -> None:
        self.key, self.start = key, start

    def at(self, start: int) -> "Draws":
        """The same move's numbers from a row on."""
        return Draws(self.key, start)

    def noise(self, purpose: str, width: int = 0) -> torch.Generator:
        """A generator that stands where the first row's numbers begin, if each row takes `width` uniform ones."""
        entropy = (*self.key, PURPOSES.index(purpose))
        made = torch.Generator().manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
        if self.start and width:
            torch.rand(self.start * width, generator=made)
        return made

    def mix(self, like: Tensor) -> Tensor:
        """(n, 1, ...) uniform in [0, 1], where on the line between a real and a fake sample a penalty looks."""
        drawn = torch.rand(len(like), generator=self.noise("mix", 1))
        return drawn.to(like.device).view(-1, *[1] * (like.ndim - 1))
