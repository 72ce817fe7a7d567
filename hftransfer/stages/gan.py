"""`gan`: a generator against a discriminator, on images or vectors; what comes out makes samples."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hftransfer.foreign import FieldsOf
from hftransfer.runs import Result, open_stage
from hftransfer.signatures import Block, OneOf, validate
from hftransfer.stages.identity import identity
from hftransfer.stages.options import REFUSED, ConfigFields, Data, MaxTrainSamples, Model, OutputDir, Seed, merged

LOSSES = ("minimax", "non_saturating", "least_squares", "hinge", "wasserstein_gp", "r3gan")
PENALTIES = ("none", "gradient", "r1", "r1_r2")
QUALITIES = {  # what may choose the step that is kept, and whether more of it is better
    "frechet": False,
    "kernel": False,
    "precision": True,
    "recall": True,
    "density": True,
    "coverage": True,
    "label_divergence": False,
    "modes": True,
    "good_share": True,
}
TRAINING: dict[str, Any] = {"max_steps": 2000, "per_device_train_batch_size": 64, "save_strategy": "steps"}
NOTHING: dict[str, Any] = {}
_LOOKS = "`looks` says how often quality is measured, and `by` what chooses the step that is kept"
_REFUSED = {
    **REFUSED,
    **dict.fromkeys(("eval_strategy", "eval_on_start", "do_eval", "metric_for_best_model"), _LOOKS),
    "load_best_model_at_end": "`keep_best` does that, by the quality that `by` names",
}
Training = Annotated[
    dict[str, Any],
    FieldsOf("transformers.training_args", "TrainingArguments", _REFUSED),
    Field(description="TrainingArguments under their own names, but for what each player has of its own"),
]


def player(
    *,
    learning_rate: Annotated[float, Field(gt=0, description="its step")] = 2e-4,
    betas: Annotated[
        list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2, description="Adam's two")
    ] = [0.5, 0.999],  # noqa: B006 - never changed
    weight_decay: Annotated[float, Field(ge=0, description="of weights, not of biases and norms")] = 0.0,
    lr_scheduler_type: Annotated[
        str, Field(description="transformers' name of a schedule over all steps")
    ] = "constant",
    warmup_steps: Annotated[float, Field(ge=0, description="steps, or below 1 a share of all")] = 0,
    max_grad_norm: Annotated[float | None, Field(gt=0, description="clip its gradients; null: not clipped")] = None,
) -> None:
    """How a player learns; only the signature is used. Defaults are DCGAN's: Radford et al. 2016, arXiv:1511.06434."""


def gan(
    model: Model,
    data: Data,
    *,
    discriminator_model: Annotated[
        Model | None, Field(description="the discriminator of another checkpoint than model's own")
    ] = None,
    config: ConfigFields = NOTHING,
    conditional: Annotated[
        bool, Field(description="of new networks: learn the data's labels, and make on request")
    ] = False,
    image_size: Annotated[
        int | None, Field(ge=1, description="scale images to so many pixels a side; null: as they are")
    ] = None,
    num_channels: Annotated[Literal[1, 3] | None, Field(description="grey or RGB; null: as the images are")] = None,
    loss: Annotated[str, OneOf(LOSSES), Field(description="what the players play for")] = "non_saturating",
    penalty: Annotated[
        Annotated[str, OneOf(PENALTIES)] | None,
        Field(description="on the discriminator's slope; null: what the loss's authors use"),
    ] = None,
    penalty_weight: Annotated[float | None, Field(ge=0, description="null: what its authors use")] = None,
    discriminator_steps: Annotated[
        int | None, Field(ge=1, description="for each of the generator's; null: 5 for wasserstein_gp, else 1")
    ] = None,
    generator: Annotated[
        dict[str, Any] | None, Block("hftransfer.stages.gan:player"), Field(description="how it learns")
    ] = None,
    discriminator: Annotated[
        dict[str, Any] | None, Block("hftransfer.stages.gan:player"), Field(description="how it learns")
    ] = None,
    ema: Annotated[
        float | None, Field(ge=0, lt=1, description="decay of the generator's average, which is shipped; null: none")
    ] = 0.999,
    augment: Annotated[
        list[Literal["color", "translation", "cutout"]],
        Field(description="on all that the discriminator sees, so that few images do (DiffAugment)"),
    ] = [],  # noqa: B006 - never changed
    augment_p: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["adaptive"],
        Field(description="chance of each; adaptive: as much as the discriminator overfits (ADA)"),
    ] = 1.0,
    augment_images: Annotated[
        int, Field(ge=1, description="images in which an adaptive chance can go from 0 to 1")
    ] = 50_000,
    freeze: Annotated[
        int, Field(ge=0, description="stages of the discriminator that stay as they are, from the image up (FreezeD)")
    ] = 0,
    judge: Annotated[
        Model | None,
        Field(
            description="checkpoint whose features quality is measured on; null: a small classifier of the data's "
            "labels, made first, or without labels the numbers themselves"
        ),
    ] = None,
    quality_rows: Annotated[int, Field(ge=10, description="samples that quality is measured on, at most")] = 1000,
    by: Annotated[
        str, OneOf(tuple(QUALITIES)), Field(description="quality that chooses the step that is kept")
    ] = "frechet",
    keep_best: Annotated[
        bool, Field(description="end with the best look's networks; false: with the last step's")
    ] = True,
    early_stopping_patience: Annotated[
        int | None, Field(gt=0, description="stop after so many looks at which quality was no better than before")
    ] = None,
    looks: Annotated[int, Field(ge=1, description="how often quality is measured and samples are drawn")] = 10,
    baseline: Annotated[
        Model | None, Field(description="another run's generator, measured on the same rows and compared")
    ] = None,
    training: Training = TRAINING,
    max_train_samples: MaxTrainSamples = None,
    seed: Seed = 42,
    output_dir: OutputDir = "outputs/gan",
) -> Result:
    """Trains a generator against a discriminator; a fifth of the data is held out for measuring.

    `model` is `scratch/gan_conv` (residual blocks, images of a power of two from 8 pixels on), `scratch/gan_mlp`
    (perceptrons, vectors and small images) with the sizes of `config`, or the folder of an earlier `gan`, whose two
    players both go on from their weights. `discriminator_model` takes that player from elsewhere.

    Quality needs no download: distances and overlaps are between features of generated and of held-out samples, beside
    those of as many training samples, which no generator need beat. The step that is kept is chosen on training
    samples, so the held-out ones choose nothing.

    Returns:
        A folder whose generator loads with `AutoModel` after `import hftransfer.gans` and makes samples with
        `generate(n, seed=)`; `discriminator/`, which is also a backbone of image classifiers; with `ema`, `raw/`, the
        generator that was not averaged; pictures of the same latents over time.

    Raises:
        HFTransferError: in one line, for anything wrong with the options, the data or the checkpoint.
    """
    given = validate(gan, locals(), "gan: ")
    given["training"] = merged(TRAINING, given["training"])
    names = ["model", "discriminator_model", "judge", "baseline"]
    with open_stage(output_dir, identity(gan, given, models=names, data=["data"])) as folder:
        if not folder.finished:
            from hftransfer.stages.gan_playing import run

            run(folder, given)
    return folder.result()


def plan(**given: Any) -> dict[str, Any]:
    """Checks the data, the networks and the options, and counts rows and steps."""
    from hftransfer.stages import gan_playing

    return gan_playing.plan({**given, "training": merged(TRAINING, given["training"])})
