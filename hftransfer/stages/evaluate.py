"""`evaluate`: metrics of a trained checkpoint on a labelled data set."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.runs import Result, StageFolder, open_stage
from hftransfer.signatures import validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, Model, OutputDir, Seed


def evaluate(
    model: Model,
    data: Data,
    *,
    split: Annotated[Literal["train", "test"], Field(description="which part of the data")] = "test",
    metrics: Annotated[
        list[str] | None,
        Field(description="some of the task's metrics, or any of the Hub by name (of one class a row); null: all"),
    ] = None,
    max_length: MaxLength = 128,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/evaluate",
) -> Result:
    """Measures what a checkpoint was trained for, read from its config, on texts, images or sounds.

    Labels are matched to the model's by name.

    Returns:
        A folder with the record (no checkpoint), and the metrics.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(evaluate, locals(), "evaluate: ")
    with open_stage(output_dir, identity(evaluate, given, models=["model"], data=["data"])) as folder:
        if not folder.finished:
            _run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks that the metrics exist and the data's labels are the model's."""
    from hftransfer import models

    task, part = _read(given)
    return {"class": models.check(given["model"], task.job), "rows": {given["split"]: len(part)}, "steps": 0}


def _read(given: dict[str, Any]) -> tuple[Any, Any]:
    """The checkpoint's task, and the rows to measure it on."""
    from hftransfer import inputs, metrics, tasks
    from hftransfer.errors import renamed

    with renamed("model", "evaluate: model"):
        task = tasks.of_checkpoint(given["model"])
    inputs.check_length(given["model"], given["max_length"])
    if given["metrics"] and task.name == "single_label_classification":
        metrics.load(given["metrics"])
    _, parts = tasks.read(given["data"], given["model"], key="data", seed=given["seed"], task_like=task)
    return task, parts[given["split"]]


def _run(folder: StageFolder, given: dict[str, Any]) -> None:
    from hftransfer import data, models

    task, part = _read(given)
    rows = task.inputs(part, given["model"], key="data", max_length=given["max_length"])
    network = models.load(given["model"], task.job)
    outputs = task.predict(network, rows)
    computed = _measured(task, outputs, rows.labels, given["metrics"])
    folder.begin()
    shown = ", ".join(f"{name} {value:.3f}" for name, value in computed.items() if isinstance(value, float))
    folder.finish(
        {**computed, "rows": len(rows.rows)},
        {
            "stage": "evaluate",
            "title": "Evaluate",
            "settings": given,
            "notes": [f"{len(rows.rows)} rows: {shown}"],
            "data": [data.describe(part, name=data.display_name(data.parse(given["data"], "data")), role="evaluated")],
            **task.evidence(outputs, rows.labels),
        },
    )


def _measured(task: Any, outputs: Any, labels: Any, names: list[str] | None) -> dict[str, Any]:
    """The metrics asked for."""
    from hftransfer import metrics
    from hftransfer.errors import HFTransferError, nearest

    if names and task.name == "single_label_classification":
        from hftransfer.functional.softmax import softmax

        predictions = metrics.as_predictions(softmax(outputs), names)
        return dict(metrics.load(names).compute(predictions=predictions, references=labels.tolist()))
    own = task.score(outputs, labels)
    unknown = next((name for name in names or own if name not in own), None)
    if unknown is not None:
        raise HFTransferError(f"metrics: '{unknown}' is no metric of {task.name}{nearest(unknown, own)}")
    return {name: own[name] for name in names or own}
