"""`compare`: a checkpoint against a new network of its kind, on few labels: the proof of a pretraining."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.runs import Result, open_stage
from hftransfer.signatures import validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, MaxTrainSamples, Model, OutputDir, Seed, Training

TRAINING = {
    "learning_rate": 5e-4,
    "num_train_epochs": 40.0,
    "per_device_train_batch_size": 16,
    "warmup_steps": 0.1,
    "weight_decay": 0.05,
}


def compare(
    model: Model,
    data: Data,
    *,
    against: Annotated[Model | None, Field(description="the other checkpoint; null: the same network, new")] = None,
    labels_per_class: Annotated[
        list[Annotated[int, Field(gt=0)]], Field(min_length=1, description="how many labels of each class to train on")
    ] = [5, 10, 20],  # noqa: B006
    trials: Annotated[int, Field(gt=0, description="draws of labels and seeds for each number")] = 3,
    ways: Annotated[
        list[Literal["probe", "finetune"]],
        Field(min_length=1, description="logistic regression on frozen features; all weights trained. First: verdict"),
    ] = ["probe", "finetune"],  # noqa: B006
    test_rows: Annotated[int, Field(gt=0, description="measure on so many held-out rows at most")] = 500,
    max_length: MaxLength = 128,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/compare",
) -> Result:
    """Trains classifiers on few labels from a checkpoint and from a new network, alike in all else.

    Each number of labels is drawn `trials` times; both sides get the same rows, steps and seeds. A probe fits a
    logistic regression on the frozen encoder's mean-pooled states. The new network begins as the checkpoint's own
    pretraining began, where a `pretraining` folder beside it tells how: a masked autoencoder's fixed positions are
    there before it learns anything.

    Returns:
        A folder with the record (no checkpoint): `accuracy.WAY.N.pretrained` and `.scratch` (or `.against`), means
        over the trials, `spread.*`, their standard deviations (of a sample; 0 for one trial), and the verdict.
        A class with fewer rows than asked for is drawn whole, and a note says so.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(compare, locals(), "compare: ")
    with open_stage(output_dir, identity(compare, given, models=["model", "against"], data=["data"])) as folder:
        if not folder.finished:
            from hftransfer.stages.few_labels import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns and the model's class, and counts rows and trainings."""
    from hftransfer.stages import few_labels

    return few_labels.plan(given)
