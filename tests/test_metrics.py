"""Metrics compute offline, combine, and agree with scikit-learn."""

import evaluate
import numpy as np
import pytest
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
