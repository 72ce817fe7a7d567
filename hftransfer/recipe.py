"""The front door: find, load, override, validate, plan, run, report.

accelerate launch -m hftransfer.recipe bert_domain_adapt --adapt.method cdan
"""

import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hftransfer import chain, pushing
from hftransfer.errors import HFTransferError, nearest

if TYPE_CHECKING:
    from hftransfer.runs import Result

logger = logging.getLogger("hftransfer")
FLAGS = ("help", "dry_run", "list")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits non-zero with one line on a mistake of the user's."""
    try:
        _main(list(sys.argv[1:] if arguments is None else arguments))
    except HFTransferError as error:
        if os.environ.get("HFTRANSFER_DEBUG") == "1":
            raise
        if _rank() == 0:
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()


def _main(arguments: list[str]) -> None:
    name, flags, overrides = parse(arguments)
    if "list" in flags:
        return _print_page("list", None)
    if name is None:
        if overrides or "dry_run" in flags:
            known = nearest("", chain.names())
            raise HFTransferError(f"recipe: none is named; write its name before the options{known}")
        return _print_page("usage", None)
    if name == "schema":
        from hftransfer import manual

        print(json.dumps(manual.schema(), indent=2))
        return None
    path = chain.find(name)
    recipe = chain.resolve(chain.load(path), overrides)
    if "help" in flags:
        return _print_page("help", recipe)
    _talk()
    if "dry_run" in flags:
        return _print_plan(recipe)
    _run(recipe, command=_command(arguments))
    return None


def run(recipe: str | Path | Mapping[str, Any], **overrides: Any) -> "Result":
    """Runs a recipe: `run("bert_domain_adapt", output_dir="out", adapt={"method": "cdan"})`.

    Args:
        recipe: a shipped recipe's name, a YAML file, or the mapping that such a file holds.
        overrides: a recipe's fields (`model=`, `source=`, `seed=`, ...; model and data may be objects), or a stage's
            options as a mapping under its name.

    Returns:
        The `final/` checkpoint, with every stage's metrics as `{stage: {metric: value}}`.

    Raises:
        HFTransferError: in one line, for anything wrong with the recipe, its data or its checkpoint.
    """
    raw = {"name": "recipe", **recipe} if isinstance(recipe, Mapping) else chain.load(chain.find(str(recipe)))
    return _run(chain.resolve(raw, overrides), command=_call(recipe, overrides))


def parse(arguments: Sequence[str]) -> tuple[str | None, set[str], dict[str, Any]]:
    """A command line's recipe name, flags, and overrides (`--key value`, `--key=value`, `key=value`)."""
    name: str | None = None
    flags: set[str] = set()
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.lstrip("-").partition("=")
        if word in ("-h", "--help"):
            flags.add("help")
        elif word.startswith("--") and key.replace("-", "_") in FLAGS and not equals:
            flags.add(key.replace("-", "_"))
        elif not key and (equals or word.startswith("--")):
            raise HFTransferError(f"'{word}': expected --key value or key=value")
        elif word.startswith("--") or (equals and re.fullmatch(r"[A-Za-z_][\w.]*", key)):
            if not equals:
                value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
            overrides[key] = _value(key, value)
        elif name is None:
            name = word
        else:
            raise HFTransferError(f"'{word}': expected --key value or key=value after the recipe's name")
    return name, flags, overrides


def _value(key: str, text: str) -> Any:
    try:
        return chain.read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise HFTransferError(f"{key}: {text!r} is not a YAML value (lists are [a, b], mappings {{a: 1}})") from error


def _print_page(which: str, recipe: chain.Recipe | None) -> None:
    from rich.console import Console

    from hftransfer import manual

    if _rank() == 0:
        wide = None if sys.stdout.isatty() else 160
        page = {"list": manual.listing, "usage": lambda: manual.USAGE}.get(which)
        shown = page() if page else manual.help_page(recipe)  # type: ignore[arg-type]
        Console(width=wide, highlight=False).print(shown, markup=False)


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


class _Lines(logging.Handler):
    """Prints each record's message to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _talk() -> None:
    """Log lines to stderr on the main process; libraries' own chatter off."""
    import warnings

    if not logger.handlers:
        handler = _Lines()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO if _rank() == 0 else logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|datasets)\b")


