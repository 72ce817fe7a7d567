import pytest
import torch

from hftransfer.functional.udalm import udalm


def test_one_source_row_to_three_target_rows():
    losses = {"loss_source": torch.tensor(2.0), "loss_masked_lm": torch.tensor(6.0)}
    assert udalm(**losses, num_source=1, num_target=3).item() == pytest.approx(0.25 * 2 + 0.75 * 6)
    assert udalm(**losses, num_source=4, num_target=0).item() == pytest.approx(2)
