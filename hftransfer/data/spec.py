"""What a data spec means: a string, a mapping of `datasets.load_dataset`'s own parameters, or a dataset in memory.

Nothing here imports `datasets`: the names of `load_dataset`'s parameters and of a file format's options are read from
the source of the installed package, so that a wrong key is found before the first import and no second list exists.
"""

import ast
import functools
import glob
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hftransfer.data.demo import DEMOS
from hftransfer.errors import HFTransferError, nearest

CONTENT = {"text": "text", "image": "image", "sound": "audio"}  # kind of data -> its role and column
ROLES = (*CONTENT.values(), "vector", "label", "text_pair", "tokens", "prompt", "completion", "messages")
# suffix -> the builder of `datasets` that reads it and the options it needs
SUFFIXES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
    ".txt": ("text", {}),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"), ("imagefolder", {})),
    **dict.fromkeys((".wav", ".flac", ".mp3", ".ogg", ".opus"), ("audiofolder", {})),
}
MEDIA = ("imagefolder", "audiofolder")
VECTORS = "vectors.json"  # a folder with it is what `embed` left
BUILDERS = tuple(dict.fromkeys(builder for builder, _ in SUFFIXES.values()))
REFUSED = {
    "token": "the token is read from the environment (HF_TOKEN) and is never written into a recipe",
    "trust_remote_code": "data is never loaded by running code from a repository",
}
# a file in a folder belongs to a split when a word of its name says so (the same words as in `datasets`)
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
MEMORY_TYPES = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")


@dataclass(frozen=True)
class _Shape:
    """Makes pydantic accept exactly the three kinds of spec, and tells the JSON schema the mapping's keys."""

    many: bool = False  # a list of specs is one too

    @property
    def type_name(self) -> str:
        return "data or list of data" if self.many else "data"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        keys: dict[str, Any] = {name: {} for name in load_dataset_parameters() if name not in REFUSED}
        roles = {role: {"type": "string"} for role in ROLES}
        keys["columns"] = {"type": "object", "properties": roles, "additionalProperties": False}
        one = [{"type": "string"}, {"type": "object", "properties": keys}]
        return {"anyOf": [*one, {"type": "array", "minItems": 1, "items": {"anyOf": one}}] if self.many else one}

    def check(self, value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, str | Mapping | Spec) or is_dataset(value):
            return value
        if self.many and isinstance(value, list) and value:
            return [_Shape().check(item) for item in value]
        raise ValueError(f"{_EXPECTED}, found {value!r}")


_EXPECTED = (
    "expected a Hub id, a path to files, demo/NAME, a mapping of load_dataset's parameters or a datasets.Dataset"
)
DataSpec = Annotated[Any, _Shape()]
"""A string, a mapping or a `datasets` object; `parse` says what it means."""
DataSpecs = Annotated[Any, _Shape(many=True)]
"""One such spec or a list of them."""


@dataclass(frozen=True)
class Spec:
    """A data spec whose keys are checked and whose local files are found.

    Attributes:
        key: the YAML or command line key that errors name.
        kind: where the rows are: an embedded demo, local files, a `save_to_disk` folder, what `embed` left, the Hub,
            or memory.
        path: what was given; for files `builder` and `files` (split -> paths) say what is read.
        columns: role ("text", "image", "audio", "label", "tokens", ...) -> column.
        arguments: further arguments of `load_dataset`, under its own names.
        data: the dataset, when it is in memory.
    """

    key: str
    kind: Literal["demo", "files", "saved", "vectors", "hub", "memory"]
    path: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    builder: str = ""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    data: Any = None

    @property
    def streaming(self) -> bool:
        return bool(self.arguments.get("streaming")) or type(self.data).__name__.startswith("Iterable")


