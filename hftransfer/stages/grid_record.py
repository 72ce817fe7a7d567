"""What `compare` leaves to read: a picture, a table, and the sentence that says which way to take."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset

from hftransfer import comparison, data, models
from hftransfer.errors import HFTransferError
from hftransfer.methods import METHODS
from hftransfer.runs import StageFolder
from hftransfer.stages.cells import Grid, budget

SHOWN = 5  # classes that an error or a note names


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
        "tables": [table for table in (_table(grid, floor), _pairs(grid)) if table],
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
    costs = ["seconds a training", "peak memory (MiB)", "trainable", "size on disk (MiB)"]
    rows = []
    for line in grid.lines:
        cells = []
        for number in numbers:
            values = grid.rows(line, number)
            half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(f"{grid.metric(line, number).mean():.3f} ± {half:.3f}")
        seconds = [grid.cost(line, "seconds", number) for number in numbers]
        peak, trainable, size = (grid.most(line, name) for name in ("peak", "trainable", "bytes"))
        shown = [
            " / ".join("?" if value is None else f"{value:.1f}" for value in seconds),
            "not told" if peak is None else f"{peak / 2**20:.0f}",
            "" if trainable is None else f"{round(trainable):,}",
            "" if size is None else f"{size / 2**20:.2f}",
        ]
        rows.append([_called(line, grid.given), *cells, *shown])
    for name, value in floor.items():
        if name.endswith(grid.task.metric):  # another number belongs in no column of this one
            rows.append([name.replace("_", " "), *[f"{value:.3f}"] * len(numbers), *[""] * len(costs)])
    metric = grid.task.metric.replace("_", " ")
    return {
        "title": f"{metric} by way and labels: mean of the seeds, 95 % over the rows",
        "columns": ["way", *(budget(number, grid.task) for number in numbers), *costs],
        "rows": rows,
    }


def _pairs(grid: Grid) -> dict[str, Any] | None:
    """Each line against each other: the difference with its interval, and whether it counts."""
    numbers = grid.given["labels_per_class"]
    asked = [line for line in grid.lines if not line.contender.floor]
    rows = []
    for one, other in itertools.combinations(asked, 2):
        name = f"{_called(other, grid.given)} over {_called(one, grid.given)}"
        rows.append([name, *(_said(grid, one, other, number) for number in numbers)])
    columns = ["pair", *(budget(number, grid.task) for number in numbers)]
    title = "every pair on the same held-out rows: difference (95 % of the paired bootstrap)"
    return {"title": title, "columns": columns, "rows": rows} if rows else None


def _said(grid: Grid, one: Any, other: Any, number: Any) -> str:
    word = {"helped": "better", "hurt": "worse", "no measurable difference": "no difference"}
    found = grid.difference(one, other, number)
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}) {word[grid.judged(found)]}"


def _verdict(grid: Grid) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
    """Lines of before and after, and the verdict over all numbers of labels."""
    pairs = _sides_apart(grid) if grid.given["against"] is not None else _best_over_scratch(grid)
    if not pairs:
        return [], None
    given, task = grid.given, grid.task
    halves = "" if given["against"] is not None else "; the way chosen on the other half of them"
    common: dict[str, Any] = {
        "protocol": f"held-out rows, mean of {given['seeds']} seeds{halves}", "higher_is_better": task.higher_is_better
    }  # fmt: skip
    compared = [comparison.compare_scores(name, before, after, **common) for name, before, after in pairs]
    metric, numbers = task.metric.replace("_", " "), given["labels_per_class"]
    if given["against"] is not None:
        subject, what = "Pretraining", f"mean {metric} of {pairs[0][0].rpartition(', ')[0]}"
    else:
        subject, what = "Transfer", f"mean {metric}, the best way for each number of labels,"
    first = pairs[: len(numbers)]
    before, after = np.mean([pair[1] for pair in first], 0), np.mean([pair[2] for pair in first], 0)
    whole = comparison.compare_scores(task.metric, before, after, **common)
    shown = ", ".join(budget(number, task) for number in numbers)
    return compared, comparison.words(whole, what=f"{what} with {shown}", subject=subject)


def _sides_apart(grid: Grid) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Each method's two sides at each number of labels: name, other side, ours; the first method's first."""
    by_name: dict[str, list[Any]] = {}
    for line in grid.lines:
        by_name.setdefault(line.contender.name, []).append(line)
    return [
        (f"{name}, {budget(number, grid.task)}", grid.rows(group[1], number), grid.rows(group[0], number))
        for name, group in by_name.items()
        if len(group) == 2
        for number in grid.given["labels_per_class"]
    ]


