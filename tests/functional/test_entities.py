"""Entities: spans as the CoNLL script finds them, and right only where type, first and last word are."""

import numpy as np
import pytest

from hftransfer.functional.entities import is_bio, matched, precision_recall_f1, spans

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def begins(before, this):
    """`startOfChunk` of the CoNLL-2000/2003 script, for B-, I- and O."""
    (mark, kind), (now, other) = (label.split("-") if "-" in label else ("O", "") for label in (before, this))
    return now == "B" or (now == "I" and (mark == "O" or kind != other))


def ends(this, after):
    """`endOfChunk`."""
    (mark, kind), (later, other) = (label.split("-") if "-" in label else ("O", "") for label in (this, after))
    return mark != "O" and (later in ("B", "O") or kind != other)


def by_the_script(labels):
    found, start = set(), 0
    for place, label in enumerate(labels):
        if begins(labels[place - 1] if place else "O", label):
            start = place
        if ends(label, labels[place + 1] if place + 1 < len(labels) else "O"):
            found.add((label[2:], start, place + 1))
    return found


def drawn(seed, rows=20):
    rng = np.random.default_rng(seed)
    return [rng.choice(NAMES, rng.integers(0, 12)).tolist() for _ in range(rows)]


@pytest.mark.parametrize(
    "labels, found",
    [
        ([], set()),
        (["O", "O"], set()),
        (["B-PER", "I-PER", "O", "B-LOC"], {("PER", 0, 2), ("LOC", 3, 4)}),
        (["B-PER", "B-PER"], {("PER", 0, 1), ("PER", 1, 2)}),
        (["I-PER", "I-PER"], {("PER", 0, 2)}),  # IOB1: B- only where two touch
        (["I-PER", "B-PER", "I-PER"], {("PER", 0, 1), ("PER", 1, 3)}),
        (["B-PER", "I-LOC"], {("PER", 0, 1), ("LOC", 1, 2)}),
        (["B-new-york", "I-new-york"], {("new-york", 0, 2)}),
    ],
)
def test_cases_by_hand(labels, found):
    assert spans(labels) == found


@pytest.mark.parametrize("seed", range(5))
def test_spans_are_the_script_s(seed):
    rows = drawn(seed, rows=100)
    assert [spans(row) for row in rows] == [by_the_script(row) for row in rows]
    assert any(len(spans(row)) > 3 for row in rows)


def test_spans_come_back_from_what_they_are_written_as():
    for row in drawn(7, rows=50):
        written = ["O"] * len(row)
        for kind, start, end in spans(row):
            written[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
        assert spans(written) == spans(row)


def test_an_entity_half_found_is_not_found():
    true = [["B-PER", "I-PER", "O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"]]
    assert matched(true, predicted) == {"LOC": (1, 1, 1), "PER": (0, 1, 1)}
    assert precision_recall_f1(1, 2, 2) == (0.5, 0.5, 0.5)


def test_labels_of_every_piece_would_count_entities_that_are_not_there():
    """Why a word is judged at its first piece: a repeated B- is one entity more."""
    assert len(spans(["B-PER", "I-PER"])) == 1
    assert len(spans(["B-PER", "B-PER", "I-PER"])) == 2


def test_counts_add_up_and_turn_round():
    true, predicted = drawn(1), [list(np.random.default_rng(2).permutation(row)) for row in drawn(1)]
    counts, turned = matched(true, predicted), matched(predicted, true)
    assert {kind: (right, given, wanted) for kind, (right, wanted, given) in turned.items()} == counts
    halves = [matched(true[part], predicted[part]) for part in (slice(10), slice(10, None))]
    for kind, whole in counts.items():
        assert tuple(map(sum, zip(*(half.get(kind, (0, 0, 0)) for half in halves), strict=True))) == whole
    assert matched(true[::-1], predicted[::-1]) == counts
    assert all(right == given == wanted for right, given, wanted in matched(true, true).values())


def test_rates_at_the_ends():
    assert precision_recall_f1(0, 0, 0) == (1.0, 1.0, 1.0)
    assert precision_recall_f1(0, 3, 0) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(0, 0, 3) == (0.0, 0.0, 0.0)
    precision, recall, f1 = precision_recall_f1(2, 4, 5)
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_labels_that_mark_entities_are_known():
    assert is_bio(NAMES) and is_bio(["O", "I-X"])
    assert not is_bio(["O"]) and not is_bio(["NOUN", "VERB"]) and not is_bio(["B-X", "I-X"])
    assert not is_bio(["O", "B-X", "S-X"])
