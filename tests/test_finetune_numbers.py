"""A regression begins at the labels' mean, and a changed vocabulary's own padding reaches the checkpoint."""

import csv

import pytest
from transformers import AutoConfig, AutoTokenizer

import hftransfer

QUICK = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-4}


@pytest.fixture
def prices(tmp_path):
    """Texts with numbers far from zero."""
    with (tmp_path / "prices.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([f"the pan and {number % 3} soup", 100.5 + number % 3] for number in range(40))
    return str(tmp_path / "prices.csv")


@pytest.mark.parametrize("method", ["full", "lora", "frozen", "scratch"])
def test_numbers_far_from_zero_are_met_at_once(tiny_bert, prices, tmp_path, method):
    given = {"method": method, "training": QUICK, "max_length": 16, "output_dir": str(tmp_path / "out")}
    result = hftransfer.finetune(str(tiny_bert), prices, **given)
    assert result.metrics["mae"] < 3  # after two steps from zero it would be about a hundred


def test_a_new_vocabularys_padding_is_the_checkpoints(tiny_bert, reviews, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    tokenizer.save_pretrained(tmp_path / "vocabulary")
    changed = {"tokenizer": str(tmp_path / "vocabulary")}
    given = {"architecture": changed, "training": QUICK, "max_length": 16, "output_dir": str(tmp_path / "out")}
    result = hftransfer.finetune(str(tiny_bert), reviews("source"), **given)
    assert AutoConfig.from_pretrained(result.path).pad_token_id == tokenizer.pad_token_id
    assert result.tokenizer().pad_token_id == tokenizer.pad_token_id
