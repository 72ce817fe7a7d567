"""Labels that are no single class: several at once, numbers, one for each word, answers; and pairs of texts."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from hftransfer.data.divide import random_division, sample, stratified_division
from hftransfer.data.read import quiet, read
from hftransfer.data.rows import LABEL_NAMES, column, find_columns, has_labels, with_content
from hftransfer.data.spec import CONTENT, DataSpec, Spec, display_name, parse
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
TOKEN_NAMES = ("tokens", "words")
TAG_NAMES = ("ner_tags", "tags", "pos_tags", "chunk_tags", *LABEL_NAMES)
PAIRS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("text", "text_pair"))
Encode = Callable[[Dataset, Spec, Any], tuple[Dataset, Any]]


def opened(spec: DataSpec | Spec, key: str, kind: str) -> tuple[Spec, dict[str, Any]]:
    """A data set's splits, which must have fixed rows."""
    parsed = parse(spec, key)
    if parsed.streaming:
        raise HFTransferError(
            f"{key}: a stream has no fixed rows, so only unlabelled data can be one; remove streaming: true"
        )
    return parsed, read(parsed, kind)


def train_of(splits: Mapping[str, Any], spec: Spec) -> Any:
    """The training split: the one of that name, or the only one."""
    if "train" in splits:
        return splits["train"]
    if len(splits) != 1:
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has the splits {', '.join(splits)} and none is named train; write "
            "split: NAME"
        )
    return next(iter(splits.values()))


def told(features: Features, spec: Spec, kind: str) -> str:
    """The task that the columns' types tell."""
    if kind == "text" and answer_columns(features, spec):
        return "causal_lm"
    if kind == "text" and token_column(features, spec):
        return "token_classification"
    label = label_column(features, spec, kind)
    feature = features[label]
    if isinstance(feature, List | list):
        return "multi_label_classification"
    return "regression" if isinstance(feature, Value) and feature.dtype.startswith("float") else "single"


def label_column(features: Features, spec: Spec, kind: str) -> str:
    """The label's column; errors as `find_columns` has them."""
    pair = pair_columns(features, spec) if kind == "text" else None
    if pair is not None:
        found = _given(features, spec, "label", LABEL_NAMES)
        if found is None:
            raise _unclear("label", features, spec)
        return found
    label = find_columns(features, spec, need_label=True, kind=kind)[1]
    assert label is not None
    return label


def pair_columns(features: Features, spec: Spec) -> tuple[str, str] | None:
    """The columns of two texts that are judged together, where there are two."""
    if "text_pair" in spec.columns:
        first = spec.columns.get("text") or next((a for a, _ in PAIRS if a in features), None)
        if first is None or first not in features:
            raise _unclear("text", features, spec)
        return first, _there(features, spec, "text_pair")
    if "text" in spec.columns:
        return None
    return next(((a, b) for a, b in PAIRS if a in features and b in features), None)


def token_column(features: Features, spec: Spec) -> str | None:
    """The column of lists of words."""
    found = _given(features, spec, "tokens", TOKEN_NAMES)
    return found if found is not None and isinstance(features[found], List) else None


def answer_columns(features: Features, spec: Spec) -> tuple[str, ...]:
    """The column of messages, or those of prompt and completion; none where there are none."""
    messages = _given(features, spec, "messages", ("messages", "conversations"))
    if messages is not None and isinstance(features[messages], List):
        return (messages,)
    prompt = _given(features, spec, "prompt", ("prompt", "instruction"))
    completion = _given(features, spec, "completion", ("completion", "response"))
    return (prompt, completion) if prompt and completion else ()


def _given(features: Features, spec: Spec, role: str, known: Sequence[str]) -> str | None:
    if role in spec.columns:
        return _there(features, spec, role)
    return next((name for name in known if name in features), None)


def _there(features: Features, spec: Spec, role: str) -> str:
    name = spec.columns[role]
    if name not in features:
        lacks = f"'{display_name(spec)}' has no column '{name}'{nearest(name, features)}"
        raise HFTransferError(f"{spec.key}.columns.{role}: {lacks}")
    return name


