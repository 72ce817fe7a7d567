"""Which column is the text, image or sound and which the label, and what makes them unusable."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Audio, ClassLabel, Dataset, Features, Image, Value

from hftransfer.data.spec import CONTENT, Spec, display_name
from hftransfer.errors import HFTransferError, nearest

logger = logging.getLogger("hftransfer")
CONTENT_NAMES = {
    "text": ("text", "sentence", "content", "review", "document", "body", "comment", "tweet", "passage"),
    "image": ("image", "img", "picture", "photo"),
    "sound": ("audio", "sound", "speech", "recording"),
}
STORED = {"text": Value("string"), "image": Image(decode=False), "sound": Audio(decode=False)}
LABEL_NAMES = ("label", "labels", "target", "class", "category", "sentiment", "topic", "coarse_label")


def find_columns(
    features: Features | Mapping[str, Any], spec: Spec, need_label: bool, kind: str = "text"
) -> tuple[str, str | None]:
    """The names of the content's column and of the label's (None when there is none and none is needed).

    Given columns win; else known names in any case; else, for the content, the only column of its type. Only names
    and types are looked at, never values.

    Raises:
        HFTransferError: when a column is not there or cannot be told; says what was found and the line to write.
    """
    role = CONTENT[kind]
    for given, column in spec.columns.items():
        if column not in features:
            lacks = f"'{display_name(spec)}' has no column '{column}'{nearest(column, features)}"
            raise HFTransferError(f"{spec.key}.columns.{given}: {lacks}")
    label = spec.columns.get("label") or _named(LABEL_NAMES, features, spec.columns.get(role))
    content = spec.columns.get(role) or _named(CONTENT_NAMES[kind], features, label)
    content = content or _only_one(features, label, kind)
    if content is None:
        raise _unclear(role, features, spec)
    if label is None and need_label:
        raise _unclear("label", features, spec)
    if not _holds(features[content], kind):
        feature = features[content]
        found = feature.dtype if isinstance(feature, Value) else type(feature).__name__.lower()
        hint = _columns_line(role, features)
        if found == "null":
            raise HFTransferError(f"{spec.key}: the column '{content}' has no values at all; {hint}")
        raise HFTransferError(f"{spec.key}: the column '{content}' holds {found}, not {role}; {hint}")
    return content, label


def _holds(feature: Any, kind: str) -> bool:
    """Whether a column's type is the kind's."""
    if kind == "text":
        return isinstance(feature, Value) and feature.dtype in ("string", "large_string", "string_view")
    return isinstance(feature, type(STORED[kind]))


def _pandas(spec: Spec) -> str:
    """What may help in a csv file: pandas reads NA, null or None as missing."""
    as_words = "csv" in (spec.builder, spec.path)
    return "; if they say NA, null or None, write keep_default_na: false beside path" if as_words else ""


def _named(known: Sequence[str], features: Mapping[str, Any], taken: str | None) -> str | None:
    lowered = {name.lower(): name for name in reversed(list(features)) if name != taken}
    return next((lowered[name] for name in known if name in lowered), None)


def _only_one(features: Mapping[str, Any], label: str | None, kind: str) -> str | None:
    fitting = [name for name, feature in features.items() if name != label and _holds(feature, kind)]
    return fitting[0] if len(fitting) == 1 else None


def _unclear(role: str, features: Mapping[str, Any], spec: Spec) -> HFTransferError:
    unclear = f"cannot tell which column of '{display_name(spec)}' is the {role}"
    return HFTransferError(f"{spec.key}: {unclear}; {_columns_line(role, features)}")


def _columns_line(role: str, features: Mapping[str, Any]) -> str:
    return f"columns found: {', '.join(features)}; write columns: {{{role}: NAME}}"


def with_content(rows: Dataset, content: str, spec: Spec, kind: str = "text") -> Dataset:
    """The rows whose content says something. Blank texts are dropped and counted in the log.

    Raises:
        HFTransferError: when a content is missing (null), or nothing is left.
    """
    role = CONTENT[kind]
    stored = rows if kind == "text" else rows.cast_column(content, STORED[kind])
    values = column(stored, content)
    missing = [number for number, value in enumerate(values) if value is None]
    if missing:
        raise HFTransferError(
            f"{spec.key}: {len(missing)} of {len(values)} rows of '{display_name(spec)}' have no {role} in the column "
            f"'{content}', first row {missing[0] + 1}; fill or remove them{_pandas(spec)}"
        )
    kept = [number for number, value in enumerate(values) if kind != "text" or value.strip()]
    if not kept:
        raise HFTransferError(f"{spec.key}: '{display_name(spec)}' has no rows with {role} in the column '{content}'")
    if len(kept) == len(values):
        return stored
    logger.info("%s: dropped %d rows whose text is blank", spec.key, len(values) - len(kept))
    return stored.select(kept)


def column(rows: Dataset, name: str) -> list[Any]:
    """One column as Python values, whatever format the dataset was set to."""
    table = rows.select_columns([name]).with_format("arrow")[:]
    return list(table[name].to_pylist())


def only_content(rows: Dataset, content: str, kind: str = "text") -> Dataset:
    """A dataset whose single column is `text`, `image` or `audio`; images and sounds stay as they are stored."""
    name = CONTENT[kind]
    kept = rows.with_format(None).select_columns([content])
    kept = kept if content == name else kept.rename_column(content, name)
    return kept if kept.features[name] == STORED[kind] else kept.cast_column(name, STORED[kind])


def content_and_label(
    rows: Dataset, content: str, labels: Sequence[int], names: Sequence[str], kind: str = "text"
) -> Dataset:
    """A dataset of the content's column and `label` (ClassLabel)."""
    feature = ClassLabel(names=list(names))
    kept = only_content(rows, content, kind)
    return kept.add_column("label", np.asarray(labels, dtype=np.int64), feature=feature)


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
