import numpy as np
import pytest
from scipy.stats import norm

from hftransfer.functional.label_shift import balanced_sampling, bbse, em_prior, reweight

PRIOR_SOURCE, PRIOR_TARGET = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])
CENTRES = np.array([-1.5, 0.0, 1.5])


def sample(prior, rows, seed):
    """Three overlapping Gaussians: labels, and the exact posteriors of a classifier that believes PRIOR_SOURCE."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(3, size=rows, p=prior)
    joint = norm.pdf(generator.normal(CENTRES[labels])[:, None], CENTRES) * PRIOR_SOURCE
    return labels, joint / joint.sum(axis=1, keepdims=True)


def test_bbse_inverts_a_known_confusion_exactly():
    recall = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.0, 0.3, 0.7]])
    counts = 1000 * PRIOR_SOURCE[:, None] * recall
    np.testing.assert_allclose(bbse(counts, 50 * PRIOR_TARGET @ recall), PRIOR_TARGET, rtol=1e-10)


def test_both_recover_a_planted_shift_from_samples():
    labels, source = sample(PRIOR_SOURCE, 20_000, seed=0)
    _, target = sample(PRIOR_TARGET, 20_000, seed=1)
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (labels, source.argmax(axis=1)), 1)
    predicted = np.bincount(target.argmax(axis=1), minlength=3)
    assert abs(predicted / predicted.sum() - PRIOR_TARGET).max() > 0.04  # counting predictions is not enough
    np.testing.assert_allclose(bbse(confusion, predicted), PRIOR_TARGET, atol=0.02)
    np.testing.assert_allclose(em_prior(target, source.mean(axis=0)), PRIOR_TARGET, atol=0.02)


def test_without_shift_the_prior_stays():
    _, source = sample(PRIOR_SOURCE, 20_000, seed=0)
    np.testing.assert_allclose(em_prior(source, source.mean(axis=0)), source.mean(axis=0), atol=1e-6)


def test_bbse_is_a_prior_even_where_the_confusion_says_little():
    clipped = bbse([[60, 40], [40, 60]], [0.1, 0.9])  # the inverse would be negative
    np.testing.assert_allclose(clipped, [0, 1])
    never_predicted = bbse([[50, 0], [50, 0]], [1.0, 0.0])
    assert never_predicted.sum() == pytest.approx(1) and (never_predicted >= 0).all()
    np.testing.assert_allclose(bbse([[50, 0], [50, 0]], [0.0, 1.0]), [0.5, 0.5])


def test_reweighting_by_the_right_prior_raises_accuracy():
    labels, target = sample(PRIOR_TARGET, 20_000, seed=1)
    corrected = reweight(target, PRIOR_SOURCE, PRIOR_TARGET)
    np.testing.assert_allclose(corrected.sum(axis=1), 1)
    accuracy = [(rows.argmax(axis=1) == labels).mean() for rows in (target, corrected)]
    assert accuracy[1] > accuracy[0] + 0.05
    np.testing.assert_allclose(reweight(target, PRIOR_SOURCE, PRIOR_SOURCE), target)


def test_reweighting_by_hand():
    rows = reweight([[0.5, 0.5], [1.0, 0.0]], [0.5, 0.5], [0.0, 1.0])
    assert rows.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_balanced_sampling_gives_each_class_that_occurs_the_same():
    labels = np.array([0, 0, 0, 2, 3, 3])
    probabilities = balanced_sampling(labels, num_classes=5)
    totals = np.bincount(labels, weights=probabilities, minlength=5)
    np.testing.assert_allclose(totals, [1 / 3, 0, 1 / 3, 1 / 3, 0])
