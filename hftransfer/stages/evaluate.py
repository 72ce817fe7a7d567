"""`evaluate`: metrics of a classifier on a labelled data set."""

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
    metrics: Annotated[list[str], Field(description="ours offline, or any metric of the Hub by name")] = [  # noqa: B006
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "expected_calibration_error",
    ],
    max_length: MaxLength = 128,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/evaluate",
) -> Result:
    """Measures a text classifier; the data's labels are matched to the model's by name.

    Returns:
        A folder with the record (no checkpoint), and the metrics asked for.

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
    from hftransfer import metrics, models
    from hftransfer.data import labelled

    cls = models.check(given["model"], "text_classification")
    metrics.load(given["metrics"])
    parts = labelled(given["data"], key="data", seed=given["seed"])
    return {"class": cls, "rows": {given["split"]: len(parts[given["split"]])}, "steps": 0}


def _run(folder: StageFolder, given: dict[str, Any]) -> None:
    from hftransfer import data, metrics, models
    from hftransfer.data import text
    from hftransfer.errors import HFTransferError
    from hftransfer.inference import predict

    network = models.load(given["model"], "text_classification")
    names = [network.config.id2label[i] for i in range(network.config.num_labels)]
    if not models.classifies(given["model"], names):
        raise HFTransferError("evaluate: model: it has no trained classification head; finetune or adapt it first")
    part = data.labelled(given["data"], key="data", seed=given["seed"], label_names=names)[given["split"]]
    tokenizer = models.tokenizer(given["model"])
    rows = text.tokenize(part, tokenizer, given["max_length"])
    folder.begin()
    found = predict(network, tokenizer, rows)
    true = text.labels(rows)
    computed = metrics.load(given["metrics"]).compute(
        predictions=metrics.as_predictions(found.probabilities, given["metrics"]), references=true.tolist()
    )
    shown = ", ".join(f"{name} {value:.3f}" for name, value in computed.items() if isinstance(value, float))
    folder.finish(
        {**computed, "rows": len(true)},
        {
            "stage": "evaluate",
            "title": "Evaluate",
            "settings": given,
            "notes": [f"{len(true)} rows: {shown}"],
            "data": [data.describe(part, name=data.display_name(data.parse(given["data"], "data")), role="evaluated")],
            "confusion": {"labels": names, "after": metrics.confusion(found.classes, true, len(names))},
            "per_class": metrics.per_class(found.classes, true, names),
        },
    )
