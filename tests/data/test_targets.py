"""Columns of labels that are no single class are found, and divisions keep what they should."""

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftransfer.data import targets
from hftransfer.data.spec import parse
from hftransfer.data.target_rows import encode_numbers, encode_tags
from hftransfer.errors import HFTransferError
from hftransfer.tasks.classification import rarest
from hftransfer.tasks.regression import binned


def spec_of(columns=None, **rows):
    """A parsed spec of a table of one row, and the table's features."""
    made = Dataset.from_dict({name: [value] for name, value in rows.items()})
    return parse({"path": made, **({"columns": columns} if columns else {})}, "data"), made.features


@pytest.mark.parametrize("first, second", targets.PAIRS)
def test_published_pairs_are_found(first, second):
    spec, features = spec_of(**{second: "b", first: "a", "idx": 0, "label": 1})
    assert targets.pair_columns(features, spec) == (first, second)
    assert targets.label_column(features, spec, "text") == "label"


def test_pairs_by_what_is_given():
    columns = {"sentence1": "a", "sentence2": "b", "reply": "c", "label": 1}
    spec, features = spec_of(**columns, columns={"text": "sentence1"})
    assert targets.pair_columns(features, spec) is None  # one text was asked for
    spec, features = spec_of(**columns, columns={"text_pair": "reply"})
    assert targets.pair_columns(features, spec) == ("sentence1", "reply")
    spec, features = spec_of(**columns, columns={"text": "reply", "text_pair": "sentence2"})
    assert targets.pair_columns(features, spec) == ("reply", "sentence2")
    spec, features = spec_of(**columns, columns={"text_pair": "replay"})
    with pytest.raises(HFTransferError, match=r"^data.columns.text_pair: .* no column 'replay'; did you mean 'reply'"):
        targets.pair_columns(features, spec)


def test_a_column_of_words_alone_is_no_token_classification():
    spec, features = spec_of(tokens=["a", "b"], text="a b", label=1)
    assert targets.told(features, spec, "text") == "single_label_classification"
    spec, features = spec_of(tokens=["a", "b"], text="a b", ner_tags=[0, 1], label=1)
    assert targets.told(features, spec, "text") == "token_classification"
    spec, features = spec_of(tokens=["a", "b"], text="a b", ner_tags=[0, 1], label=1, columns={"text": "text"})
    assert targets.told(features, spec, "text") == "single_label_classification"


def test_a_text_with_a_label_given_is_no_instruction():
    rows = {"prompt": "a", "completion": "b", "label": 1}
    spec, features = spec_of(**rows)
    assert targets.told(features, spec, "text") == "causal_lm"
    spec, features = spec_of(**rows, columns={"text": "prompt", "label": "label"})
    assert targets.told(features, spec, "text") == "single_label_classification"


LISTS = Features(text=Value("string"), label=List(ClassLabel(names=["a", "b"])))


@pytest.mark.parametrize(
    "labels, full",
    [([[0], [1, 0]], True), ([[0], []], True), ([[0], None], False), ([[0], [-1]], False), ([[0], [None]], False)],
)
def test_splits_without_labels_are_known(labels, full):
    assert targets.filled(Dataset.from_dict({"text": ["x", "y"], "label": labels}, LISTS), "label") == full


@pytest.mark.parametrize("hidden", [[[-1]] * 3, [None] * 3])
def test_the_validation_split_tests_where_the_test_split_tells_nothing(hidden):
    known = {"text": ["x", "y", "z"], "label": [[0], [1], [0, 1]]}
    splits = DatasetDict(
        train=Dataset.from_dict({"text": ["t"] * 4, "label": [[0], [1], [], [0]]}, LISTS),
        validation=Dataset.from_dict(known, LISTS),
        test=Dataset.from_dict({**known, "text": ["hidden"] * 3, "label": hidden}, LISTS),
    )
    spec, opened = targets.opened(splits, "data", "text")
    parts, names = targets.divided(
        spec, opened, seed=0, label="label", encode=lambda *given: encode_tags(*given, kind="text"),
        strata=lambda rows: rarest(np.asarray(rows["label"])),
    )  # fmt: skip
    assert names == ["a", "b"] and parts["test"]["text"][:] == ["x", "y", "z"] and len(parts["train"]) == 4


@pytest.mark.parametrize("seed", range(3))
def test_every_label_of_two_rows_is_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    labels = [sorted({str(label) for label in rng.integers(0, 6, rng.integers(1, 4))}) for _ in range(60)]
    rows = Dataset.from_dict({"text": [f"row {number}" for number in range(60)], "label": labels})
    spec, opened = targets.opened(rows, "data", "text")
    parts, names = targets.divided(
        spec, opened, seed=seed, label="label", encode=lambda *given: encode_tags(*given, kind="text"),
        strata=lambda rows: rarest(np.asarray(rows["label"])),
    )  # fmt: skip
    seen = {name: np.asarray(part["label"]).sum(0) for name, part in parts.items()}
    together = seen["train"] + seen["test"]
    assert (seen["train"][together > 1] > 0).all()
    assert (seen["test"][rarest_counts(labels, names) > 1] > 0).all()
    assert sorted(parts["train"]["text"][:] + parts["test"]["text"][:]) == sorted(rows["text"][:])


def rarest_counts(labels, names):
    """(names,) rows whose rarest label each is."""
    marks = np.array([[name in row for name in names] for row in labels])
    return np.bincount(rarest(marks), minlength=len(names) + 1)[: len(names)]


def test_numbers_keep_their_spread():
    values = np.arange(50.0)
    rows = Dataset.from_dict({"text": [f"row {number}" for number in range(50)], "label": values})
    spec, opened = targets.opened(rows, "data", "text")
    parts, names = targets.divided(
        spec, opened, seed=1, label="label", encode=lambda *given: encode_numbers(*given, kind="text"),
        strata=lambda rows: binned(np.asarray(rows["label"])),
    )  # fmt: skip
    assert names == ["value"]
    held = np.asarray(parts["test"]["label"])
    assert np.bincount((held // 10).astype(int)).tolist() == [2] * 5


def test_strata_of_hand_worked_labels():
    marks = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 1, 0]])
    assert rarest(marks).tolist() == [1, 0, 2, 3, 1]
    assert rarest(marks.astype(float)).tolist() == [1, 0, 2, 3, 1]
    assert binned([5.0] * 4).tolist() == [0] * 4
    assert binned([1, 2, 3, 4, 5]).tolist() == [0, 1, 2, 3, 4]
