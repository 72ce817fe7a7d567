"""A network cut in two: what does not train runs once over the rows, and training is fed with what came of it."""

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hftransfer import models, processes, tuning
from hftransfer.cache import Cache
from hftransfer.errors import HFTransferError
from hftransfer.inputs import Inputs
from hftransfer.kept import STATES, given, kept, padded, precision, weights_hash, with_states

STILL = {"use_cache": False, "layerdrop": 0.0}  # of a config: keys that no gate makes, and gates that would be skipped
EXACT, LOOSE = 1e-4, 3e-2  # of the largest state; the second where a network computes in half precision


def features(network: nn.Module, inputs: Inputs, cache: Cache) -> NDArray[np.float32]:
    """(rows, width) what a classifier's last linear layer sees, each row once: see `kept`.

    Rows are known by what the network is given, and weights by their values but the last layer's own: another head,
    a part of the rows or another order of them runs nothing again.
    """

    def run(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        seen = models.classify(model, batch)[0]
        return seen[:, None], torch.ones(len(seen), 1)

    facts = {"what": "features", "weights": weights_hash(network, [models.last_linear(network)])}
    return kept(network, inputs, cache, facts, run, small=True).first()


class Cut:
    """The last blocks of a network and its head, as a network that is fed with what the lower blocks made.

    The lower blocks run once over the rows, in evaluation mode: no dropout falls on what does not train. Within
    `with cut:` gates stand in their places, so that a checkpoint or an optimizer meets only what is above, under its
    own names. A gate lets out the batch's stored states; on a batch without them the lower blocks run as ever. What is
    before the blocks still runs, because their masks are made there, and must not train.

    `possible` says whether the network can be cut: it must have a list of blocks that hand states on, one a position,
    which padding does not reach. `bytes` and `stored` try it on two rows.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        self.network, self.base, self.count = network, network.base_model, count
        try:
            self.stack = tuning.blocks(network)
            self.possible = count <= len(self.stack)
        except HFTransferError:  # a recurrent network
            self.stack, self.possible = nn.ModuleList(), False
        self.lower = list(self.stack)[: max(len(self.stack) - count, 0)]
        self.states: Tensor | None = None  # of the batch at hand, (batch, units, width)
        self._returned = 0  # the length of the tuple that a block returns; 0: it returns a tensor
        self._open = contextlib.ExitStack()

    def bytes(self, inputs: Inputs) -> int:
        """About how much room the states of these rows take; 0 where there is nothing to store."""
        found = self._tried(inputs)
        if not self.possible or not found:
            return 0
        sizes = [states.nbytes for states in found.values()]
        if inputs.lengths is None:
            return max(sizes) * len(inputs.rows)
        return round(sum(sizes) / sum(inputs.lengths[row] for row in found) * sum(inputs.lengths))

    def stored(self, inputs: Inputs, cache: Cache) -> Inputs:
        """The same rows, whose batches bring the states that the lower blocks make of them: see `kept`.

        Raises:
            HFTransferError: the network cannot be cut.
        """
        self._tried(inputs)
        if not self.possible:
            raise HFTransferError(
                f"trainable: {type(self.network).__name__} cannot be cut below its last {self.count} blocks; train it "
                "whole, with the others frozen"
            )
        if not self.lower:
            return inputs
        weights = weights_hash(self.network, self._above(inputs))
        facts = {"what": "states", "blocks": len(self.lower), "weights": weights}
        return with_states(inputs, kept(self.network, inputs, cache, facts, self._run))

    def __enter__(self) -> "Cut":
        self.network.to(processes.state().device)  # the lower blocks with it, while they are part of it
        for number, block in enumerate(self.lower):
            self.stack[number] = Gate(self, block.eval())
            self._open.callback(self._put_back, number, block)
        front = getattr(self.base, "feature_extractor", None)
        if self.lower and front is not None and hasattr(self.network.config, "conv_kernel"):
            self.base.feature_extractor = Front(self, front)
            self._open.callback(setattr, self.base, "feature_extractor", front)
        for module in {self.network, self.base}:
            self._open.enter_context(module.register_forward_pre_hook(self._take, with_kwargs=True))
            self._open.enter_context(module.register_forward_hook(self._drop, always_call=True))
        for name in STILL.keys() & vars(self.network.config).keys():
            self._open.callback(setattr, self.network.config, name, getattr(self.network.config, name))
            setattr(self.network.config, name, STILL[name])
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.states = None

    def _put_back(self, number: int, block: nn.Module) -> None:
        self.stack[number] = block.train(self.network.training)

    def _take(self, _: nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if STATES in options:
            self.states = options[STATES]
        return args, {name: value for name, value in options.items() if name != STATES}

    def _drop(self, *_: Any) -> None:
        self.states = None

    def handed_on(self, hidden: Tensor) -> Any:
        """What the last lower block would return, had it made the batch's states; `hidden` is what it was given."""
        assert self.states is not None
        states = self.states.to(hidden.device, self.network.dtype)
        states = F.pad(states, (0, 0, 0, hidden.shape[1] - states.shape[1]))
        return (states, *[None] * (self._returned - 1)) if self._returned else states

    def _run(self, _: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The lower blocks' states, (batch, units, width), and which units are real, (batch, units)."""
        seen: list[Any] = []

        def keep(_: nn.Module, __: Any, output: Any) -> None:
            seen[:] = [output]  # one block may run more than once
            if self.count:
                raise _Reached

        with self.lower[-1].register_forward_hook(keep), contextlib.suppress(_Reached):
            self.base(**batch)
        states = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
        self._returned = len(seen[0]) if isinstance(seen[0], tuple) else 0
        return states, real(self.network.config, batch, states.shape[1])

    @torch.no_grad()
    def _tried(self, inputs: Inputs) -> dict[int, NDArray[np.float32]]:
        """The states of the shortest and the longest row, each made alone; sees whether they serve in one batch."""
        if not self.possible or not self.lower:
            return {}
        self.network.to(processes.state().device).eval()
        rows = _extremes(inputs)
        try:
            found = {row: self._alone(inputs, row) for row in rows}
            batch = _on_device(inputs, rows)
            whole = self._above_all(batch)
            with self:
                cut = self._above_all({**batch, STATES: padded(list(found.values()), batch.get("attention_mask"))})
            bound = EXACT if precision(self.network) in (torch.float32, torch.float64) else LOOSE
            self.possible = bool((whole - cut).abs().max() <= bound * whole.abs().max())
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError):  # blocks of another kind
            self.possible = False
        self.possible = processes.agree(self.possible)
        return found if self.possible else {}

    def _alone(self, inputs: Inputs, row: int) -> NDArray[np.float32]:
        states, kept = self._run(self.network, _on_device(inputs, [row]))
        return states[kept.bool()].float().cpu().numpy()

    def _above_all(self, batch: dict[str, Tensor]) -> Tensor:
        """The last states of the real positions."""
        states = self.base(**batch).last_hidden_state
        return states[real(self.network.config, batch, states.shape[1]).bool()].float()

    @torch.no_grad()
    def _above(self, inputs: Inputs) -> set[nn.Module]:
        """The modules that run only after the lower blocks, whose weights do not matter to the states."""
        before: set[nn.Module] = set()
        after: set[nn.Module] = set()
        crossed: list[bool] = []
        with contextlib.ExitStack() as hooks:
            for module in self.network.modules():
                note = module.register_forward_pre_hook(lambda one, _: (after if crossed else before).add(one))
                hooks.enter_context(note)
            hooks.enter_context(self.lower[-1].register_forward_hook(lambda *_: crossed.append(True)))
            self.network(**_on_device(inputs, [0]))
        return after - before


class _Reached(Exception):
    """Ends a forward where the lower blocks do."""


class Gate(nn.Module):
    """Stands in the place of a block, which is no part of the network meanwhile."""

    def __init__(self, cut: Cut, block: nn.Module) -> None:
        super().__init__()
        self.cut, self.behind = cut, (block,)  # in a tuple a module is not registered

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["behind"][0], name)  # some networks ask a block which mask it wants

    def forward(self, *args: Any, **options: Any) -> Any:
        if self.cut.states is None:
            with torch.no_grad():
                return self.behind[0](*args, **options)
        return self.cut.handed_on(args[0] if args else options["hidden_states"])