def parse(spec: DataSpec | Spec, key: str) -> Spec:
    """Checks a data spec's keys and finds its local files, without reading them.

    Args:
        spec: a Hub id, a path to a file, glob or folder, `demo/NAME[/CONFIG]`, a mapping, or a `datasets` object.
        key: how errors name it, for example "source".

    Raises:
        HFTransferError: for an unknown or refused key, a wrong type, a file that is not there or cannot be read.
    """
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, str) or is_dataset(spec):
        spec = {"path": spec}
    if not isinstance(spec, Mapping):
        raise HFTransferError(f"{key}: {_EXPECTED}, found {spec!r}")
    arguments = dict(spec)
    columns = _columns(arguments.pop("columns", None), key)
    path = arguments.pop("path", None)
    _check_types(path, arguments, key)
    if is_dataset(path):
        _check_keys(arguments, key, ())
        return Spec(key, "memory", columns=columns, data=path)
    if path is not None and (path == "demo" or path.startswith("demo/")):
        return _demo_spec(path, arguments, columns, key)
    return _file_spec(path, arguments, columns, key) or _hub_spec(path, arguments, columns, key)


def display_name(spec: DataSpec | Spec) -> str:
    """A short name for reports and cards: `demo/api_docs (scipy)`, `reviews.csv`, `owner/name (config)`.

    A local path is cut to its last part, so nothing printed tells where the run's machine keeps its files.
    """
    if isinstance(spec, Spec):
        given: dict[str, Any] = {"path": spec.data if spec.kind == "memory" else spec.path, **spec.arguments}
    else:
        given = dict(spec) if isinstance(spec, Mapping) else {"path": spec}
    path = given.get("path")
    if is_dataset(path):
        return "dataset in memory"
    if path is None or (path in BUILDERS and "data_files" in given):
        files = given.get("data_files") or given.get("data_dir") or "files"
        first = next(iter(files.values()), "files") if isinstance(files, Mapping) else files
        path = first if isinstance(first, str) else next(iter(first), "files")
    config = given.get("name")
    if path.startswith("demo/"):
        demo, config = _demo_name(path, config)
        return f"demo/{demo} ({config})" if config else f"demo/{demo}"
    name = os.path.basename(path.rstrip("/" + os.sep)) if _is_local(path) else path
    notes = [str(config)] if config else []
    notes += [f"split {given['split']}"] if given.get("split") else []
    return f"{name} ({', '.join(notes)})" if notes else name


def is_dataset(value: Any) -> bool:
    """Whether `value` is an object of `datasets`; a program that never imported it cannot hold one."""
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(value, tuple(getattr(datasets, name) for name in MEMORY_TYPES))


@functools.cache
def load_dataset_parameters() -> tuple[str, ...]:
    """The names of `datasets.load_dataset`'s parameters, read from the installed source."""
    body = ast.parse((_datasets_folder() / "load.py").read_text(encoding="utf-8")).body
    # the overloads come first, the definition last
    function = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "load_dataset"][-1]
    return tuple(argument.arg for argument in (*function.args.args, *function.args.kwonlyargs))


@functools.cache
def builder_options(builder: str) -> tuple[str, ...]:
    """The fields of a file format's config in `datasets` (`sep` of csv), read from the installed source."""
    source = _datasets_folder() / "packaged_modules" / builder / f"{builder}.py"
    body = ast.parse(source.read_text(encoding="utf-8")).body
    configs = [node for node in body if isinstance(node, ast.ClassDef) and node.name.endswith("Config")]
    fields = [node.target for config in configs for node in config.body if isinstance(node, ast.AnnAssign)]
    # `columns` of parquet is refused: in a spec that name maps roles to columns
    return tuple(name.id for name in fields if isinstance(name, ast.Name) and name.id != "columns")


def _datasets_folder() -> Path:
    found = importlib.util.find_spec("datasets")
    if found is None or found.origin is None:
        raise HFTransferError("the package 'datasets' is not installed; type: pip install datasets")
    return Path(found.origin).parent


def _columns(columns: Any, key: str) -> dict[str, str]:
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise HFTransferError(f"{key}.columns: expected a mapping like {{text: review}}, found {columns!r}")
    for role, column in columns.items():
        if role not in ROLES:
            raise HFTransferError(f"{key}.columns: there is no role '{role}'{nearest(role, ROLES)}")
        if not isinstance(column, str):
            raise HFTransferError(f"{key}.columns.{role}: expected the name of a column, found {column!r}")
    return dict(columns)


