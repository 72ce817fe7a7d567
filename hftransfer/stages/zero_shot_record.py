"""What `zero_shot` leaves to read: metrics beside the usual answer and few labels, what was asked, what went wrong."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hftransfer import comparison, data, metrics
from hftransfer.described import WAYS
from hftransfer.functional.abstention import selective_accuracy
from hftransfer.functional.bootstrap import paired_bootstrap
from hftransfer.report import words
from hftransfer.stages.zero_shot_answers import SHOWN, Answers, spread_over
from hftransfer.stages.zero_shot_rows import ROW
from hftransfer.stages.zero_shot_run import DRAWS, Told
from hftransfer.tasks import find

Array = NDArray[Any]
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9)  # whose price is told
PROTOCOL = "rows whose labels nothing was learnt from"
CONTEXTUAL = "Zhao et al. 2021, Calibrate Before Use, arXiv:2102.09690"
INFORMATION = "Holtzman et al. 2021, Surface Form Competition, arXiv:2104.08315"
SIGLIP = "Zhai et al. 2023, Sigmoid Loss for Language Image Pre-Training, arXiv:2303.15343"
REFINED = {
    "kmeans": "Dhillon and Modha 2001, Concept Decompositions for Large Sparse Text Data Using Clustering",
    "em": "Dempster et al. 1977, Maximum Likelihood from Incomplete Data via the EM Algorithm",
}
MOVED = {"kmeans": "spherical k-means", "em": "EM for normal distributions of one covariance in the principal axes"}


def record(folder: Path, told: Told) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics and evidence; a picture of examples goes into the folder."""
    answers = Answers(told)
    found: dict[str, Any] = {"rows": len(told.places), "coverage": float(1 - answers.abstained.mean())}
    evidence: dict[str, Any] = {
        "stage": "zero_shot",
        "title": f"Labels without training: {', '.join([told.way.name.replace('_', ' '), *_done(told)])}",
        "settings": told.given,
        "notes": [*told.way.notes(), *_notes(told, answers)],
        "citations": _citations(told),
        "data": [_card(told)],
        "tables": [answers.counts()],
    }
    judge = _unknown if told.labels is None else _several if answers.several else _one
    measured, shown = judge(folder, told, answers)
    evidence["tables"] = [*shown.pop("tables", []), *evidence["tables"]]
    return found | measured, evidence | shown


