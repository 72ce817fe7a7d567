"""A function's typed signature is the one list of its options.

From it come validation, coercion, `--help` and the editors' JSON schema; nothing here imports torch.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import HFTransferError, nearest
from hftransfer.foreign import FieldError, FieldsOf
from hftransfer.wording import misfit


@dataclass(frozen=True)
class OneOf:
    """Marks a string option that takes one of the names of a table."""

    names: tuple[str, ...]

    @property
    def type_name(self) -> str:
        return f"one of {', '.join(self.names)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: str) -> str:
            if value not in self.names:
                raise ValueError(f"there is no '{value}'{nearest(value, self.names)}")
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.names)}


@dataclass(frozen=True)
class Block:
    """Marks a mapping whose keys are the keyword-only options of a function, or of one named `module:function`.

    The function's module is imported when its options are first asked for, so it must import no torch. What is not
    given in a block has the function's default; a block that is absent, null or empty stays as it is.
    """

    home: str | Callable[..., Any]

    @property
    def function(self) -> Callable[..., Any]:
        if callable(self.home):
            return self.home
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def type_name(self) -> str:
        return "mapping"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        nested = model_of(self.function).model_json_schema(by_alias=True)
        del nested["title"]
        return {"anyOf": [nested, {"type": "null"}]} if "anyOf" in handler(schema) else nested

    def check(self, values: Any) -> Any:
        """The whole block, coerced. Raises `ValueError` naming the first bad key."""
        if values is None or values == {}:
            return values
        if not isinstance(values, Mapping):
            names = ", ".join(option.name for option in options(self.function))
            raise ValueError(f"expected a mapping of {names}; found {values!r}")
        return _checked(self.function, values)


@dataclass(frozen=True)
class DefaultBy:
    """Marks an option whose default is another option's matter: `defaults` maps that one's values to it.

    A value that is not among them has no such option. A mapping's default is laid under what is given.
    """

    other: str
    defaults: Mapping[str, Any] = field(hash=False)

    def filled(self, choice: Any, given: Any) -> Any:
        if choice not in self.defaults:
            if given not in (None, {}):
                raise HFTransferError(f"{self.other} {choice} has no such option; remove it")
            return given
        default = self.defaults[choice]
        if isinstance(default, Mapping):
            return {**default, **(given or {})}
        return default if given is None else given


@dataclass(frozen=True)
class Option:
    """One line of `--help`."""

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def block(self) -> Callable[..., Any] | None:
        """The function whose options are this option's keys."""
        return next((mark.function for mark in marks(self.annotation) if isinstance(mark, Block)), None)


def marks(annotation: Any) -> list[Any]:
    """All that an annotation is marked with, in `X | None` too."""
    own = list(get_args(annotation)[1:]) if get_origin(annotation) is Annotated else []
    parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return own + [mark for part in parts if not isinstance(part, str) for mark in marks(part)]


@functools.cache
def options(function: Callable[..., Any]) -> tuple[Option, ...]:
    """The options of a function in signature order, with the text of their `Field(description=...)`."""
    found = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        metadata = get_args(parameter.annotation)[1:] if get_origin(parameter.annotation) is Annotated else ()
        text = next((m.description for m in metadata if hasattr(m, "description")), "")
        found.append(Option(parameter.name, parameter.annotation, parameter.default, text or ""))
    return tuple(found)


@functools.cache
def model_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The pydantic model of a function's options: unknown keys are errors, defaults are the signature's."""
    fields: dict[str, Any] = {
        # a trailing underscore keeps pydantic's own attribute names (`schema`, `model_...`) free
        f"{option.name}_": (option.annotation, Field(... if option.required else option.default, alias=option.name))
        for option in options(function)
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    return create_model(getattr(function, "__name__", "options"), __config__=config, **fields)


def validate(function: Callable[..., Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Coerces `values` to the signature's types and fills in defaults, also field by field of a `FieldsOf` mapping.

    Raises:
        HFTransferError: for an unknown key, a missing one or a wrong type; the message starts with `prefix` + key.
    """
    try:
        return _checked(function, values, prefix if prefix.endswith(".") else "")
    except FieldError as error:
        raise HFTransferError(f"{prefix}{error.key.removeprefix('.')}: {error}") from error


def _checked(function: Callable[..., Any], values: Mapping[str, Any], dotted: str = "") -> dict[str, Any]:
    """What `validate` gives. Raises `FieldError`; `dotted` comes before the names that it suggests."""
    names = [option.name for option in options(function)]
    for key in values:
        if key not in names:
            raise FieldError(key, f"unknown key{nearest(key, names, dotted)}")
    try:
        checked = model_of(function).model_validate(dict(values))
    except ValidationError as error:
        raise _first(function, error, values) from error
    found = {option.name: _filled(option, getattr(checked, f"{option.name}_")) for option in options(function)}
    for option in options(function):
        for mark in get_args(option.annotation)[1:]:
            if isinstance(mark, DefaultBy):
                try:
                    found[option.name] = mark.filled(found[mark.other], found[option.name])
                except HFTransferError as error:
                    raise FieldError(option.name, str(error)) from error
    return found


def _filled(option: Option, value: Any) -> Any:
    """A mapping of another library's fields, laid over the signature's own: every field that is set is then seen."""
    fields = any(isinstance(mark, FieldsOf) for mark in get_args(option.annotation)[1:])
    return {**option.default, **value} if fields and isinstance(option.default, Mapping) else value


def _first(function: Callable[..., Any], error: ValidationError, values: Mapping[str, Any]) -> FieldError:
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "missing":
        return FieldError(key, "required, and not given")
    if first["type"] == "value_error":
        reason = first["ctx"]["error"]
        return FieldError(f"{key}{getattr(reason, 'key', '')}", str(reason))
    annotation = next(option.annotation for option in options(function) if option.name == key)
    return FieldError(key, misfit(annotation, values.get(key)))


def check(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises the same errors for a call from Python as for a recipe: `check(adapt, locals())`."""
    validate(function, arguments, prefix=f"{getattr(function, '__name__', 'call')}: ")


def json_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function's options, for editors."""
    schema = model_of(function).model_json_schema(by_alias=True)
    schema.pop("required", None)  # the chain fills `model` and the data in
    return schema