def _check_types(path: Any, arguments: Mapping[str, Any], key: str) -> None:
    """The types that this module itself relies on; the rest is `load_dataset`'s to judge."""
    if path is None and not {"data_files", "data_dir"} & set(arguments):
        raise HFTransferError(f"{key}: nothing says what to load; write path: NAME_OR_FILE")
    if path is not None and (not (isinstance(path, str) or is_dataset(path)) or path == ""):
        raise HFTransferError(f"{key}.path: expected a Hub id, a path or demo/NAME, found {path!r}")
    expected = {"split": str, "name": str, "streaming": bool, "data_dir": str, "revision": str}
    for name, kind in expected.items():
        if not isinstance(arguments.get(name), kind | None):
            raise HFTransferError(f"{key}.{name}: expected one {kind.__name__}, found {arguments[name]!r}")


def _check_keys(arguments: Iterable[str], key: str, builders: Sequence[str]) -> None:
    options = [option for builder in builders for option in builder_options(builder)]
    known = [name for name in (*load_dataset_parameters(), *options) if name not in REFUSED]
    for name in arguments:
        if name in REFUSED:
            raise HFTransferError(f"{key}.{name}: cannot be set, {REFUSED[name]}")
        if not builders:
            raise HFTransferError(f"{key}.{name}: only 'columns' can be given beside it")
        if name not in known:
            raise HFTransferError(f"{key}.{name}: unknown key{nearest(name, ['columns', *known])}")


def _demo_name(path: str, config: str | None) -> tuple[str, str | None]:
    name, _, in_path = path.removeprefix("demo").removeprefix("/").partition("/")
    configs = DEMOS[name].configs if name in DEMOS else ()
    return name, in_path or config or (configs[0] if configs else None)


def _demo_spec(path: str, arguments: dict[str, Any], columns: dict[str, str], key: str) -> Spec:
    for name in arguments:
        if name != "name":
            raise HFTransferError(f"{key}.{name}: embedded data takes only 'name'{nearest(name, ['name'])}")
    name, config = _demo_name(path, arguments.get("name"))
    if name not in DEMOS:
        raise HFTransferError(f"{key}: there is no 'demo/{name}'{nearest(f'demo/{name}', demo_names())}")
    if DEMOS[name].fault(config):
        raise HFTransferError(f"{key}: demo/{name} has no config '{config}'{DEMOS[name].fault(config)}")
    return Spec(key, "demo", f"demo/{name}", columns, {"name": config} if config else {})


def demo_names() -> list[str]:
    """Every way to name embedded data: `demo/NAME` and `demo/NAME/CONFIG`."""
    names = []
    for name, entry in DEMOS.items():
        names += [f"demo/{name}", *(f"demo/{name}/{config}" for config in entry.configs)]
    return names


def _hub_spec(path: str, arguments: dict[str, Any], columns: dict[str, str], key: str) -> Spec:
    _check_keys(arguments, key, BUILDERS)
    return Spec(key, "hub", path, columns, arguments)


def _file_spec(path: str | None, arguments: dict[str, Any], columns: dict[str, str], key: str) -> Spec | None:
    """The spec of local files, or None when the path names something on the Hub."""
    builder = path if path in BUILDERS else None
    if path is not None and builder is None and not _is_local(path):
        return None
    rest = {name: value for name, value in arguments.items() if name not in ("data_files", "data_dir")}
    patterns = arguments.get("data_files")
    parts = [part for part in (None if builder else path, arguments.get("data_dir")) if part]
    folder = os.path.expanduser(os.path.join(*parts)) if parts else ""
    if patterns is None and os.path.isfile(os.path.join(folder, VECTORS)):
        _check_keys(rest, key, ())
        return Spec(key, "vectors", folder, columns)
    if patterns is None and _is_saved(folder):
        _check_keys(rest, key, BUILDERS)
        return Spec(key, "saved", folder, columns, rest)
    if patterns is None and not folder:
        raise HFTransferError(f"{key}: path: {builder} also needs data_files")
    if any("://" in pattern for pattern in _listed(patterns)):
        return None if path else Spec(key, "hub", _remote_builder(patterns, key), columns, arguments)
    files = _found(patterns, folder, key)
    builder, options = _builder_of(files, builder, key)
    _check_keys(rest, key, [builder])
    # a user's own `delimiter` must win over the separator that the suffix suggests
    options = {} if {"sep", "delimiter"} & set(rest) else options
    return Spec(key, "files", path or _listed(patterns)[0], columns, {**options, **rest}, builder, files)