def _best_over_scratch(grid: Grid) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """The best way, chosen on rows that do not judge it, over the new network, for each number of labels."""
    asked = [line for line in grid.lines if not line.contender.floor]
    scratch = [line for line in asked if line.contender.method == "scratch"]
    others = [line for line in asked if line.contender.method != "scratch"]
    if not scratch or not others:
        return []
    found = []
    for number in grid.given["labels_per_class"]:
        names, worth = grid.chosen(others, number)
        found.append((f"{' or '.join(names)}, {budget(number, grid.task)}", grid.rows(scratch[0], number), worth))
    return found


def _advice(grid: Grid) -> list[str]:
    """Which way to take at which budget, and where transfer hurt."""
    asked = [line for line in grid.lines if not line.contender.floor]
    ours = [line for line in asked if line.side.name in ("", "pretrained") and line.contender.method != "scratch"]
    scratch = [line for line in asked if line.contender.method == "scratch" and not line.side.name]
    candidates = [line for line in ours if line.contender.method != "probe"] + scratch
    if len(candidates) < 2:
        return []
    told, hurt = [], []
    for number in grid.given["labels_per_class"]:
        level = grid.level(candidates, number)
        others = [line.contender.name for line in level[1:]]
        beside = f" (not measurably worse than {', '.join(others)})" if others else ""
        score = grid.metric(level[0], number).mean()
        told.append(f"with {budget(number, grid.task)} take {level[0].contender.name}, {score:.3f}{beside}")
        for line in ours if scratch else []:
            if grid.better(scratch[0], line, number) == "hurt":
                hurt.append(f"{line.contender.name} with {budget(number, grid.task)}")
    where = ""
    if scratch:
        where = f"; transfer hurt in {', '.join(hurt)}" if hurt else "; transfer hurt nowhere"
    return [f"Which way: {'; '.join(told)}{where}. Cheapest first among equals."]


def _notes(grid: Grid, parts: Mapping[str, Dataset], floor: Mapping[str, float]) -> list[str]:
    given, notes = grid.given, []
    notes.append(
        f"all got the same rows and seeds: {given['seeds']} draws of each number of labels, the fewer among the more; "
        "rows that something was chosen on are part of the number; seconds are of a training alone, and count what it "
        "found made already"
    )
    notes += _long(given)
    notes += _bases(grid)
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


def _long(given: Mapping[str, Any]) -> list[str]:
    if given["training"].get("max_steps", -1) > 0:
        return [f"every training has {given['training']['max_steps']} steps, with few labels and with all"]
    return [f"a training lasts its method's epochs, and at least {given['min_steps']} steps"]


def _bases(grid: Grid) -> list[str]:
    """What an adapter's size leaves out."""
    said = "{}'s size is its adapter's; its base, {:.1f} MiB, is kept once"
    sizes = {_called(line, grid.given): grid.most(line, "base") for line in grid.lines}
    return [said.format(name, size / 2**20) for name, size in sizes.items() if size]


def _small_classes(labels: np.ndarray, names: Sequence[str], most: int) -> list[str]:
    """A note where "20 a class" is not true of every class."""
    counts = np.bincount(labels, minlength=len(names))
    small = [f"'{names[c]}' ({counts[c]})" for c in np.argsort(counts) if 0 < counts[c] < most]
    told = ", ".join(small[:SHOWN]) + (f" and {len(small) - SHOWN} more" if len(small) > SHOWN else "")
    return [f"classes with fewer rows than were asked for are drawn whole: {told}"] if small else []
