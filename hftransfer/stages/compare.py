"""`compare`: ways of reusing a checkpoint, on few and many labels; and a checkpoint against another or a new one."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.runs import Result, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.contenders import MethodList
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, MaxTrainSamples, Model, OutputDir, Seed, Training
from hftransfer.tasks import TASKS

TRAINING = {"per_device_train_batch_size": 16, "save_strategy": "no"}


def compare(
    model: Model,
    data: Data,
    *,
    methods: Annotated[
        MethodList | None,
        Field(
            description="finetune's methods, each alone or as {method: {its options, id}}, and probe: logistic "
            "regression on the mean of the encoder's states; null: scratch, frozen, lora and full"
        ),
    ] = None,
    against: Annotated[
        Model | None, Field(description="do all that also from this checkpoint; scratch: from the same network, new")
    ] = None,
    labels_per_class: Annotated[
        list[Annotated[int, Field(gt=0)] | Literal["all"]],
        Field(
            min_length=1,
            description="labels of each class to train on, validation rows among them (of words and answers: rows)",
        ),
    ] = [8, 32, "all"],  # noqa: B006
    seeds: Annotated[int, Field(gt=0, description="draws of labels, heads and orders for each number")] = 3,
    task: Annotated[
        Annotated[str, OneOf(tuple(TASKS))] | None, Field(description="what the labels are; null: told by their type")
    ] = None,
    test_rows: Annotated[int, Field(gt=0, description="measure on so many held-out rows at most")] = 500,
    max_length: MaxLength = 128,
    min_steps: Annotated[
        int, Field(ge=0, description="a training of fewer steps than this, by num_train_epochs, has this many")
    ] = 150,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/compare",
) -> Result:
    """Fits each method on the same few labels, for each number of labels and seed, and says which to take.

    The rows of a smaller number are among those of a larger one; every method gets the same rows and seeds, which
    decide the draw of labels, the new head, the order of rows and what is taken out to choose on. A training lasts
    `num_train_epochs` (its method's, or `training`'s), and on few rows `min_steps`; with `max_steps` all are equally
    long. All are measured on the same held-out rows. The verdict on the best way is fair to the others: for each half
    of those rows, the way is judged that does best on the other half. A comparison that was interrupted goes on with
    the first training that is not on record.

    `probe` fits a logistic regression on the frozen encoder's mean-pooled states: no checkpoint holds that. With
    `against: scratch` the new network begins as the checkpoint's own pretraining began, where a `pretraining` folder
    beside it tells how: a masked autoencoder's fixed positions are there before it learns anything.

    Returns:
        A folder with the record (no checkpoint): `METRIC.METHOD.N` (with `against`, `METRIC.METHOD.N.pretrained` and
        `.scratch` or `.against`), means over the seeds, `spread.*`, their standard deviations (of a sample; 0 for one
        seed), and the verdict. A class with fewer rows than asked for is drawn whole, and a note says so.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(compare, locals(), "compare: ")
    models = ["model"] if given["against"] == "scratch" else ["model", "against"]
    with open_stage(output_dir, identity(compare, given, models=models, data=["data"])) as folder:
        if not folder.finished:
            from hftransfer.stages.grid import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns, the model's class and each method's options, and counts rows and steps."""
    from hftransfer.stages import grid

    return grid.plan(given)
