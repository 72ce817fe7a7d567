"""A recipe as data: found, loaded, overridden, resolved into a chain of validated calls. Imports no torch."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from hftransfer.errors import HFTransferError, nearest
from hftransfer.foreign import dataclass_fields
from hftransfer.signatures import options, validate
from hftransfer.stages import PUSH, STAGES, verb
from hftransfer.stages.options import Data, MaxTrainSamples, Model, OutputDir, Seed

SHARED_DATA = ("source", "target", "unlabelled", "labelled")  # fields of a recipe that its stages refer to
DATA_OPTIONS = (*SHARED_DATA, "data", "general")
WHOLE_DATA = ("path", "data_files", "data_dir")  # a mapping with one of these names other data, and replaces the old
ALIASES = {"set_seed": "seed"}
WRITTEN = {"checkpoint": "a checkpoint", "vectors": "vectors", "clusters": "clusters", "anything": "anything"}
RUN_OPTIONS = {  # options of every verb that a recipe sets once for all its stages
    "output_dir": "the run's output_dir decides it; remove this key",
    # another division of the data would let one stage train on what the next one is tested on
    "seed": "the recipe's seed divides the data for every stage; set seed instead",
}
RESOLVED = "# Resolved by hftransfer"  # how the recipe.yaml of a run folder begins


def fields(
    *,
    name: Annotated[str, Field(description="name of the recipe")] = "",
    description: Annotated[str, Field(description="what it does, in one line")] = "",
    time: Annotated[str, Field(description="measured time on the embedded default")] = "",
    model: Annotated[Model | None, Field(description="checkpoint: Hub id, folder or model object")] = None,
    source: Annotated[Data | None, Field(description="the labelled data")] = None,
    target: Annotated[Data | None, Field(description="the data to adapt to, unlabelled in training")] = None,
    unlabelled: Annotated[Data | None, Field(description="the data to pretrain on")] = None,
    labelled: Annotated[Data | None, Field(description="the few labels that judge a pretraining")] = None,
    seed: Seed = 42,
    max_train_samples: MaxTrainSamples = None,
    output_dir: Annotated[OutputDir | None, Field(description="run folder; null: outputs/NAME")] = None,
    stages: Annotated[list[Any], Field(description="the verbs, in order")],
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
    pushes: tuple[Step, ...] = ()  # done when the steps are; asked for anew with each run, so in no resolved recipe

    @property
    def output_dir(self) -> Path:
        return _run_folder(self.top)

    def stage_folder(self, step: Step) -> Path:
        return self.output_dir / f"{self.steps.index(step) + 1}-{step.id}"

    @property
    def last_checkpoint(self) -> Step | None:
        makers = [step for step in self.steps if STAGES[step.verb].makes == "checkpoint"]
        return makers[-1] if makers else None

    @property
    def push_defaults(self) -> dict[str, Any]:
        """What a push of this recipe's result is given where nothing is said."""
        return {**{option.name: option.default for option in options(verb(PUSH))}, "folder": str(self.output_dir)}


