"""The cells of a comparison, a training each, and the questions that are asked of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hftransfer.functional.bootstrap import Interval, paired_bootstrap, verdict

CHEAP = (
    "probe",
    "frozen",
    "few_shot",
    "lora",
    "partial",
    "linear_then_full",
    "full",
    "scratch",
)  # to serve and to keep


def budget(number: int | str, task: Any) -> str:
    """A number of labels in words."""
    return "all labels" if number == "all" else f"{number} {task.counted}"


class Grid:
    """The cells of a comparison, with the questions that are asked of them."""

    def __init__(self, given: Mapping[str, Any], task: Any, lines: Sequence[Any], cells: Mapping[str, Any]) -> None:
        self.given, self.task, self.lines, self.cells = given, task, lines, cells

    def of(self, line: Any, number: Any) -> list[dict[str, Any]]:
        """A line's trainings with so many labels, one a seed."""
        return [self.cells[f"{line.name}.{number}.{trial}"] for trial in range(self.given["seeds"])]

    def metric(self, line: Any, number: Any) -> np.ndarray:
        """(seeds,) the task's metric."""
        return np.array([cell["metrics"][self.task.metric] for cell in self.of(line, number)])

    def rows(self, line: Any, number: Any) -> np.ndarray:
        """(rows,) what each held-out row is worth, mean over the seeds; the same rows in every line."""
        return np.mean([cell["rows"] for cell in self.of(line, number)], axis=0)

    def labels(self, line: Any, number: Any) -> int:
        """Labels that a budget comes to."""
        return int(np.mean([cell["labels"] for cell in self.of(line, number)]))

    def cost(self, line: Any, name: str, number: Any) -> float | None:
        """The mean of a cost over the seeds; None where it was not told."""
        known = [cell[name] for cell in self.of(line, number)]
        return float(np.mean(known)) if all(value is not None for value in known) else None

    def most(self, line: Any, name: str) -> float | None:
        """The largest cost of any number of labels."""
        known = [self.cost(line, name, number) for number in self.given["labels_per_class"]]
        return None if None in known else max(value for value in known if value is not None)

    def difference(self, one: Any, other: Any, number: Any) -> Interval:
        """How much the second line is above the first, over the held-out rows."""
        return paired_bootstrap(self.rows(one, number), self.rows(other, number))

    def better(self, one: Any, other: Any, number: Any) -> str:
        """What the paired bootstrap says of the second line against the first: helped, hurt, or neither."""
        return self.judged(self.difference(one, other, number))

    def judged(self, difference: Interval) -> str:
        """Whether a difference counts: helped, hurt, or neither."""
        return verdict(difference, higher_is_better=self.task.higher_is_better)

    def best(self, lines: Sequence[Any], number: Any, rows: Any = slice(None)) -> Any:
        """The line that does best on some of the held-out rows."""
        sign = 1 if self.task.higher_is_better else -1
        return max(lines, key=lambda line: sign * self.rows(line, number)[rows].mean())

    def chosen(self, lines: Sequence[Any], number: Any) -> tuple[list[str], np.ndarray]:
        """Names of the ways that halves of the held-out rows choose, and what each is worth on the other half.

        The mean of the second (rows,) is fair to compare: no row is judged by a choice that it took part in.
        """
        count = len(self.rows(lines[0], number))
        drawn = np.random.default_rng(self.given["seed"]).permutation(count)
        halves = (drawn[: count // 2], drawn[count // 2 :]) if count > 1 else (drawn, drawn)
        names, worth = [], np.empty(count)
        for choosing, judged in (halves, halves[::-1]):
            line = self.best(lines, number, choosing)
            names.append(line.contender.name)
            worth[judged] = self.rows(line, number)[judged]
        return list(dict.fromkeys(names)), worth

    def level(self, lines: Sequence[Any], number: Any) -> list[Any]:
        """The lines that are not measurably worse than the best, the cheapest first."""
        best = self.best(lines, number)
        close = [line for line in lines if line is best or self.better(line, best, number) != "helped"]
        sizes = {line.name: self.most(line, "bytes") or 0.0 for line in close}  # of one method, the smaller
        return sorted(close, key=lambda line: (CHEAP.index(line.contender.method), sizes[line.name]))
