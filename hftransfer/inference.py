"""No-grad forwards over a whole data set: length-sorted, batched by a token budget, shared among the processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from hftransfer import models, processes
from hftransfer.data import text
from hftransfer.functional.softmax import softmax

TOKENS_PER_BATCH = 8192
ROWS_PER_BATCH = 32  # where all rows are alike: images, spectrograms


class Predictions(NamedTuple):
    """In the rows' order."""

    logits: np.ndarray  # (rows, classes), float32
    features: np.ndarray  # (rows, width), what the last layer saw

    @property
    def probabilities(self) -> np.ndarray:
        return softmax(self.logits)

    @property
    def classes(self) -> np.ndarray:
        return self.logits.argmax(1)


def batches(lengths: Sequence[int], tokens_per_batch: int = TOKENS_PER_BATCH) -> Iterator[list[int]]:
    """Row indices from short to long, so that a batch padded to its longest row holds at most the budget."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[row] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


@torch.no_grad()
def costs(objective: Any, rows: Any) -> np.ndarray:
    """What each row costs an objective's network under its fixed masks, on every process alike.

    Returns:
        (rows, 2): each row's summed loss and number of units (hidden tokens, patches), in the rows' order.
    """
    state = processes.state()
    network = objective.network.to(state.device).eval()
    collator = objective.collator(fixed=True)
    lengths = objective.lengths(rows)
    order = list(batches(lengths) if lengths is not None else _chunks(len(rows), ROWS_PER_BATCH))
    mine: list[tuple[int, list[float]]] = []
    for batch in order[state.process_index :: state.num_processes]:
        inputs = {name: value.to(state.device) for name, value in collator([rows[i] for i in batch]).items()}
        found = objective.losses(network, inputs)
        pairs = torch.stack([found.sums.double(), found.counts.double()], dim=1).cpu().tolist()
        mine.extend(zip(batch, pairs, strict=True))
    return np.array([pair for _, pair in sorted(processes.gather(mine))])


def _chunks(rows: int, size: int) -> Iterator[list[int]]:
    for start in range(0, rows, size):
        yield list(range(start, min(start + size, rows)))


@torch.no_grad()
def predict(model: nn.Module, tokenizer: Any, rows: Sequence[Any]) -> Predictions:
    """Class logits and pooled features of tokenised rows (`input_ids`), on every process alike.

    The model is moved to this process's device and left in evaluation mode.
    """
    lengths = [len(row["input_ids"]) for row in rows]
    found = over(rows, lengths, lambda batch: text.padded(tokenizer, batch), model, models.classify)
    return Predictions(np.stack([logits for _, logits in found]), np.stack([features for features, _ in found]))


@torch.no_grad()
def classes(model: nn.Module, inputs: Any) -> np.ndarray:
    """(rows,) the class of each of `inputs.Inputs`, on every process alike."""

    def classified(network: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (network(**batch).logits.argmax(-1),)

    found = over(inputs.rows, inputs.lengths, inputs.batch, model, classified)
    return np.stack([one for (one,) in found])


@torch.no_grad()
def features(encoder: nn.Module, inputs: Any) -> np.ndarray:
    """(rows, width) the mean of the states of each of `inputs.Inputs`; padding does not count."""

    def pooled(network: nn.Module, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (models.features(network, batch, "mean"),)

    found = over(inputs.rows, inputs.lengths, inputs.batch, encoder, pooled)
    return np.stack([one for (one,) in found])


def over(
    rows: Any,
    lengths: Sequence[int] | None,
    make: Any,
    model: nn.Module,
    run: Any,
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    done: Callable[[int], Any] = lambda rows: None,
) -> list[tuple[Any, ...]]:
    """What `run(model, batch)` gives for each row, in the rows' order, on every process alike.

    `done` is told how many rows each batch of this process had.
    """
    state = processes.state()
    model.to(state.device).eval()
    order = list(batches(lengths, tokens_per_batch) if lengths is not None else _chunks(len(rows), ROWS_PER_BATCH))
    mine: list[tuple[int, tuple[Any, ...]]] = []
    for batch in order[state.process_index :: state.num_processes]:
        made = {name: value.to(state.device) for name, value in make([rows[i] for i in batch]).items()}
        outputs = [value.float().cpu().numpy() for value in run(model, made)]
        mine.extend(zip(batch, zip(*outputs, strict=True), strict=True))
        done(len(batch))
    return [values for _, values in sorted(processes.gather(mine), key=lambda item: item[0])]
