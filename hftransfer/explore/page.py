"""What a page shows: points, columns, and what lies behind each point."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer.errors import HFTransferError, nearest

KINDS = ("text", "image", "sound")
NAMED = 5  # rows that an error names


@dataclass(frozen=True)
class Page:
    """Rows as points, with all that is known of them; checked when it is made.

    Raises:
        HFTransferError: points that are not (rows, 2) or not finite, a column or content of another length,
            an unknown column to colour by, content without its kind.
    """

    title: str
    points: NDArray[Any]  # (rows, 2)
    axes: tuple[str, str]
    columns: Mapping[str, Sequence[Any] | NDArray[Any]] = field(default_factory=dict)  # each of one value a row
    content: Sequence[Any] | None = None  # texts; images as PIL reads them; encoded sounds, or arrays with a rate
    kind: str | None = None  # of the content
    color_by: str = ""  # the column by which the points are coloured at first; by default the first one
    notes: Sequence[str] = ()  # what a reader must know, as sentences
    numbers: Sequence[int] | NDArray[Any] | None = None  # what rows are called; by default their places
    groups: Mapping[str, str] = field(default_factory=dict)  # label of a cluster -> its words, drawn on the map

    def __post_init__(self) -> None:
        points = np.asarray(self.points)
        if points.ndim != 2 or points.shape[1] != 2 or not len(points):
            raise HFTransferError(f"points: {points.shape} is not (rows, 2); give two numbers for each of the rows")
        wrong = np.flatnonzero(~np.isfinite(points.astype(np.float64)).all(axis=1))
        if len(wrong):
            named = ", ".join(map(str, wrong[:NAMED])) + (", ..." if len(wrong) > NAMED else "")
            raise HFTransferError(f"points: {len(wrong)} rows are not finite ({named}); leave them out of the page")
        for name, values in self.columns.items():
            self._check_length(f"columns.{name}", values)
        if self.color_by and self.color_by not in self.columns:
            raise HFTransferError(f"color_by: no column '{self.color_by}'{nearest(self.color_by, self.columns)}")
        if self.kind is not None and self.kind not in KINDS:
            raise HFTransferError(f"kind: '{self.kind}' cannot be shown{nearest(self.kind, KINDS)}")
        if (self.content is None) != (self.kind is None):
            raise HFTransferError("kind: content and its kind are given together; give both or neither")
        if self.content is not None:
            self._check_length("content", self.content)
        if self.numbers is not None:
            self._check_length("numbers", self.numbers)

    def every(self, step: int) -> "Page":
        """Each `step`-th row."""
        if step <= 1:
            return self
        columns = {name: list(values)[::step] for name, values in self.columns.items()}
        content = None if self.content is None else list(self.content)[::step]
        numbers = np.arange(len(self.points)) if self.numbers is None else np.asarray(self.numbers)
        points = np.asarray(self.points)[::step]
        return replace(self, points=points, columns=columns, content=content, numbers=numbers[::step])

    def _check_length(self, key: str, values: Sequence[Any] | NDArray[Any]) -> None:
        if len(values) != len(self.points):
            raise HFTransferError(f"{key}: {len(values)} values for {len(self.points)} points; give one for each")
