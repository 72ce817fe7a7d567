"""What a card tells of clusters: the stages that they come from, and what they are called."""

from dataclasses import replace
from pathlib import Path

from hftransfer import runs
from hftransfer.evidence import Table
from hftransfer.report import embedded
from hftransfer.report.record import RunRecord, StageRecord
from hftransfer.report.snippets import CLUSTERS

_MIDDLE = "in its middle"  # a column of texts of the data: a card publishes none


def narrowed(record: RunRecord, folder: Path) -> RunRecord:
    """The run as one that left nothing but the clusters in a folder: their stage, and the one that made the vectors.

    A run that left no such clusters stays as it is.
    """
    own = runs.read_json(folder / CLUSTERS)
    found = [stage for stage in record.stages if own and runs.read_json(stage.folder / CLUSTERS) == own]
    if not found:
        return record
    made = embedded.behind(found[-1].folder)
    vectors = [stage for stage in record.stages if made and embedded.read(stage.folder) == made]
    return replace(record, stages=[*vectors[-1:], found[-1]])


def tables(stage: StageRecord) -> list[Table]:
    """The table of the clusters by name and size, without texts of the data."""
    found: list[Table] = []
    for table in (stage.evidence.get("tables") or [])[:1]:
        shown = [place for place, column in enumerate(table["columns"]) if column != _MIDDLE]
        rows = [[row[place] for place in shown] for row in table["rows"]]
        found.append({"title": table["title"], "columns": [table["columns"][place] for place in shown], "rows": rows})
    return found
