"""Which column is the text and which the label, and what makes them unusable."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Value

from hftransfer.data.spec import Spec, display_name
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
TEXT_NAMES = ("text", "sentence", "content", "review", "document", "body", "comment", "tweet", "passage")
LABEL_NAMES = ("label", "labels", "target", "class", "category", "sentiment", "topic", "coarse_label")


def find_columns(features: Features | Mapping[str, Any], spec: Spec, need_label: bool) -> tuple[str, str | None]:
    """The names of the text column and of the label column (None when there is none and none is needed).

    Given columns win; else known names in any case; else, for the text, the only column of strings. Only names and
    types are looked at, never values.

    Raises:
        HFTransferError: when a column is not there or cannot be told; says what was found and the line to write.
    """
    for role, column in spec.columns.items():
        if column not in features:
            lacks = f"'{display_name(spec)}' has no column '{column}'{nearest(column, features)}"
            raise HFTransferError(f"{spec.key}.columns.{role}: {lacks}")
    label = spec.columns.get("label") or _named(LABEL_NAMES, features, spec.columns.get("text"))
    text = spec.columns.get("text") or _named(TEXT_NAMES, features, label) or _only_string(features, label)
    if text is None:
        raise _unclear("text", features, spec)
    if label is None and need_label:
        raise _unclear("label", features, spec)
    feature = features[text]
    if not (isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")):
        kind = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        hint = _columns_line("text", features)
        if kind == "null":
            raise HFTransferError(f"{spec.key}: the column '{text}' has no values at all; {hint}")
        raise HFTransferError(f"{spec.key}: the column '{text}' holds {kind}, not text; {hint}")
    return text, label


def _pandas(spec: Spec) -> str:
    """What may help in a csv file: pandas reads NA, null or None as missing."""
    as_words = "csv" in (spec.builder, spec.path)
    return "; if they say NA, null or None, write keep_default_na: false beside path" if as_words else ""


def _named(known: Sequence[str], features: Mapping[str, Any], taken: str | None) -> str | None:
    lowered = {name.lower(): name for name in reversed(list(features)) if name != taken}
    return next((lowered[name] for name in known if name in lowered), None)


def _only_string(features: Mapping[str, Any], label: str | None) -> str | None:
    strings = [
        name
        for name, feature in features.items()
        if name != label and isinstance(feature, Value) and feature.dtype.endswith(("string", "string_view"))
    ]
    return strings[0] if len(strings) == 1 else None


def _unclear(role: str, features: Mapping[str, Any], spec: Spec) -> HFTransferError:
    unclear = f"cannot tell which column of '{display_name(spec)}' is the {role}"
    return HFTransferError(f"{spec.key}: {unclear}; {_columns_line(role, features)}")


def _columns_line(role: str, features: Mapping[str, Any]) -> str:
    return f"columns found: {', '.join(features)}; write columns: {{{role}: NAME}}"


def with_text(rows: Dataset, text: str, spec: Spec) -> Dataset:
    """The rows whose text says something. Blank ones are dropped and counted in the log.

    Raises:
        HFTransferError: when a text is missing (null), or nothing is left.
    """
    values = column(rows, text)
    missing = [number for number, value in enumerate(values) if value is None]
    if missing:
        raise HFTransferError(
            f"{spec.key}: {len(missing)} of {len(values)} rows of '{display_name(spec)}' have no text in the column "
            f"'{text}', first row {missing[0] + 1}; fill or remove them{_pandas(spec)}"
        )
    kept = [number for number, value in enumerate(values) if value.strip()]
    if not kept:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows with text in the column '{text}'")
    if len(kept) == len(values):
        return rows
    logger.info("%s: dropped %d rows whose text is blank", spec.key, len(values) - len(kept))
    return rows.select(kept)


def column(rows: Dataset, name: str) -> list[Any]:
    """One column as Python values, whatever format the dataset was set to."""
    table = rows.select_columns([name]).with_format("arrow")[:]
    return list(table[name].to_pylist())


def only_text(rows: Dataset, text: str) -> Dataset:
    """A dataset whose single column is `text`."""
    kept = rows.with_format(None).select_columns([text])
    kept = kept if text == "text" else kept.rename_column(text, "text")
    return kept if kept.features["text"].dtype == "string" else kept.cast_column("text", Value("string"))


def text_and_label(rows: Dataset, text: str, labels: Sequence[int], names: Sequence[str]) -> Dataset:
    """A dataset of the columns `text` and `label` (ClassLabel)."""
    feature = ClassLabel(names=list(names))
    return only_text(rows, text).add_column("label", np.asarray(labels, dtype=np.int64), feature=feature)


def has_labels(rows: Dataset, label: str | None) -> bool:
    """Whether every row has a label: published test splits often hold none, null or -1."""
    if label is None or label not in rows.column_names:
        return False
    values = column(rows, label)
    classes = isinstance(rows.features[label], ClassLabel)
    return not any(value is None or (classes and value < 0) for value in values)


def label_names_of(rows: Dataset, label: str, spec: Spec) -> list[str]:
    """Names of the classes: a ClassLabel's own in its order, else the values, sorted (numbers by size)."""
    feature = rows.features[label]
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    values = set(_named_values(rows, label, spec))
    numbers = all(name.removeprefix("-").isdigit() for name in values)
    return sorted(values, key=int) if numbers else sorted(values)


def encode_labels(rows: Dataset, label: str, names: Sequence[str], spec: Spec, known_from: str) -> list[int]:
    """The index in `names` of each row's label, matched by name.

    Raises:
        HFTransferError: for a missing label, or one that `names` does not have; `known_from` says whose they are.
    """
    values = _named_values(rows, label, spec)
    index = {name: number for number, name in enumerate(names)}
    unseen = sorted(set(values) - set(index))
    if unseen:
        raise HFTransferError(
            f"{spec.key}: '{display_name(spec)}' has labels that {known_from} lacks: {_shown(unseen)}; "
            f"known: {_shown(names)}"
        )
    return [index[value] for value in values]


def _shown(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:10]]
    return ", ".join(quoted) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _named_values(rows: Dataset, label: str, spec: Spec) -> list[str]:
    feature = rows.features[label]
    values = column(rows, label)
    classes = isinstance(feature, ClassLabel)
    missing = [number for number, value in enumerate(values) if value is None or (classes and value < 0)]
    if missing:
        raise HFTransferError(
            f"{spec.key}: {len(missing)} of {len(values)} rows of '{display_name(spec)}' have no label in the column "
            f"'{label}', first row {missing[0] + 1}; fill or remove them{_pandas(spec)}"
        )
    if isinstance(feature, ClassLabel):
        return [feature.names[value] for value in values]
    if not all(isinstance(value, str | int) or (isinstance(value, float) and value.is_integer()) for value in values):
        kind = feature.dtype if isinstance(feature, Value) else type(feature).__name__
        raise HFTransferError(
            f"{spec.key}: the label column '{label}' holds {kind}; labels are names, whole numbers or true/false"
        )
    return [str(int(value)) if isinstance(value, float) else str(value) for value in values]
