"""A recipe's pushes: asked about before anything runs, done when everything else is."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hftransfer import chain
from hftransfer.errors import HFTransferError, nearest
from hftransfer.runs import Published
from hftransfer.stages import PUSH, STAGES

if TYPE_CHECKING:
    from hftransfer.hub.contents import Kind
    from hftransfer.report.record import RunRecord

logger = logging.getLogger("hftransfer")
LEFT_BY = {"gan": ("discriminator", "raw"), "pretrain": ("pretraining",), "finetune": ("adapter",)}  # parts, by verb


def plan(step: chain.Step, recipe: chain.Recipe) -> dict[str, Any]:
    """Asks the Hub everything that can be asked before there is anything to push.

    Returns:
        What `--dry_run` prints of a stage.

    Raises:
        HFTransferError: it could not be pushed.
    """
    from hftransfer import hub

    kind, record = _expected(step, recipe)
    target = hub.checked(step.given, kind)
    hub.check_draft(step.given, kind, record)
    seen = "private" if target.private else "public"
    where = f"{kind} to {target.url} ({seen}, {'there' if target.exists else 'new'})"
    return {"class": where, "rows": {}, "steps": ""}


def _expected(step: chain.Step, recipe: chain.Recipe) -> "tuple[Kind, RunRecord]":
    """What will be pushed, and as much of its record as is known before it is made."""
    from hftransfer.hub import contents
    from hftransfer.report.record import RunRecord

    folder, wanted = step.given["folder"], step.given["parts"]
    if folder.startswith("$"):
        maker = next((one for one in recipe.steps if one.id == folder[1:]), None)
    elif folder == str(recipe.output_dir):
        makers = [one for one in recipe.steps if STAGES[one.verb].makes]
        maker = recipe.last_checkpoint or (makers[-1] if makers else None)
    else:
        source = contents.find(folder)
        contents.check(source, wanted)
        return source.kind, source.record
    if maker is None:
        raise HFTransferError(f"folder: '{recipe.name}' makes no checkpoint, no clusters and no vectors to push")
    possible = LEFT_BY.get(maker.verb, ())
    if maker.verb == "finetune" and (maker.given["method"] != "lora" or not maker.given["merge"]):
        possible = ()
    for part in wanted:
        if part not in possible:
            raise HFTransferError(f"parts: '{maker.id}' leaves no '{part}'{nearest(part, possible)}")
    _check_adapter(maker, recipe, "adapter" in wanted)
    known = {**recipe.top, "output_dir": None, "stages": [{one.verb: one.given} for one in recipe.steps]}
    record = RunRecord(recipe.output_dir, {"recipe": recipe.name}, "", known, {}, [])
    return STAGES[maker.verb].makes or "checkpoint", record


def _check_adapter(maker: chain.Step, recipe: chain.Recipe, wanted: bool) -> None:
    """An adapter alone is of use to others only where its base is on the Hub, which a stage's checkpoint is not."""
    from hftransfer import hub

    if maker.given.get("method") != "lora" or (maker.given["merge"] and not wanted):
        return
    base = recipe.top["model"] if maker.given["model"] == "$model" else maker.given["model"]
    if not isinstance(base, str) or base.startswith("$") or Path(base).expanduser().is_dir():
        raise HFTransferError(
            f"folder: the adapter of '{maker.id}' would be on a checkpoint that the Hub does not have; push a merged "
            f"one ({maker.id}.merge: true), or train on one of the Hub"
        )
    hub.check_base(base)


def push(step: chain.Step, given: dict[str, Any]) -> None:
    """Publishes on the main process and says what and where; the others need not wait for an upload of hours."""
    published = step.function(**given)
    if published is not None:
        _say(published)


def preview(step: chain.Step, given: dict[str, Any]) -> None:
    """Lists what would be pushed, where that is made already."""
    from hftransfer.hub import contents

    try:
        contents.find(given["folder"])
    except HFTransferError:
        logger.info("%s: its files are listed when the run is complete", step.id)
    else:
        push(step, {**given, "dry_run": True})


def again(step: chain.Step, recipe: chain.Recipe) -> str:
    """The command that does nothing but push: all stages are done."""
    given = {name: value for name, value in step.given.items() if value != recipe.push_defaults[name]}
    told = [word for name, value in given.items() for word in (f"--{PUSH}.{name}", _flow(value))]
    return shlex.join(["python", "-m", "hftransfer.recipe", str(recipe.output_dir / "recipe.yaml"), *told])


def _flow(value: Any) -> str:
    """A value as it is written on a command line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).splitlines()[0]


def _say(published: Published) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    new = f"{len(published.added)} new or changed" if published.added else "nothing new"
    gone = f", {len(published.deleted)} deleted" if published.deleted else ""
    head = "would be pushed" if published.dry_run else "pushed"
    table = Table(title=f"{published.repo_id}: {head}: {new}{gone}", title_justify="left")
    for heading in ("File", "Size", ""):
        table.add_column(heading, justify="right" if heading == "Size" else "left", overflow="fold")
    for name, size in published.files.items():
        table.add_row(name, decimal(size), "" if name in published.added else "there already")
    for name in published.deleted:
        table.add_row(name, "", "deleted")
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    print(f"{'hub:':<8}{published.url}")
