"""What an objective is: how content becomes rows, rows become batches with something hidden, and what that costs."""

# ruff: noqa: B027  (few objectives need a check or a mending)

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from hftransfer.errors import HFTransferError
from hftransfer.functional.schedules import scheduled

Kind = Literal["text", "image", "sound"]


class Losses(NamedTuple):
    """What a batch costs, row by row; their sums over all rows and processes give the mean that is trained on."""

    sums: Tensor  # (rows,) each row's loss, summed over its units
    counts: Tensor  # (rows,) its units: hidden tokens, predicted tokens, hidden patches


def rate_at(rate: float | Sequence[float], rows: Sequence[Mapping[str, Any]]) -> float:
    """The mask rate of a batch whose rows must hide alike: that of their mean `progress` (0 to 1).

    Rows without progress, those that are measured, take the end of a schedule.
    """
    progress = [float(row.get("progress", 1.0)) for row in rows]
    return scheduled(rate, sum(progress) / len(progress))


class Objective(abc.ABC):
    """One way of self-supervision. An instance serves one network in one run of `pretrain`.

    Attributes:
        name: its key in `OBJECTIVES`, as written in a recipe.
        kind: what it reads; decides how data is loaded and which reader (tokenizer, image processor, feature
            extractor) the network has.
        job: a key of `models.AUTO_CLASSES`.
        loss_name: as the report prints it: "masked-LM loss".
        unit: what a count counts: "masked tokens".
        citations: the papers, as the report prints them.
        settings: its own options with their defaults, from its line in `OBJECTIVES`.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    job: ClassVar[str]
    loss_name: ClassVar[str]
    unit: ClassVar[str]
    title: ClassVar[str]
    citations: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, network: nn.Module, reader: Any, settings: Mapping[str, Any], *, seed: int) -> None:
        """Takes a network that is on its device. `settings` are the class's own with the caller's over them."""
        self.network, self.reader, self.options, self.seed = network, reader, dict(settings), seed

    @classmethod
    def check(cls, config: Any, reader: Any, settings: Mapping[str, Any]) -> None:
        """Looks, before weights or data are read, for what cannot work (a row longer than the positions).

        Raises:
            HFTransferError: in one line, its key first.
        """

    @classmethod
    def new_config(cls, config: Any) -> Any:
        """The config of a new network, where this objective wants some of it otherwise than was asked for."""
        return config

    @classmethod
    def new_reader(cls, config: Any, content: Any) -> Any:
        """A reader for a new network of these sizes, learnt from the training content where it must be.

        Raises:
            HFTransferError: when this objective only continues checkpoints.
        """
        raise HFTransferError(f"model: {cls.name} needs a checkpoint; it cannot begin with a new network")

    @classmethod
    def mend(cls, network: nn.Module, new: Sequence[str]) -> None:
        """Puts right, in place, what transformers leaves unusable in weights that the checkpoint does not hold.

        `new` names those weights; for a network from scratch, all of them.
        """

    @abc.abstractmethod
    def rows(self, content: Any, *, key: str) -> Any:
        """Content (a `datasets.Dataset` of one column: text, image or audio) as rows to train or measure on.

        A row is a mapping; its key `row` is its number, which keys what is hidden in it. The rows have a length and
        `select`. `key` names the data in errors.
        """

    def lengths(self, rows: Any) -> Sequence[int] | None:
        """The rows' lengths where they differ, so that batches hold rows of like length."""
        return None

    @property
    def scheduled(self) -> bool:
        """Whether what a row becomes changes with the share of the training that is done."""
        return any(isinstance(value, list | tuple) for value in self.options.values())

    def at(self, row: Mapping[str, Any], progress: float) -> Mapping[str, Any]:
        """A row as it is drawn at this share of the training; only asked for where options are scheduled."""
        return {**row, "progress": progress}

    @abc.abstractmethod
    def collator(self, *, fixed: bool) -> Any:
        """Makes a batch (a dict of tensors) of rows. What it hides depends on (seed, epoch, row) only; with `fixed`
        on (seed, row). It has `set_epoch`.
        """

    @abc.abstractmethod
    def losses(self, runner: nn.Module, batch: dict[str, Tensor]) -> Losses:
        """What a batch costs, differentiable. `runner` is the network or what wraps it; `batch` is on its device."""

    @abc.abstractmethod
    def count(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The units in a batch, a whole number, without running the network: the sum of `Losses.counts`."""

    def measures(self, loss: float, rows: Any) -> dict[str, float]:
        """Further readings of a mean loss on these rows, all the lower the better: perplexity, bits per byte."""
        return {}

    def show(self, rows: Any) -> Any:
        """What the network makes of the first few of these rows now; called before and after training."""
        return None

    def picture(self, before: Any, after: Any) -> dict[str, Any]:
        """What `show` gave before and after, as parts of the evidence: `samples`, or `pictures`."""
        return {}

    def save(self, folder: Any) -> None:
        """Writes what the next stage loads, with its reader."""
        from hftransfer import models

        models.save(self.network, folder, self.reader)
