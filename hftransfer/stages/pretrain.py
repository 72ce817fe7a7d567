"""`pretrain`: self-supervision on unlabelled text, images or sound; compared with the checkpoint before it."""

from typing import Annotated, Any

from pydantic import Field

from hftransfer.objectives import OBJECTIVES, TRAINING, own
from hftransfer.runs import Result, open_stage
from hftransfer.signatures import DefaultBy, OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import (
    ConfigFields,
    Data,
    LoraFields,
    ManyData,
    MaxTrainSamples,
    Model,
    OutputDir,
    Rate,
    Schedule,
    Seed,
    Training,
)

NOTHING: dict[str, Any] = {}
DEFAULTS = {name: {**TRAINING, **entry.training} for name, entry in OBJECTIVES.items()}


def pretrain(
    model: Model,
    data: ManyData,
    *,
    objective: Annotated[str, OneOf(tuple(OBJECTIVES)), Field(description="what is predicted")] = "masked_lm",
    from_scratch: Annotated[
        bool, Field(description="new weights; the checkpoint gives config and tokenizer only")
    ] = False,
    config: ConfigFields = NOTHING,
    mask_rate: Annotated[
        Rate | None,
        Field(description="share that is hidden, or [start, end] over the training; null: the objective's"),
        DefaultBy("objective", own("mask_rate")),
    ] = None,
    whole_word: Annotated[
        bool | None,
        Field(description="hide all pieces of a word together"),
        DefaultBy("objective", own("whole_word")),
    ] = None,
    pack: Annotated[
        bool | None,
        Field(description="fill rows with several documents, kept apart in attention"),
        DefaultBy("objective", own("pack")),
    ] = None,
    augment: Annotated[
        bool | str | None,
        Field(description="random crops and flips of images; crop: no flips"),
        DefaultBy("objective", own("augment")),
    ] = None,
    max_length: Annotated[
        Schedule | None,
        Field(description="longest row in tokens, or [start, end] over the training; null: the objective's"),
        DefaultBy("objective", own("max_length")),
    ] = None,
    head_steps: Annotated[
        int, Field(ge=0, description="steps that fit a new head, encoder frozen, before `before` is measured")
    ] = 80,
    freeze: Annotated[
        Annotated[int, Field(ge=0, strict=True)] | str | None,
        Field(description="hold still: embeddings, or a number: those and the first N blocks"),
    ] = None,
    lora: Annotated[
        LoraFields | None,
        Field(description="train adapters and merge them at the end: LoraConfig under its own names"),
    ] = None,
    layer_decay: Annotated[
        float | None, Field(gt=0, le=1, description="factor of the learning rate from a layer to the one below")
    ] = None,
    extend_vocabulary: Annotated[
        int, Field(ge=0, description="add so many of the corpus's words to the vocabulary")
    ] = 0,
    general: Annotated[
        Data | None, Field(description="data on which forgetting is measured, as data elsewhere")
    ] = None,
    replay: Annotated[float, Field(ge=0, lt=1, description="share of the training taken from `general`")] = 0.0,
    early_stopping_patience: Annotated[
        int | None, Field(gt=0, description="stop after so many evaluations without a lower watched loss")
    ] = None,
    training: Annotated[Training, DefaultBy("objective", DEFAULTS)] = NOTHING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/pretrain",
) -> Result:
    """Trains a checkpoint, or a new network, to predict what is hidden in unlabelled data; a fifth is held out.

    The held-out loss is measured before and after on the same fixed masks, and on a few watched rows in between. A
    checkpoint without a head for the objective gets one that is fitted first while the encoder is frozen: from a
    random head any training would look like an improvement. `model` may be `scratch/TYPE`, a new network of that
    transformers model type with the sizes of `config`.

    Returns:
        A folder whose encoder loads into any task class, with its reader (tokenizer, image processor, feature
        extractor); `loss.before` and `.after` on held-out data and, where `general` is given, `general_loss`. Text
        also has `perplexity` and `bits_per_byte`, which charges every token the mean cost of a predicted one and is
        comparable across tokenizers.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(pretrain, locals(), "pretrain: ")
    with open_stage(output_dir, identity(pretrain, given, models=["model"], data=["data", "general"])) as folder:
        if not folder.finished:
            from hftransfer.stages.pretraining import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data's columns, the model's class and the options, and counts rows and steps."""
    from hftransfer.stages import pretraining

    return pretraining.plan(given)
