"""Labels as a recipe writes them, and the prompts that are made of them. No torch here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import HFTransferError, nearest

LABEL, TEXT = "{label}", "{text}"
_MARK = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True)
class _Spec:
    """Makes pydantic accept a list of names, or a mapping of names to descriptions."""

    type_name = "list of names, or mapping of names to descriptions"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        name = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
        text = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}
        listed = {"type": "array", "minItems": 2, "items": name}
        return {"anyOf": [listed, {"type": "object", "minProperties": 2, "additionalProperties": text}]}

    def check(self, value: Any) -> list[str] | dict[str, Any]:
        if not isinstance(value, list | Mapping):
            raise ValueError(f"expected a list of names, or a mapping of names to descriptions, found {value!r}")
        names = [_name(name) for name in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two are named '{twice}'; give each its own name")
        if len(names) < 2:
            raise ValueError(f"found {f'one, {names[0]!r}' if names else 'none'}; telling labels apart needs two")
        if isinstance(value, list):
            return names
        return {name: _described(name, text) for name, text in zip(names, value.values(), strict=True)}


LabelSpec = Annotated[Any, _Spec()]


def _name(name: Any) -> str:
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise ValueError(f"expected names, found {name!r}; write it in quotes")
    return str(name)


def _described(name: str, text: Any) -> Any:
    texts = text if isinstance(text, list) else [text]
    if not texts or not all(isinstance(one, str) and one.strip() for one in texts):
        raise ValueError(f"{name}: expected a description, or a list of them, found {text!r}")
    return text


@dataclass(frozen=True)
class Prompts:
    """Labels, what each is called in a prompt, and the sentences around it."""

    names: tuple[str, ...]
    descriptions: tuple[tuple[str, ...], ...]  # of each label, one or more
    templates: tuple[str, ...]

    @property
    def owners(self) -> list[int]:
        """Whose each of all descriptions is, one label's after another's."""
        return [label for label, texts in enumerate(self.descriptions) for _ in texts]

    @property
    def words(self) -> list[str]:
        """All descriptions."""
        return [text for texts in self.descriptions for text in texts]

    def filled(self, template: str) -> list[str]:
        """A template with each of all descriptions in it."""
        return [template.replace(LABEL, word) for word in self.words]

    @property
    def first(self) -> str:
        """An example for people."""
        return self.templates[0].replace(LABEL, self.words[0])


def prompts(labels: Any, known: Sequence[str] | None, templates: Sequence[str]) -> Prompts:
    """What is asked.

    Args:
        labels: what `LabelSpec` accepts, or None: the data's own names.
        known: the data's labels; None where it has none.
        templates: with a place for the label.

    Raises:
        HFTransferError: the labels are not the data's.
    """
    if labels is None and not known:
        raise HFTransferError("labels: the data has no labels of its own; name them, like labels: [sports, politics]")
    found: Mapping[str, Any] = labels if isinstance(labels, Mapping) else dict.fromkeys(labels or known or ())
    for name in found if known else ():
        if known and name not in known:
            raise HFTransferError(f"labels: the data has no label '{name}'{nearest(name, known)}")
    missing = [name for name in known or () if name not in found]
    if missing:
        shown = ", ".join(f"'{name}'" for name in missing[:5])
        raise HFTransferError(f"labels: the data also has {shown}, which could never be told; add them")
    names = tuple(known) if known else tuple(found)
    if len(names) < 2:
        raise HFTransferError(f"labels: the data has one label, '{names[0]}'; telling labels apart needs two")
    return Prompts(names, tuple(_texts(name, found[name]) for name in names), tuple(templates))


def _texts(name: str, given: Any) -> tuple[str, ...]:
    if given is None:
        return (name.replace("_", " "),)
    return (given,) if isinstance(given, str) else tuple(given)


def check_templates(templates: Sequence[str], *, way: str, text: bool, last: bool = False) -> None:
    """Each needs a place for the label, and one for the text where a way puts both into one prompt.

    Args:
        way: how errors name what asks.
        text: whether it is such a way.
        last: whether the label must be the end.

    Raises:
        HFTransferError: naming the template.
    """
    for template in templates:
        _check_marks(template, (LABEL, TEXT) if text else (LABEL,), way)
        if last and not (template.endswith(LABEL) and template.index(TEXT) < template.index(LABEL)):
            raise HFTransferError(
                f"templates: '{_shown(template)}': {way} reads from left to right, so {LABEL} must be its end"
            )


def _check_marks(template: str, wanted: Iterable[str], way: str) -> None:
    marks = [f"{{{name}}}" for name in _MARK.findall(template)]
    for mark in wanted:
        if marks.count(mark) != 1:
            how = "no" if mark not in marks else "more than one"
            raise HFTransferError(
                f"templates: '{_shown(template)}' has {how} {mark}; {way} needs one, like '{' '.join(wanted)}'"
            )
    for mark in marks:
        if mark not in wanted:
            why = f"{way} reads the text by itself; remove it" if mark == TEXT else f"write {LABEL}"
            raise HFTransferError(f"templates: '{_shown(template)}' has {mark}; {why}")


def _shown(template: str) -> str:
    return template.replace("\n", "\\n")
