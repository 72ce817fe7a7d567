"""The record a stage leaves for the report: what `evidence.json` in a finished stage folder holds.

Every key is optional but `stage`, `id`, `title` and `seconds`; the report leaves out what a stage does not tell.
"""

from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict  # `typing` has NotRequired from Python 3.11 on


class Verdict(TypedDict):
    """Whether the stage was worth it, against not doing it."""

    outcome: Literal["helped", "no measurable difference", "hurt"]
    text: str  # one sentence with the two numbers, the interval and the number of examples


class Outcome(TypedDict):
    """How the stage ended, where there is nothing that it could be compared with: a training, or what was found."""

    outcome: Literal["converged", "collapsed", "diverged", "undecided", "found"]
    text: str  # one sentence or two, which may begin with the outcome and a colon


class Lengths(TypedDict):
    """A histogram of example lengths: `counts[i]` examples lie in `edges[i] <= length < edges[i + 1]`."""

    unit: str  # "tokens"
    edges: list[float]  # one more than counts
    counts: list[int]


class DataCard(TypedDict):
    """One data set that a stage read."""

    role: str  # "source", "target", "held-out target", ...
    name: str  # Hub id, file name or demo/NAME, with its configuration in parentheses
    rows: int
    split: NotRequired[str]
    labels: NotRequired[dict[str, int] | None]  # rows by label; None where labels are unknown
    lengths: NotRequired[Lengths]
    median_length: NotRequired[float]


class Curve(TypedDict):
    """One line of a training curve."""

    name: str
    x: str  # "step"
    y: str  # "loss"
    points: list[list[float]]  # [[x, y], ...]
    spread: NotRequired[list[float]]  # of each point's y, drawn as a band to both sides
    log: NotRequired[bool]  # x on a logarithmic axis


class Comparison(TypedDict):
    """One number before and after the stage, measured on the same examples."""

    name: str  # "accuracy"
    before: float
    after: float
    higher_is_better: bool
    protocol: NotRequired[str]  # what the examples are to the training
    rows: NotRequired[int]  # examples measured
    difference: NotRequired[float]  # after - before
    low: NotRequired[float]  # lower end of the 95 % interval of the difference
    high: NotRequired[float]


class Confusion(TypedDict):
    """Counts of examples; rows are true labels, columns predicted ones, both in the order of `labels`."""

    labels: list[str]
    before: NotRequired[list[list[int]]]  # (labels, labels)
    after: NotRequired[list[list[int]]]  # (labels, labels)


class ClassScore(TypedDict):
    """One row of the per-class table, all after the stage."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int  # true examples of the class


class Projection(TypedDict):
    """Embeddings of both domains in one plane, and the label number of each point where it is known."""

    source: list[list[float]]  # (points, 2)
    target: list[list[float]]  # (points, 2)
    source_labels: NotRequired[list[int] | None]
    target_labels: NotRequired[list[int] | None]


class Embedding(TypedDict):
    """Both domains before and after the stage; `labels` names the label numbers."""

    before: NotRequired[Projection]
    after: NotRequired[Projection]
    labels: NotRequired[list[str]]


class Table(TypedDict):
    """Cells to read: examples, or what a stage counted."""

    title: str
    columns: list[str]
    rows: list[list[Any]]  # as many cells as columns


class Picture(TypedDict):
    """A picture that the stage wrote into its folder."""

    file: str
    caption: str
    shareable: NotRequired[bool]  # shows no row of the data, so that it may be published with the checkpoint


class Evidence(TypedDict):
    """One stage's whole record."""

    stage: str  # the verb: "pretrain", "finetune", "adapt", "evaluate"
    id: str
    title: str
    seconds: float
    settings: NotRequired[dict[str, Any]]  # resolved keyword arguments of the verb
    notes: NotRequired[list[str]]
    citations: NotRequired[list[str]]  # "Jin et al. 2020, Minimum Class Confusion, arXiv:1912.03699"
    verdict: NotRequired[Verdict]
    outcome: NotRequired[Outcome]
    data: NotRequired[list[DataCard]]
    curves: NotRequired[list[Curve]]
    comparison: NotRequired[list[Comparison]]
    before_name: NotRequired[str]
    after_name: NotRequired[str]
    confusion: NotRequired[Confusion]
    per_class: NotRequired[list[ClassScore]]
    embedding: NotRequired[Embedding]
    tables: NotRequired[list[Table]]  # numbers, the first column names the row
    features: NotRequired[str]  # what quality is measured on: "the features of NAME (accuracy 0.950 ...)"
    samples: NotRequired[Table]
    log: NotRequired[list[str]]
    pictures: NotRequired[list[Picture]]
    pages: NotRequired[list[Picture]]  # to be opened by themselves, in the stage folder
