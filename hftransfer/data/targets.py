"""Labels that are no single class: which columns hold them, and how rows with them are divided.

`data.target_rows` makes the rows themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, LargeList, List, Value

from hftransfer.data.divide import random_division, sample, stratified_division
from hftransfer.data.load import not_streamed
from hftransfer.data.read import quiet, read
from hftransfer.data.rows import CONTENT_NAMES, LABEL_NAMES, STORED, column, find_columns, has_labels
from hftransfer.data.spec import CONTENT, DataSpec, Spec, display_name, parse
from hftransfer.errors import HFTransferError, nearest

TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("ner_tags", "tags", "pos_tags", "chunk_tags", *LABEL_NAMES)
PAIRS = (
    ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence"),
    ("text", "text_pair"), ("text1", "text2"),
)  # fmt: skip
Encode = Callable[[Dataset, Spec, Any], tuple[Dataset, Any]]


def opened(spec: DataSpec | Spec, key: str, kind: str) -> tuple[Spec, dict[str, Any]]:
    """A data set's splits, which must have fixed rows and hold what is read.

    Raises:
        HFTransferError: for a stream, or content of another kind.
    """
    parsed = not_streamed(parse(spec, key))
    splits = read(parsed, kind)
    _check_kind(train_of(splits, parsed).features, parsed, kind)
    return parsed, splits


def _check_kind(features: Features, spec: Spec, kind: str) -> None:
    """Texts for a network that sees images: told by its name, not by a column that is missing."""
    media = {other: type(STORED[other]) for other in CONTENT if other != "text"}
    held = [other for other, stored in media.items() if any(isinstance(f, stored) for f in features.values())]
    named = any(name.lower() in CONTENT_NAMES[kind] for name in features) or CONTENT[kind] in spec.columns
    if kind in held or named or (kind == "text" and not held):
        return
    holds = f"holds {held[0]}s" if held else f"has no column of {kind}s (columns found: {', '.join(features)})"
    raise HFTransferError(f"{spec.key}: the model reads {kind}s, and '{display_name(spec)}' {holds}; choose another")


def train_of(splits: Mapping[str, Any], spec: Spec) -> Any:
    """The training split: the one of that name, or the only one."""
    if "train" not in splits and len(splits) != 1:
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has the splits {', '.join(splits)} and none is named train; write "
            "split: NAME"
        )
    train = splits["train"] if "train" in splits else next(iter(splits.values()))
    if len(train) == 0:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows")
    return train


def told(features: Features, spec: Spec, kind: str) -> str:
    """The task that the columns' types tell; columns that are given for a text and its label are of these."""
    if kind == "text" and not {"text", "label"} & spec.columns.keys() and answer_columns(features, spec):
        return "causal_lm"
    if kind == "text" and "text" not in spec.columns and token_column(features, spec) and tag_column(features, spec):
        return "token_classification"
    feature = features[label_column(features, spec, kind)]
    if is_list(feature):
        return "multi_label_classification"
    fractions = isinstance(feature, Value) and feature.dtype.startswith(("float", "double", "decimal"))
    return "regression" if fractions else "single_label_classification"


def is_list(feature: Any) -> bool:
    """Whether a column holds lists of values."""
    return isinstance(feature, List | LargeList)


def label_column(features: Features, spec: Spec, kind: str) -> str:
    """The label's column; errors as `find_columns` has them."""
    if kind == "text" and pair_columns(features, spec) is not None:
        found = given(features, spec, "label", LABEL_NAMES)
        if found is None:
            raise unclear("label", features, spec)
        return found
    label = find_columns(features, spec, need_label=True, kind=kind)[1]
    assert label is not None
    return label


def label_column_of(splits: Mapping[str, Any], spec: Spec, kind: str) -> str:
    """The label's column in the training split."""
    return label_column(train_of(splits, spec).features, spec, kind)


def pair_columns(features: Features, spec: Spec) -> tuple[str, str] | None:
    """The columns of two texts that are judged together, where there are two."""
    if "text_pair" in spec.columns:
        first = spec.columns.get("text") or next((a for a, _ in PAIRS if a in features), None)
        if first is None:
            raise unclear("text", features, spec)
        return _there(features, "text", first, spec), _there(features, "text_pair", spec.columns["text_pair"], spec)
    if "text" in spec.columns:
        return None
    return next(((a, b) for a, b in PAIRS if a in features and b in features), None)


