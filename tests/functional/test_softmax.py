"""Probabilities of logits."""

import numpy as np
import torch

from hftransfer.functional.softmax import softmax


def test_it_is_torchs_also_where_a_plain_exponential_overflows():
    logits = np.array([[1.0, -2.0, 0.5], [1e4, 0.0, 1e4 - 1], [-1e4, -1e4, -1e4]])
    np.testing.assert_allclose(softmax(logits), torch.softmax(torch.tensor(logits), 1).numpy(), rtol=1e-12)
