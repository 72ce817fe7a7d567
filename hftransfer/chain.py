"""A recipe as data: found, loaded, overridden, resolved into a chain of validated calls. Imports no torch."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from hftransfer.errors import HFTransferError, nearest
from hftransfer.signatures import dataclass_fields, options, validate
from hftransfer.stages import STAGES, verb

DATA_OPTIONS = ("source", "target", "data")
ALIASES = {"set_seed": "seed"}


def fields(
    *,
    name: Annotated[str, Field(description="name of the recipe")] = "",
    description: Annotated[str, Field(description="what it does, in one line")] = "",
    time: Annotated[str, Field(description="measured time on the embedded default")] = "",
    model: Annotated[Any, Field(description="checkpoint: Hub id, folder or model object")] = None,
    source: Annotated[Any, Field(description="the labelled data")] = None,
    target: Annotated[Any, Field(description="the data to adapt to, unlabelled in training")] = None,
    seed: Annotated[int, Field(ge=0, description="decides splits, masks, order and new weights")] = 42,
    max_train_samples: Annotated[
        int | None, Field(gt=0, description="take a random part of each training set")
    ] = None,
    output_dir: Annotated[str | None, Field(description="run folder; null: outputs/NAME")] = None,
    stages: Annotated[list[dict[str, Any]], Field(description="the verbs, in order")],
) -> None:
    """The top-level fields of a recipe; only the signature is used."""


@dataclass(frozen=True)
class Step:
    """One stage of a chain: `given` are its validated options, still with `$references` to data and models."""

    id: str
    verb: str
    given: dict[str, Any]

    @property
    def function(self) -> Callable[..., Any]:
        return verb(self.verb)


@dataclass(frozen=True)
class Recipe:
    """A whole validated recipe."""

    name: str
    top: dict[str, Any]
    steps: tuple[Step, ...]

    @property
    def output_dir(self) -> Path:
        return Path(self.top["output_dir"] or Path("outputs") / self.name)

    def stage_folder(self, step: Step) -> Path:
        return self.output_dir / f"{self.steps.index(step) + 1}-{step.id}"

    @property
    def last_checkpoint(self) -> Step | None:
        makers = [step for step in self.steps if STAGES[step.verb].makes_checkpoint]
        return makers[-1] if makers else None


def recipes_folder() -> Path:
    """Where the shipped recipes are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def find(name: str) -> Path:
    """A shipped recipe by name, or a YAML file by path."""
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        close = difflib.get_close_matches(Path(name).name, [p.name for p in Path(name).parent.glob("*.y*ml")], n=1)
        raise HFTransferError(f"recipe: no file {name}" + (f"; did you mean '{close[0]}'?" if close else ""))
    if name not in names():
        raise HFTransferError(f"recipe: there is no '{name}'{nearest(name, names())}")
    return recipes_folder() / f"{name}.yaml"


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' given twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        HFTransferError: with the line, when it is no YAML or no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise HFTransferError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(content, dict):
        raise HFTransferError(f"{path}: a recipe is a mapping with a list of stages, found {type(content).__name__}")
    return {"name": path.stem, **content}


