"""Data as the stages want it: `train` and `test`, a column of content, and `label` only where it may be seen.

The content's column is `text`, `image` or `audio`, by the `kind` of data that a stage reads.

The labels of a target domain are dropped when it is loaded, and what is divided, sampled or dropped there depends on
the texts and the seed alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from hftransfer.data.divide import random_division, sample, stratified_division
from hftransfer.data.read import quiet, read
from hftransfer.data.rows import (
    STORED,
    content_and_label,
    encode_labels,
    find_columns,
    has_labels,
    label_names_of,
    only_content,
    with_content,
)
from hftransfer.data.spec import CONTENT, DataSpec, Spec, display_name, parse
from hftransfer.errors import HFTransferError

STREAM_TEST_ROWS = 1000  # rows of a stream that are held out for testing, unless max_samples is smaller
STREAM_BUFFER = 10_000  # rows that a stream shuffles among
MOST_CLASSES_PER_ROW, FEWEST_ROWS_TO_JUDGE = 0.5, 20  # more classes than that, and the column is an id


def labelled(
    spec: DataSpec | Spec,
    *,
    key: str,
    seed: int,
    max_samples: int | None = None,
    label_names: Sequence[str] | None = None,
    test_size: float = 0.2,
    kind: str = "text",
) -> DatasetDict:
    """Loads texts, images or sounds with their labels.

    The data's own test split is used, or its validation split where the test split has no labels. A single split is
    divided by seed, every class in proportion.

    Args:
        spec: what `parse` takes.
        key: how errors name the data, for example "source".
        max_samples: at most this many rows to train on, drawn by seed; all are tested on.
        label_names: the classes of the source; the data's labels are matched to them by name.
        test_size: share of the rows to test on when the data has no split of its own for that.
        kind: what the stage reads: text, image or sound.

    Returns:
        `train` and `test`, each with exactly the columns label (ClassLabel) and text (str), image or audio (both as
        they are stored: bytes and path).

    Raises:
        HFTransferError: in one line, for anything that makes the data unusable.
    """
    parsed = not_streamed(parse(spec, key))
    splits = read(parsed, kind)
    with quiet():
        train, test = _own_splits(splits, parsed, True, kind)
        content, label = find_columns(train.features, parsed, need_label=True, kind=kind)
        assert label is not None
        train = with_content(train, content, parsed, kind)
        names = list(label_names) if label_names else label_names_of(train, label, parsed)
        known_from = "the source" if label_names else "its training split"
        labels = encode_labels(train, label, names, parsed, known_from)
        if label_names is None:
            check_classes(labels, names, label, parsed)
        if test is None:
            _check_divisible(train, test_size, parsed)
            rows = stratified_division(labels, names, test_size, seed)
            train, test = train.select(rows[0]), train.select(rows[1])
        else:
            test = with_content(test, content, parsed, kind)
        parts = {"train": train, "test": test}
        parts["train"] = parts["train"].select(sample(len(parts["train"]), max_samples, seed))
        return _with_labels(parts, content, label, names, parsed, known_from, kind)


def unlabelled(
    spec: DataSpec | Spec,
    *,
    key: str,
    seed: int,
    max_samples: int | None = None,
    test_size: float = 0.2,
    kind: str = "text",
) -> DatasetDict | IterableDatasetDict:
    """Loads texts, images or sounds alone; a label column is dropped before anything is chosen.

    Arguments are those of `labelled`. A single split is divided at random by seed.

    Returns:
        `train` and `test`, each with exactly the column text (str), image or audio. With `streaming: true` both are
        IterableDatasets: rows go to `test` by a seeded hash of their number, `test` ends after `STREAM_TEST_ROWS` (or
        `max_samples`) rows, `train` is shuffled among `STREAM_BUFFER` rows and blank texts are skipped.
    """
    parsed = parse(spec, key)
    if parsed.streaming:
        with quiet():
            return _streamed(parsed, seed, max_samples, test_size, kind)
    return target(parsed, key=key, seed=seed, label_names=(), max_samples=max_samples, test_size=test_size, kind=kind)[
        0
    ]


def target(
    spec: DataSpec | Spec,
    *,
    key: str,
    seed: int,
    label_names: Sequence[str],
    max_samples: int | None = None,
    test_size: float = 0.2,
    kind: str = "text",
) -> tuple[DatasetDict, Callable[[], DatasetDict | None]]:
    """Loads a target domain: its texts to train on, and its labels behind a function that only evaluation calls.

    Arguments are those of `labelled`. The two parts have the same rows in the same order.

    Returns:
        The texts, as from `unlabelled`; and a function that reads the labels and returns the same rows with the
        columns text and label (ClassLabel of `label_names`), or None when the data has no label column.
    """
    parsed = not_streamed(parse(spec, key))
    splits = read(parsed, kind)
    with quiet():
        train, test = _own_splits(splits, parsed, False, kind)
        content, label = find_columns(train.features, parsed, need_label=False, kind=kind)
        train = with_content(train, content, parsed, kind)
        if test is None:
            _check_divisible(train, test_size, parsed)
            rows = random_division(len(train), test_size, seed)
            train, test = train.select(rows[0]), train.select(rows[1])
        else:
            test = with_content(test, content, parsed, kind)
        parts = {"train": train, "test": test}
        parts["train"] = parts["train"].select(sample(len(parts["train"]), max_samples, seed))
        texts = DatasetDict({name: only_content(part, content, kind) for name, part in parts.items()})

    def evaluation() -> DatasetDict | None:
        if label is None:
            return None
        with quiet():
            return _with_labels(parts, content, label, label_names, parsed, "the source", kind)

    return texts, evaluation


def _with_labels(
    parts: dict[str, Dataset],
    content: str,
    label: str,
    names: Sequence[str],
    spec: Spec,
    known_from: str,
    kind: str,
) -> DatasetDict:
    labels = {name: encode_labels(part, label, names, spec, known_from) for name, part in parts.items()}
    return DatasetDict(
        {name: content_and_label(part, content, labels[name], names, kind) for name, part in parts.items()}
    )


def not_streamed(spec: Spec) -> Spec:
    """Refuses a stream where rows are divided, drawn or counted."""
    if spec.streaming:
        raise HFTransferError(
            f"{spec.key}: a stream has no fixed rows, so only unlabelled data can be one; remove streaming: true"
        )
    return spec


def check_classes(labels: list[int], names: Sequence[str], label: str, spec: Spec) -> None:
    """A column of one value teaches nothing, and one of (nearly) as many values as rows is a number or a name."""
    found = len(set(labels))
    if found < 2:
        only = f"every row of '{display_name(spec)}' has the label '{names[labels[0]]}'"
        raise HFTransferError(f"{spec.key}: {only}; a classifier needs at least two classes")
    if found > MOST_CLASSES_PER_ROW * len(labels) and len(labels) >= FEWEST_ROWS_TO_JUDGE:
        many = f"the label column '{label}' of '{display_name(spec)}' has {found} classes in {len(labels)} rows"
        raise HFTransferError(f"{spec.key}: {many}; is it an id? write columns: {{label: NAME}}")


def _check_divisible(rows: Dataset, test_size: float, spec: Spec) -> None:
    if not 0 < test_size < 1:
        raise HFTransferError(f"{spec.key}: test_size is a share of the rows between 0 and 1, found {test_size}")
    if len(rows) < 2:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has one row; training and testing need two")


def _own_splits(splits: dict[str, Any], spec: Spec, need_label: bool, kind: str) -> tuple[Any, Any]:
    """The data's training split, and its own split for testing or None.

    Which one tests depends on labels only where labels may be read (`need_label`).
    """
    if "train" not in splits:
        if len(splits) != 1:
            names = ", ".join(splits)
            raise HFTransferError(
                f"{spec.key}: '{display_name(spec)}' has the splits {names} and none is named train; write split: NAME"
            )
        return next(iter(splits.values())), None
    train = splits["train"]
    if isinstance(train, Dataset) and len(train) == 0:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows")
    candidates = [splits[name] for name in ("test", "validation") if name in splits]
    if not need_label:
        return train, next(iter(candidates), None)
    _, label = find_columns(train.features, spec, need_label=True, kind=kind)
    return train, next((part for part in candidates if len(part) and has_labels(part, label)), None)


def _streamed(spec: Spec, seed: int, max_samples: int | None, test_size: float, kind: str) -> IterableDatasetDict:
    train, test = _own_splits(read(spec, kind), spec, False, kind)
    if isinstance(train, Dataset):
        train, test = train.to_iterable_dataset(), test.to_iterable_dataset() if test is not None else None
    if train.features is None:
        train = train._resolve_features()
    content, _ = find_columns(train.features, spec, need_label=False, kind=kind)
    if test is None:
        train, test = _stream_part(train, test_size, seed, False), _stream_part(train, test_size, seed, True)
    train = _stream_content(train, content, kind).shuffle(seed=seed, buffer_size=STREAM_BUFFER)
    test = _stream_content(test, content, kind).take(min(STREAM_TEST_ROWS, max_samples or STREAM_TEST_ROWS))
    return IterableDatasetDict({"train": train.take(max_samples) if max_samples else train, "test": test})


def _stream_part(rows: IterableDataset, test_size: float, seed: int, testing: bool) -> IterableDataset:
    """The rows whose hashed number falls below `test_size`, or the others: the same for any reader of the stream."""

    def wanted(batch: Any, numbers: Iterable[int]) -> list[bool]:
        draws = [np.random.default_rng((seed, number)).random() for number in numbers]
        return [(draw < test_size) == testing for draw in draws]

    return rows.filter(wanted, with_indices=True, batched=True)


def _stream_content(rows: IterableDataset, content: str, kind: str) -> IterableDataset:
    name = CONTENT[kind]
    rows = rows.select_columns([content])
    rows = rows if content == name else rows.rename_column(content, name)
    if kind != "text":
        return rows.cast_column(name, STORED[kind])
    return rows.filter(lambda row: bool(row[name] and row[name].strip()))
