"""`compare`: both sides get the same rows and steps, and an interrupted comparison goes on."""

import numpy as np
import pytest

import hftransfer
from hftransfer import models
from hftransfer.errors import HFTransferError
from hftransfer.functional.few_labels import draw, probe

QUICK = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def compare(model, data, folder, **options):
    given = {"labels_per_class": [2, 4], "trials": 2, "max_length": 16, "seed": 1, "training": QUICK}
    return hftransfer.compare(str(model), data, output_dir=str(folder), **{**given, **options})


def test_fewer_labels_are_among_more_and_each_class_has_as_many():
    labels = np.array([0, 1, 2] * 10 + [2])
    few, many = draw(labels, 3, seed=5), draw(labels, 7, seed=5)
    assert set(few) < set(many)
    assert np.bincount(labels[many]).tolist() == [7, 7, 7]
    assert not np.array_equal(draw(labels, 3, seed=6), few)


def test_a_probe_separates_what_a_line_separates():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = np.eye(3, 8)[labels] * 100 + rng.normal(size=(60, 8))
    assert (probe(features[:30].astype("float32"), labels[:30], features[30:].astype("float32")) == labels[30:]).all()


def test_both_ways_are_measured_for_both_sides(tiny_bert, reviews, tmp_path):
    result = compare(tiny_bert, reviews("source"), tmp_path / "out")
    names = {f"{what}.{way}.{n}.{side}" for what in ("accuracy", "spread") for way in ("probe", "finetune")
             for n in (2, 4) for side in ("pretrained", "scratch")}  # fmt: skip
    assert names <= set(result.metrics)
    assert all(0 <= result.metrics[name] <= 1 for name in names)
    assert len(result.evidence["curves"]) == 4 and len(result.evidence["curves"][0]["spread"]) == 2
    assert result.evidence["verdict"]["text"].startswith("Pretraining ")
    assert not list(result.path.glob("*.safetensors"))


def test_a_checkpoint_against_itself_makes_no_difference(tiny_bert, reviews, tmp_path):
    result = compare(tiny_bert, reviews("source"), tmp_path / "out", against=str(tiny_bert))
    for line in result.evidence["comparison"]:
        assert line["before"] == line["after"] and line["difference"] == 0
    assert result.evidence["verdict"]["outcome"] == "no measurable difference"


def test_an_interrupted_comparison_goes_on(tiny_bert, reviews, tmp_path, monkeypatch):
    whole = compare(tiny_bert, reviews("source"), tmp_path / "whole")
    fitted, runs = hftransfer.stages.few_labels._fitted, []

    def interrupted(*arguments):
        runs.append(1)
        if len(runs) == 4:
            raise KeyboardInterrupt
        return fitted(*arguments)

    monkeypatch.setattr("hftransfer.stages.few_labels._fitted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(tiny_bert, reviews("source"), tmp_path / "parts")
    again = compare(tiny_bert, reviews("source"), tmp_path / "parts")
    assert len(runs) == 4 + 8 - 3  # the three that were done are not done again
    assert again.metrics == whole.metrics


def test_what_cannot_be_compared_is_refused(tiny_bert, reviews, tmp_path):
    from hftransfer.stages.compare import plan

    with pytest.raises(HFTransferError, match="scratch/bert has no weights yet"):
        compare("scratch/bert", reviews("source"), tmp_path / "out")
    with pytest.raises(HFTransferError, match="expected"):
        compare(tiny_bert, reviews("source"), tmp_path / "out", labels_per_class=[])
    planned = plan(
        model=str(tiny_bert), against=None, data=reviews("source"), labels_per_class=[2, 4], trials=2, seed=1,
        ways=["probe", "finetune"], test_rows=10, max_train_samples=None, training=QUICK,
    )  # fmt: skip
    assert planned["rows"] == {"labelled": 64, "test": 10} and planned["steps"] == 2 * 2 * 2 * 3
    assert planned["class"] == type(models.load(str(tiny_bert), "text_classification")).__name__
