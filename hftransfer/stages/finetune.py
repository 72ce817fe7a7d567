"""`finetune`: fit the labels of one data set, and compare with knowing nothing of the texts."""

from typing import Annotated, Any

from pydantic import Field

from hftransfer.runs import Result, StageFolder, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, MaxTrainSamples, Model, OutputDir, Seed, Training, merged

TRAINING = {
    "learning_rate": 2e-4,
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


def finetune(
    model: Model,
    data: Data,
    *,
    method: Annotated[str, OneOf(("full",)), Field(description="full: every weight is trained")] = "full",
    balanced: Annotated[bool, Field(description="draw every class as often, however rare it is")] = False,
    max_length: MaxLength = 128,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/finetune",
) -> Result:
    """Trains a text classifier on labelled data and tests it on rows held out of the same data.

    Returns:
        The folder of an `AutoModelForSequenceClassification` with its tokenizer, and `accuracy`, `balanced_accuracy`,
        `macro_f1`, `expected_calibration_error` on the held-out rows, beside the majority class's accuracy.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(finetune, locals(), "finetune: ")
    with open_stage(output_dir, identity(finetune, given, models=["model"], data=["data"])) as folder:
        if not folder.finished:
            _run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns and the model's class, and counts rows and steps."""
    from hftransfer import models
    from hftransfer.data import labelled
    from hftransfer.trainers.exact import estimated_steps

    cls = models.check(given["model"], "text_classification")
    parts = labelled(given["data"], key="data", seed=given["seed"], max_samples=given["max_train_samples"])
    rows = len(parts["train"])
    steps = estimated_steps(merged(TRAINING, given["training"]), rows)
    return {"class": cls, "rows": {"train": rows, "test": len(parts["test"])}, "steps": steps}


def _run(folder: StageFolder, given: dict[str, Any]) -> None:
    from transformers import set_seed

    from hftransfer import comparison, data, metrics, models
    from hftransfer.data import text
    from hftransfer.inference import predict
    from hftransfer.trainers.classifier import train_classifier

    parts = data.labelled(given["data"], key="data", seed=given["seed"], max_samples=given["max_train_samples"])
    names = text.label_names(parts["train"])
    tokenizer = models.tokenizer(given["model"])
    set_seed(given["seed"])
    network = models.load(given["model"], "text_classification", **text.id2label(names))
    rows = {split: text.tokenize(part, tokenizer, given["max_length"]) for split, part in parts.items()}
    path = folder.begin()
    curve = train_classifier(
        network,
        rows["train"],
        text.collator(tokenizer),
        training=merged(TRAINING, given["training"]),
        lengths=text.lengths(rows["train"]),
        balanced=text.labels(rows["train"]) if given["balanced"] else None,
        seed=given["seed"],
        folder=path / "checkpoints",
        label="fine-tune",
    )
    found = predict(network, tokenizer, rows["test"])
    true = text.labels(rows["test"])
    majority = text.labels(rows["train"])
    majority_class = max(set(majority.tolist()), key=majority.tolist().count)
    scores = metrics.score(found.probabilities, true)
    baseline = float((true == majority_class).mean())
    models.save(network, path, tokenizer)
    folder.finish(
        {**scores, "majority_class_accuracy": baseline, "test_rows": len(true)},
        {
            "stage": "finetune",
            "title": "Fine-tune on labels",
            "settings": given,
            "notes": [
                f"trained on {len(rows['train'])} labelled rows, tested on {len(true)} held out of the same data: "
                f"accuracy {scores['accuracy']:.3f} (the most frequent class alone: {baseline:.3f})"
            ],
            "data": [_card(given["data"], parts["train"], text.lengths(rows["train"]))],
            "curves": [comparison.loss_curve("fine-tuning loss", curve)],
            "per_class": metrics.per_class(found.classes, true, names),
        },
    )


def _card(spec: Any, part: Any, lengths: list[int]) -> dict[str, Any]:
    from hftransfer.data import describe, display_name, parse

    return describe(part, name=display_name(parse(spec, "data")), role="labelled", lengths=lengths)