def _unclear(role: str, features: Features, spec: Spec) -> HFTransferError:
    return HFTransferError(
        f"{spec.key}: cannot tell which column of '{display_name(spec)}' is the {role}; columns found: "
        f"{', '.join(features)}; write columns: {{{role}: NAME}}"
    )


def divided(
    spec: Spec,
    splits: Mapping[str, Any],
    *,
    kind: str,
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
        kind: text, image or sound.
        seed: divides a single split and draws `max_samples`.
        label: the column that a split must have filled to be tested on; None: any will do.
        encode: (rows, spec, names or None) -> rows with a column `label`, and the names that it found.
        known: names that the labels must be among.
        strata: rows -> (rows,) classes that both parts shall have in proportion, or None.
    """
    train = train_of(splits, spec)
    candidates = [splits[name] for name in ("test", "validation") if name in splits and splits is not None]
    filled = (part for part in candidates if len(part) and (label is None or has_labels(part, label)))
    with quiet():
        own = next(filled, None) if "train" in splits else None
        made, names = encode(train, spec, known)
        if len(made) < (1 if own is not None else 2):
            raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has too few rows to train and to test on")
        if own is not None:
            test = encode(own, spec, names)[0]
        else:
            classes = strata(made)
            if classes is None:
                kept, held = random_division(len(made), test_size, seed)
            else:
                kept, held = stratified_division(classes.tolist(), _numbers(classes), test_size, seed)
            made, test = made.select(kept), made.select(held)
        made = made.select(sample(len(made), max_samples, seed))
    return DatasetDict(train=made, test=test), names


def _numbers(classes: np.ndarray) -> list[str]:
    return [str(number) for number in range(int(classes.max()) + 1)]


def contents(rows: Dataset, spec: Spec, kind: str) -> tuple[Dataset, dict[str, str]]:
    """The rows that have content, and which columns hold it: {"text": ..., "text_pair": ...}, or the one of a kind."""
    pair = pair_columns(rows.features, spec) if kind == "text" else None
    if pair is None:
        found = find_columns(rows.features, spec, need_label=False, kind=kind)[0]
        return with_content(rows, found, spec, kind), {CONTENT[kind]: found}
    for name in pair:
        rows = with_content(rows, name, spec, kind)
    return rows, dict(zip(("text", "text_pair"), pair, strict=True))


def only(rows: Dataset, columns: Mapping[str, str], labels: Sequence[Any], feature: Any) -> Dataset:
    """The named columns under their roles, and the labels."""
    taken = rows.with_format(None).select_columns(list(columns.values()))
    for role, name in columns.items():
        taken = taken if role == name else taken.rename_column(name, role)
    return taken.add_column("label", list(labels), feature=feature)


def encode_tags(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, list[str]]:
    """Several labels a row: (k,) zeros and ones."""
    label = label_column(rows.features, spec, kind)
    rows, columns = contents(rows, spec, kind)
    named, found = _named_lists(rows, label, spec)
    names = list(known) if known else found
    index = _indexed(named, names, spec)
    marks = np.zeros((len(named), len(names)), dtype=np.float32)
    for row, labels in enumerate(named):
        marks[row, [index[name] for name in labels]] = 1
    return only(rows, columns, marks.tolist(), List(Value("float32"))), names


def encode_numbers(rows: Dataset, spec: Spec, known: Any, *, kind: str) -> tuple[Dataset, list[str]]:
    """One number a row."""
    label = label_column(rows.features, spec, kind)
    rows, columns = contents(rows, spec, kind)
    values = column(rows, label)
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has {value!r} in the column '{label}', and a "
                "regression needs numbers; fill or remove it, or set task"
            )
    return only(rows, columns, [float(value) for value in values], Value("float32")), ["value"]


def encode_word_tags(rows: Dataset, spec: Spec, known: Any) -> tuple[Dataset, list[str]]:
    """A label for each word."""
    tokens = token_column(rows.features, spec)
    label = _given(rows.features, spec, "label", TAG_NAMES)
    if tokens is None:
        raise _unclear("tokens", rows.features, spec)
    if label is None or not isinstance(rows.features[label], List):
        raise _unclear("label", rows.features, spec)
    words = column(rows, tokens)
    kept = [number for number, row in enumerate(words) if row]
    if len(kept) < len(words):
        logger.info("%s: dropped %d rows without words", spec.key, len(words) - len(kept))
        rows, words = rows.select(kept), [words[number] for number in kept]
    named, found = _named_lists(rows, label, spec)
    for number, (row, tags) in enumerate(zip(words, named, strict=True)):
        if len(row) != len(tags):
            raise HFTransferError(
                f"{spec.key}: row {kept[number] + 1} of '{display_name(spec)}' has {len(row)} words and {len(tags)} "
                "labels; each word needs one"
            )
    names = list(known) if known else found
    index = _indexed(named, names, spec)
    coded = [[index[name] for name in tags] for tags in named]
    return only(rows, {"tokens": tokens}, coded, List(Value("int64"))), names


def encode_answers(rows: Dataset, spec: Spec, known: Any) -> tuple[Dataset, list[str]]:
    """Messages, or prompts with completions; these as two messages."""
    found = answer_columns(rows.features, spec)
    if not found:
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has neither messages nor prompts with completions; columns found: "
            f"{', '.join(rows.features)}; write columns: {{prompt: NAME, completion: NAME}}"
        )
    if len(found) == 1:
        talks = [
            [{"role": str(m["role"]), "content": str(m["content"])} for m in row] for row in column(rows, found[0])
        ]
    else:
        prompts, answers = (_texts(rows, name, spec) for name in found)
        talks = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
    for number, talk in enumerate(talks):
        if not any(message["role"] == "assistant" for message in talk):
            raise HFTransferError(
                f"{spec.key}: row {number + 1} of '{display_name(spec)}' has no message of the role assistant to learn"
            )
    return Dataset.from_dict({"messages": talks, "label": [0] * len(talks)}), []


def _texts(rows: Dataset, name: str, spec: Spec) -> list[str]:
    """A column's texts; classes by their names."""
    feature, values = rows.features[name], column(rows, name)
    if isinstance(feature, ClassLabel):
        return [feature.names[value] for value in values]
    empty = next((number for number, value in enumerate(values) if value is None or not str(value).strip()), None)
    if empty is not None:
        raise HFTransferError(
            f"{spec.key}: row {empty + 1} of '{display_name(spec)}' has nothing in the column '{name}'; fill or "
            "remove it"
        )
    return [str(value) for value in values]


def _named_lists(rows: Dataset, label: str, spec: Spec) -> tuple[list[list[str]], list[str]]:
    """Each row's labels by name, and all names: a ClassLabel's own, else those that occur, sorted."""
    feature = rows.features[label]
    if not isinstance(feature, List):
        kind = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise HFTransferError(
            f"{spec.key}: the label column '{label}' holds {kind}, and this task needs lists of labels"
        )
    values = column(rows, label)
    missing = next((number for number, row in enumerate(values) if row is None or any(v is None for v in row)), None)
    if missing is not None:
        raise HFTransferError(
            f"{spec.key}: row {missing + 1} of '{display_name(spec)}' has no label; fill or remove it"
        )
    if isinstance(feature.feature, ClassLabel):
        names = list(feature.feature.names)
        return [[names[value] for value in row] for row in values], names
    named = [[str(value) for value in row] for row in values]
    seen = {name for row in named for name in row}
    whole = all(name.removeprefix("-").isdigit() for name in seen)
    return named, sorted(seen, key=int) if whole else sorted(seen)


def _indexed(named: Sequence[Sequence[str]], names: Sequence[str], spec: Spec) -> dict[str, int]:
    index = {name: number for number, name in enumerate(names)}
    unseen = sorted({name for row in named for name in row} - set(index))
    if unseen:
        shown = ", ".join(f"'{name}'" for name in unseen[:5])
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has labels that its training rows, or the checkpoint, lack: {shown}"
            f"{nearest(unseen[0], names)}"
        )
    return index
