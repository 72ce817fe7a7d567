"""What `compare` leaves to read: a picture, a table, and the sentence that says which way to take."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from hftransfer import comparison, data, models
from hftransfer.errors import HFTransferError
from hftransfer.functional.bootstrap import paired_bootstrap, verdict
from hftransfer.methods import METHODS
from hftransfer.runs import StageFolder

SHOWN = 5  # classes that an error or a note names
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

    def cost(self, line: Any, name: str) -> float | None:
        """The mean of a cost over all numbers and seeds; None where it was not told."""
        known = [cell[name] for n in self.given["labels_per_class"] for cell in self.of(line, n)]
        return float(np.mean(known)) if all(value is not None for value in known) else None

    def better(self, one: np.ndarray, other: np.ndarray) -> str:
        """What the paired bootstrap says of the second against the first."""
        return verdict(paired_bootstrap(one, other), higher_is_better=self.task.higher_is_better)

    def best(self, lines: Sequence[Any], number: Any) -> Any:
        sign = 1 if self.task.higher_is_better else -1
        return max(lines, key=lambda line: sign * self.metric(line, number).mean())

    def level(self, lines: Sequence[Any], number: Any) -> list[Any]:
        """The lines that are not measurably worse than the best, the cheapest first."""
        best = self.best(lines, number)
        close = [
            line
            for line in lines
            if line is best or self.better(self.rows(line, number), self.rows(best, number)) != "helped"
        ]
        sizes = {line.name: self.cost(line, "bytes") or 0.0 for line in close}  # of one method, the smaller
        return sorted(close, key=lambda line: (CHEAP.index(line.contender.method), sizes[line.name]))


def check_classes(parts: Mapping[str, Dataset], max_train_samples: int | None) -> None:
    """What is left after sampling must have classes to tell apart, and every class that is tested."""
    names = parts["train"].features["label"].names
    drawn, tested = (set(parts[name]["label"]) for name in ("train", "test"))
    if len(drawn) < 2:
        rows = f"{len(parts['train'])} row{'s' if len(parts['train']) > 1 else ''} to draw from"
        if max_train_samples is None:
            raise HFTransferError(f"data: the {rows} are of one class; comparing needs two")
        raise HFTransferError(f"max_train_samples: {rows} are of one class; raise it")
    if tested - drawn:
        lacking = ", ".join(f"'{names[label]}'" for label in sorted(tested - drawn)[:SHOWN])
        way_out = "remove its test rows" if max_train_samples is None else "raise max_train_samples"
        raise HFTransferError(f"data: {lacking} is tested and has no row to train on; {way_out}")


def finish(
    folder: StageFolder,
    given: dict[str, Any],
    task: Any,
    parts: Mapping[str, Dataset],
    lines: Sequence[Any],
    cells: Mapping[str, Any],
    floor: Mapping[str, float],
) -> None:
    """Writes the record."""
    grid = Grid(given, task, lines, cells)
    metrics: dict[str, Any] = {"test_rows": len(grid.rows(lines[0], given["labels_per_class"][0]))}
    metrics |= {"seeds": given["seeds"], **floor}
    for line in lines:
        for number in given["labels_per_class"]:
            name = _key(line, number)
            metrics[f"{task.metric}.{name}"] = float(grid.metric(line, number).mean())
            metrics[f"spread.{name}"] = _spread(grid.metric(line, number))
    name = data.display_name(data.parse(given["data"], "data"))
    compared, says = _verdict(grid)
    advice = _advice(grid)
    if says is not None and advice:
        says = {**says, "text": f"{says['text']} {advice[0]}"}
    evidence = {
        "stage": "compare",
        "title": "Which way to take" if given["against"] is None else "What the pretraining is worth on few labels",
        "settings": given,
        "notes": [*_notes(grid, parts, floor), *advice],
        "before_name": _side_name(given),
        "after_name": "pretrained" if given["against"] is not None else "the best way",
        "comparison": compared,
        "curves": _curves(grid),
        "tables": [_table(grid, floor)],
        "data": [data.describe(parts["train"], name=name, role="labelled, drawn from")],
        "citations": list(dict.fromkeys(p for line in lines if (p := _paper(line)))),
    }
    folder.finish(metrics, evidence | ({"verdict": says} if says else {}))


def _paper(line: Any) -> str:
    return METHODS[line.contender.method].paper if line.contender.method in METHODS else ""


def _key(line: Any, number: Any) -> str:
    """`full.8`, or with two sides `full.8.pretrained`."""
    side = f".{line.side.name}" if line.side.name else ""
    return f"{line.contender.name}.{number}{side}"


def _spread(values: np.ndarray) -> float:
    """The sample's standard deviation; of one seed there is none to tell."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _side_name(given: Mapping[str, Any]) -> str:
    if given["against"] in (None, "scratch"):
        return "from scratch"
    return str(models.public_name(given["against"]))


