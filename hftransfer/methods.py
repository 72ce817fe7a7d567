"""The ways of reusing a network's parameters, as data: each is one or a few phases. Imports no torch.

head       a head on features that are made once, the rest held still
weights    every weight
upper      the last blocks, or named parts, and the head
adapter    PEFT's matrices in place of the weights, and the head
pairs      the backbone alone: rows of one class together, of others apart
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
