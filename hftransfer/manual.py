"""What the front door prints about recipes, and the JSON schema that editors complete from. Imports no torch."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from hftransfer import chain
from hftransfer.signatures import Option, json_schema, options
from hftransfer.stages import PUSH, STAGES, verb
from hftransfer.wording import type_name

USAGE = """\
usage: accelerate launch -m hftransfer.recipe NAME|FILE.yaml [--dry_run] [--KEY VALUE | KEY=VALUE ...]
       python -m hftransfer.recipe --list | NAME --help | schema

Keys are a recipe's fields (--model, --source, --target, --seed, --output_dir, --max_train_samples) or a stage's
options by its name (--adapt.method cdan, adapt.training.learning_rate=3e-5). Values are YAML: null, [a, b], 1e-4.
A mapping ({a: 1}) is laid over the recipe's; null takes the recipe's away (--pretrain.config null).
Any recipe's result is published with --push.repo_id NAMESPACE/NAME, which is checked before anything is trained.
HFTRANSFER_DEBUG=1 shows the traceback of an error."""


def listing() -> Table:
    """All shipped recipes: name, what it does, measured time."""
    table = Table(box=None, pad_edge=False)
    for heading in ("Recipe", "What it does", "Time on the embedded default"):
        table.add_column(heading, overflow="fold")
    for name in chain.names():
        raw = chain.load(chain.find(name))
        table.add_row(name, Text(str(raw.get("description", ""))), Text(str(raw.get("time", ""))))
    return table


def help_page(recipe: chain.Recipe) -> Group:
    """Every option of one recipe with its type, its value in this recipe, and one line."""
    parts: list[Any] = [Text(f"{recipe.name}: {recipe.top['description']}"), Text(USAGE), Text()]
    top = [option for option in options(chain.fields) if option.name not in ("stages", "name", "description", "time")]
    parts.append(_table("", top, recipe.top))
    pushes = recipe.pushes or (chain.Step(PUSH, PUSH, recipe.push_defaults),)
    for step in (*recipe.steps, *pushes):
        chosen = [option for option in options(step.function) if option.name in step.given.keys() - chain.RUN_OPTIONS]
        title = f"{step.id}: {STAGES[step.verb].does}"
        parts += [Text(), Text(title, style="bold"), _table(f"{step.id}.", chosen, step.given)]
    return Group(*parts)


def _table(prefix: str, chosen: list[Option], values: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for row in _rows(prefix, chosen, values):
        table.add_row(*row[:2], *map(Text, row[2:]))
    return table


def _rows(prefix: str, chosen: Sequence[Option], values: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(option, type, value, help), one for each option, and for each that is a part of it."""
    for option in chosen:
        name, value, kind = f"--{prefix}{option.name}", values.get(option.name), type_name(option.annotation)
        if isinstance(value, Mapping) and option.name == "training":
            yield f"{name}.FIELD", kind, "", option.help
            yield from ((f"{name}.{key}", "", _shown(item), "") for key, item in value.items())
        elif option.block is not None:
            inner = options(option.block)
            given = {part.name: part.default for part in inner} | dict(value or {})
            yield name, kind, "" if value else _shown(value), option.help
            yield from _rows(f"{prefix}{option.name}.", inner, given)
        else:
            yield name, kind, _shown(value), option.help


def _shown(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def schema() -> dict[str, Any]:
    """The JSON schema of recipe files, for editors."""
    top = json_schema(chain.fields)
    top["properties"].pop("name", None)
    definitions = {}
    for name, stage in STAGES.items():
        entry = json_schema(verb(name))
        for option in chain.RUN_OPTIONS:
            entry["properties"].pop(option, None)
        entry["properties"]["id"] = {"type": "string", "description": "name of this stage, when a verb comes twice"}
        documented = inspect.getdoc(verb(name)) or ""
        definitions[name] = {**entry, "title": name, "description": documented.split("\n\n")[0] or stage.does}
    top["properties"]["stages"] = {
        "type": "array",
        "description": "the verbs, in order",
        "items": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
            "properties": {name: {"anyOf": [{"$ref": f"#/$defs/{name}"}, {"type": "null"}]} for name in STAGES},
        },
    }
    top["required"] = ["stages"]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hftransfer recipe"}
    return {**head, **{key: value for key, value in top.items() if key != "title"}, "$defs": definitions}
