"""What every way of telling described labels has in common."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn

from hftransfer import inference, inputs, models, processes
from hftransfer.data import text
from hftransfer.described import WAYS
from hftransfer.described.labels import Prompts, check_templates
from hftransfer.errors import HFTransferError
from hftransfer.functional.empty_prior import contextual_calibration, sigmoid
from hftransfer.functional.softmax import softmax
from hftransfer.functional.unit import unit

Array = NDArray[Any]
NOTHING = ("", "N/A")  # texts without content (Zhao et al. 2021), beside a mask


@dataclass(frozen=True)
class Asking:
    """A checkpoint, and how it is asked."""

    model: Any
    prompts: Prompts
    multi_label: bool = False
    max_length: int = 128
    temperature: float | None = None  # None: the way's own
    bf16: bool | None = None  # None: where the hardware does
    tokens_per_batch: int = inference.TOKENS_PER_BATCH


class Way(ABC):
    """Logits of described labels for contents; `probabilities` makes probabilities of them."""

    name: ClassVar[str]
    independent: bool = False  # each label has a probability of its own, that need not sum to 1
    temperature: float = 1.0  # by which logits are divided

    def __init__(self, asking: Asking) -> None:
        self.asking, self.prompts = asking, asking.prompts
        self.bf16 = processes.has_bf16() if asking.bf16 is None else asking.bf16
        self.temperature = asking.temperature or self.temperature

    @classmethod
    def check(cls, asking: Asking) -> str:
        """Makes sure, without reading weights, that the checkpoint can be asked so. Returns its class's name.

        Raises:
            HFTransferError: in one line.
        """
        entry = WAYS[cls.name]
        check_templates(asking.prompts.templates, way=cls.name, text=entry.text, last=cls.name == "likelihood")
        if asking.multi_label and not cls.yes_or_no(asking.model):
            raise HFTransferError(
                f"multi_label: {cls.name} weighs labels against each other and has no yes or no for one by itself; "
                "use way: entailment, or SigLIP for images"
            )
        return models.check(asking.model, entry.job)

    @classmethod
    def yes_or_no(cls, model: Any) -> bool:
        """Whether a label can be told by itself."""
        return False

    def prepared(self, content: Dataset, *, key: str) -> tuple[Any, list[int]]:
        """Contents as `logits` and `vectors` take them, and which rows they are of: those that can be read."""
        return content, list(range(len(content)))

    @abstractmethod
    def vectors(self, prepared: Any) -> Array:
        """(rows, width) what a classifier could be fitted on."""

    @abstractmethod
    def logits(self, prepared: Any) -> Array:
        """(templates, rows, labels) by each template alone; `ensemble` makes one of them."""

    def ensemble(self, logits: Array) -> Array:
        """(rows, labels)."""
        return logits.mean(0)

    @abstractmethod
    def empty(self) -> Array:
        """(inputs, labels) logits of inputs without content."""

    def calibrated(self, logits: Array) -> Array:
        """(rows, labels) with the prior of an empty input taken out."""
        return contextual_calibration(logits, self.empty(), independent=self.independent)

    def of_labels(self, scores: Array) -> Array:
        """(..., descriptions) -> (..., labels): the mean over each label's descriptions."""
        owners = np.asarray(self.prompts.owners)
        return np.stack([scores[..., owners == label].mean(-1) for label in range(len(self.prompts.names))], axis=-1)

    def probabilities(self, logits: Array) -> Array:
        """(rows, labels): a softmax over the labels, or a sigmoid for each."""
        return sigmoid(logits) if self.independent else softmax(logits)

    def notes(self) -> list[str]:
        """What was asked, for people."""
        entry, prompts = WAYS[self.name], self.prompts
        more = f", and {len(prompts.templates) - 1} more templates" if len(prompts.templates) > 1 else ""
        numeric = "bf16" if self.bf16 else "fp32"
        return [f"asked by {self.name}: {entry.does}; for example {prompts.first!r}{more}; computed in {numeric}"]

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """No gradients; bf16 where wanted."""
        device = processes.state().device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            yield

    def over(
        self, rows: Any, lengths: Sequence[int] | None, make: Any, network: nn.Module, run: Callable[..., Any]
    ) -> list[tuple[Any, ...]]:
        """`inference.over` within this way's budget."""
        with self.computing():
            return inference.over(rows, lengths, make, network, run, tokens_per_batch=self.asking.tokens_per_batch)


class Near(Way):
    """A way that compares vectors of contents with one vector a label."""

    alone: Array  # (templates, labels, width) of length 1
    prototypes: Array  # (labels, width) of length 1: the mean over templates and descriptions

    @abstractmethod
    def against(self, vectors: Array, prototypes: Array) -> Array:
        """(rows, width) and (labels, width), both of length 1 -> (rows, labels) logits."""

    def logits(self, prepared: Any) -> Array:
        return self.of_vectors(self.vectors(prepared))

    def of_vectors(self, vectors: Array) -> Array:
        """(templates, rows, labels) and the ensemble after them."""
        return np.stack([self.against(vectors, one) for one in (*self.alone, self.prototypes)])

    def ensemble(self, logits: Array) -> Array:
        return logits[-1]

    def describe(self, vectors: Callable[[list[str]], Array]) -> None:
        """Makes the labels' vectors: means of normalised ones (Radford et al. 2021), normalised."""
        each = np.stack([unit(vectors(self.prompts.filled(template))) for template in self.prompts.templates])
        means = np.moveaxis(self.of_labels(np.moveaxis(each, 1, -1)), -1, 1)  # (templates, labels, width)
        self.alone, self.prototypes = unit(means), unit(means.mean(0))


class Reading(Way):
    """A way that reads texts by a network with a head."""

    def __init__(self, asking: Asking) -> None:
        super().__init__(asking)
        entry = WAYS[self.name]
        self.network, new = models.load_reported(asking.model, entry.job)
        if new:
            raise HFTransferError(
                f"way: {self.name} needs {entry.needs}, and {models.public_name(asking.model)} has no weights for "
                f"{new[0]}; choose another way or checkpoint"
            )
        self.reader = inputs.padding_behind(models.tokenizer(asking.model), self.network.config)

    @classmethod
    def check(cls, asking: Asking) -> str:
        inputs.check_length(asking.model, asking.max_length)
        return super().check(asking)

    def vectors(self, prepared: Any) -> Array:
        rows = text.tokenize(prepared, self.reader, self.asking.max_length)

        def run(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (models.features(network, batch),)

        found = self.over(rows, text.lengths(rows), self.padded, self.network.base_model, run)
        return np.stack([vector for (vector,) in found])

    def padded(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """A batch of tokenised rows."""
        return text.padded(self.reader, rows)

    def empty(self) -> Array:
        return self.ensemble(self.logits(Dataset.from_dict({"text": self.nothing()})))

    def nothing(self) -> list[str]:
        """Texts without content."""
        mask = self.reader.mask_token
        return [*NOTHING, *([mask] if mask else [])]
