"""What next tokens cost, without all logits; and whether a network can be trained on them, packed or not."""

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from hftransfer import models
from hftransfer.data.causal_text import IGNORED
from hftransfer.errors import HFTransferError
from hftransfer.functional.chunked_cross_entropy import chunked_cross_entropy

logger = logging.getLogger("hftransfer")
JUDGED = 512  # tokens whose logits exist together
_LEAKS = "pack: {} does not keep packed documents apart; set pack: false"


class NextTokens:
    """Runs any `AutoModelForCausalLM` so that its output layer tells what tokens cost instead of logits.

    While the network runs, the layer's forward is replaced by the chunked cross entropy at the places that have a
    label: the network's own code does everything else, what wraps it (DistributedDataParallel) sees an ordinary
    forward, and neither padding nor a tensor of all logits is ever projected. That is right where the layer is a plain
    linear one and its result is the network's, which is tried once; elsewhere (scaled or capped logits) `chunked` is
    False and all logits are made.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        taken = inspect.signature(network.forward).parameters
        # a cache would end the isolation of packed documents, and is of no use in training
        self.always = {"use_cache": False} if "use_cache" in taken else {}
        self.chunked = self._head() is not None and self._is_last() and self._agrees()
        if not self.chunked:
            logger.info("%s: its logits are not its output layer's; all logits are made", type(network).__name__)

    def nats(self, runner: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """(batch, length) what each next token costs, 0 where `labels` (batch, length) has none.

        `runner` is the network or what wraps it.
        """
        head = self._head()  # an adapter on it makes it another layer
        if not self.chunked or head is None:
            logits = self.logits(runner, inputs)
            exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return cross_entropy(exact.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
        where = labels != IGNORED

        def cost(states: Tensor) -> Tensor:
            nats = chunked_cross_entropy(states[where], head.weight, labels[where], head.bias)
            return nats.new_zeros(labels.shape).masked_scatter(where, nats)[..., None]

        with _replaced(head, cost):
            return self.logits(runner, inputs)[..., 0]

    def judged(self, runner: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """`nats`, and (batch, length) whether each was the likeliest; both 0 where there is no label."""
        head, where = self._head(), labels != IGNORED
        if not self.chunked or head is None:
            logits = self.logits(runner, inputs)
            exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
            nats = cross_entropy(exact.transpose(1, 2), labels, reduction="none", ignore_index=IGNORED)
            return nats, (exact.argmax(-1) == labels) & where

        def judge(states: Tensor) -> Tensor:
            nats = chunked_cross_entropy(states[where], head.weight, labels[where], head.bias)
            chunks = zip(states[where].split(JUDGED), labels[where].split(JUDGED), strict=True)
            likeliest = [linear(some, head.weight, head.bias).argmax(-1) == wanted for some, wanted in chunks]
            both = torch.stack([nats, torch.cat(likeliest).to(nats)])  # (2, labels)
            return torch.stack([nats.new_zeros(labels.shape).masked_scatter(where, one) for one in both], -1)

        with _replaced(head, judge):
            found = self.logits(runner, inputs)
        return found[..., 0], found[..., 1] > 0

    def logits(self, runner: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with models.quiet_transformers():  # it warns of padding without a mask, which does no harm here
            return runner(**inputs, **self.always).logits

    def _head(self) -> nn.Linear | None:
        head = self.network.get_output_embeddings()
        return head if type(head) is nn.Linear else None

    def sample(self) -> Tensor:
        """(2, 3) some token ids."""
        device = next(self.network.parameters()).device
        return torch.arange(10, 16, device=device).reshape(2, 3) % self.network.config.vocab_size

    @torch.no_grad()
    def _is_last(self) -> bool:
        """Whether what the output layer says is what the network says, large values too."""
        head, ids = self._head(), self.sample()
        assert head is not None
        said = torch.linspace(-300, 300, 6 * len(head.weight)).view(2, 3, -1).to(head.weight)
        with _evaluating(self.network), _replaced(head, lambda states: said):
            return torch.equal(self.logits(self.network, {"input_ids": ids}).to(said), said)

    @torch.no_grad()
    def _agrees(self) -> bool:
        """Compares both ways once, on a few tokens."""
        ids = self.sample()
        labels = ids.roll(1)
        labels[0, 1] = IGNORED
        found = []
        with _evaluating(self.network):
            for self.chunked in (False, True):
                try:
                    found.append(self.nats(self.network, {"input_ids": ids}, labels))
                except (RuntimeError, ValueError, IndexError, AttributeError):  # code that wants whole logits
                    return False
        return _close(*found)


def _close(one: Tensor, other: Tensor) -> bool:
    loose = 1 if torch.finfo(one.dtype).bits >= 32 else 100
    scale = float(other.abs().max())
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3 * loose, atol=1e-4 * loose * scale)


@contextlib.contextmanager
def _replaced(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@torch.no_grad()
def check_order(predictions: NextTokens) -> None:
    """Makes sure that a network does not see the tokens that it should tell.

    Raises:
        HFTransferError: when earlier logits change with a later token.
    """
    ids = predictions.sample()
    others = ids.clone()
    others[:, -1] = ids[0, 0]
    with _evaluating(predictions.network):
        one, other = (predictions.logits(predictions.network, {"input_ids": x})[:, :-1] for x in (ids, others))
    if not _close(one, other):
        name = type(predictions.network).__name__
        raise HFTransferError(f"model: {name} sees the tokens that causal_lm lets it tell; choose a decoder")


@torch.no_grad()
def check_apart(predictions: NextTokens) -> None:
    """Makes sure that a network keeps packed documents apart: some ignore restarting positions without a word.

    Raises:
        HFTransferError: when a document's logits change with its neighbour in the row.
    """
    network, ids = predictions.network, predictions.sample()  # two documents of three tokens
    positions = torch.arange(3, device=ids.device).repeat(2)[None]
    with _evaluating(network):
        alone = predictions.logits(network, {"input_ids": ids})
        try:
            packed = predictions.logits(network, {"input_ids": ids.reshape(1, 6), "position_ids": positions})
            apart = _close(packed.reshape(alone.shape), alone)
        except (RuntimeError, ValueError, TypeError, IndexError):
            apart = False
    if not apart:
        raise HFTransferError(_LEAKS.format(type(network).__name__))
