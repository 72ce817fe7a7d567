"""What a card says that a checkpoint cannot do, or that nothing shows that it can."""

import itertools
from collections.abc import Iterator

from hftransfer import runs
from hftransfer.report import words
from hftransfer.report.record import NOT_A_CHECKPOINT, RunRecord, StageRecord, recall_changes
from hftransfer.report.results import comparisons, evaluated_data, measured_rows, scores
from hftransfer.report.snippets import CLUSTERS

_ENDED = {
    "collapsed": "It collapsed in training: its samples are fewer kinds of things than the data's.",
    "diverged": "Its training diverged: expect samples of no use.",
    "undecided": "Its training did not clearly converge: training it longer, or otherwise, may make it better.",
}


def limits(record: RunRecord, reads: str = "texts") -> Iterator[str]:
    """What the evidence says the checkpoint cannot do, or does not show that it can; one sentence each."""
    stages = record.final_stages()
    compared = comparisons(stages)
    rows = max((measured_rows(stage) for stage in stages), default=0)
    names = listed(list(dict.fromkeys(target_names(record)))) or "the target"
    if rows:
        yield f"Evaluated on {rows:,} {reads} of {names}; nothing is known outside it."
    if makes_samples(record):
        yield from _sample_limits(stages, reads)
    elif makes_clusters(record):
        told = [_cluster_limits(stage, reads) for stage in stages if stage.evidence["stage"] == "cluster"]
        yield from dict.fromkeys(itertools.chain(*told))
    elif not compared:
        yield "No measurement of this checkpoint against the one before it was recorded."
    if any("transductive" in (item.get("protocol") or "").lower() for item in compared):
        yield (
            f"Numbers marked transductive are of {reads} that training saw without their labels; "
            f"expect less on {reads} it never saw."
        )
    for stage in stages:
        outcome = stage.evidence["verdict"]["outcome"] if stage.evidence.get("verdict") else None
        before = stage.evidence.get("before_name") or "the checkpoint before"
        if outcome == "hurt":
            yield f"Transfer hurt in this run: prefer {before}."
        elif outcome == "no measurable difference":
            yield f"No difference from {before} was measurable in this run."
        yield from _class_limits(stage, reads)
    if record.run.get("seed") is not None:
        yield f"One run with one seed ({record.run['seed']}); intervals do not tell how another seed would differ."


def _sample_limits(stages: list[StageRecord], reads: str) -> Iterator[str]:
    for stage in stages:
        if stage.evidence["stage"] != "gan":
            continue
        told = stage.evidence.get("outcome")
        if told and told["outcome"] != "converged":
            yield _ENDED[told["outcome"]]
        rows = stage.metrics.get("train_rows")
        learnt = f"the {rows:,} {reads}" if rows else f"the {reads}"
        yield (
            f"It may have memorised some of {learnt} that it learnt from, the likelier the fewer they are, and was "
            "not tested for it: look at its samples beside them before publishing."
        )
        yield f"What is rare among {learnt}, or was never there, it makes seldom or never."
        if scores(stage):
            yield "Quality numbers compare only with numbers of the same features and the same count of samples."


def _cluster_limits(stage: StageRecord, reads: str) -> Iterator[str]:
    made = runs.read_json(stage.folder / CLUSTERS)
    yield "A method finds groups whether there are any or not: look through them before you rely on them."
    wide = f" of {made['reduction']['width']} numbers" if made else ""
    yield f"Only vectors{wide} that are made as theirs can be told where they belong; of others it says nothing."
    if made and made["method"] != "hdbscan":
        yield f"Each of the {reads} is put into a cluster, also where it is like none of them."
    if made and any(not name.startswith("cluster ") for name in made["names"]):
        yield "Names are the words that tell a cluster's texts from the others'; nobody checked what they promise."
    yield "With them go numbers of every row that they were made of, from which something of it may be told."
    if "adjusted_rand" not in stage.metrics:
        yield "There were no labels to judge them by."


def _class_limits(stage: StageRecord, reads: str) -> Iterator[str]:
    worse = [change for change in recall_changes(stage.evidence) if change.after < change.before]
    if worse:
        told = "; ".join(
            f"{change.label} {words.number(change.before)} to {words.number(change.after)} ({change.support} {reads})"
            for change in sorted(worse, key=lambda change: change.after - change.before)[:10]
        )
        yield f"Classes whose recall fell: {told}."
    confusion = stage.evidence.get("confusion")
    after = confusion.get("after") if confusion else None
    if confusion and after:
        never = [label for i, label in enumerate(confusion["labels"]) if not sum(row[i] for row in after)]
        if never:
            yield f"Never predicted in the evaluation: {listed(never)}."


def listed(names: list[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)


def target_names(record: RunRecord) -> Iterator[str]:
    """The data sets that the final checkpoint's numbers are of."""
    for stage in record.final_stages():
        if target := evaluated_data(stage, record):
            yield words.public_name(target["name"])


def makes_clusters(record: RunRecord) -> bool:
    """Whether clusters are what a run left, and no checkpoint."""
    stages = [stage.evidence["stage"] for stage in record.stages]
    return "cluster" in stages and all(stage in NOT_A_CHECKPOINT for stage in stages)


def makes_samples(record: RunRecord) -> bool:
    """Whether the final checkpoint is a generator."""
    return any(stage.evidence["stage"] == "gan" for stage in record.final_stages())
