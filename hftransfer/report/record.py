"""A run folder as the report reads it, and the few facts that follow from its evidence."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from hftransfer.errors import HFTransferError
from hftransfer.evidence import DataCard, Evidence, Outcome, Verdict

NOT_A_CHECKPOINT = {
    "evaluate",
    "compare",
    "rank",
    "audit",
    "embed",
    "cluster",
    "zero_shot",
    "push",
}  # verbs that leave the model as it was


class RecallChange(NamedTuple):
    """One class's recall before and after a stage, and how many true examples it rests on."""

    label: str
    before: float
    after: float
    support: int


@dataclass(frozen=True)
class StageRecord:
    """One finished stage: its evidence and its flat metrics."""

    folder: Path
    evidence: Evidence
    metrics: dict[str, Any]


@dataclass(frozen=True)
class RunRecord:
    """Everything the report needs of a run folder, in the order of the stages."""

    folder: Path
    run: dict[str, Any]
    recipe_text: str
    recipe: dict[str, Any]
    environment: dict[str, Any]
    stages: list[StageRecord]

    @property
    def name(self) -> str:
        """The recipe's name, or else the folder's."""
        return str(self.run.get("recipe") or self.folder.resolve().name)

    def final_stages(self) -> list[StageRecord]:
        """The stages whose numbers are true of the final checkpoint: the last that made one, and what follows it."""
        makers = [i for i, stage in enumerate(self.stages) if stage.evidence["stage"] not in NOT_A_CHECKPOINT]
        return self.stages[makers[-1] :] if makers else self.stages


def read_run(run_folder: Path) -> RunRecord:
    """Reads a run folder; stages without `evidence.json` are unfinished and left out.

    Raises HFTransferError when the folder is missing or a file in it does not parse.
    """
    if not run_folder.is_dir():
        raise HFTransferError(f"{run_folder}: no such run folder; name the folder that holds recipe.yaml")
    recipe_file = run_folder / "recipe.yaml"
    recipe_text = recipe_file.read_text(encoding="utf-8") if recipe_file.exists() else ""
    try:
        recipe = yaml.safe_load(recipe_text)
    except yaml.YAMLError as error:
        raise HFTransferError(f"{recipe_file}: not valid YAML; run the recipe again to rewrite it") from error
    return RunRecord(
        folder=run_folder,
        run=_read_json(run_folder / "run.json"),
        recipe_text=recipe_text,
        recipe=recipe if isinstance(recipe, dict) else {},
        environment=_read_json(run_folder / "environment.json"),
        stages=[read_stage(folder) for folder in _stage_folders(run_folder)],
    )


def _stage_folders(run_folder: Path) -> list[Path]:
    numbered = []
    for file in run_folder.glob("*/evidence.json"):
        if match := re.match(r"(\d+)-", file.parent.name):
            numbered.append((int(match.group(1)), file.parent.name, file.parent))
    return [folder for _, _, folder in sorted(numbered)]


def read_stage(folder: Path) -> StageRecord:
    """A finished stage's record; raises HFTransferError when a file of it does not parse."""
    evidence = _read_json(folder / "evidence.json")
    missing = [key for key in ("stage", "id", "title", "seconds") if key not in evidence]
    if missing:
        raise HFTransferError(f"{folder / 'evidence.json'}: lacks '{missing[0]}'; delete {folder.name} and run again")
    return StageRecord(folder, cast(Evidence, evidence), _read_json(folder / "metrics.json"))


def _read_json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HFTransferError(f"{file}: not valid JSON; delete its folder's stage and run again") from error
    if not isinstance(content, dict):
        raise HFTransferError(f"{file}: must hold a JSON object, found a {type(content).__name__}")
    return content


def write_atomically(file: Path, text: str) -> None:
    """Writes `text` so that `file` is the old one or the new one, never a part."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def conclusion(evidence: Evidence) -> Verdict | Outcome | None:
    """What is said first of a stage: whether it was worth it, or else how it ended."""
    return evidence.get("verdict") or evidence.get("outcome")


def distinct_data(stages: list[StageRecord]) -> list[DataCard]:
    """The data sets of all stages in order, each once though several stages read it."""
    seen: list[DataCard] = []
    for stage in stages:
        seen += [item for item in stage.evidence.get("data") or [] if item not in seen]
    return seen


def distinct_citations(stages: list[StageRecord]) -> list[str]:
    """The citations of all stages in order, each once."""
    return list(dict.fromkeys(text for stage in stages for text in stage.evidence.get("citations") or []))


def recall_changes(evidence: Evidence) -> list[RecallChange]:
    """Each class's recall before and after, from the confusion counts; classes without true examples are left out."""
    confusion = evidence.get("confusion")
    if not confusion or not confusion.get("before") or not confusion.get("after"):
        return []
    changes = []
    for i, label in enumerate(confusion["labels"]):
        before, after = confusion["before"][i], confusion["after"][i]  # (labels,) counts of one true class
        if sum(before) and sum(after):
            changes.append(RecallChange(label, before[i] / sum(before), after[i] / sum(after), sum(after)))
    return changes