def _called(line: Any, given: Mapping[str, Any]) -> str:
    names = {"": "", "pretrained": ", pretrained", "scratch": ", from scratch"}
    return line.contender.name + names.get(line.side.name, f", {_side_name(given)}")


def _curves(grid: Grid) -> list[dict[str, Any]]:
    given, curves = grid.given, []
    for line in grid.lines:
        scores = [grid.metric(line, number) for number in given["labels_per_class"]]
        points = [
            [grid.labels(line, n), float(s.mean())] for n, s in zip(given["labels_per_class"], scores, strict=True)
        ]
        curves.append(
            {
                "name": _called(line, given),
                "x": "labels in all",
                "y": grid.task.metric.replace("_", " "),
                "points": points,
                "spread": [_spread(score) for score in scores],
                "log": True,
            }
        )
    return curves


def _table(grid: Grid, floor: Mapping[str, float]) -> dict[str, Any]:
    """Each line's scores with the interval over rows, and its costs."""
    numbers = grid.given["labels_per_class"]
    heads = [f"{number} a class" if number != "all" else "all labels" for number in numbers]
    columns = ["way", *heads, "seconds a training", "peak memory (MiB)", "trainable", "size on disk (MiB)"]
    rows = []
    for line in grid.lines:
        cells = []
        for number in numbers:
            values = grid.rows(line, number)
            half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(f"{grid.metric(line, number).mean():.3f} ± {half:.3f}")
        costs = [grid.cost(line, name) for name in ("seconds", "peak", "trainable", "bytes")]
        seconds, peak, trainable, size = costs
        shown = [
            "" if seconds is None else f"{seconds:.1f}",
            "not told" if peak is None else f"{peak / 2**20:.0f}",
            "" if trainable is None else f"{round(trainable):,}",
            "" if size is None else f"{size / 2**20:.2f}",
        ]
        rows.append([_called(line, grid.given), *cells, *shown])
    for name, value in floor.items():
        rows.append([name.replace("_", " "), *[f"{value:.3f}"] * len(numbers), "", "", "", ""])
    metric = grid.task.metric.replace("_", " ")
    return {
        "title": f"{metric} by way and labels: mean of the seeds, 95 % over the rows",
        "columns": columns,
        "rows": rows,
    }


