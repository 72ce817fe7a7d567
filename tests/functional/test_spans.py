"""Hidden spans: never nothing, never everything; others are the row's own; the loss is transformers'."""

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ForPreTraining

from hftransfer.functional.spans import contrastive, draw_others, hide_spans


@pytest.mark.parametrize("length", [2, 3, 4, 5, 9, 10, 11, 20, 21, 300])
@pytest.mark.parametrize("rate", [0.05, 0.65, 0.95])
def test_some_places_are_hidden_and_some_are_seen(length, rate):
    for seed in range(30):
        hidden = hide_spans(length, rate, 10, np.random.default_rng(seed))
        assert hidden.shape == (length,) and (1 if length < 3 else 2) <= hidden.sum() < length


def test_spans_are_as_long_as_asked_and_the_share_is_the_paper_s():
    hidden = [hide_spans(500, 0.65, 10, np.random.default_rng(seed)) for seed in range(200)]
    assert np.mean(hidden) == pytest.approx(1 - np.exp(-0.65), abs=0.02)
    for row in hidden:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        assert (edges[1::2] - edges[::2]).min() >= 10


def test_others_are_hidden_places_but_never_the_place_itself_each_as_likely():
    hidden = np.array([False, True, True, False, True, True])
    drawn = draw_others(hidden, 6000, np.random.default_rng(0))
    places = np.flatnonzero(hidden)
    for place, others in zip(places, drawn, strict=True):
        found, counts = np.unique(others, return_counts=True)
        assert found.tolist() == [other for other in places if other != place]
        assert counts.min() > 0.9 * 2000


def test_the_loss_is_the_cross_entropy_of_transformers_logits():
    generator = torch.Generator().manual_seed(0)
    predicted, true = torch.randn(2, 7, 5, generator=generator)
    others = torch.randn(7, 4, 5, generator=generator)
    logits = Wav2Vec2ForPreTraining.compute_contrastive_logits(
        true[None, None], others.transpose(0, 1)[:, None], predicted[None], 0.1
    )  # (1 + others, 1, places)
    expected = -logits[:, 0].log_softmax(0)[0]
    found = contrastive(predicted=predicted, true=true, others=others, temperature=0.1)
    torch.testing.assert_close(found, expected)


def test_an_other_that_equals_the_true_one_does_not_count():
    predicted, true = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
    far = torch.tensor([[[-1.0, 0.5]]])
    alone = contrastive(predicted=predicted, true=true, others=far, temperature=0.1)
    with_copy = contrastive(predicted=predicted, true=true, others=torch.cat([far, true[None]], 1), temperature=0.1)
    torch.testing.assert_close(alone, with_copy)
    true.requires_grad_()
    contrastive(predicted=predicted, true=true, others=true[None], temperature=0.1).sum().backward()
    assert torch.isfinite(true.grad).all()