def _is_local(path: str) -> bool:
    """Whether a name can only be a path: it exists, has glob marks or a data suffix, or more parts than a Hub id."""
    expanded = os.path.expanduser(path)
    marked = path.startswith((".", "~", os.sep)) or path.count("/") > 1 or glob.has_magic(path)
    return marked or os.path.exists(expanded) or Path(path).suffix.lower() in SUFFIXES


def _is_saved(folder: str) -> bool:
    """Whether the folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in ("dataset_dict.json", "state.json"))


def _listed(patterns: Any) -> list[str]:
    if patterns is None:
        return []
    if isinstance(patterns, Mapping):
        return [pattern for part in patterns.values() for pattern in _listed(part)]
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _remote_builder(patterns: Any, key: str) -> str:
    suffix = Path(_listed(patterns)[0].split("?")[0]).suffix.lower()
    if suffix not in SUFFIXES:
        raise HFTransferError(f"{key}.data_files: cannot tell the format of '{_listed(patterns)[0]}'; write path: csv")
    return SUFFIXES[suffix][0]


def _found(patterns: Any, folder: str, key: str) -> dict[str, tuple[str, ...]]:
    """`{split: files}`; a folder's own file names say which split they belong to."""
    if isinstance(patterns, Mapping):
        return {str(split): _expand(_listed(part), folder, key) for split, part in patterns.items()}
    if patterns is not None:
        return {"train": _expand(_listed(patterns), folder, key)}
    if not os.path.isdir(folder):
        return {"train": _expand([folder], "", key)}
    files: dict[str, list[str]] = {}
    for path in _expand([folder], "", key):
        files.setdefault(_split_of(os.path.relpath(path, folder)), []).append(path)
    if "train" not in files and len(files) == 1:
        return {"train": tuple(next(iter(files.values())))}
    return {split: tuple(paths) for split, paths in files.items()}


def _split_of(relative: str) -> str:
    words = re.split(r"[^a-z]+", relative.lower())
    return next((split for split, known in SPLIT_WORDS.items() if set(known) & set(words)), "train")


def _expand(patterns: Sequence[str], folder: str, key: str) -> tuple[str, ...]:
    files = []
    for pattern in patterns:
        path = os.path.expanduser(os.path.join(folder, pattern))
        if os.path.isfile(path):
            files.append(path)
        elif os.path.isdir(path):
            files += _in_folder(path, key)
        elif glob.has_magic(path):
            matches = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
            if not matches:
                raise HFTransferError(f"{key}: no file matches '{pattern}'; check the folder and the suffix")
            files += matches
        else:
            raise HFTransferError(f"{key}: there is no file '{pattern}'{_nearest_file(path)}")
    return tuple(files)


def _in_folder(folder: str, key: str) -> list[str]:
    paths = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.suffix.lower() in SUFFIXES]
    shown = [str(path) for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not shown:
        raise HFTransferError(f"{key}: the folder '{folder}' holds no data files ({', '.join(SUFFIXES)})")
    return shown


def _nearest_file(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"; there is no folder '{folder}' either"
    names = [entry for entry in sorted(os.listdir(folder)) if not entry.startswith(".")]
    close = nearest(os.path.basename(path), names)
    return close if "did you mean" in close else f"; nothing in '{folder}' has a name like it"


def _builder_of(files: Mapping[str, Sequence[str]], builder: str | None, key: str) -> tuple[str, dict[str, Any]]:
    """The builder that reads all the files. Raises when a suffix is unknown or two formats are mixed."""
    if builder is not None:
        return builder, {}
    formats = {}
    paths = [path for part in files.values() for path in part]
    media = any(SUFFIXES.get(Path(path).suffix.lower(), ("",))[0] in MEDIA for path in paths)
    for path in paths:
        suffix = Path(path).suffix.lower()
        if media and Path(path).stem == "metadata":
            continue  # the labels beside a folder's images or sounds
        if suffix not in SUFFIXES:
            readable = ", ".join(SUFFIXES)
            raise HFTransferError(f"{key}: cannot read '{path}': the suffix is '{suffix}', not one of {readable}")
        formats[suffix] = SUFFIXES[suffix]
    first = next(iter(formats.values()))
    if any(other != first for other in formats.values()):
        raise HFTransferError(f"{key}: the files mix {' and '.join(formats)}; name one kind")
    return first
