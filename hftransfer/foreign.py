"""Options that another library names already: the fields of its dataclasses, read from its installed source.

They are never listed twice, and the library is not imported to know them.
"""

import ast
import functools
import importlib.util
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
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
            try:
                coerced[key] = TypeAdapter(fields[key][0]).validate_python(value)
            except ValidationError as error:
                raise FieldError(key, misfit(fields[key][0], value)) from error
        return coerced


class FieldError(ValueError):
    """What is wrong with one key of a mapping."""

    def __init__(self, key: object, reason: str) -> None:
        super().__init__(reason)
        self.key = f".{key}"


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
