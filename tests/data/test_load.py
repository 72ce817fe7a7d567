"""Loading: what comes out, what may depend on labels, and one line for everything that can be wrong."""

import json
import logging
import warnings

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, Value, load_dataset

from hftransfer.data.load import labelled, target, unlabelled
from hftransfer.errors import HFTransferError

TEXTS = [f"text number {number} of the corpus" for number in range(60)]
LABELS = ["pos" if number % 3 else "neg" for number in range(60)]


def table(labels=LABELS, texts=TEXTS):
    return Dataset.from_dict({"text": texts, "label": labels})


def error_of(spec, load=labelled, **more):
    with pytest.raises(HFTransferError) as caught:
        load(spec, key="source", seed=0, **more)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("source")
    return message


def write(path, rows):
    """Writes rows of text and label in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        sep = "\t" if path.suffix == ".tsv" else ","
        path.write_text(f"text{sep}label\n" + "".join(f"{row['text']}{sep}{row['label']}\n" for row in rows))
    return str(path)


ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_data(tmp_path, suffix):
    loaded = labelled(write(tmp_path / f"reviews{suffix}", ROWS), key="source", seed=0)
    expected = labelled(table(), key="source", seed=0)
    assert loaded.keys() == {"train", "test"}
    for split, part in loaded.items():
        assert part.column_names == ["text", "label"]
        assert part.features["label"] == ClassLabel(names=["neg", "pos"])
        assert part.features["text"].dtype == "string"
        assert part.to_list() == expected[split].to_list()


def test_text_files_are_one_text_a_line(tmp_path, caplog):
    (tmp_path / "corpus.txt").write_text("first\n\nsecond\n   \nthird\n")
    with caplog.at_level(logging.INFO, "hftransfer"):
        loaded = unlabelled(str(tmp_path / "corpus.txt"), key="data", seed=0, test_size=0.3)
    assert sorted([*loaded["train"]["text"], *loaded["test"]["text"]]) == ["first", "second", "third"]
    assert "dropped 2 rows" in caplog.text


def test_globs_folders_and_saved_datasets(tmp_path):
    write(tmp_path / "files" / "a.csv", ROWS[:30])
    write(tmp_path / "files" / "b.csv", ROWS[30:])
    table().save_to_disk(tmp_path / "one")
    DatasetDict(train=table(), test=table().select(range(6))).save_to_disk(tmp_path / "two")
    expected = labelled(table(), key="source", seed=0)["train"].to_list()
    for spec in (str(tmp_path / "files" / "*.csv"), str(tmp_path / "files"), str(tmp_path / "one")):
        assert labelled(spec, key="source", seed=0)["train"].to_list() == expected
    two = labelled(str(tmp_path / "two"), key="source", seed=0)
    assert (len(two["train"]), len(two["test"])) == (60, 6)
    one = labelled({"path": str(tmp_path / "two"), "split": "test"}, key="source", seed=0)
    assert len(one["train"]) + len(one["test"]) == 6
    assert "no split 'tset'; did you mean 'test'" in error_of({"path": str(tmp_path / "two"), "split": "tset"})


def test_loader_s_own_options_pass_through(tmp_path):
    (tmp_path / "a.csv").write_text("review;stars\n" + "".join(f"good {n};{n % 5 + 1}\n" for n in range(20)))
    spec = {"path": str(tmp_path / "a.csv"), "sep": ";", "columns": {"text": "review", "label": "stars"}}
    assert labelled(spec, key="source", seed=0)["train"].features["label"].names == ["1", "2", "3", "4", "5"]
    part = labelled({**spec, "split": "train[:50%]"}, key="source", seed=0)
    assert len(part["train"]) + len(part["test"]) == 10


def test_own_splits_are_used_and_an_unlabelled_test_split_is_not():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["a", "b"])})
    train, validation = (
        Dataset.from_dict({"text": [f"{name}{n}" for n in range(8)], "label": [0, 1] * 4}, features=features)
        for name in ("train", "validation")
    )
    hidden = Dataset.from_dict({"text": ["hidden"], "label": [-1]}, features=features)
    data = DatasetDict(train=train, validation=validation, test=hidden)
    assert labelled(data, key="source", seed=0)["test"]["text"][:] == validation["text"][:]
    assert unlabelled(data, key="source", seed=0)["test"]["text"][:] == ["hidden"]
    shown = DatasetDict(train=train, validation=validation, test=train)
    assert labelled(shown, key="source", seed=0)["test"]["text"][:] == train["text"][:]


def test_the_source_is_divided_in_proportion():
    loaded = labelled(table(), key="source", seed=0)
    assert [sum(part["label"]) for part in loaded.values()] == [32, 8]
    assert not set(loaded["train"]["text"]) & set(loaded["test"]["text"])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 1, 10] * 10, ["1", "3", "10"]),
        ([True, False, True] * 10, ["False", "True"]),
        (["b", "a", "c"] * 10, ["a", "b", "c"]),
        ([1.0, 2.0, 1.0] * 10, ["1", "2"]),
    ],
)
def test_labels_of_any_kind_become_sorted_names(values, names):
    loaded = labelled(table(values, TEXTS[:30]), key="source", seed=0)
    back = {
        text: names[label] for part in loaded.values() for text, label in zip(part["text"], part["label"], strict=True)
    }
    assert loaded["train"].features["label"].names == names
    expected = [str(int(value)) if isinstance(value, float) else str(value) for value in values]
    assert back == dict(zip(TEXTS[:30], expected, strict=True))


def test_class_labels_keep_their_names_and_order():
    feature = ClassLabel(names=["z", "a", "never"])
    data = Dataset.from_dict({"text": TEXTS[:10], "label": [0, 1] * 5}).cast_column("label", feature)
    assert labelled(data, key="source", seed=0)["train"].features["label"] == feature


def test_labels_are_matched_to_the_source_by_name():
    loaded = labelled(table(), key="target", seed=0, label_names=["pos", "other", "neg"])
    assert loaded["train"].features["label"].names == ["pos", "other", "neg"]
    assert set(loaded["train"]["label"]) == {0, 2}
    message = error_of(table(), label_names=["pos", "meh"])
    assert "labels that the source lacks: 'neg'" in message and "known: 'pos', 'meh'" in message


def test_max_samples_is_a_seeded_part_of_what_is_trained_on():
    whole, part = labelled(table(), key="source", seed=0), labelled(table(), key="source", seed=0, max_samples=7)
    assert len(part["train"]) == 7 and part["test"].to_list() == whole["test"].to_list()
    assert set(part["train"]["text"]) < set(whole["train"]["text"])
    assert labelled(table(), key="source", seed=0, max_samples=500)["train"].to_list() == whole["train"].to_list()
    other = labelled(table(), key="source", seed=1, max_samples=7)
    assert other["train"]["text"][:] != part["train"]["text"][:]


def test_columns_are_found_by_name_or_by_being_the_only_text():
    data = Dataset.from_dict({"id": [1, 2] * 5, "Review": TEXTS[:10], "title": TEXTS[:10], "Class": [0, 1] * 5})
    assert labelled(data, key="source", seed=0)["train"].column_names == ["text", "label"]
    only = Dataset.from_dict({"id": [1, 2] * 5, "blurb": TEXTS[:10], "label": ["a", "b"] * 5})
    assert set(unlabelled(only, key="source", seed=0)["train"]["text"]) <= set(TEXTS)


# what a target's labels may change


@pytest.mark.parametrize("form", ["memory", "csv", "own test split"])
@pytest.mark.parametrize("max_samples", [None, 9])
def test_permuting_the_target_s_labels_leaves_its_texts_identical(tmp_path, form, max_samples):
    rng = np.random.default_rng(0)
    found = []
    for trial in range(4):
        labels = LABELS if trial == 0 else list(rng.permutation(LABELS))
        spec = table(labels)
        if form == "csv":
            rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
            spec = write(tmp_path / f"{trial}.csv", rows)
        elif form == "own test split":
            spec = DatasetDict(train=spec.select(range(40)), test=spec.select(range(40, 60)))
        options = {"key": "target", "seed": 3, "max_samples": max_samples}
        texts, evaluation = target(spec, label_names=["neg", "pos"], **options)
        assert all(part.column_names == ["text"] for part in texts.values())
        alone = unlabelled(spec, **options)
        assert {name: part.to_list() for name, part in alone.items()} == {n: p.to_list() for n, p in texts.items()}
        found.append({name: part.with_format("arrow")[:].to_pydict() for name, part in texts.items()})
        truth = dict(zip(TEXTS, labels, strict=True))
        for name, part in evaluation().items():
            assert part["text"][:] == texts[name]["text"][:]
            assert [("neg", "pos")[label] for label in part["label"]] == [truth[text] for text in part["text"]]
    assert found[0] == found[1] == found[2] == found[3]


def test_target_labels_are_read_by_evaluation_alone(monkeypatch):
    from hftransfer.data import rows

    read = []
    original = rows.column
    monkeypatch.setattr(rows, "column", lambda data, name: read.append(name) or original(data, name))
    _, evaluation = target(table(), key="target", seed=0, label_names=["neg", "pos"])
    assert "label" not in read
    evaluation()
    assert "label" in read


def test_a_target_with_wrong_labels_trains_and_only_its_evaluation_fails():
    texts, evaluation = target(table(), key="target", seed=0, label_names=["yes", "no"])
    assert len(texts["train"]) == 48
    with pytest.raises(HFTransferError, match=r"target: .*labels that the source lacks: 'neg', 'pos'"):
        evaluation()


def test_a_target_without_labels_has_no_evaluation():
    texts, evaluation = target(Dataset.from_dict({"text": TEXTS}), key="target", seed=0, label_names=["neg", "pos"])
    assert len(texts["test"]) == 12 and evaluation() is None


# streams


def test_a_stream_is_divided_by_row_number_and_leaves_no_row_out(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    loaded = unlabelled({"path": path, "streaming": True}, key="data", seed=0)
    train, test = ([row["text"] for row in part] for part in loaded.values())
    assert all(isinstance(part, IterableDataset) for part in loaded.values())
    assert sorted(train + test) == sorted(TEXTS) and 4 <= len(test) <= 20
    assert train != sorted(train, key=TEXTS.index)
    memory = unlabelled(load_dataset("json", data_files=path, streaming=True, split="train"), key="data", seed=0)
    assert [row["text"] for row in memory["train"]] == train
    assert list(loaded["train"].features or {"text": 0}) == ["text"]
    few = unlabelled({"path": path, "streaming": True}, key="data", seed=0, max_samples=5)
    assert len(list(few["train"])) == len(list(few["test"])) == 5


def test_a_stream_has_no_place_where_rows_are_counted(tmp_path):
    spec = {"path": write(tmp_path / "a.jsonl", ROWS), "streaming": True}
    assert "remove streaming: true" in error_of(spec)
    assert "remove streaming: true" in error_of(spec, load=target, label_names=["a"])


# mistakes


def bad_file(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    return str(tmp_path / name)


def test_unreadable_files_are_named_with_the_parser_s_reason(tmp_path):
    assert "bad.csv' is empty" in error_of(bad_file(tmp_path, "bad.csv", ""))
    assert "bad.csv' as csv" in error_of(bad_file(tmp_path, "bad.csv", 'text,label\na,1\n"b,2\nc,3,4,5\n'))
    assert "bad.jsonl' as json" in error_of(bad_file(tmp_path, "bad.jsonl", '{"text": "a"}\n{"text": \n'))
    assert "bad.parquet' as parquet" in error_of(bad_file(tmp_path, "bad.parquet", "no parquet"))
    write(tmp_path / "many" / "a.csv", ROWS)
    bad_file(tmp_path / "many", "b.csv", "text,label\na,1\nb,1,2,3\n")
    assert "many/b.csv' as csv" in error_of(str(tmp_path / "many"))
    assert "has no rows" in error_of(bad_file(tmp_path, "head.csv", "text,label\n"))


def test_missing_columns_list_what_is_there():
    data = Dataset.from_dict({"a": TEXTS[:4], "b": TEXTS[:4], "n": [0, 1, 0, 1]})
    message = error_of(data)
    assert "which column" in message and "columns found: a, b, n; write columns: {text: NAME}" in message
    message = error_of({"path": data, "columns": {"text": "a"}})
    assert "is the label" in message and "columns: {label: NAME}" in message
    assert "source.columns.text" in error_of({"path": data, "columns": {"text": "c"}})
    assert "holds int64, not text" in error_of({"path": data, "columns": {"text": "n", "label": "a"}})


def test_missing_texts_and_labels_are_counted(tmp_path):
    holes = [None if n in (2, 5) else text for n, text in enumerate(TEXTS)]
    assert "2 of 60 rows of 'dataset in memory' have no text in the column 'text', first row 3" in error_of(
        table(LABELS, holes)
    )
    assert "no text" in error_of(bad_file(tmp_path, "a.csv", "text,label\na,1\n,2\n"))
    assert "no values at all" in error_of(Dataset.from_dict({"text": [None, None], "label": [0, 1]}))
    assert "has no rows with text" in error_of(table(LABELS[:3], ["", " ", "\n"]))
    labels = [None if n == 4 else label for n, label in enumerate(LABELS)]
    assert "1 of 60 rows of 'dataset in memory' have no label in the column 'label', first row 5" in error_of(
        table(labels)
    )
    assert "1 of 60 rows" in error_of(table([None if n == 4 else 1 for n in range(60)]))


def test_labels_that_are_no_classes_are_refused():
    assert "two classes" in error_of(table(["pos"] * 60))
    assert "holds float64" in error_of(table([n / 7 for n in range(60)]))
    assert "holds List" in error_of(table([[0, 1]] * 60))
    assert "has 60 classes in 60 rows; is it an id?" in error_of(table(list(range(60))))


def test_data_that_cannot_be_divided_is_refused():
    assert "none is named train; write split: NAME" in error_of(DatasetDict(a=table(), b=table()))
    assert "has one row" in error_of(Dataset.from_dict({"text": ["a"]}), load=unlabelled)
    assert "test_size" in error_of(table(), test_size=20)


def test_an_unreachable_hub_id_offers_what_is_here():
    message = error_of("nobody/no_such_data")
    assert "nothing local is named 'nobody/no_such_data'" in message and "demo/api_docs" in message
    assert "did you mean 'demo/api_docs'" in error_of("api_docs")


def test_loading_is_quiet_and_leaves_the_library_as_it_was(tmp_path, capfd):
    import datasets

    path = bad_file(tmp_path, "bad.jsonl", '{"text": "a"}\n{"text": \n')
    level = logging.getLogger("datasets").level
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        error_of(path)
        labelled(write(tmp_path / "quiet.csv", ROWS), key="source", seed=0)
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("datasets").level == level
    assert not datasets.utils.are_progress_bars_disabled()