def token_column(features: Features, spec: Spec) -> str | None:
    """The column of lists of words."""
    found = given(features, spec, "tokens", TOKEN_NAMES)
    return found if found is not None and is_list(features[found]) else None


def tag_column(features: Features, spec: Spec) -> str | None:
    """The column of a label for each word."""
    if "label" in spec.columns:
        found = given(features, spec, "label", ())
        return found if found is not None and is_list(features[found]) else None
    return next((name for name in TAG_NAMES if name in features and is_list(features[name])), None)


def answer_columns(features: Features, spec: Spec) -> tuple[str, ...]:
    """The column of messages, or those of prompt and completion; none where there are none."""
    messages = given(features, spec, "messages", ("messages", "conversations"))
    if messages is not None and is_list(features[messages]):
        return (messages,)
    prompt = given(features, spec, "prompt", ("prompt", "instruction"))
    completion = given(features, spec, "completion", ("completion", "response"))
    return (prompt, completion) if prompt and completion else ()


def given(features: Features, spec: Spec, role: str, known: Sequence[str]) -> str | None:
    """The column given for a role, else the first of the known names that is there."""
    if role in spec.columns:
        return _there(features, role, spec.columns[role], spec)
    return next((name for name in known if name in features), None)


def _there(features: Features, role: str, name: str, spec: Spec) -> str:
    if name not in features:
        lacks = f"'{display_name(spec)}' has no column '{name}'{nearest(name, features)}"
        raise HFTransferError(f"{spec.key}.columns.{role}: {lacks}")
    return name


def unclear(role: str, features: Features, spec: Spec) -> HFTransferError:
    """What to raise where a column cannot be told."""
    return HFTransferError(
        f"{spec.key}: cannot tell which column of '{display_name(spec)}' is the {role}; columns found: "
        f"{', '.join(features)}; write columns: {{{role}: NAME}}"
    )


def divided(
    spec: Spec,
    splits: Mapping[str, Any],
    *,
    seed: int,
    label: str | None,
    encode: Encode,
    known: Any = None,
    strata: Callable[[Dataset], np.ndarray | None],
    max_samples: int | None = None,
    test_size: float = 0.2,
) -> tuple[DatasetDict, Any]:
    """Train and test rows as `encode` makes them, the data's own test split where that has labels.

    Args:
        spec, splits: what `opened` returns.
        seed: divides a single split and draws `max_samples`.
        label: the column that a split must have filled to be tested on; None: any will do.
        encode: (rows, spec, names or None) -> rows with a column `label`, and the names that it found.
        known: names that the labels must be among.
        strata: rows -> (rows,) classes that both parts shall have in proportion, or None.
    """
    train = train_of(splits, spec)
    candidates = [splits[name] for name in ("test", "validation") if name in splits] if "train" in splits else []
    own = next((part for part in candidates if len(part) and (label is None or filled(part, label))), None)
    with quiet():
        made, names = encode(train, spec, known)
        if own is not None:
            test = encode(own, spec, names)[0]
        elif len(made) < 2:
            raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has one row; training and testing need two")
        else:
            kept, held = _division(made, strata, names, test_size, seed)
            made, test = made.select(kept), made.select(held)
        made = made.select(sample(len(made), max_samples, seed))
    return DatasetDict(train=made, test=test), names


def filled(rows: Dataset, label: str) -> bool:
    """Whether every row has its labels: published test splits often hold none, null or -1."""
    if not has_labels(rows, label):
        return False
    if not is_list(rows.features[label]):
        return True
    classes = isinstance(rows.features[label].feature, ClassLabel)
    return not any(value is None or (classes and value < 0) for row in column(rows, label) for value in row)


def _division(
    rows: Dataset, strata: Callable[[Dataset], np.ndarray | None], names: Sequence[str], test_size: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    classes = strata(rows)
    if classes is None:
        return random_division(len(rows), test_size, seed)
    count = int(classes.max()) + 1
    known = [*names, "none"] if len(names) + 1 >= count else [str(number) for number in range(count)]
    return stratified_division(classes.tolist(), known, test_size, seed)
