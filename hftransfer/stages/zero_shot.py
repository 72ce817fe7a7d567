"""`zero_shot`: labels that no model was trained on, told by their names or descriptions."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.described import WAYS
from hftransfer.described.labels import LabelSpec
from hftransfer.runs import Result, open_stage
from hftransfer.signatures import OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import Data, MaxLength, Model, OutputDir, Seed


def zero_shot(
    model: Model,
    data: Data,
    *,
    way: Annotated[
        str, OneOf(("auto", *WAYS)), Field(description="how the checkpoint is asked; auto: as it is made for")
    ] = "auto",
    labels: Annotated[
        LabelSpec | None,
        Field(description="names, or {name: description, or a list of them}; null: the data's own names"),
    ] = None,
    templates: Annotated[
        Annotated[list[str], Field(min_length=1)] | None,
        Field(description="sentences around {label} (and {text}, by fill_mask and likelihood); null: the way's own"),
    ] = None,
    multi_label: Annotated[bool, Field(description="each label is a yes or no of its own")] = False,
    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, description="probability below which no label is said; null: 0.5 with multi_label, else 0"),
    ] = None,
    calibrate: Annotated[
        bool, Field(description="take out what is said of an empty input, which favours some labels")
    ] = False,
    refine: Annotated[
        Literal["kmeans", "em"] | None,
        Field(description="move the labels' vectors to where the unlabelled rows lie (similarity, image_text)"),
    ] = None,
    temperature: Annotated[
        float | None, Field(gt=0, description="divides scores before they are probabilities; null: the way's own")
    ] = None,
    shots: Annotated[
        list[Annotated[int, Field(gt=0)]] | None,
        Field(description="labels a class that a logistic regression is given for comparison; null: 1, 4 and 8"),
    ] = None,
    split: Annotated[
        Literal["train", "test", "all"] | None,
        Field(description="which rows are told; null: the test rows of labelled data, else all"),
    ] = None,
    max_length: MaxLength = 128,
    bf16: Annotated[bool | None, Field(description="compute in bf16; null: where the hardware does")] = None,
    tokens_per_batch: Annotated[int, Field(ge=16, description="of texts; longer ones make smaller batches")] = 8192,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/zero_shot",
) -> Result:
    """Tells which of some described labels each text or image has; nothing is trained on a label.

    Where the data has labels, the answers are measured on held-out rows, beside the most frequent class and beside a
    logistic regression on a few labels a class from the training rows. `refine` uses the contents of all rows, and of
    none the label. `threshold` only decides what is left unsaid: accuracy is of the likeliest label on all rows, and
    what is right among the rows that are answered is told beside it.

    Returns:
        A folder with the record (no checkpoint), the metrics, and `predictions.parquet`: `row` (number in the data,
        over all its splits), `label` (null where nothing is said; a list with `multi_label`), `abstained`, and each
        label's probability as `score.NAME`.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(zero_shot, locals(), "zero_shot: ")
    with open_stage(output_dir, identity(zero_shot, given, models=["model"], data=["data"])) as folder:
        if not folder.finished:
            from hftransfer.stages.zero_shot_run import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks that the checkpoint can be asked so and that labels, templates and data fit, and counts rows."""
    from hftransfer.stages import zero_shot_run

    return zero_shot_run.plan(given)
