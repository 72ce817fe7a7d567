"""What is said of a game, from numbers alone."""

import math

import pytest

from hftransfer.trainers.gan_watch import alarms, told

WELL = {"accuracy": 0.75, "generator_grad_norm": 1.0, "diversity": 0.95, "loss": 0.7, "discriminator_loss": 1.3}


def history(rows=30, quality=None, **changed):
    """A log of `rows` entries; a value may be a function of the entry's number. Each third is followed by quality."""
    entries = []
    for number in range(rows):
        found = {name: value(number) if callable(value) else value for name, value in {**WELL, **changed}.items()}
        accuracy = found.pop("accuracy")
        entries.append({**found, "accuracy_real": accuracy, "accuracy_fake": accuracy, "step": 10 * (number + 1)})
        if quality is not None and number % 3 == 2:
            entries.append({"eval_distance": quality(number // 3), "step": 10 * (number + 1)})
    return entries


@pytest.mark.parametrize(
    "changed, kinds",
    [
        ({}, set()),
        ({"accuracy": 0.99}, {"discriminator wins"}),
        ({"accuracy": lambda n: 0.99 if n < 28 else 0.9}, set()),  # it has lost its lead
        ({"accuracy": 0.1}, {"discriminator is backwards"}),
        ({"generator_grad_norm": lambda n: 1.0 if n < 20 else 1e-3}, {"generator vanishes"}),
        (
            {"generator_grad_norm": lambda n: 1.0 if n < 20 else 1e-3, "accuracy": 0.5},
            {"generator vanishes", "discriminator lost"},
        ),
        ({"accuracy": 0.5}, set()),  # that alone is what a good generator looks like
        ({"diversity": lambda n: 0.95 if n < 20 else 0.4}, {"diversity fell"}),
        ({"diversity": lambda n: 0.95 if n < 27 else 0.4}, set()),  # not for five logs yet
        ({"diversity": lambda n: 0.02 * n}, set()),  # it rises, as at every beginning
        ({"diversity": 0.1}, {"diversity fell"}),
        ({"rows": 12, "diversity": 0.1}, set()),  # too early to say
        ({"rows": 4, "accuracy": 1.0, "diversity": 0.0}, set()),
    ],
)
def test_alarms_are_about_what_lasts(changed, kinds):
    found = alarms(history(**changed))
    assert found.keys() == kinds
    assert all(words and not words.endswith(".") for words in found.values())


def falling(number):
    return 1.0 + 9.0 * math.exp(-number)


@pytest.mark.parametrize(
    "options, outcome, words",
    [
        ({"quality": falling}, "converged", "distance went from 10 to 1"),
        ({"quality": lambda n: 10.0 - n}, "undecided", "still improving"),
        ({"quality": lambda n: 1.0 + n}, "undecided", "never better than at the first evaluation"),
        ({"quality": lambda n: falling(n) if n < 8 else 9.0}, "diverged", "lost again: 9 at the end"),
        ({"quality": falling, "rows": 12}, "undecided", "4 evaluations"),
        ({}, "undecided", "0 evaluations"),
        ({"quality": falling, "accuracy": 0.99}, "undecided", "but the discriminator is right 99.0% of the time"),
        (
            {"quality": falling, "accuracy": 0.99, "generator_grad_norm": lambda n: 1.0 if n < 9 else 1e-4},
            "diverged",
            "vanished",
        ),
        ({"quality": falling, "diversity": lambda n: 0.9 if n < 20 else 0.2}, "collapsed", "20% as far"),
        (
            {"quality": falling, "discriminator_loss": lambda n: math.nan if n == 29 else 1.0},
            "diverged",
            "nan at step 300",
        ),
        ({"quality": lambda n: math.inf}, "diverged", "eval_distance is inf"),
    ],
)
def test_how_a_training_went(options, outcome, words):
    found = told(history(**options), by="eval_distance")
    assert found.outcome == outcome and words in found.text and found.text.endswith(".")
    assert found.text.lower().startswith(outcome)


def test_the_direction_of_quality_counts():
    rising = history(quality=lambda n: 11.0 - falling(n))
    assert told(rising, by="eval_distance", higher_is_better=True).outcome == "converged"
    assert told(rising, by="eval_distance").outcome != "converged"
