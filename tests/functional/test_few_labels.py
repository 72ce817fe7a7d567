import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hftransfer.functional.few_labels import draw, linear_model, probe


@pytest.fixture
def rows():
    """Features far from standard, and a maker of labels that follow from them."""
    rng = np.random.default_rng(0)
    features = (rng.normal(0, 1, (120, 6)) * [1, 5, 0.1, 2, 1, 30] + [0, 9, -1, 0, 4, 100]).astype(np.float32)
    scores = (features - features.mean(0)) / features.std(0) @ rng.normal(0, 1, (6, 4)) + rng.normal(0, 1, (120, 4))
    return features, scores


def logits(model, features):
    return features @ model.weight.T + model.bias


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("balanced", [False, True])
def test_softmax_is_sklearns_predict_proba(rows, classes, balanced):
    features, scores = rows
    labels = scores[:, :classes].argmax(1)
    options = {"max_iter": 1000, "class_weight": "balanced" if balanced else None}
    theirs = make_pipeline(StandardScaler(), LogisticRegression(**options)).fit(features, labels)
    ours = linear_model(features, labels, "single_label_classification", balanced=balanced)
    assert ours.weight.shape == (classes, 6) and ours.weight.dtype == ours.bias.dtype == np.float32
    found = torch.as_tensor(logits(ours, features)).softmax(-1).numpy()
    np.testing.assert_allclose(found, theirs.predict_proba(features), atol=1e-4)
    if not balanced:
        assert (found.argmax(1) == probe(features, labels, features)).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_without_bias_it_is_sklearns_without_intercept(rows, classes):
    features, scores = rows
    labels = scores[:, :classes].argmax(1)
    plain = LogisticRegression(max_iter=1000, fit_intercept=False)
    theirs = make_pipeline(StandardScaler(with_mean=False), plain).fit(features, labels)
    ours = linear_model(features, labels, "single_label_classification", intercept=False)
    assert (ours.bias == 0).all()
    found = torch.as_tensor(logits(ours, features)).softmax(-1).numpy()
    np.testing.assert_allclose(found, theirs.predict_proba(features), atol=1e-4)


def test_a_class_without_rows_has_an_output_that_is_hardly_ever_right(rows):
    features, scores = rows
    labels = 2 * scores[:, :2].argmax(1)  # 0 and 2
    ours = linear_model(features, labels, "single_label_classification", outputs=4)
    assert ours.weight.shape == (4, 6)
    found = torch.as_tensor(logits(ours, features)).softmax(-1).numpy()
    assert (found[:, [1, 3]] < 0.01).all()
    assert set(found.argmax(1)) == {0, 2}
    alone = linear_model(features, np.full(120, 1), "single_label_classification", outputs=3)
    assert (logits(alone, features).argmax(1) == 1).all()


def test_tags_are_a_model_each_and_constant_ones_are_sure(rows):
    features, scores = rows
    labels = (scores > 0).astype(float)
    labels[:, 1], labels[:, 2] = 1, 0
    ours = linear_model(features, labels, "multi_label_classification")
    found = torch.as_tensor(logits(ours, features)).sigmoid().numpy()
    for tag in (0, 3):
        theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels[:, tag])
        np.testing.assert_allclose(found[:, tag], theirs.predict_proba(features)[:, 1], atol=1e-4)
    np.testing.assert_allclose(found[:, 1], 121 / 122, rtol=1e-5)
    np.testing.assert_allclose(found[:, 2], 1 / 122, rtol=1e-5)
    without = linear_model(features, labels, "multi_label_classification", intercept=False)
    assert (without.bias == 0).all() and without.weight.shape == (4, 6)


@pytest.mark.parametrize("columns", [None, 2])
@pytest.mark.parametrize("intercept", [True, False])
def test_regression_is_sklearns_ridge(rows, columns, intercept):
    features, scores = rows
    targets = scores[:, 0] if columns is None else scores[:, :columns]
    ridge = Ridge(alpha=0.5, fit_intercept=intercept)
    theirs = make_pipeline(StandardScaler(with_mean=intercept), ridge).fit(features, targets)
    ours = linear_model(features, targets, "regression", strength=2.0, intercept=intercept)
    assert ours.weight.shape == (columns or 1, 6)
    expected = theirs.predict(features).reshape(len(features), -1)
    np.testing.assert_allclose(logits(ours, features), expected, atol=1e-3)


def test_a_feature_that_never_changes_does_no_harm(rows):
    features, scores = rows
    features[:, 2] = 7
    ours = linear_model(features, scores.argmax(1), "single_label_classification")
    assert np.isfinite(ours.weight).all() and np.abs(ours.weight[:, 2]).max() < 1e-6


def test_smaller_draws_are_within_larger_ones():
    labels = np.array([0] * 30 + [1] * 5 + [2] * 20)
    small, large = draw(labels, 4, seed=1), draw(labels, 8, seed=1)
    assert set(small) < set(large)
    assert np.bincount(labels[large]).tolist() == [8, 5, 8]