def _print_plan(recipe: chain.Recipe) -> None:
    from rich.console import Console
    from rich.table import Table

    _check_folder(recipe.output_dir, recipe.name)
    planned = _plan(recipe)
    table = Table(title=f"{recipe.name}: the plan (nothing is trained)", title_justify="left")
    for heading in ("Stage", "Model class", "Rows", "Steps"):
        table.add_column(heading)
    for step, found in zip([*recipe.steps, *recipe.pushes], planned, strict=True):
        rows = ", ".join(f"{name} {count}" for name, count in found["rows"].items())
        table.add_row(f"{step.id} ({step.verb})", found["class"], rows, str(found["steps"]))
    if _rank() == 0:
        Console(width=None if sys.stdout.isatty() else 120).print(table)
        for step in recipe.pushes:
            pushing.preview(step, _settled_push(step, recipe))


def _plan(recipe: chain.Recipe) -> list[dict[str, Any]]:
    """Checks data and models of all stages before the first one.

    A later stage is planned with the shape of what the first one begins with, or will make where that is new.
    """
    from hftransfer.stages import planner

    pushes = [_plan_push(step, recipe) for step in recipe.pushes]  # first: it takes no reading of data
    plans: list[dict[str, Any]] = []
    made: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="hftransfer-plan-") as work:
        for step in recipe.steps:
            given = {name: _settled(value, recipe, made) for name, value in step.given.items()}
            try:
                plans.append(planner(step.verb)(**given))
                folder = _stand_in(step, given, plans[-1], Path(work) / step.id)
            except HFTransferError as error:
                raise HFTransferError(_placed(str(error), step)) from error
            if folder is not None:
                made[step.id] = folder
    return plans + pushes


def _plan_push(step: chain.Step, recipe: chain.Recipe) -> dict[str, Any]:
    try:
        return pushing.plan(step, recipe)
    except HFTransferError as error:
        told = _placed(str(error), step)
    raise HFTransferError(told)


def _stand_in(step: chain.Step, given: Mapping[str, Any], found: Mapping[str, Any], folder: Path) -> Path | None:
    """A folder that later stages are planned with, where a stage changes the shape of its model."""
    from hftransfer.stages import planned

    if step.verb == "pretrain":
        return planned.checkpoint(given, folder)
    if step.verb == "gan":
        return planned.players(found, folder)
    if step.verb in ("embed", "cluster"):
        return (planned.vectors if step.verb == "embed" else planned.clusters)(found, folder)
    return planned.classifier(given, found, folder) if step.verb == "finetune" else None


def _placed(message: str, step: chain.Step) -> str:
    """A stage's message under the key to change: `adapt.training: ...`, and `source: ...` for the recipe's own."""
    found = re.match(r"(\w+)(?:\[(\d+)\])?(?=[.:])", message)
    if found is None or found[1] not in step.given:
        return f"{step.id}: {message.removeprefix(f'{step.verb}: ')}"
    value = step.given[found[1]]
    if found[2] and isinstance(value, list):
        value = value[int(found[2])]
    elif found[2]:
        message = f"{found[1]}{message[found.end() :]}"  # one data set given where a list may be
    if isinstance(value, str) and value[:1] == "$" and value[1:] in ("model", *chain.SHARED_DATA):
        return value[1:] + message[found.end() :]
    return f"{step.id}.{message}"


def _settled(value: Any, recipe: chain.Recipe, results: Mapping[str, Path]) -> Any:
    """Replaces `$references`: by the recipe's data and model, or by a finished stage's folder."""
    if isinstance(value, list):
        return [_settled(item, recipe, results) for item in value]
    if not (isinstance(value, str) and value.startswith("$")):
        return value
    name = value[1:]
    if name in ("model", *chain.SHARED_DATA):
        return recipe.top[name]
    id_, slash, part = name.partition("/")  # `$digits/discriminator`: a folder in what a stage left
    if id_ in results:
        return str(results[id_] / part) if slash else str(results[id_])
    step = next(step for step in recipe.steps if step.id == id_)
    return _settled(step.given["model"], recipe, results)


