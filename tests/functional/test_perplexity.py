import math

import pytest
import torch

from hftransfer.functional.perplexity import bits_per_byte, perplexity


def test_a_uniform_guess_is_as_perplexed_as_its_vocabulary():
    loss = torch.nn.functional.cross_entropy(torch.zeros(6, 32), torch.arange(6))
    assert perplexity(loss.item()) == pytest.approx(32, rel=1e-6)
    assert perplexity(1000) == math.inf


def test_a_uniform_guess_of_bytes_costs_eight_bits_each():
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8)
