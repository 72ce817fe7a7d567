"""Divisions and samples depend on numbers and the seed alone."""

import logging

import numpy as np
import pytest

from hftransfer.data.divide import random_division, sample, stratified_division


@pytest.mark.parametrize("num_rows", [2, 3, 10, 101])
def test_a_division_covers_every_row_once(num_rows):
    train, test = random_division(num_rows, 0.2, seed=1)
    assert sorted([*train, *test]) == list(range(num_rows))
    assert len(test) == max(1, round(num_rows * 0.2)) and len(train)


def test_a_division_is_a_function_of_its_seed_and_not_the_head_of_the_data():
    first, again, other = (random_division(100, 0.2, seed)[1].tolist() for seed in (1, 1, 2))
    assert first == again != other
    assert first != list(range(20))


def test_a_stratified_division_keeps_proportions():
    labels = np.repeat([0, 1, 2], [100, 50, 5])
    train, test = stratified_division(labels, ["a", "b", "c"], 0.2, seed=0)
    assert np.bincount(labels[test]).tolist() == [20, 10, 1]
    assert sorted([*train, *test]) == list(range(155))


def test_a_class_of_one_row_stays_in_train_and_is_logged(caplog):
    with caplog.at_level(logging.INFO, "hftransfer"):
        train, test = stratified_division([0, 0, 0, 1], ["a", "rare"], 0.2, seed=0)
    assert 3 in train and len(test) == 1
    assert "1 labels with one row are in train only" in caplog.text and "'rare'" in caplog.text


def test_classes_of_one_row_each_are_divided_at_random():
    train, test = stratified_division([0, 1, 2, 3, 4], list("abcde"), 0.2, seed=0)
    assert len(train) == 4 and len(test) == 1


def test_a_sample_is_ordered_seeded_and_at_most_what_is_there():
    assert sample(5, 10, seed=0).tolist() == sample(5, None, seed=0).tolist() == list(range(5))
    chosen = sample(100, 10, seed=0)
    assert chosen.tolist() == sorted(set(chosen.tolist())) and len(chosen) == 10
    assert chosen.tolist() != sample(100, 10, seed=1).tolist()