def _run(recipe: chain.Recipe, command: str) -> "Result":
    from hftransfer import processes, runs

    processes.use_all_cores()
    folder = recipe.output_dir
    started = time.monotonic()
    problem = ""
    if processes.is_main():
        try:
            _check_folder(folder, recipe.name)
            _plan(recipe)
        except HFTransferError as error:
            problem = str(error)
    problem = processes.agree(problem)
    if problem:
        raise HFTransferError(problem)
    with runs.lock(folder / ".lock"):
        if processes.is_main():
            _write_changed(folder / "recipe.yaml", _resolved(recipe))
        results = _run_stages(recipe)
        metrics = {id_: result.metrics for id_, result in results.items()}
        last = recipe.last_checkpoint
        if processes.is_main():
            record = runs.record_of({id_: result.path for id_, result in results.items()})
            recorded = (runs.verified(folder / "final") or {}).get("stages")
            if all(result.reused for result in results.values()) and recorded == record:
                logger.info("nothing to do: all %d stages of %s are done and unchanged", len(results), folder)
            else:
                runs.write_json(folder / "all_results.json", metrics)
                _publish(recipe, folder, results, command, time.monotonic() - started)
            _say_goodbye(folder)
        processes.barrier()
    for step in recipe.pushes:
        _push(step, recipe)
    return runs.Result(folder / "final" if last else folder, metrics)


def _check_folder(folder: Path, name: str) -> None:
    """Refuses, without writing, a folder that cannot be written, or whose content is not this recipe's."""
    standing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not standing.is_dir():
        raise HFTransferError(f"output_dir: {standing} is a file; choose a folder")
    if not os.access(standing, os.W_OK):
        raise HFTransferError(f"output_dir: cannot write to {standing}; choose another folder")
    if (folder / "final").exists() and not (folder / "recipe.yaml").exists():
        raise HFTransferError(f"output_dir: {folder} holds a 'final' that no recipe made; choose another folder")
    if (folder / "recipe.yaml").exists():
        owner = chain.load(folder / "recipe.yaml")["name"]
        if owner != name:
            raise HFTransferError(f"output_dir: {folder} belongs to the recipe '{owner}'; choose another folder")


def _resolved(recipe: chain.Recipe) -> str:
    """The recipe with every option of every stage written out: running this file again gives this run again."""
    import hftransfer

    top = {
        key: _written(value) for key, value in recipe.top.items() if value not in (None, "") and key != "output_dir"
    }
    own = [{key: value for key, value in step.given.items() if key not in chain.RUN_OPTIONS} for step in recipe.steps]
    stages = [{step.verb: {"id": step.id, **_written(given)}} for step, given in zip(recipe.steps, own, strict=True)]
    text = yaml.safe_dump({**top, "stages": stages}, sort_keys=False, allow_unicode=True, width=120)
    return f"{chain.RESOLVED} {hftransfer.__version__}: every option of every stage, overrides applied.\n{text}"


def _written(value: Any) -> Any:
    """A value as YAML and a recorded call hold it: an object by its type's name."""
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if isinstance(value, str | int | float | bool | None) else f"<{type(value).__name__} in memory>"


def _run_stages(recipe: chain.Recipe) -> "dict[str, Result]":
    results: dict[str, Result] = {}
    for step in recipe.steps:
        folders = {id_: result.path for id_, result in results.items()}
        given = {name: _settled(value, recipe, folders) for name, value in step.given.items()}
        try:
            results[step.id] = step.function(**given, output_dir=str(recipe.stage_folder(step)))
        except HFTransferError as error:
            raise HFTransferError(_placed(str(error), step)) from error
        if results[step.id].reused:
            logger.info("%s: done already, unchanged", recipe.stage_folder(step).name)
    return results


def _write_changed(path: Path, text: str) -> None:
    from hftransfer import runs

    if not path.exists() or path.read_text(encoding="utf-8") != text:
        runs.write_text(path, text)


