"""Against torch's cross entropy, and what must not matter."""

import pytest
import torch
from torch.nn import functional as F

from hftransfer.functional.label_likelihood import mean_log_likelihood, mean_log_share

torch.manual_seed(0)
LOGITS, TOKENS = torch.randn(3, 4, 11), torch.randint(11, (3, 4))


def test_it_is_the_cross_entropy_of_the_labels_tokens():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    found = mean_log_likelihood(LOGITS, TOKENS, mask)
    for row, length in enumerate((4, 2, 1)):
        expected = -F.cross_entropy(LOGITS[row, :length], TOKENS[row, :length])
        assert found[row] == pytest.approx(expected.item(), abs=1e-6)


def test_shares_are_of_the_candidates_alone():
    pieces = torch.tensor([2, 5, 5, 0])
    expected = torch.stack([LOGITS[:, place].softmax(-1)[:, piece].log() for place, piece in enumerate(pieces)]).mean(
        0
    )
    torch.testing.assert_close(mean_log_share(LOGITS, pieces), expected)


def test_a_label_of_one_piece_is_compared_by_its_bare_logit():
    one = LOGITS[:, :1]
    shares = torch.stack([mean_log_share(one, torch.tensor([piece])) for piece in range(11)], dim=1)
    torch.testing.assert_close(shares.softmax(-1), one[:, 0].softmax(-1))
    shifted = torch.stack([mean_log_share(one + 7, torch.tensor([piece])) for piece in range(11)], dim=1)
    torch.testing.assert_close(shares, shifted)
