"""What a comparison is between: methods of `finetune` with their options, as a recipe writes them. No torch here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import HFTransferError, nearest
from hftransfer.methods import METHODS
from hftransfer.signatures import options, validate
from hftransfer.stages.finetune import finetune

PROBE = "probe"
FLOOR = "frozen_floor"  # the method that is shown beside others where they have no frozen one
SCRATCH = "scratch"  # as `against`: the same network, new
USUAL = ("scratch", "frozen", "lora", "full")
NAMES = (*METHODS, PROBE)
DECIDED = (
    "model",
    "data",
    "method",
    "task",
    "general",
    "folds",
    "max_length",
    "max_train_samples",
    "seed",
    "output_dir",
)


@dataclass(frozen=True)
class _Methods:
    """Makes pydantic accept a list of methods, each a name or a mapping of a name to options."""

    type_name = "list of methods"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        one: dict[str, Any] = {"type": "object", "minProperties": 1, "maxProperties": 1}
        one["properties"] = {name: {"type": "object"} for name in METHODS}
        return {"type": "array", "minItems": 1, "items": {"anyOf": [{"enum": list(NAMES)}, one]}}

    def check(self, value: Any) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise ValueError(f"expected a list of methods like [scratch, frozen, full], found {value!r}")
        ids = [_entry(entry)[0] for entry in value]
        for name in ids:
            if not re.fullmatch(r"[A-Za-z_][\w-]*", name):  # it names a folder
                raise ValueError(f"id '{name}': expected a name of letters, digits, - and _")
            if ids.count(name) > 1:
                raise ValueError(f"two are named '{name}'; give each its own id")
        return value


MethodList = Annotated[list[Any], _Methods()]


def _entry(entry: Any) -> tuple[str, str, dict[str, Any]]:
    """(id, method, options) of an entry of the list."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        method, given = next(iter(entry.items()))
        given = dict(given or {}) if isinstance(given, Mapping | None) else None
    else:
        method, given = entry, {}
    if not isinstance(method, str) or given is None:
        raise ValueError(f"expected a method's name or {{name: {{options}}}}, found {entry!r}")
    if method not in NAMES:
        raise ValueError(f"there is no method '{method}'{nearest(method, NAMES)}")
    known = [option.name for option in options(finetune) if option.name not in DECIDED]
    for name in given:
        if name in DECIDED:
            raise ValueError(f"{method}.{name}: the comparison decides it; remove it")
        if name != "id" and (name not in known or method == PROBE):
            raise ValueError(f"{method}.{name}: unknown key{nearest(name, ['id', *known])}")
    return str(given.pop("id", method)), method, given


@dataclass(frozen=True)
class Contender:
    """One way to take part: `given` are finetune's options, None for a probe."""

    name: str
    method: str
    given: dict[str, Any] | None

    @property
    def floor(self) -> bool:
        """Whether nobody asked for it: what the checkpoint's states hold already, to see others against."""
        return self.name == FLOOR


def contenders(given: Mapping[str, Any], task: str) -> list[Contender]:
    """The methods of a comparison with all their options, and a frozen head where none is among them.

    Raises:
        HFTransferError: an option of a method has a wrong value.
    """
    found: list[Contender] = []
    answers = task == "causal_lm"  # a language model has its own head
    entries = given["methods"] or [name for name in USUAL if not (answers and name == "frozen")]
    still = {PROBE, "frozen"} & {_entry(entry)[1] for entry in entries}
    for entry in [*entries, *([] if still or answers else [{"frozen": {"id": FLOOR}}])]:
        name, method, own = _entry(entry)
        if method == PROBE:
            found.append(Contender(name, method, None))
            continue
        training = {**given["training"], **(own.pop("training", None) or {})}
        common = {"model": given["model"], "data": given["data"], "task": given["task"]}
        common |= {"max_length": given["max_length"], "seed": given["seed"], "training": training}
        try:
            found.append(Contender(name, method, validate(finetune, {**common, "method": method, **own})))
        except HFTransferError as error:
            raise HFTransferError(f"methods: {method}.{error}") from error
    return found


class Side(NamedTuple):
    """Where the networks of a line come from."""

    name: str  # "" where there is but one side
    model: Any
    new: bool  # a new network of the model's config


@dataclass(frozen=True)
class Line:
    """A method from a side: a line in the picture."""

    contender: Contender
    side: Side

    @property
    def name(self) -> str:
        return f"{self.contender.name}.{self.side.name}" if self.side.name else self.contender.name


def sides(given: Mapping[str, Any]) -> list[Side]:
    """The pretrained side first."""
    if given["against"] is None:
        return [Side("", given["model"], False)]
    other = Side(SCRATCH, given["model"], True) if given["against"] == SCRATCH else None
    return [Side("pretrained", given["model"], False), other or Side("against", given["against"], False)]


def lines(given: Mapping[str, Any], task: str) -> list[Line]:
    """All lines; a method that begins anyway from nothing has no second side, nor has what nobody asked for."""
    return [
        Line(contender, side)
        for contender in contenders(given, task)
        for side in sides(given)
        if not (side.name and side.name != "pretrained" and (contender.method == "scratch" or contender.floor))
    ]
