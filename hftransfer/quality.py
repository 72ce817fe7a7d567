"""How good a generator's samples are: compared with held-out ones, beside as many real training samples.

Every number is of features: of a checkpoint that judges images, or the samples' own numbers. All processes compute the
same, and the same latents are used each time, so that what changes over time is the generator's doing.
"""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hftransfer.data.divide import sample
from hftransfer.data.samples import Sampled
from hftransfer.errors import HFTransferError
from hftransfer.functional.bootstrap import Interval
from hftransfer.functional.coverage import overlap
from hftransfer.functional.frechet import frechet_distance
from hftransfer.functional.kernel_distance import kernel_distance, kernel_gain
from hftransfer.functional.modes import label_divergence
from hftransfer.judging import Array, Judge, Seen, judged, mixture_of

FEWEST = 10  # samples that can be compared at all
SUBSET = 1000  # rows of which a kernel's distance is computed at once


class Gain(NamedTuple):
    """Two generators on the same held-out samples."""

    before: float
    after: float
    interval: Interval
    rows: int


class Classes(NamedTuple):
    """What samples are taken for."""

    names: list[str]
    generated: list[float]  # the share of each class
    held_out: list[float]


class Quality:
    """Measures generators of one kind of samples.

    Args:
        rows: the data; generated samples are compared with its held-out ones.
        judge: what images are seen by, as (network, reader, name); None: their own numbers.
        count: how many samples are compared, at most as many as there are held-out rows.
        seed: of the rows that are drawn, and of the latents.

    Raises:
        HFTransferError: there are too few rows, or a judge of images is given for vectors.
    """

    def __init__(
        self, rows: Sampled, judge: tuple[nn.Module, Any, str] | None = None, *, count: int = 1000, seed: int = 42
    ) -> None:
        if judge is not None and rows.offset:
            raise HFTransferError("judge: it sees images, and the data are vectors, which are measured as they are")
        self.count, self.n = count, min(len(rows.train), len(rows.test), count)
        if self.n < FEWEST:
            raise HFTransferError(
                f"data: {len(rows.train)} rows to train on and {len(rows.test)} held-out ones are too few to measure "
                f"quality on {self.n} of each; it takes {FEWEST}"
            )
        self.rows, self.judge, self.seed = rows, None if judge is None else Judge(*judge), seed
        self.places = torch.from_numpy(sample(len(rows.train), self.n, seed))  # of the training rows that are compared
        self.modes = mixture_of(rows)
        self.held_out = self._see(self._units(rows.test[torch.from_numpy(sample(len(rows.test), self.n, seed))]))
        self.known = self._units(rows.train[self.places])
        seen = self._see(self.known).features
        self.middle = seen.mean(axis=0)
        # one for all features: a scale for each would make much of those that hardly differ from row to row
        self.spread = float(np.sqrt(seen.var(axis=0).mean())) or 1.0

    @cached_property
    def floor(self) -> dict[str, float]:
        """What as many training samples get in the generated ones' place."""
        return self._measured(self.known)

    def __call__(self, generator: Any) -> dict[str, float]:
        """The numbers of a generator; of a conditional one, with labels as often as the data has them.

        Of such a one `asked_accuracy` too: the share of its samples that are taken for the class they were asked for.
        How often each class is made says little then, as it is asked for.

        Raises:
            HFTransferError: it makes samples of another shape, or such as are not finite.
        """
        samples = self._made(generator)
        return self._measured(samples, self._asked(generator, len(samples)))

    @cached_property
    def real_accuracy(self) -> float | None:
        """The `asked_accuracy` of as many training samples; None where nothing tells classes."""
        labels = None if self.rows.train_labels is None else self.rows.train_labels[self.places]
        return self._measured(self.known, labels).get("asked_accuracy")

    def classes(self, generator: Any) -> Classes | None:
        """How often a generator's samples and held-out ones are taken for each class; None where nothing tells."""
        taken = [self._see(self._made(generator)).taken, self.held_out.taken]
        if taken[0] is None or taken[1] is None:
            return None
        names = [*self.rows.names, "another"]
        numbers = [*range(len(self.rows.names)), -1]
        made, real = ([float((some == number).mean()) for number in numbers] for some in taken)
        return Classes(names, made, real)

    def _asked(self, generator: Any, count: int) -> Tensor | None:
        """(count,) the classes that a conditional generator is asked for, as often as the training rows have them."""
        labels = self.rows.train_labels
        if labels is None or generator.config.num_classes != len(self.rows.names):
            return None
        labels = labels[self.places]
        return labels.repeat(-(-count // len(labels)))[:count]

    def _made(self, generator: Any, count: int | None = None) -> Array:
        """A generator's samples, always of the same latents."""
        shape, wanted = list(generator.config.sample_shape), list(self.rows.train.shape[1:])
        if shape != wanted and (self.judge is None or len(shape) != len(wanted)):
            raise HFTransferError(f"generator: it makes samples of {shape}, and the data are {wanted}")
        count = count or self.n
        made = generator.generate(count, seed=self.seed, labels=self._asked(generator, count), output_type="np")
        if not np.isfinite(made).all():
            raise HFTransferError("generator: its samples are not finite; it has diverged")
        return (made * 255).round().astype(np.uint8) if made.ndim == 4 else made

    def gain(self, before: Any, after: Any) -> Gain:
        """The kernel distances of two generators' samples to the held-out ones, and the interval of the difference.

        No training sample is compared, so there may be more than `n` of each.
        """
        count = min(len(self.rows.test), self.count)
        real = self._features(
            self._units(self.rows.test[torch.from_numpy(sample(len(self.rows.test), count, self.seed))])
        )
        seen = [self._features(self._made(generator, count)) for generator in (before, after)]
        values = [kernel_distance(real, some, subsets=1, subset_size=count, seed=self.seed).mean for some in seen]
        return Gain(values[0], values[1], kernel_gain(real, seen[0], seen[1], seed=self.seed), count)

    def _features(self, samples: Array) -> Array:
        return self._scaled(self._see(samples).features)

    def _scaled(self, features: Array) -> Array:
        return (features - self.middle) / self.spread

    @property
    def by(self) -> str:
        """What samples are compared by."""
        return f"the features of {self.judge.name}" if self.judge else "their own numbers"

    @property
    def says(self) -> str:
        """What the numbers are of, for people."""
        kind = "vectors" if self.rows.offset else "images"
        told = [
            f"quality compares {self.n} generated with {self.n} held-out {kind} by {self.by} "
            f"({len(self.middle)} each); the floor is {self.n} training {kind} compared likewise, which no generator "
            "need surpass"
        ]
        if self.modes is not None:
            told.append(
                f"modes are the {len(self.modes.centres)} labels, and a sample is good within three of their standard "
                "deviations of one's mean"
            )
        elif self.held_out.counts is not None:
            told.append("the label divergence is between the classes that this network takes both for")
        return "; ".join(told)

    def _units(self, samples: Tensor) -> Array:
        """As `generate` gives them: images (n, size, size, channels), but uint8; vectors in the data's own units."""
        if not self.rows.offset:
            return samples.permute(0, 2, 3, 1).numpy()
        return samples.double().numpy() * self.rows.scale + self.rows.offset

    def _measured(self, samples: Array, asked: Tensor | None = None) -> dict[str, float]:
        seen = self._see(samples)
        real, fake = self._scaled(self.held_out.features), self._scaled(seen.features)
        subsets = 1 if self.n <= SUBSET else 20
        found = {
            "frechet": frechet_distance(real, fake),
            "kernel": kernel_distance(real, fake, subsets=subsets, subset_size=SUBSET, seed=self.seed).mean,
            **overlap(real, fake)._asdict(),
        }
        if seen.counts is not None and self.held_out.counts is not None:
            found["label_divergence"] = label_divergence(seen.counts, self.held_out.counts)
        if asked is not None and seen.taken is not None:
            found["asked_accuracy"] = float((seen.taken == asked.numpy()).mean())
        if self.modes is not None:
            counted = self.modes.counted(samples)
            found |= {"modes": float(counted.found), "good_share": counted.good}
        return found

    def _see(self, samples: Array) -> Seen:
        if self.judge is not None:
            return judged(self.judge, samples, self.rows.names)
        if not self.rows.offset:
            return Seen(samples.reshape(len(samples), -1) / 255, None, None)
        features = (samples - self.rows.offset) / self.rows.scale
        if self.modes is None:
            return Seen(features, None, None)
        taken = self.modes.nearest(samples)
        return Seen(features, np.bincount(taken, minlength=len(self.rows.names)), taken)