def _unknown(folder: Path, told: Told, answers: Answers) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows without labels: only what was said."""
    rows = spread_over(np.arange(len(told.places)), 2 * SHOWN)
    names, counts = np.unique(answers.classes, return_counts=True)
    most = told.names[names[counts.argmax()]]
    answered = int((~answers.abstained).sum())
    text = f"found: {answered} of {len(told.places)} rows are told, most often '{most}'; no labels to measure it by."
    return {}, {
        "outcome": {"outcome": "found", "text": text},
        "samples": answers.examples(rows, "Some rows"),
        "pictures": answers.sheet(folder, told.content, [rows]),
    }


def _one(folder: Path, told: Told, answers: Answers) -> tuple[dict[str, Any], dict[str, Any]]:
    """How right the likeliest label is."""
    labels, names = np.asarray(told.labels), told.names
    right = (answers.classes == labels).astype(float)
    usual = find("single_label_classification")(told.rows.kind, names).usual(told.training_labels, labels)
    assert usual is not None
    found = metrics.score(answers.probabilities, labels) | _accuracies(told)
    found |= {"accuracy": float(right.mean()), "majority_class_accuracy": float(usual.mean())}
    (answered,) = selective_accuracy(answers.confidence, right > 0, [answers.threshold])
    found |= {} if answered.accuracy is None else {"accuracy_of_answered": answered.accuracy}
    line = comparison.compare_scores("accuracy", usual, right, protocol=PROTOCOL)
    rows = [spread_over(np.flatnonzero(right == wanted), SHOWN) for wanted in (1, 0)]
    return found, {
        "comparison": [line],
        "before_name": "the most frequent class",
        "after_name": "zero-shot",
        "verdict": comparison.words(line, what="accuracy", subject="Telling labels without training"),
        "per_class": metrics.per_class(answers.classes, labels, names),
        "confusion": {"labels": list(names), "after": metrics.confusion(answers.classes, labels, len(names))},
        "curves": _curves(told, right),
        "tables": [_beside(told, usual, right), _prices(answers, right > 0)],
        "samples": answers.examples(np.concatenate(rows), "Right answers, then wrong ones"),
        "pictures": answers.sheet(folder, told.content, rows),
    }


def _several(folder: Path, told: Told, answers: Answers) -> tuple[dict[str, Any], dict[str, Any]]:
    """How right the labels are that are each a yes or no."""
    true, task = np.asarray(told.labels) > 0, find("multi_label_classification")(told.rows.kind, told.names)
    right = metrics.example_f1(answers.marks, true)
    usual = task.usual(told.training_labels, true)
    assert usual is not None
    line = comparison.compare_scores("example F1", usual, right, protocol=PROTOCOL)
    rows = [spread_over(np.flatnonzero((right == 1) == wanted), SHOWN) for wanted in (True, False)]
    return metrics.multi_label(answers.marks, true) | {"majority_example_f1": float(usual.mean())}, {
        "comparison": [line],
        "before_name": "the most frequent answer",
        "after_name": "zero-shot",
        "verdict": comparison.words(line, what="example F1", subject="Telling labels without training"),
        "per_class": metrics.per_tag(answers.marks, true, told.names),
        "samples": answers.examples(np.concatenate(rows), "Right answers, then wrong ones"),
        "pictures": answers.sheet(folder, told.content, rows),
    }


def _accuracies(told: Told) -> dict[str, float]:
    """Of each step, and of few labels."""
    found = {f"accuracy.{name.replace(' ', '_')}": _right(logits, told) for name, logits in told.steps.items()}
    for count, draws in told.shots.items():
        found |= {f"accuracy.{count}_shot": float(draws.mean()), f"spread.{count}_shot": _spread(draws)}
    return found


def _right(logits: Array, told: Told) -> float:
    return float((logits.argmax(1) == told.labels).mean())


def _spread(draws: Array) -> float:
    return float(draws.mean(1).std(ddof=1)) if len(draws) > 1 else 0.0


def _beside(told: Told, usual: Array, right: Array) -> dict[str, Any]:
    """Accuracies, and what zero-shot is worth against each, on the same rows."""
    rows = [["the most frequent class", usual.mean(), "", *_against(usual, right)]]
    last = list(told.steps)[-1]
    for name, logits in told.steps.items():
        each = (logits.argmax(1) == told.labels).astype(float)
        rows.append([f"zero-shot: {name}", each.mean(), "", *(["", ""] if name == last else _against(each, right))])
    for count, draws in told.shots.items():
        given = f"{count} label{'s' if count > 1 else ''} a class"
        rows.append([f"logistic regression on {given}", draws.mean(), _spread(draws), *_against(draws.mean(0), right)])
    return {
        "title": "Beside the most frequent class and few labels",
        "columns": ["answers by", "accuracy", "spread over draws", "zero-shot less this", "95 % interval"],
        "rows": [[name, *(words.number(v) if not isinstance(v, str) else v for v in cells)] for name, *cells in rows],
    }


def _against(before: Array, after: Array) -> list[str]:
    found = paired_bootstrap(before, after)
    return [words.signed(found.difference), f"{words.signed(found.low)} to {words.signed(found.high)}"]


def _prices(answers: Answers, right: Array) -> dict[str, Any]:
    """What a threshold would leave unsaid, and how sure those that remain are."""
    thresholds = sorted({*THRESHOLDS, answers.threshold})
    found = selective_accuracy(answers.confidence, right, thresholds)
    rows = []
    for threshold, one in zip(thresholds, found, strict=True):
        sure = answers.confidence[answers.confidence >= threshold]
        claimed = words.number(float(sure.mean())) if len(sure) else ""
        rows.append([f"{threshold:g}", words.number(one.coverage), words.number(one.accuracy), claimed])
    return {
        "title": "What a threshold leaves unsaid, and how sure the rest is",
        "columns": ["threshold", "rows answered", "accuracy of these", "their mean probability"],
        "rows": rows,
    }


def _curves(told: Told, right: Array) -> list[dict[str, Any]]:
    if len(told.shots) < 2:
        return []
    axes = {"x": "labels a class", "y": "accuracy", "log": True}
    learnt = [[count, float(draws.mean())] for count, draws in told.shots.items()]
    flat = [[count, float(right.mean())] for count in told.shots]
    spread = [_spread(draws) for draws in told.shots.values()]
    return [
        {"name": "logistic regression on few labels", "points": learnt, "spread": spread, **axes},
        {"name": "zero-shot", "points": flat, **axes},
    ]


def _notes(told: Told, answers: Answers) -> list[str]:
    given, notes = told.given, list(told.rows.notes)
    left_out = len(told.rows.told) - len(told.places)
    notes += [f"{left_out} images that cannot be read are left out"] if left_out else []
    if given["threshold"] is not None:
        share = 1 - answers.abstained.mean()
        notes.append(
            f"nothing is said below a probability of {given['threshold']:g}: {share:.1%} of the rows are answered"
        )
    if given["calibrate"]:
        notes.append("the prior of an input without content is taken out of every answer")
    if given["refine"]:
        rows = "unlabelled rows, the told ones among them"
        notes.append(f"the labels' vectors were moved by {MOVED[given['refine']]} over {told.refined_on} {rows}")
    if told.shots:
        what = "vectors" if told.way.name in ("similarity", "image_text") else "hidden states"
        notes.append(
            f"few labels: logistic regression on the same {what} of labelled training rows, means of {DRAWS} draws; a "
            "class with fewer rows is drawn whole"
        )
    return [*notes, *_lost(told)]


def _done(told: Told) -> list[str]:
    """What was done to the bare answers."""
    return [name for name in told.steps if name.startswith(("calibrated", "refined"))]


def _lost(told: Told) -> list[str]:
    """Labels that get nothing: descriptions that miss the data, or prototypes that others have drawn away."""
    lost = {name: set(range(len(told.names))) - set(logits.argmax(1)) for name, logits in told.steps.items()}
    *before, last = lost
    if not lost[last]:
        return []
    gone = ", ".join(f"'{told.names[label]}'" for label in sorted(lost[last]))
    since = f", since it was {last}" if before and lost[last] - lost[before[-1]] else ""
    return [f"likeliest for no row{since}: {gone}; describe them otherwise, or give more rows"]


def _citations(told: Told) -> list[str]:
    way, given = told.way, told.given
    found = list(WAYS[way.name].papers)
    found += [SIGLIP] if way.name == "image_text" and way.independent else []
    found += [INFORMATION if way.name == "likelihood" else CONTEXTUAL] if given["calibrate"] else []
    return found + ([REFINED[given["refine"]]] if given["refine"] else [])


def _card(told: Told) -> dict[str, Any]:
    part = told.rows.told.remove_columns([ROW])
    return data.describe(part, name=data.display_name(told.rows.spec), role="told, without its labels")
