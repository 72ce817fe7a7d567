"""Chunked cross entropy: torch's own, in value and gradient, without a tensor of all logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy, linear
from torch.utils._python_dispatch import TorchDispatchMode

from hftransfer.functional.chunked_cross_entropy import chunked_cross_entropy

TOKENS, WIDTH, VOCABULARY = 13, 6, 11


def case(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)
    states, weight = (
        torch.randn(rows, WIDTH, generator=generator, dtype=dtype).requires_grad_() for rows in (TOKENS, VOCABULARY)
    )
    offset = torch.randn(VOCABULARY, generator=generator, dtype=dtype).requires_grad_() if bias else None
    labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=generator)
    labels[[0, 5, 12]] = -100
    return states, weight, labels, offset


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk_elements", [1, 3 * VOCABULARY, 10**6])  # a token at a time, uneven chunks, one chunk
def test_values_and_gradients_are_torchs_own(bias, chunk_elements):
    states, weight, labels, offset = case(bias=bias)
    given = [tensor for tensor in (states, weight, offset) if tensor is not None]
    upstream = torch.randn(TOKENS, generator=torch.Generator().manual_seed(1))  # another share for every token
    expected = cross_entropy(linear(states, weight, offset), labels, reduction="none")
    found = chunked_cross_entropy(states, weight, labels, offset, chunk_elements=chunk_elements)
    torch.testing.assert_close(found, expected)
    assert found[labels == -100].eq(0).all() and found[labels != -100].gt(0).all()
    gradients = zip(
        torch.autograd.grad(found, given, upstream), torch.autograd.grad(expected, given, upstream), strict=True
    )
    for ours, theirs in gradients:
        torch.testing.assert_close(ours, theirs)


def test_gradients_are_numerically_right():
    states, weight, labels, bias = case(torch.float64)
    assert torch.autograd.gradcheck(
        lambda *given: chunked_cross_entropy(given[0], given[1], labels, given[2], chunk_elements=4 * VOCABULARY),
        (states, weight, bias),
    )


def test_what_is_frozen_gets_no_gradient():
    states, weight, labels, _ = case(bias=False)
    weight.requires_grad_(False)
    chunked_cross_entropy(states, weight, labels).sum().backward()
    assert weight.grad is None and states.grad.abs().sum() > 0


def test_no_tensor_ever_holds_all_logits():
    """The largest tensor that any operation makes, forward and backward."""

    class Largest(TorchDispatchMode):
        seen = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, tuple | list) else [made]:
                if isinstance(tensor, torch.Tensor):
                    self.seen = max(self.seen, tensor.numel())
            return made

    states, weight = torch.randn(64, 2, requires_grad=True), torch.randn(100, 2, requires_grad=True)
    labels = torch.randint(0, 100, (64,))
    with Largest() as largest:
        chunked_cross_entropy(states, weight, labels, chunk_elements=800).sum().backward()
    assert largest.seen == 800
    with Largest() as largest:
        cross_entropy(states @ weight.T, labels).backward()
    assert largest.seen == 6400


def test_under_autocast_products_are_rounded_and_the_loss_is_not():
    states, weight, labels, bias = case()
    with torch.autocast("cpu", torch.bfloat16):
        found = chunked_cross_entropy(states, weight, labels, bias, chunk_elements=3 * VOCABULARY)
        expected = cross_entropy(linear(states, weight, bias).float(), labels, reduction="none")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad(loss.sum(), [states, weight, bias]) for loss in (found, expected)), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


def test_no_token_at_all_costs_nothing():
    states = torch.zeros(0, WIDTH, requires_grad=True)
    weight = torch.randn(VOCABULARY, WIDTH, requires_grad=True)
    found = chunked_cross_entropy(states, weight, torch.zeros(0, dtype=torch.long))
    found.sum().backward()
    assert found.shape == (0,) and weight.grad.eq(0).all()