def resolve(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    """Applies overrides and validates everything that can be validated without data and models.

    Args:
        raw: the recipe as loaded.
        overrides: `{"adapt.method": "cdan", "model": ...}`, keys as on the command line.
    """
    top = validate(fields, {**raw, "stages": raw.get("stages", [])})
    entries = [_entry(number, entry) for number, entry in enumerate(top["stages"])]
    if not entries:
        raise HFTransferError("stages: a recipe needs at least one; write a list of verbs with their options")
    ids = [entry[0] for entry in entries]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise HFTransferError(f"stages: two are named '{id_}'; give each its own id")
    for key, value in overrides.items():
        _override(top, entries, ALIASES.get(key, key), value)
    top = validate(fields, top)
    steps: list[Step] = []
    for id_, verb_, given in entries:
        steps.append(Step(id_, verb_, _completed(id_, verb_, given, top, steps)))
    return Recipe(top["name"], {key: value for key, value in top.items() if key != "stages"}, tuple(steps))


def _entry(number: int, entry: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    if len(entry) != 1:
        raise HFTransferError(f"stages[{number}]: each entry is one verb with its options, found {list(entry)}")
    verb_, given = next(iter(entry.items()))
    if verb_ not in STAGES:
        raise HFTransferError(f"stages[{number}]: there is no stage '{verb_}'{nearest(verb_, STAGES)}")
    if given is not None and not isinstance(given, Mapping):
        raise HFTransferError(f"stages[{number}].{verb_}: expected options as a mapping, found {given!r}")
    given = dict(given or {})
    return str(given.pop("id", verb_)), verb_, given


def _override(top: dict[str, Any], entries: list[Any], key: str, value: Any) -> None:
    """Sets one dotted key: a top-level field, a field of a top-level mapping, or an option of a stage."""
    first, *rest = key.split(".")
    holders = {id_: given for id_, _, given in entries}
    simple = [option.name for option in options(fields) if option.name not in ("stages", "name")]
    if first in holders and isinstance(value, Mapping) and not rest:
        for inner, item in value.items():
            _set(holders[first], [inner], item)
    elif first in holders and rest:
        _set(holders[first], rest, value)
    elif first in simple:
        if rest and not isinstance(top[first], Mapping):
            top[first] = {"path": top[first]} if isinstance(top[first], str) else {}
        _set(top, [first, *rest], value)
    else:
        hint = nearest(first, [*simple, *holders])
        if first in dataclass_fields("transformers.training_args", "TrainingArguments"):
            hint = f"; did you mean '{entries[-1][0]}.training.{first}'?"
        raise HFTransferError(f"{key}: unknown key{hint}")


def _set(holder: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *parents, last = path
    for parent in parents:
        inner = holder.get(parent)
        holder[parent] = dict(inner) if isinstance(inner, Mapping) else {}
        holder = holder[parent]
    holder[last] = {**holder[last], **value} if _both_mappings(holder.get(last), value) else value


def _both_mappings(old: Any, new: Any) -> bool:
    return isinstance(old, Mapping) and isinstance(new, Mapping) and "path" not in new


def _completed(id_: str, verb_: str, given: dict[str, Any], top: dict[str, Any], before: list[Step]) -> dict[str, Any]:
    """A stage's options with what the chain gives: model, data, seed; and every reference checked."""
    function = verb(verb_)
    wanted = {option.name: option for option in options(function)}
    makers = [step.id for step in before if STAGES[step.verb].makes_checkpoint]
    inherited = {
        "model": f"${makers[-1]}" if makers else "$model",
        "source": "$source",
        "target": "$target",
        "seed": top["seed"],
        "max_train_samples": top["max_train_samples"],
    }
    filled = {**{name: value for name, value in inherited.items() if name in wanted}, **given}
    filled.pop("output_dir", None)
    if "output_dir" in given:
        raise HFTransferError(f"{id_}.output_dir: the run's output_dir decides it; remove this key")
    for key in given:
        if key not in wanted and key in dataclass_fields("transformers.training_args", "TrainingArguments"):
            raise HFTransferError(f"{id_}.{key}: unknown key; did you mean '{id_}.training.{key}'?")
    checked = validate(function, filled, prefix=f"{id_}.")
    for name, value in checked.items():
        for reference in _references(value):
            _check_reference(f"{id_}.{name}", reference, top, makers)
        if name in DATA_OPTIONS:
            _check_data(f"{id_}.{name}", value, top)
    checked.pop("output_dir", None)
    return checked


def _references(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and item.startswith("$"):
            yield item[1:]


def _check_reference(key: str, name: str, top: dict[str, Any], makers: list[str]) -> None:
    if name in ("model", "source", "target"):
        if top[name] is None:
            raise HFTransferError(f"{name}: not given, and {key} needs it; add --{name}")
    elif name not in makers:
        raise HFTransferError(
            f"{key}: ${name} is no earlier stage{nearest(name, ['model', 'source', 'target', *makers])}"
        )


def _check_data(key: str, value: Any, top: dict[str, Any]) -> None:
    from hftransfer.data import parse

    for item in value if isinstance(value, list) else [value]:
        reference = item[1:] if isinstance(item, str) and item.startswith("$") else None
        if reference is not None:
            parse(top[reference], reference)
        else:
            parse(item, key)
