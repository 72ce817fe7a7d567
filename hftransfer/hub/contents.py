"""What is published of a finished run or stage, built anew into a folder of its own: by allow-list, with its card.

README.md           the card, with what was measured
recipe.yaml         the resolved recipe of a run, with the names alone of what lay on this machine
all_results.json    every metric
pictures/           what the card shows
manifest.json       size and hash of each file; what a later push finds here and no longer has, it deletes
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

import hftransfer
from hftransfer import adapters, final, runs
from hftransfer.data.spec import VECTORS
from hftransfer.errors import HFTransferError, nearest
from hftransfer.hub.code import add_code
from hftransfer.report import card_pictures, grouped, heads, words
from hftransfer.report.card import SHEET, model_card
from hftransfer.report.dataset_card import dataset_card
from hftransfer.report.record import RunRecord, StageRecord, read_run, read_stage
from hftransfer.report.snippets import CLUSTERS

Kind = Literal["checkpoint", "clusters", "vectors"]
CLUSTER_FILES = ("clusters.json", "clusters.safetensors", "reduction.skops", "plane.skops", "estimator.skops")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", adapters.WEIGHTS)


class Source(NamedTuple):
    """What is published."""

    root: Path  # the run's folder, or the stage's
    files: Path  # the verified folder that holds it
    kind: Kind
    record: RunRecord  # as far as it tells of these files
    stage: StageRecord  # that made them


def find(given: str) -> Source:
    """What there is to publish in a run's folder, its `final/` or a stage's folder, whole to the last byte.

    Raises:
        HFTransferError: it is none of these, not complete, or holds nothing to publish.
    """
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise HFTransferError(f"folder: there is no {given}; give a run's folder or a stage's")
    folder = folder.resolve()
    folder = folder.parent if folder.name == "final" and _is_run(folder.parent) else folder
    return _of_run(folder) if _is_run(folder) else _of_stage(folder)


def _is_run(folder: Path) -> bool:
    return (folder / "recipe.yaml").is_file()


def _of_run(folder: Path) -> Source:
    record = read_run(folder)
    stages = {stage.evidence["id"]: stage.folder for stage in record.stages}
    wanted = [(given or {}).get("id") for entry in record.recipe.get("stages") or [] for given in entry.values()]
    made = runs.record_of(stages)
    whole = runs.verified(folder / "final") if (folder / "final").is_dir() else {"stages": made}
    if wanted != list(stages) or record.run.get("stages") != made or (whole or {}).get("stages") != made:
        raise HFTransferError(f"folder: {folder} is not complete; run its recipe again, which goes on from there")
    makers = [(stage, kind) for stage in record.stages if (kind := _kind(stage.folder))]
    if (folder / "final").is_dir():
        stage = next(stage for stage, kind in reversed(makers) if kind == "checkpoint")
        return Source(folder, folder / "final", "checkpoint", record, stage)
    if not makers:
        raise HFTransferError(f"folder: {folder} holds no checkpoint, no clusters and no vectors; nothing to publish")
    stage, kind = makers[-1]
    return Source(folder, _whole(stage.folder), kind, record, stage)


def _of_stage(folder: Path) -> Source:
    if not (folder / "evidence.json").is_file():
        raise HFTransferError(f"folder: {folder} was made by no recipe and no verb of hftransfer; give one that was")
    stage, kind = read_stage(_whole(folder)), _kind(folder)
    if kind is None:
        raise HFTransferError(f"folder: {folder} holds no checkpoint, no clusters and no vectors; nothing to publish")
    around = read_run(folder.parent) if _is_run(folder.parent) else None
    known = [other.folder for other in around.stages] if around else []
    if around is None or folder not in known:
        name = stage.evidence["id"]
        return Source(folder, folder, kind, RunRecord(folder, {"recipe": name}, "", {}, {}, [stage]), stage)
    before = around.stages if kind == "vectors" else around.stages[: known.index(folder) + 1]
    return Source(folder, folder, kind, replace(around, stages=before), stage)


def _whole(folder: Path) -> Path:
    if runs.verified(folder) is None:
        raise HFTransferError(f"folder: {folder} is not complete, or was changed since; run its recipe or verb again")
    return folder


def _kind(folder: Path) -> Kind | None:
    if (folder / VECTORS).is_file():
        return "vectors"
    if (folder / CLUSTERS).is_file():
        return "clusters"
    return "checkpoint" if any((folder / name).is_file() for name in WEIGHTS) else None


def parts(source: Source) -> list[str]:
    """The folders beside a checkpoint that can go along."""
    return [part for part in final.PARTS if source.kind == "checkpoint" and (source.files / part).is_dir()]


def check(source: Source, wanted: Sequence[str]) -> None:
    """Raises HFTransferError for a part that is not there, and for an adapter whose base is a folder."""
    for part in wanted:
        if part not in parts(source):
            raise HFTransferError(f"parts: {source.root} has no '{part}'{nearest(part, parts(source))}")
    started = (source.stage.evidence.get("settings") or {}).get("model")
    of_folder = isinstance(started, str) and Path(started).is_absolute()  # a folder's own name may be one of the Hub
    for folder in (source.files, *(source.files / part for part in wanted)):
        base = base_of_adapter(folder)
        if base and (of_folder or heads.place_of(base, folder) != base):
            raise HFTransferError(
                f"folder: the adapter in {folder.name} is on '{base}', a folder that the Hub does not have; train on "
                "a checkpoint of the Hub, or publish a merged one (merge: true)"
            )


def base_of_adapter(folder: Path) -> str | None:
    """What the adapter in a folder is put on; None where there is no adapter alone."""
    if (folder / "config.json").is_file():
        return None
    return runs.read_json(folder / adapters.CONFIG).get("base_model_name_or_path")


def build(
    source: Source, folder: Path, *, repo_id: str, wanted: Sequence[str], licence: Mapping[str, str]
) -> dict[str, int]:
    """Fills a new folder with what is published, and says how many bytes each file has.

    Args:
        folder: that is not there yet.
        repo_id: the name in the card.
        wanted: parts that go along.
        licence: for the card.
    """
    code: list[str] = []
    known = runs.read_json(source.files / runs.MANIFEST).get("files", {})
    if source.kind == "checkpoint":
        final.fill(folder, source.files, wanted, known=known, link=True)
        if len(runs.read_json(folder / "config.json").get("sample_shape") or ()) == 1:
            (folder / SHEET).unlink(missing_ok=True)  # of vectors: rows of the data stand beside the samples
        code = add_code(folder)
        for part in wanted:
            add_code(folder / part)
    elif source.kind == "clusters":
        folder.mkdir()
        for name in CLUSTER_FILES:
            if (source.files / name).is_file():
                final.take(source.files / name, folder / name, link=True)
    else:
        from hftransfer.hub.dataset import write_dataset

        write_dataset(source.files, folder)
    _write_records(source, folder)
    if source.kind == "vectors":
        dataset_card(source.record, source.stage, folder, repo_id=repo_id, licence=licence)
    else:
        pictures = card_pictures.draw(grouped.narrowed(source.record, folder), folder)
        model_card(source.record, folder, repo_id=repo_id, licence=licence, pictures=pictures, carries_code=bool(code))
    runs.write_manifest(folder, open_to_all=False, hftransfer=hftransfer.__version__)
    made = runs.read_json(folder / runs.MANIFEST)["files"]
    if any(
        facts != known.get(name, facts) for name, facts in made.items() if name.endswith((".safetensors", ".skops"))
    ):
        raise HFTransferError(f"folder: {source.files} was changed meanwhile; push it again")
    sizes = {name: facts["size"] for name, facts in made.items()}
    return dict(sorted({**sizes, runs.MANIFEST: (folder / runs.MANIFEST).stat().st_size}.items()))


def _write_records(source: Source, folder: Path) -> None:
    record = source.record
    if record.recipe:
        text = yaml.safe_dump(public(record.recipe), sort_keys=False, allow_unicode=True, width=120)
        head = "every option of every stage. What lay on the machine of the run is named without its place"
        runs.write_text(folder / "recipe.yaml", f"# By hftransfer {hftransfer.__version__}: {head}.\n{text}")
    results = {stage.evidence["id"]: stage.metrics for stage in record.stages}
    runs.write_json(folder / "all_results.json", public(results))


def public(value: Any) -> Any:
    """A record without the places of this machine and without what may open another's."""
    if isinstance(value, Mapping):
        return {public(key): public(item) for key, item in value.items() if key not in words.SECRET_KEYS}
    if isinstance(value, list):
        return [public(item) for item in value]
    return words.without_paths(words.public_name(value)) if isinstance(value, str) else value
