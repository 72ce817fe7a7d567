"""What a network makes of a row, made once: rows that any earlier call has seen are found again on disk."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hftransfer import inference, processes
from hftransfer.cache import Arrays, Cache
from hftransfer.inputs import Inputs
from hftransfer.spending import found_again

PASSED = ("_name_or_path", "transformers_version", "architectures", "id2label", "label2id", "problem_type")
STATES, ROW = "cut_states", "cut_row"  # in a batch, and in a row
TOKENS, ROWS = 2**17, 128  # rows of so many tokens, or so many rows, are in memory together: some batches a process
Run = Callable[[nn.Module, dict[str, Tensor]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Kept:
    """Values of rows, (units, width) each, memory-mapped: they lie in the arrays of one or more cache entries."""

    parts: list[NDArray[np.float32]]  # (units, width)
    places: NDArray[np.int64]  # (rows, 3): which part, where in it, how many units

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        part, start, units = self.places[row]
        return self.parts[part][start : start + units]

    def first(self) -> NDArray[np.float32]:
        """(rows, width) of rows of a single unit, still memory-mapped where they lie in their order."""
        if len(self.parts) == 1 and np.array_equal(self.places[:, 1], np.arange(len(self.parts[0]))):
            return self.parts[0]
        found = np.empty((len(self.places), self.parts[0].shape[1]), dtype=np.float32)
        for number, part in enumerate(self.parts):
            here = self.places[:, 0] == number
            found[here] = part[self.places[here, 1]]
        return found


def kept(
    network: nn.Module, inputs: Inputs, cache: Cache, facts: Mapping[str, Any], run: Run, *, small: bool = False
) -> Kept:
    """The values of rows, from the cache or made now, in evaluation mode, the same on every process.

    Under autocast the network computes in half precision; such values are kept apart.

    Args:
        network: what runs, and is left in evaluation mode.
        inputs: the rows; two that give the network the same are one, wherever they were seen.
        cache: where values are found and stored.
        facts: all but the row that decides its values, JSON-able: see `weights_hash`.
        run: (network, batch) -> values (batch, units, width) and which of the units are real (batch, units).
        small: all new values fit into memory at once, and are stored in the rows' order.
    """
    facts = {**facts, "precision": str(precision(network))}
    digests, entries = row_digests(inputs), cache.like(facts)
    known, parts = _found(entries)
    _tell_cost(entries, [known[digest][0] for digest in digests if digest in known])
    missing = {digest: row for row, digest in enumerate(digests) if digest not in known}
    if missing:
        whose = hashlib.sha256(b"".join(missing)).hexdigest()
        made = cache.arrays({**facts, "rows": whose}, lambda: _made(network, inputs, missing, run, small))
        known, parts = _found([*entries, made])
    used = sorted({known[digest][0] for digest in digests})
    order = {part: number for number, part in enumerate(used)}
    places = [(order[part], start, units) for part, start, units in map(known.__getitem__, digests)]
    return Kept([parts[part] for part in used], np.array(places, dtype=np.int64).reshape(-1, 3))


def _tell_cost(entries: Sequence[Arrays], of: Sequence[int]) -> None:
    """Tells what rows had cost that are found in these entries, each row its share."""
    for number, count in Counter(of).items():
        found_again(float(entries[number].get("seconds", [0.0])[0]) * count / len(entries[number]["digests"]))


def _found(entries: Sequence[Arrays]) -> tuple[dict[bytes, tuple[int, int, int]], list[NDArray[np.float32]]]:
    """Where each row is, by its digest, and the arrays."""
    known: dict[bytes, tuple[int, int, int]] = {}
    for number, entry in enumerate(entries):
        for digest, (start, units) in zip(entry["digests"], entry["places"].tolist(), strict=True):
            known[digest.tobytes()] = (number, start, units)
    return known, [entry["values"] for entry in entries]


def _made(
    network: nn.Module, inputs: Inputs, missing: Mapping[bytes, int], run: Run, small: bool
) -> Iterator[tuple[str, NDArray[Any]]]:
    rows, total, started = list(missing.values()), 0, time.monotonic()
    places = np.zeros((len(rows), 2), dtype=np.int64)
    for group in [list(range(len(rows)))] if small else _groups(inputs, rows):
        values = ran(network, inputs, [rows[place] for place in group], run)
        for place, value in zip(group, values, strict=True):
            places[place] = total, len(value)
            total += len(value)
        yield "values", np.concatenate(values)
    yield "places", places
    yield "seconds", np.array([time.monotonic() - started])
    yield "digests", np.frombuffer(b"".join(missing), dtype=np.uint8).reshape(len(rows), -1)


def _groups(inputs: Inputs, rows: Sequence[int]) -> Iterator[list[int]]:
    """Places in `rows`, from the short to the long: neither padding nor memory is wasted."""
    if inputs.lengths is not None:
        yield from inference.batches([inputs.lengths[row] for row in rows], TOKENS)
        return
    for start in range(0, len(rows), ROWS):
        yield list(range(start, min(start + ROWS, len(rows))))


@torch.no_grad()
def ran(network: nn.Module, inputs: Inputs, rows: Sequence[int], run: Run) -> list[NDArray[np.float32]]:
    """(units, width) of each of some rows."""
    lengths = None if inputs.lengths is None else [inputs.lengths[row] for row in rows]
    found = inference.over(rows, lengths, lambda batch: given(inputs, batch), network, run)
    return [values[real > 0] for values, real in found]


def precision(network: nn.Module) -> torch.dtype:
    """What a network computes in."""
    device = processes.state().device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else network.dtype


def given(inputs: Inputs, rows: Sequence[int]) -> dict[str, Tensor]:
    """What a network is given of some rows; labels make no states."""
    made = inputs.batch([inputs.rows[row] for row in rows])
    return {name: value for name, value in made.items() if name != "labels"}


def row_digests(inputs: Inputs) -> list[bytes]:
    """A hash of what the network is given of each row; the processes share the work."""
    state = processes.state()
    mine = range(state.process_index, len(inputs.rows), state.num_processes)
    pairs = [(row, _digest(given(inputs, [row]).items())) for row in mine]
    return [digest for _, digest in sorted(processes.gather(pairs))]


def weights_hash(network: nn.Module, but: Collection[nn.Module] = ()) -> str:
    """A hash of a network's class, config, weights and buffers; `but` are modules that do not matter."""
    left_out = tuple(f"{name}." for name, module in network.named_modules() if module in but)
    config = {key: value for key, value in network.config.to_dict().items() if key not in PASSED}
    state = [(name, value) for name, value in network.state_dict().items() if not name.startswith(left_out)]
    return _digest([(f"{type(network).__name__} {sorted(config.items())}", torch.zeros(0)), *state]).hex()


def _digest(tensors: Any) -> bytes:
    found = hashlib.sha256()
    for name, value in tensors:
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.digest()[:16]


def padded(states: Sequence[NDArray[np.float32]], mask: Tensor | None) -> Tensor:
    """(batch, units, width) of states (units, width) of rows: where the batch's mask is 1, or from the left."""
    lengths = torch.tensor([len(one) for one in states])
    if mask is None or not torch.equal(mask.sum(1).cpu(), lengths):
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
    found = torch.zeros(*mask.shape, states[0].shape[1])
    found[mask.bool().cpu()] = torch.from_numpy(np.concatenate(states))
    return found


def with_states(inputs: Inputs, states: Kept) -> Inputs:
    """Rows that know their number, and a batch that looks their states up by it."""

    def batch(rows: Sequence[Any]) -> dict[str, Tensor]:
        made = inputs.batch([{name: value for name, value in row.items() if name != ROW} for row in rows])
        return {**made, STATES: padded([states[row[ROW]] for row in rows], made.get("attention_mask"))}

    return replace(inputs, rows=_Numbered(inputs.rows), batch=batch)


class _Numbered:
    """Rows with their numbers."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.rows[row], ROW: row}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({**content, ROW: row} for row, content in enumerate(self.rows))