class Front(nn.Module):
    """Stands in the place of a speech network's convolutions: the blocks' masks need their length, and no more."""

    def __init__(self, cut: Cut, front: nn.Module) -> None:
        super().__init__()
        self.cut, self.behind = cut, (front,)

    def forward(self, waveforms: Tensor) -> Tensor:
        if self.cut.states is None:
            with torch.no_grad():
                return self.behind[0](waveforms)
        config = self.cut.network.config
        shape = (len(waveforms), config.conv_dim[-1], _frames(config, waveforms.shape[-1]))
        return torch.zeros(shape, dtype=self.cut.network.dtype, device=waveforms.device)


def real(config: Any, batch: dict[str, Tensor], units: int) -> Tensor:
    """(batch, units) which of a network's positions are no padding."""
    mask = batch.get("attention_mask")
    if mask is None:
        rows = next(iter(batch.values()))
        return torch.ones(len(rows), units, device=rows.device)
    if mask.shape[1] == units:
        return mask
    return torch.arange(units, device=mask.device) < _frames(config, mask.sum(1))[:, None]


def _frames(config: Any, samples: Any) -> Any:
    """How many states a speech network makes of so many samples."""
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        samples = (samples - kernel) // stride + 1
    return samples


def _extremes(inputs: Inputs) -> list[int]:
    """The shortest and the longest row, or the first and the last."""
    lengths = range(len(inputs.rows)) if inputs.lengths is None else inputs.lengths
    return sorted({pick(range(len(lengths)), key=lambda row: lengths[row]) for pick in (min, max)})


def _on_device(inputs: Inputs, rows: list[int]) -> dict[str, Tensor]:
    return {name: value.to(processes.state().device) for name, value in given(inputs, rows).items()}