def _verdict(grid: Grid) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
    """Lines of before and after, and the verdict over all numbers of labels."""
    given, task = grid.given, grid.task
    protocol = f"held-out rows, mean of {given['seeds']} seeds"
    pairs: list[tuple[str, np.ndarray, np.ndarray]] = []
    scratch = [line for line in grid.lines if line.contender.method == "scratch" and line.side.name != "against"]
    others = [line for line in grid.lines if line.contender.method != "scratch"]
    numbers = given["labels_per_class"]
    if given["against"] is not None:
        by_name: dict[str, list[Any]] = {}
        for line in others:
            by_name.setdefault(line.contender.name, []).append(line)
        groups = [(name, group[1], group[0]) for name, group in by_name.items() if len(group) == 2]
        pairs = [
            (f"{name}, {_budget(n)}", grid.rows(before, n), grid.rows(after, n))
            for name, before, after in groups
            for n in numbers
        ]
        first = groups[0] if groups else None
        subject, what = "Pretraining", f"mean {task.metric.replace('_', ' ')} of {first[0] if first else ''}"
        overall = first and ([grid.rows(first[1], n) for n in numbers], [grid.rows(first[2], n) for n in numbers])
    elif scratch and others:
        best = {n: grid.best(others, n) for n in numbers}
        pairs = [
            (f"{best[n].contender.name}, {_budget(n)}", grid.rows(scratch[0], n), grid.rows(best[n], n))
            for n in numbers
        ]
        subject, what = "Transfer", f"mean {task.metric.replace('_', ' ')}, the best way for each number of labels,"
        overall = ([pair[1] for pair in pairs], [pair[2] for pair in pairs])
    else:
        return [], None
    common: dict[str, Any] = {"protocol": protocol, "higher_is_better": task.higher_is_better}
    compared = [comparison.compare_scores(name, before, after, **common) for name, before, after in pairs]
    if not overall:
        return compared, None
    whole = comparison.compare_scores(task.metric, np.mean(overall[0], 0), np.mean(overall[1], 0), **common)
    shown = ", ".join(_budget(n) for n in numbers)
    return compared, comparison.words(whole, what=f"{what} with {shown}", subject=subject)


def _budget(number: Any) -> str:
    return "all labels" if number == "all" else f"{number} labels a class"


def _advice(grid: Grid) -> list[str]:
    """Which way to take at which budget, and where transfer hurt."""
    ours = [line for line in grid.lines if line.side.name in ("", "pretrained") and line.contender.method != "scratch"]
    scratch = [line for line in grid.lines if line.contender.method == "scratch" and not line.side.name]
    candidates = [line for line in ours if line.contender.method != "probe"] + scratch
    if len(candidates) < 2:
        return []
    told, hurt = [], []
    for number in grid.given["labels_per_class"]:
        level = grid.level(candidates, number)
        others = [line.contender.name for line in level[1:]]
        beside = f" (not measurably worse than {', '.join(others)})" if others else ""
        score = grid.metric(level[0], number).mean()
        told.append(f"with {_budget(number)} take {level[0].contender.name}, {score:.3f}{beside}")
        for line in ours if scratch else []:
            if grid.better(grid.rows(scratch[0], number), grid.rows(line, number)) == "hurt":
                hurt.append(f"{line.contender.name} with {_budget(number)}")
    where = ""
    if scratch:
        where = f"; transfer hurt in {', '.join(hurt)}" if hurt else "; transfer hurt nowhere"
    return [f"Which way: {'; '.join(told)}{where}. Cheapest first among equals."]


def _notes(grid: Grid, parts: Mapping[str, Dataset], floor: Mapping[str, float]) -> list[str]:
    given, notes = grid.given, []
    notes.append(
        f"all got the same rows, steps and seeds: {given['seeds']} draws of each number of labels, the fewer among "
        "the more; rows that something was chosen on are part of the number"
    )
    methods = list(dict.fromkeys(line.contender.method for line in grid.lines))
    does = {"probe": "logistic regression on the frozen encoder's mean-pooled states"}
    does |= {name: method.does for name, method in METHODS.items()}
    notes.append("; ".join(f"{method}: {does[method]}" for method in methods))
    notes.append("bands in the plot are a standard deviation over the seeds to each side")
    if floor:
        notes.append("; ".join(f"{name.replace('_', ' ')}: {value:.3f}" for name, value in floor.items()))
    numbers = [number for number in given["labels_per_class"] if number != "all"]
    if grid.task.name == "single_label_classification" and numbers:
        labels = np.asarray(parts["train"]["label"])
        notes += _small_classes(labels, parts["train"].features["label"].names, max(numbers))
    return notes


def _small_classes(labels: np.ndarray, names: Sequence[str], most: int) -> list[str]:
    """A note where "20 a class" is not true of every class."""
    counts = np.bincount(labels, minlength=len(names))
    small = [f"'{names[c]}' ({counts[c]})" for c in np.argsort(counts) if 0 < counts[c] < most]
    told = ", ".join(small[:SHOWN]) + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
    return [f"classes with fewer rows than were asked for are drawn whole: {told}"] if small else []
