"""The ways of reusing a network's parameters, as data: each is one or a few phases. Imports no torch.

head       a head on features that are made once, the rest held still
weights    every weight
upper      the last blocks, or named parts, and the head
adapter    PEFT's matrices in place of the weights, and the head
pairs      the backbone alone: rows of one class together, of others apart
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

TRAINING: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 32,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


class Method(NamedTuple):
    """One line of `METHODS`."""

    does: str
    phases: tuple[str, ...]
    training: Mapping[str, Any]  # over `TRAINING`
    paper: str = ""
    new: bool = False  # begins with a network of new weights


METHODS = {
    "full": Method("every weight is trained", ("weights",), {"learning_rate": 5e-5}),
    "frozen": Method(
        "a head on features that are made once",
        ("head",),
        {"learning_rate": 1e-2, "num_train_epochs": 50.0},
        "Alain and Bengio 2016, Linear Classifier Probes, arXiv:1610.01644",
    ),
    "partial": Method(
        "the last blocks, or named parts",
        ("upper",),
        {"learning_rate": 1e-4},
        "Howard and Ruder 2018, ULMFiT, arXiv:1801.06146",
    ),
    "linear_then_full": Method(
        "a head first, then every weight at a small rate",
        ("head", "weights"),
        {"learning_rate": 2e-5},
        "Kumar et al. 2022, Fine-Tuning can Distort Pretrained Features, arXiv:2202.10054",
    ),
    "lora": Method(
        "low-rank matrices, or another of PEFT's methods",
        ("adapter",),
        {"learning_rate": 5e-4, "weight_decay": 0.0},
        "Hu et al. 2021, LoRA, arXiv:2106.09685",
    ),
    "few_shot": Method(
        "pairs of like and unlike rows, then a head",
        ("pairs", "head"),
        {"learning_rate": 2e-5, "num_train_epochs": 20.0, "per_device_train_batch_size": 16},
        "Tunstall et al. 2022, SetFit, arXiv:2209.11055",
    ),
    "scratch": Method(
        "the same network with new weights", ("weights",), {"learning_rate": 5e-4, "num_train_epochs": 20.0}, new=True
    ),
}
DEFAULTS = {name: {**TRAINING, **method.training} for name, method in METHODS.items()}


def near(
    *,
    l2_sp: Annotated[float, Field(ge=0, description="pull towards the pretrained weights: alpha of L2-SP")] = 0.0,
    l2_sp_head: Annotated[float, Field(ge=0, description="pull of new weights towards zero: beta of L2-SP")] = 0.01,
    ema: Annotated[float | None, Field(gt=0, lt=1, description="end with the moving average: its decay")] = None,
    wise_ft: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["best"] | None,
        Field(description="share of the fine-tuned weights, the rest is the start's; best: by validation rows"),
    ] = None,
    soup: Annotated[
        int, Field(ge=1, description="train with so many seeds, and average those that help on validation rows")
    ] = 1,
) -> None:
    """What keeps a fine-tuned network near the pretrained one; only the signature is used.

    L2-SP: Li et al. 2018, arXiv:1802.01483. WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903. Soup: Wortsman et al.
    2022, arXiv:2203.05482.
    """


def loss(
    *,
    class_weights: Annotated[
        bool, Field(description="weigh rare classes up, so that all count alike (of several at once: yes against no)")
    ] = False,
    focal: Annotated[float, Field(ge=0, description="gamma of the focal loss; 0: cross entropy")] = 0.0,
) -> None:
    """What the loss makes of skewed classes; only the signature is used. Label smoothing is TrainingArguments' own."""


PAPERS = {
    "l2_sp": "Li et al. 2018, Explicit Inductive Bias for Transfer Learning, arXiv:1802.01483",
    "ema": "Tarvainen and Valpola 2017, Mean Teachers, arXiv:1703.01780",
    "wise_ft": "Wortsman et al. 2022, Robust Fine-Tuning of Zero-Shot Models, arXiv:2109.01903",
    "soup": "Wortsman et al. 2022, Model Soups, arXiv:2203.05482",
    "focal": "Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002",
    "layer_decay": "Clark et al. 2020, ELECTRA, arXiv:2003.10555",
    "calibrate": "Guo et al. 2017, On Calibration of Modern Neural Networks, arXiv:1706.04599",
}
