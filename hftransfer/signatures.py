"""A function's typed signature is the one list of its options.

From it come validation, coercion, `--help` and the editors' JSON schema; nothing here imports torch. Options that
another library already names (`TrainingArguments`) are read from that library's installed source, so they are never
listed twice.
"""

import ast
import difflib
import functools
import importlib.util
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, TypeAdapter, ValidationError, create_model
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import HFTransferError, nearest

MANY_NAMES = 20  # an error does not list more


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
class FieldsOf:
    """Marks a mapping whose keys are the fields of another library's dataclass, under their own names.

    `refused` maps the fields that cannot be set here to the reason.
    """

    module: str
    name: str
    refused: Mapping[str, str] = field(hash=False)

    @property
    def type_name(self) -> str:
        return f"fields of {self.name}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.check, core_schema.dict_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        fields = dataclass_fields(self.module, self.name)
        properties = {
            name: {**TypeAdapter(annotation).json_schema(), "description": text}
            for name, (annotation, text) in fields.items()
            if name not in self.refused
        }
        return {"type": "object", "properties": properties, "additionalProperties": False}

    def check(self, values: Any) -> dict[str, Any]:
        """Coerces each value to its field's type. Raises `ValueError` naming the first bad key."""
        if not isinstance(values, Mapping):
            raise ValueError(f"expected the fields of {self.name} as a mapping, found {values!r}")
        fields = dataclass_fields(self.module, self.name)
        coerced = {}
        for key, value in values.items():
            if key in self.refused:
                raise _FieldError(key, f"cannot be set here: {self.refused[key]}")
            if key not in fields:
                known = [name for name in fields if name not in self.refused]
                close = nearest(key, known)
                hint = close if "did you mean" in close else ""  # a hundred names are no help
                raise _FieldError(key, f"{self.name} has no such field{hint}")
            try:
                coerced[key] = TypeAdapter(fields[key][0]).validate_python(value)
            except ValidationError as error:
                raise _FieldError(key, _misfit(fields[key][0], value)) from error
        return coerced


class _FieldError(ValueError):
    """What is wrong with one key of a mapping."""

    def __init__(self, key: object, reason: str) -> None:
        super().__init__(reason)
        self.key = f".{key}"


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


@functools.cache
def dataclass_fields(module: str, name: str) -> dict[str, tuple[Any, str]]:
    """`{field: (type, first line of its help)}` of a dataclass, read from its source without importing it."""
    parsed = ast.parse(source_of(module).read_text(encoding="utf-8"))
    body = next(node.body for node in parsed.body if isinstance(node, ast.ClassDef) and node.name == name)
    fields = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            fields[node.target.id] = (_evaluate(node.annotation, parsed, module), _field_help(node.value))
    return fields


def source_of(module: str) -> Path:
    """The source file of an installed module, found without importing it (or its parents)."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise HFTransferError(f"the package '{package}' is not installed; type: pip install {package}")
    path = Path(spec.origin).parent.joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _evaluate(annotation: ast.expr, parsed: ast.Module, module: str) -> Any:
    known = {"Any": Any, "Literal": Literal, "dict": dict, "list": list, "tuple": tuple}
    known |= {"Optional": typing.Optional, "Union": typing.Union}
    known |= {"str": str, "int": int, "float": float, "bool": bool, "None": None}
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id not in known:
            members = _enum_members(node.id, parsed, module)
            if members:  # in YAML an enum is its values; the `| str` beside it would let any word pass
                return Literal[members]
            known[node.id] = str
    return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, known)


def _enum_members(name: str, parsed: ast.Module, module: str) -> tuple[str, ...]:
    """The string values of an enum that a module defines or imports from its own package."""
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and any(alias.name == name for alias in node.names):
            home = f"{module.rpartition('.')[0]}.{node.module}"
            return _enum_members(name, ast.parse(source_of(home).read_text(encoding="utf-8")), home)
        if isinstance(node, ast.ClassDef) and node.name == name:
            values = [item.value for item in node.body if isinstance(item, ast.Assign)]
            return tuple(v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))
    return ()


def _field_help(value: ast.expr | None) -> str:
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Dict):
            texts = [v for k, v in zip(node.keys, node.values, strict=True) if getattr(k, "value", "") == "help"]
            if texts:
                words = [
                    n.value for n in ast.walk(texts[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                return " ".join("".join(words).split()).split(". ")[0].rstrip(".")
    return ""


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
    names = [option.name for option in options(function)]
    for key in values:
        if key not in names:
            dotted = prefix if prefix.endswith(".") else ""
            raise HFTransferError(f"{prefix}{key}: unknown key{nearest(key, names, dotted)}")
    try:
        checked = model_of(function).model_validate(dict(values))
    except ValidationError as error:
        raise HFTransferError(_first_line(function, error, values, prefix)) from error
    found = {option.name: _filled(option, getattr(checked, f"{option.name}_")) for option in options(function)}
    for option in options(function):
        for mark in get_args(option.annotation)[1:]:
            if isinstance(mark, DefaultBy):
                try:
                    found[option.name] = mark.filled(found[mark.other], found[option.name])
                except HFTransferError as error:
                    raise HFTransferError(f"{prefix}{option.name}: {error}") from error
    return found


def _filled(option: Option, value: Any) -> Any:
    """A mapping of another library's fields, laid over the signature's own: every field that is set is then seen."""
    fields = any(isinstance(mark, FieldsOf) for mark in get_args(option.annotation)[1:])
    return {**option.default, **value} if fields and isinstance(option.default, Mapping) else value


def _first_line(function: Callable[..., Any], error: ValidationError, values: Mapping[str, Any], prefix: str) -> str:
    first = error.errors()[0]
    key = str(first["loc"][0])
    if first["type"] == "missing":
        return f"{prefix}{key}: required, and not given"
    if first["type"] == "value_error":
        reason = first["ctx"]["error"]
        return f"{prefix}{key}{getattr(reason, 'key', '')}: {reason}"
    annotation = next(option.annotation for option in options(function) if option.name == key)
    return f"{prefix}{key}: {_misfit(annotation, values.get(key))}"


def _misfit(annotation: Any, value: Any) -> str:
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


def check(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises the same errors for a call from Python as for a recipe: `check(adapt, locals())`."""
    validate(function, arguments, prefix=f"{getattr(function, '__name__', 'call')}: ")


def type_name(annotation: Any) -> str:
    """A type as `--help` prints it: `number > 0 and < 1`, `one of a, b`, `text or null`; marks name themselves."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        named = [mark.type_name for mark in metadata if hasattr(mark, "type_name")]
        bounds = " and ".join(_bounds(metadata))
        plain, null, _ = type_name(inner).partition(" or null")
        return named[0] if named else f"{plain} {bounds}".strip() + null
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


def json_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """The JSON schema of a function's options, for editors."""
    schema = model_of(function).model_json_schema(by_alias=True)
    schema.pop("required", None)  # the chain fills `model` and the data in
    return schema