def _run_folder(top: Mapping[str, Any]) -> Path:
    return Path(top["output_dir"] or Path("outputs") / top["name"]).expanduser()


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
    """YAML as editors read it (1.2: `5e-5` is a number, `no` a word), a key given twice refused.

    PyYAML reads 1.1, where `5e-5` is text, `no` is false and `010` is eight, and silently keeps the last of two keys.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        merge = "tag:yaml.org,2002:merge"  # `<<` has no value of its own
        keys = [key.value if key.tag == merge else self.construct_object(key, deep=True) for key, _ in node.value]
        for place, (key, (key_node, _)) in enumerate(zip(keys, node.value, strict=True)):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' given twice", key_node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def read_yaml(text: str) -> Any:
    """A YAML text's value. Raises `yaml.YAMLError`."""
    return yaml.load(text, Loader=_Loader)


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with the file's name as `name`, and a run's folder as `output_dir`.

    Raises:
        HFTransferError: with the line, when it is no YAML or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise HFTransferError(f"{path}{where}: not valid YAML ({reason})") from error
    except OSError as error:
        raise HFTransferError(f"{path}: cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise HFTransferError(f"{path}: a recipe is a mapping with a list of stages, found {type(content).__name__}")
    # a run folder's own recipe goes on in that folder; a copy under another name is somebody's own recipe
    home = {"output_dir": str(path.parent)} if path.name == "recipe.yaml" and text.startswith(RESOLVED) else {}
    return {"name": path.stem, **home, **content}


def resolve(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> Recipe:
    """Applies overrides and validates everything that can be validated without data and models.

    Args:
        raw: the recipe as loaded.
        overrides: `{"adapt.method": "cdan", "model": ...}`, keys as on the command line.
    """
    top = validate(fields, {"stages": [], **raw})
    if not top["stages"]:
        raise HFTransferError(f"stages: a recipe needs at least one; write a list of {', '.join(STAGES)}")
    entries = [_entry(number, entry) for number, entry in enumerate(top["stages"])]
    if any(key.partition(".")[0] == PUSH for key in overrides) and PUSH not in [entry[0] for entry in entries]:
        entries.append((PUSH, PUSH, {}))  # every recipe takes --push.repo_id
    ids = [entry[0] for entry in entries]
    for id_ in ids:
        if ids.count(id_) > 1:
            raise HFTransferError(f"stages: two are named '{id_}'; give each its own id")
    for key, value in sorted(overrides.items(), key=_generality):
        _override(top, entries, key, value)
    top = validate(fields, top)
    steps: list[Step] = []
    for id_, verb_, given in sorted(entries, key=lambda entry: entry[1] == PUSH):
        steps.append(Step(id_, verb_, _completed(id_, verb_, given, top, steps)))
    made, pushes = (tuple(step for step in steps if (step.verb == PUSH) is last) for last in (False, True))
    if not made:
        raise HFTransferError("stages: a recipe that only pushes makes nothing; use hftransfer.push, or add a stage")
    return Recipe(top["name"], {key: value for key, value in top.items() if key != "stages"}, made, pushes)


def _generality(override: tuple[str, Any]) -> tuple[int, bool]:
    """Wholes before their parts, whatever the order on the command line: `--source.split train --source a.csv`."""
    return override[0].count("."), not override[0].endswith(".path")


def _entry(number: int, entry: Any) -> tuple[str, str, dict[str, Any]]:
    place = f"stages[{number}]"
    if not isinstance(entry, Mapping):
        raise HFTransferError(f"{place}: expected a verb with its options, like `finetune: {{}}`, found {entry!r}")
    if len(entry) != 1:
        found = ", ".join(map(str, entry)) or "nothing"
        raise HFTransferError(f"{place}: expected one verb with its options indented under it, found {found}")
    verb_, given = next(iter(entry.items()))
    if verb_ not in STAGES:
        raise HFTransferError(f"{place}: there is no stage '{verb_}'{nearest(verb_, STAGES)}")
    if given is not None and not isinstance(given, Mapping):
        raise HFTransferError(f"{place}.{verb_}: expected options as a mapping, found {given!r}")
    given = dict(given or {})
    id_ = given.pop("id", verb_)
    if not (isinstance(id_, str) and re.fullmatch(r"[A-Za-z_]\w*", id_)):
        raise HFTransferError(f"{place}.{verb_}.id: expected a name of letters, digits and _, found {id_!r}")
    if id_ in [option.name for option in options(fields)]:
        raise HFTransferError(f"{place}.{verb_}.id: '{id_}' is a field of the recipe; choose another name")
    return id_, verb_, given


def _override(top: dict[str, Any], entries: list[Any], key: str, value: Any) -> None:
    """Sets one dotted key: a top-level field, a field of top-level data, or an option of a stage."""
    first, *rest = key.split(".")
    first = ALIASES.get(first, first)
    holders = {id_: given for id_, _, given in entries}
    simple = [option.name for option in options(fields) if option.name not in ("stages", "name")]
    if first in holders and rest:
        if len(rest) > 1 and rest[0] in ("source", "target"):
            holders[first].setdefault(rest[0], f"${rest[0]}")  # what the stage would be given
        _set(holders[first], rest, value, key)
    elif first in holders:
        if not isinstance(value, Mapping):
            raise HFTransferError(f"{key}: expected the stage's options as a mapping, found {value!r}")
        for inner, item in value.items():
            _set(holders[first], str(inner).split("."), item, f"{key}.{inner}")
    elif first in simple:
        _set(top, [first, *rest], value, key)
    else:
        known = [name for name in simple if name not in ("description", "time")]
        hint = nearest(first, dict.fromkeys([*known, *holders, PUSH]))
        if first in dataclass_fields("transformers.training_args", "TrainingArguments"):
            trained = [id_ for id_, verb_, _ in entries if _trains(verb_)]
            hint = f"; did you mean '{trained[-1]}.training.{first}'?" if trained else hint
        raise HFTransferError(f"{key}: unknown key{hint}")


def _trains(verb_: str) -> bool:
    return any(option.name == "training" for option in options(verb(verb_)))


def _set(holder: dict[str, Any], path: Sequence[str], value: Any, key: str) -> None:
    """Sets `holder[a][b]...`, making mappings on the way; data that is a name alone becomes a mapping with a path.

    A mapping is laid over the one that is there; an empty one, or null, takes its place.
    """
    *parents, last = path
    for parent in parents:
        inner = holder.get(parent)
        if isinstance(inner, str) and inner.startswith("$"):
            shared = f"{inner[1:]}.{key.partition(f'.{parent}.')[2]}"
            raise HFTransferError(f"{key}: '{parent}' is {inner} here; set {shared}, or the whole of {parent}")
        if isinstance(inner, Mapping):
            inner = dict(inner)
        elif inner is not None and parent in DATA_OPTIONS and not isinstance(inner, list):
            inner = {"path": inner}
        elif inner is None:
            inner = {}
        else:
            raise HFTransferError(f"{key}: unknown key; '{parent}' is {inner!r} and has no parts")
        holder[parent] = inner
        holder = inner
    old = holder.get(last)
    if parents and parents[-1] in DATA_OPTIONS and last == "path" and value != old:
        holder.clear()  # the other fields belonged to the other data
    added = isinstance(old, Mapping) and isinstance(value, Mapping) and value and not set(value) & set(WHOLE_DATA)
    holder[last] = {**(old or {}), **value} if added else value


def _completed(id_: str, verb_: str, given: dict[str, Any], top: dict[str, Any], before: list[Step]) -> dict[str, Any]:
    """A stage's options with what the chain gives: model, data, seed; and every reference checked."""
    function = verb(verb_)
    wanted = {option.name: option for option in options(function)}
    takes = {**{name: "checkpoint" for name in wanted if name not in DATA_OPTIONS}, **STAGES[verb_].takes}
    makers = {name: [step.id for step in before if _makes(step, made)] for name, made in takes.items()}
    inherited = {
        "model": "$model",
        **{name: f"${makers[name][-1]}" for name in ("model", "data") if makers.get(name)},
        "source": "$source",
        "target": "$target",
        "folder": str(_run_folder(top)),
        "seed": top["seed"],
        "max_train_samples": top["max_train_samples"],
    }
    filled = {**{name: value for name, value in inherited.items() if name in wanted}, **given}
    filled.pop("output_dir", None)
    for name, value in filled.items():
        if value is None and name in wanted and isinstance(wanted[name].default, Mapping):
            filled[name] = {}  # `config: null`, or a block whose every line is commented out
    for key in RUN_OPTIONS.keys() & given.keys():
        raise HFTransferError(f"{id_}.{key}: {RUN_OPTIONS[key]}")
    for key in given:
        settable = "training" in wanted and key not in wanted
        if settable and key in dataclass_fields("transformers.training_args", "TrainingArguments"):
            raise HFTransferError(f"{id_}.{key}: unknown key; did you mean '{id_}.training.{key}'?")
    checked = validate(function, filled, prefix=f"{id_}.")
    for name, value in checked.items():
        for reference in _references(value):
            _check_reference(f"{id_}.{name}", reference, top, takes.get(name), makers.get(name, []))
        if name in DATA_OPTIONS and value is not None:
            _check_data(f"{id_}.{name}", value, top, makers.get(name, []))
    checked.pop("output_dir", None)
    return checked


def _makes(step: Step, made: str) -> bool:
    found = STAGES[step.verb].makes
    return found is not None if made == "anything" else found == made


def _references(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and item.startswith("$"):
            yield item[1:]


def _check_reference(key: str, name: str, top: dict[str, Any], made: str | None, makers: Sequence[str]) -> None:
    """`makers` are the earlier stages that make what this option takes."""
    data = key.rpartition(".")[2] in DATA_OPTIONS
    shared = SHARED_DATA if data else ("model",) if made == "checkpoint" else ()
    if name in shared:
        if top[name] is None:
            raise HFTransferError(f"{name}: not given, and {key} needs it; add --{name}")
    elif name.partition("/")[0] not in makers:
        stage = f"earlier stage that makes {WRITTEN[made]}" if made else ""
        what = " and no ".join(filter(None, ["data of the recipe" if data else "", stage]))
        known = nearest(f"${name.partition('/')[0]}", [f"${option}" for option in (*shared, *makers)])
        raise HFTransferError(f"{key}: ${name} is no {what}{known}")


def _check_data(key: str, value: Any, top: dict[str, Any], makers: Sequence[str]) -> None:
    from hftransfer.data import parse

    for item in value if isinstance(value, list) else [value]:
        reference = item[1:] if isinstance(item, str) and item.startswith("$") else None
        if reference in makers:
            continue
        if reference is not None:
            parse(top[reference], reference)
        else:
            parse(item, key)
