"""What `zero_shot` says of each row, in a table and in pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hftransfer.report import pictures, words
from hftransfer.stages.zero_shot_rows import ROW
from hftransfer.stages.zero_shot_run import Told

Array = NDArray[Any]
PREDICTIONS = "predictions.parquet"
EXAMPLES = "examples.png"
EVEN = 0.5  # probability from which one label of several is said
SHOWN = 6  # examples of right and of wrong answers
SIDE = 96  # pixels of a shown image


class Answers:
    """Probabilities, and what is said by them. Which label is likeliest does not depend on the threshold."""

    def __init__(self, told: Told) -> None:
        self.told, self.several = told, bool(told.given["multi_label"])
        threshold = told.given["threshold"]
        self.threshold = (EVEN if self.several else 0.0) if threshold is None else threshold
        self.probabilities = told.probabilities  # (rows, labels)
        self.confidence = self.probabilities.max(1)  # (rows,)
        self.abstained = self.confidence < self.threshold
        self.classes = told.logits.argmax(1)  # (rows,)
        self.marks = self.probabilities >= self.threshold  # (rows, labels) of several

    @property
    def numbers(self) -> Array:
        """(rows,) each one's in the data."""
        return np.asarray(self.told.rows.told[ROW])[self.told.places]

    @property
    def said(self) -> list[Any]:
        """Each row's label or None; of several a list."""
        names = self.told.names
        if self.several:
            return [[names[label] for label in np.flatnonzero(row)] for row in self.marks]
        pairs = zip(self.classes, self.abstained, strict=True)
        return [None if abstained else names[label] for label, abstained in pairs]

    def write(self, folder: Path) -> None:
        """A line for each row that was told."""
        kind = pa.list_(pa.string()) if self.several else pa.string()
        columns = {ROW: pa.array(self.numbers), "label": pa.array(self.said, kind)}
        columns["abstained"] = pa.array(self.abstained)
        for label, name in enumerate(self.told.names):
            columns[f"score.{name}"] = pa.array(self.probabilities[:, label].astype(np.float32))
        pq.write_table(pa.table(columns), folder / PREDICTIONS)

    def counts(self) -> dict[str, Any]:
        """A table of how often each label is told by each step, and how often it is true."""
        told = self.told
        rows = []
        for label, name in enumerate(told.names):
            cells = [int((logits.argmax(1) == label).sum()) for logits in told.steps.values()]
            rows.append([name, *cells, *self._true(label)])
        true = ["true"] if told.labels is not None else []
        return {
            "title": "Rows that each label is likeliest for",
            "columns": ["label", *told.steps, *true],
            "rows": rows,
        }

    def _true(self, label: int) -> list[int]:
        labels = self.told.labels
        if labels is None:
            return []
        return [int((labels[:, label] > 0).sum() if labels.ndim == 2 else (labels == label).sum())]

    def examples(self, rows: Array, title: str) -> dict[str, Any]:
        """A table of some rows."""
        told = self.told
        true = ["true"] if told.labels is not None else []
        text = ["text"] if told.rows.kind == "text" else []
        return {
            "title": title,
            "columns": [ROW, *text, *true, "said", "probability"],
            "rows": [self._example(int(row)) for row in rows],
        }

    def _example(self, row: int) -> list[Any]:
        told = self.told
        cells: list[Any] = [int(self.numbers[row])]
        if told.rows.kind == "text":
            cells.append(words.short(" ".join(told.rows.told[told.places[row]]["text"].split()), 160))
        if told.labels is not None:
            true = np.flatnonzero(told.labels[row] > 0) if told.labels.ndim == 2 else [told.labels[row]]
            cells.append(", ".join(told.names[int(label)] for label in true) or "none")
        said = self.said[row]
        cells.append("none of them" if not said else said if isinstance(said, str) else ", ".join(said))
        return [*cells, words.number(float(self.confidence[row]))]

    def sheet(self, folder: Path, content: Any, rows: Sequence[Array]) -> list[dict[str, str]]:
        """A picture of some images, a line for each of `rows`, written into the folder."""
        if self.told.rows.kind != "image" or not any(len(line) for line in rows):
            return []
        shown = [[_small(content[int(row)]["pixels"]) for row in line] for line in rows if len(line)]
        (folder / EXAMPLES).write_bytes(pictures.grid(shown))
        return [{"file": EXAMPLES, "caption": "; ".join(self._caption(line) for line in rows if len(line))}]

    def _caption(self, line: Array) -> str:
        said = [self.told.names[self.classes[row]] for row in line]
        labels = self.told.labels
        if labels is None or labels.ndim == 2:
            return f"said: {', '.join(said)}"
        if all(self.classes[row] == labels[row] for row in line):
            return f"right: {', '.join(said)}"
        wrong = [f"{name} for {self.told.names[labels[row]]}" for name, row in zip(said, line, strict=True)]
        return f"wrong: {', '.join(wrong)}"


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image of at most `SIDE` pixels a side."""
    image = PIL.Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def spread_over(rows: Array, count: int) -> Array:
    """At most so many of some rows, from all over them."""
    return (
        rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        if len(rows)
        else rows
    )
