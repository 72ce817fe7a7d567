"""Sound files as a dataset, their folders as labels.

`datasets` asks for torchcodec, and that for FFmpeg's libraries, even to note down where a file lies.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, Features, Value


def sound_folder(files: Sequence[str]) -> Dataset:
    """Columns audio (as it is stored), and those of a metadata.csv beside the files, matched by its `file_name`.

    Without such a file, and with files in several folders, a column label holds the name of a file's folder.
    """
    sounds = [Path(file) for file in files if Path(file).stem != "metadata"]
    features: dict[str, Any] = {"audio": Audio(decode=False)}
    columns: dict[str, Any] = {
        "audio": pa.array(
            [{"bytes": None, "path": str(path)} for path in sounds],
            pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        )
    }
    told = [path for path in map(Path, files) if path.name == "metadata.csv"]
    names = sorted({path.parent.name for path in sounds})
    if told:
        described = _described(told)
        for name in dict.fromkeys(key for row in described.values() for key in row):
            columns[name] = pa.array([described.get(path, {}).get(name) for path in sounds], pa.string())
            features[name] = Value("string")
    elif len(names) > 1:
        features["label"] = ClassLabel(names=names)
        columns["label"] = pa.array([names.index(path.parent.name) for path in sounds], pa.int64())
    return Dataset(pa.table(columns).cast(Features(features).arrow_schema))


def _described(files: Sequence[Path]) -> dict[Path, dict[str, str]]:
    rows = {}
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                rows[file.parent / row.pop("file_name")] = row
    return rows
