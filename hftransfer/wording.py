"""What a type takes, in words: for `--help`, and for an error about a value that does not fit."""

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

from hftransfer.errors import nearest

MANY_NAMES = 20  # an error does not list more


def type_name(annotation: Any) -> str:
    """A type as `--help` prints it: `number > 0 and < 1`, `one of a, b`, `text or null`; marks name themselves."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        named = [mark.type_name for mark in metadata if hasattr(mark, "type_name")]
        bounds = " and ".join(_bounds(metadata))
        plain, null, _ = type_name(inner).partition(" or null")
        return (named[0] if named else f"{plain} {bounds}".strip()) + null
    if get_origin(annotation) in (typing.Union, types.UnionType):
        names = dict.fromkeys(type_name(part) for part in get_args(annotation))
        return " or ".join(sorted(names, key="null".__eq__))
    if get_origin(annotation) is Literal:
        taken = [str(name) for name in get_args(annotation)]
        return f"one of {', '.join(taken) if len(taken) <= MANY_NAMES else f'{len(taken)} names'}"
    known = _WORDS.get(annotation) or _WORDS.get(get_origin(annotation))
    return known or str(getattr(annotation, "__name__", annotation))


_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
    None: "null",
    dict: "mapping",
    list: "list",
    Any: "anything",
}


def _bounds(metadata: Iterable[Any]) -> Iterable[str]:
    for mark in metadata:
        for inner in getattr(mark, "metadata", [mark]):
            for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
                if hasattr(inner, attribute):
                    yield f"{sign} {getattr(inner, attribute):g}"
            if getattr(inner, "pattern", None):
                yield f"like {inner.pattern.strip('^$')}"


def misfit(annotation: Any, value: Any) -> str:
    """What a type takes, what was found, and the nearest of the names it takes when one is near."""
    names = [str(name) for name in _choices(annotation)]
    close = nearest(value, names)
    hint = close if "did you mean" in close else ""  # otherwise the type lists them
    if not hint and len(names) > MANY_NAMES:
        hint = f"; the nearest are {', '.join(difflib.get_close_matches(str(value), names, n=3, cutoff=0))}"
    return f"expected {type_name(annotation)}, found {value!r}{hint}"


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return [choice for part in parts for choice in _choices(part)]
