"""`finetune`: fit the labels of one data set, in any of the ways of reusing a checkpoint's parameters."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.methods import DEFAULTS, METHODS
from hftransfer.runs import Result, open_stage
from hftransfer.signatures import Block, DefaultBy, OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import (
    Data,
    LoraFields,
    MaxLength,
    MaxTrainSamples,
    Model,
    OutputDir,
    Seed,
    Training,
)
from hftransfer.tasks import TASKS

NOTHING: dict[str, Any] = {}


def finetune(
    model: Model,
    data: Data,
    *,
    method: Annotated[str, OneOf(tuple(METHODS)), Field(description="which parameters are reused, and how")] = "full",
    task: Annotated[
        Annotated[str, OneOf(tuple(TASKS))] | None, Field(description="what the labels are; null: told by their type")
    ] = None,
    head: Annotated[
        Literal["linear", "torch"] | None,
        Field(
            description="method frozen: scikit-learn's logistic or ridge regression, or trained by gradients; null: "
            "linear where only the last layer is new"
        ),
    ] = None,
    trainable: Annotated[
        Annotated[int, Field(ge=0, strict=True)] | list[str] | None,
        DefaultBy("method", {"partial": 2}),
        Field(description="method partial: how many of the last blocks train (2), or names of parts"),
    ] = None,
    gradual: Annotated[bool, Field(description="layers begin to train one by one, from the head down")] = False,
    lora: Annotated[
        LoraFields | None,
        Field(description="method lora: LoraConfig, or the config of another peft_type, under its own names"),
    ] = None,
    merge: Annotated[
        bool, Field(description="method lora: adapter merged into the checkpoint, and beside it; false: adapter alone")
    ] = True,
    architecture: Annotated[
        dict[str, Any] | None, Block("hftransfer.architecture:architecture"), Field(description="parts that change")
    ] = None,
    near: Annotated[
        dict[str, Any] | None, Block("hftransfer.methods:near"), Field(description="stay near the start")
    ] = None,
    loss: Annotated[
        dict[str, Any] | None, Block("hftransfer.methods:loss"), Field(description="skewed classes")
    ] = None,
    balanced: Annotated[bool, Field(description="draw every class as often, however rare it is")] = False,
    layer_decay: Annotated[
        float | None, Field(gt=0, le=1, description="factor of the learning rate from a layer to the one below")
    ] = None,
    early_stopping_patience: Annotated[
        int | None, Field(gt=0, description="epochs without a better validation score; the best epoch is kept")
    ] = None,
    calibrate: Annotated[bool, Field(description="fit a temperature on validation rows, and build it in")] = False,
    validation_size: Annotated[
        float, Field(gt=0, lt=1, description="share of the training rows kept for that, where anything asks for it")
    ] = 0.15,
    folds: Annotated[
        int | None, Field(ge=2, description="score by so many folds of the training rows too, each trained anew")
    ] = None,
    general: Annotated[
        Data | None, Field(description="labelled data of another domain, on which the result is measured too")
    ] = None,
    max_length: MaxLength = 128,
    training: Annotated[Training, DefaultBy("method", DEFAULTS)] = NOTHING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/finetune",
) -> Result:
    """Trains a checkpoint on labelled data and tests it on rows held out of the same data.

    The task is read from the labels: names or whole numbers are classes, lists of them several at once, fractions a
    regression, a list for each list of words a token classification, and prompts with completions (or messages)
    instructions for a language model. Rows that stop training early, choose among weights or calibrate are taken out
    of the training rows; the test rows choose nothing.

    Returns:
        The folder of an ordinary `AutoModelFor...` checkpoint of the task with its reader (method lora: and the
        adapter in `adapter/`), and the task's metrics on the held-out rows beside those of the most frequent answer.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(finetune, locals(), "finetune: ")
    with open_stage(output_dir, identity(finetune, given, models=["model"], data=["data", "general"])) as folder:
        if not folder.finished:
            from hftransfer.stages.finetuning import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns, the model's class and the options, and counts rows and steps."""
    from hftransfer.stages import finetuning

    return finetuning.plan(given)
