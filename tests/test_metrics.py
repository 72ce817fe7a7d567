"""Metrics compute offline, combine, and agree with scikit-learn."""

import evaluate
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from hftransfer import metrics
from hftransfer.errors import HFTransferError


@pytest.fixture
def found():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], size=50).astype(np.float32)
    return probabilities, rng.integers(3, size=50)


def test_ours_agree_with_scikit_learn(found):
    probabilities, true = found
    predicted = probabilities.argmax(1)
    computed = metrics.score(probabilities, true)
    assert set(computed) == set(metrics.METRICS)
    assert computed["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert computed["balanced_accuracy"] == pytest.approx(sklearn_metrics.balanced_accuracy_score(true, predicted))
    assert computed["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(true, predicted, average="macro"))


def test_they_combine_under_evaluate_and_take_class_ids_too(found):
    probabilities, true = found
    both = evaluate.combine([metrics.Accuracy(), metrics.MacroF1()])
    by_class = both.compute(predictions=probabilities.argmax(1).tolist(), references=true.tolist())
    by_probability = both.compute(predictions=probabilities.tolist(), references=true.tolist())
    assert by_class == by_probability


def test_a_name_that_is_nowhere_is_told_with_the_nearest():
    with pytest.raises(HFTransferError, match=r"'acuracy'.*did you mean 'accuracy'"):
        metrics.load(["acuracy"])


def test_row_scores_average_to_the_metrics(found):
    probabilities, true = found
    rows = metrics.row_scores(probabilities.argmax(1), true)
    computed = metrics.score(probabilities, true)
    assert {name: value.mean() for name, value in rows.items()} == pytest.approx(
        {name: computed[name] for name in rows}
    )


def test_per_class_and_confusion_count_every_row(found):
    probabilities, true = found
    predicted = probabilities.argmax(1)
    table = metrics.per_class(predicted, true, ["a", "b", "c"])
    assert sum(row["support"] for row in table) == 50
    assert np.array(metrics.confusion(predicted, true, 3)).sum(1).tolist() == [row["support"] for row in table]


def test_several_labels_a_row_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    predicted, true = rng.random((40, 4)) > 0.6, rng.random((40, 4)) > 0.5
    computed = metrics.multi_label(predicted, true)
    for average in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(true, predicted, average=average)
        assert computed[f"{average}_f1"] == pytest.approx(expected)
    assert computed["example_f1"] == pytest.approx(
        sklearn_metrics.f1_score(true, predicted, average="samples", zero_division=1)
    )
    assert computed["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert [row["support"] for row in metrics.per_tag(predicted, true, "abcd")] == true.sum(0).tolist()


def test_numbers_agree_with_scikit_learn_and_scipy():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 6, 50).astype(np.float32)  # many ties
    predicted = np.round(true + rng.normal(0, 2, 50), 0).astype(np.float32)
    computed = metrics.numbers(predicted, true)
    assert computed == pytest.approx(
        {
            "mae": sklearn_metrics.mean_absolute_error(true, predicted),
            "rmse": sklearn_metrics.root_mean_squared_error(true, predicted),
            "r2": sklearn_metrics.r2_score(true, predicted),
            "pearson": stats.pearsonr(true, predicted).statistic,
            "spearman": stats.spearmanr(true, predicted).statistic,
        },
        rel=1e-5,
    )
    assert metrics.numbers(np.full(50, 2.0), true)["pearson"] == 0
    constant = metrics.numbers(true, np.full(50, 2.0))
    assert constant["spearman"] == constant["r2"] == 0
    moved = metrics.numbers(np.exp(predicted), true)  # an order is an order in any scale
    assert moved["spearman"] == pytest.approx(computed["spearman"])


def test_large_and_small_numbers_lose_no_digits():
    true = 1e6 + np.arange(50, dtype=np.float32)
    for scale in (1, 1e-9):
        perfect = {"mae": 0, "rmse": 0, "r2": 1, "pearson": 1, "spearman": 1}
        assert metrics.numbers(true * scale, true * scale) == pytest.approx(perfect)


def test_tags_are_judged_by_entity_where_they_mark_some():
    names = ["O", "B-X", "I-X"]
    true, predicted = [np.array([1, 2, 0]), np.array([0, 1])], [np.array([1, 0, 0]), np.array([0, 1])]
    computed = metrics.tags(predicted, true, names)
    assert computed == {"entity_f1": 0.5, "entity_precision": 0.5, "entity_recall": 0.5, "token_accuracy": 0.8}
    assert metrics.per_entity(predicted, true, names) == [
        {"label": "X", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}
    ]
    flat = np.concatenate(true), np.concatenate(predicted)
    assert metrics.tags(predicted, true, ["noun", "verb", "other"]) == {
        "macro_f1": pytest.approx(sklearn_metrics.f1_score(*flat, average="macro")), "token_accuracy": 0.8,
    }  # fmt: skip