def _publish(
    recipe: chain.Recipe, folder: Path, results: "Mapping[str, Result]", command: str, seconds: float
) -> None:
    """Writes what people open: report.html, and `final/` with its model card, whose manifest says that all is done."""
    from hftransfer import final, report, runs

    last = recipe.last_checkpoint
    _forget_old_stages(recipe, folder)
    facts = {
        "recipe": recipe.name,
        "description": recipe.top["description"],
        "command": command,
        "seconds": seconds,
        "seed": recipe.top["seed"],
        "stages": runs.record_of({id_: result.path for id_, result in results.items()}),
    }
    runs.write_json(folder / "run.json", facts)
    runs.write_json(folder / "environment.json", report.environment())
    report.render(folder)
    if last is not None:
        work = folder / ".final.partial"
        shutil.rmtree(work, ignore_errors=True)
        final.fill(work, results[last.id].path, final.PARTS)
        report.card(folder, work)
        runs.write_manifest(work, stages=runs.record_of({id_: result.path for id_, result in results.items()}))
        runs.replace_folder(work, folder / "final")


def _push(step: chain.Step, recipe: chain.Recipe) -> None:
    try:
        return pushing.push(step, _settled_push(step, recipe))
    except HFTransferError as error:
        told = _placed(str(error).removeprefix(f"{step.verb}: "), step)
    again = pushing.again(step, recipe)
    raise HFTransferError(f"{told}; everything is in {recipe.output_dir}, push it again with: {again}")


def _settled_push(step: chain.Step, recipe: chain.Recipe) -> dict[str, Any]:
    folders = {one.id: recipe.stage_folder(one) for one in recipe.steps}
    return {name: _settled(value, recipe, folders) for name, value in step.given.items()}


def _forget_old_stages(recipe: chain.Recipe, folder: Path) -> None:
    """Removes stage folders that an earlier form of this recipe left."""
    kept = {recipe.stage_folder(step).name for step in recipe.steps}
    for path in [*folder.glob("[0-9]*-*"), *folder.glob(".[0-9]*-*.partial")]:
        if path.is_dir() and path.name not in kept and (path / "manifest.json").exists():
            shutil.rmtree(path)


def _say_goodbye(folder: Path) -> None:
    from rich.console import Console

    from hftransfer import report

    Console(width=None if sys.stdout.isatty() else 140).print(report.summary_table(folder))
    places = [
        ("report:", folder / "report.html"),
        *(("page:", page) for page in sorted(folder.glob("*/explore.html"))),
    ]
    places += [("model:", folder / "final")] if (folder / "final").is_dir() else []
    print("\n".join(f"{name:<8}{path}" for name, path in places))
    pages = [path for name, path in places if name == "page:"]
    if pages and _has_screen():
        import webbrowser

        webbrowser.open(pages[0].resolve().as_uri())


def _has_screen() -> bool:
    """Whether a person sits before it: a terminal on a desktop. HFTRANSFER_OPEN=0 opens nothing."""
    desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "CI"))
    return sys.stdout.isatty() and desktop and not remote and os.environ.get("HFTRANSFER_OPEN", "1") != "0"


def _command(arguments: Sequence[str]) -> str:
    """The command line, with the launcher that the environment tells of and what of it changes the numbers."""
    import shlex

    processes = os.environ.get("WORLD_SIZE", "1")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")  # every `accelerate launch` sets it
    if precision is not None:
        on_cpu = os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"
        words = ["accelerate", "launch", *(["--cpu"] if on_cpu else [])]
        if processes != "1":
            words += [*([] if on_cpu else ["--multi_gpu"]), "--num_processes", processes]
        words += [] if precision == "no" else ["--mixed_precision", precision]
    else:
        words = ["python"] if processes == "1" else ["torchrun", "--nproc_per_node", processes]
    return shlex.join([*words, "-m", "hftransfer.recipe", *arguments])


def _call(recipe: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    """The call of `run`, to be written into the report."""
    plain = [f"{key}={_literal(value)}" for key, value in overrides.items() if key.isidentifier()]
    dotted = {key: value for key, value in overrides.items() if not key.isidentifier()}
    words = [_literal(recipe), *plain, *([f"**{_literal(dotted)}"] if dotted else [])]
    return f"hftransfer.run({', '.join(words)})"


def _literal(value: Any) -> str:
    return re.sub(r"'(<\w+ in memory>)'", r"\1", repr(_written(value)))


if __name__ == "__main__":
    main()
