"""Options that another library names already: the fields of its dataclasses, read from its installed source.

They are never listed twice, and the library is not imported to know them.
"""

import ast
import functools
import importlib.util
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema

from hftransfer.errors import HFTransferError, nearest
from hftransfer.wording import misfit


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
                raise FieldError(key, f"cannot be set here: {self.refused[key]}")
            if key not in fields:
                known = [name for name in fields if name not in self.refused]
                close = nearest(key, known)
                hint = close if "did you mean" in close else ""  # a hundred names are no help
                raise FieldError(key, f"{self.name} has no such field{hint}")
            coerced[key] = _coerced(key, value, fields[key][0])
        return coerced


def _coerced(key: str, value: Any, annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0].get("ctx", {}).get("error")
        if isinstance(reason, FieldError):  # of a mapping in this mapping
            raise FieldError(f"{key}{reason.key}", str(reason)) from error
        raise FieldError(key, misfit(annotation, value)) from error


class FieldError(ValueError):
    """What is wrong with one key of a mapping."""

    def __init__(self, key: object, reason: str) -> None:
        super().__init__(reason)
        self.key = f".{key}"


@functools.cache
def dataclass_fields(module: str, name: str) -> dict[str, tuple[Any, str]]:
    """`{field: (type, first line of its help)}` of a dataclass, read from its source without importing it.

    Those of the classes that it is made from, as far as they are of its own package, come first.
    """
    node, module = _defined(name, module) or _missing(name, module)
    fields: dict[str, tuple[Any, str]] = {}
    for base in node.bases:
        found = _defined(base.id, module) if isinstance(base, ast.Name) else None
        fields |= dataclass_fields(found[1], found[0].name) if found else {}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            fields[item.target.id] = (_evaluate(item.annotation, module), _field_help(item.value))
    return fields


def _missing(name: str, module: str) -> Any:
    raise HFTransferError(f"{module} has no class {name}; install the version that hftransfer requires")


@functools.cache
def _defined(name: str, module: str) -> tuple[ast.ClassDef, str] | None:
    """A class and the module that defines it, given one that defines it or imports it from its own package."""
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            home = _imported_from(node, module)
            if home.partition(".")[0] == module.partition(".")[0]:
                return _defined(name, home)
    return None


def _imported_from(node: ast.ImportFrom, module: str) -> str:
    """The absolute name of the module that an import in `module` is from."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + (source_of(module).name == "__init__.py")]
    return ".".join([*parts, *([node.module] if node.module else [])])


@functools.cache
def _parsed(module: str) -> ast.Module:
    return ast.parse(source_of(module).read_text(encoding="utf-8"))


def source_of(module: str) -> Path:
    """The source file of an installed module, found without importing it (or its parents)."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise HFTransferError(f"the package '{package}' is not installed; type: pip install {package}")
    path = Path(spec.origin).parent.joinpath(*rest)
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _evaluate(annotation: ast.expr, module: str) -> Any:
    known: dict[str, Any] = {"Any": Any, "Literal": Literal, "dict": dict, "list": list, "tuple": tuple}
    known |= {"Optional": _Union(None), "Union": _Union()}
    known |= {"str": str, "int": int, "float": float, "bool": bool, "None": None}
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name) and node.id not in known:
            found = _defined(node.id, module)
            members = _enum_members(found[0]) if found else ()
            if members:  # in YAML an enum is its values; the `| str` beside it would let any word pass
                return Literal[members]
            known[node.id] = str
            if found and found[0].decorator_list:  # a dataclass
                known[node.id] = Annotated[dict[str, Any], FieldsOf(found[1], node.id, {})]
    return _with_patterns(
        eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {"__builtins__": {}}, known)
    )


class _Union:
    """`Union[...]`, with more parts, in the order in which they are written.

    typing's own takes a union of the same parts that was made before for the same, in whatever order that has them.
    """

    def __init__(self, *more: Any) -> None:
        self.more = more

    def __getitem__(self, parts: Any) -> Any:
        flat: list[Any] = []
        for part in (*(parts if isinstance(parts, tuple) else (parts,)), *self.more):
            flat += get_args(part) if get_origin(part) in (Union, types.UnionType) else [part]
        return Union[tuple(flat)]  # noqa: UP007


def _enum_members(node: ast.ClassDef) -> tuple[str, ...]:
    """The string values of an enum."""
    values = [item.value for item in node.body if isinstance(item, ast.Assign)]
    return tuple(v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str))


def _with_patterns(annotation: Any) -> Any:
    """A type whose words hold a number to fill in (`niter_[number of iters]`) takes such words too."""
    if get_origin(annotation) in (Union, types.UnionType):
        return _Union()[tuple(_with_patterns(part) for part in get_args(annotation))]
    words = get_args(annotation) if get_origin(annotation) is Literal else ()
    open_ended = [word for word in words if isinstance(word, str) and re.search(r"\[number", word)]
    if not open_ended:
        return annotation
    patterns = [re.sub(r"\\\[number.*?\\\]", "[0-9]+", re.escape(word)) for word in open_ended]
    taken = [Annotated[str, Field(pattern=f"^{pattern}$")] for pattern in patterns]
    taken.append(Literal[tuple(word for word in words if word not in open_ended)])
    return _Union()[tuple(taken)]


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
