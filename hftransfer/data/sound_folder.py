"""Sound files as a dataset, their folders as labels.

`datasets` asks for torchcodec, and that for FFmpeg's libraries, even to note down where a file lies.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, Features, Value

from hftransfer.errors import HFTransferError, nearest


def sound_folder(files: Sequence[str], key: str) -> Dataset:
    """Columns audio (as it is stored), and those of a metadata.csv beside the files, matched by its `file_name`.

    Without such a file, and with files in several folders, a column label holds the name of a file's folder.

    Raises:
        HFTransferError: a metadata.csv is no table that names the files; `key` names the data.
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
        described = _described(told, key)
        for name in dict.fromkeys(key for row in described.values() for key in row):
            columns[name] = pa.array([described.get(path, {}).get(name) for path in sounds], pa.string())
            features[name] = Value("string")
    elif len(names) > 1:
        features["label"] = ClassLabel(names=names)
        columns["label"] = pa.array([names.index(path.parent.name) for path in sounds], pa.int64())
    return Dataset(pa.table(columns).cast(Features(features).arrow_schema))


def _described(files: Sequence[Path], key: str) -> dict[Path, dict[str, str]]:
    """What each file is, by its place."""
    rows = {}
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets put a mark before the first name
                table = csv.DictReader(lines, strict=True)
                named, found = table.fieldnames or [], list(table)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise HFTransferError(f"{key}: cannot read '{file}': {error}") from error
        _check_columns(named, file, key)
        for number, row in enumerate(found, 2):
            if None in row or not row["file_name"]:
                wrong = "has more values than columns" if None in row else "names no file"
                raise HFTransferError(f"{key}: row {number} of '{file}' {wrong}; repair it")
            rows[file.parent / row.pop("file_name")] = row
    return rows


def _check_columns(named: Sequence[str], file: Path, key: str) -> None:
    if "file_name" not in named:
        raise HFTransferError(
            f"{key}: '{file}' has no column file_name, which says what a row is about{nearest('file_name', named)}"
        )
    if "audio" in named or len(set(named)) < len(named):
        what = "a column audio, which the sounds' own is called" if "audio" in named else "two columns of one name"
        raise HFTransferError(f"{key}: '{file}' has {what}; rename one")
