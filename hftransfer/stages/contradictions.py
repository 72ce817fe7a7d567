"""Options of `finetune` that contradict each other or the task: each is refused in one line, before anything runs."""

from collections.abc import Mapping
from typing import Any

from hftransfer.errors import HFTransferError
from hftransfer.methods import METHODS
from hftransfer.stages.choosing import CALIBRATED, NO_START
from hftransfer.stages.fitting import MOVES_BLOCKS
from hftransfer.stages.ways import ON_VECTORS, by_gradients

NOT_CLASSES = ("regression", "causal_lm")


def check(given: Mapping[str, Any], task: str, classifies: bool) -> None:
    """Refuses what would be ignored, or cannot be done.

    Args:
        given: finetune's options.
        task: its name.
        classifies: whether the checkpoint has a trained head for these labels.

    Raises:
        HFTransferError: in one line.
    """
    _method(given, task)
    _labels(given, task)
    _near(given, task, classifies)


def solved(given: Mapping[str, Any], task: str) -> bool:
    """Whether a method ends with a head that scikit-learn fits at once."""
    return METHODS[given["method"]].phases[-1] == "head" and task in ON_VECTORS and not by_gradients(given)


def _method(given: Mapping[str, Any], task: str) -> None:
    method = given["method"]
    phases = METHODS[method].phases
    if method == "few_shot" and task != "single_label_classification":
        raise HFTransferError(f"method: few_shot pairs rows of one class each, and the task is {task}; use lora")
    if "head" in phases and task == "causal_lm":
        raise HFTransferError(f"method: {method} fits a new head, and a language model has its own; use lora or full")
    if given["lora"] is not None and method != "lora":
        raise HFTransferError(f"lora: method {method} trains no adapter; set method: lora, or remove it")
    if not given["merge"] and method != "lora":
        raise HFTransferError(f"merge: method {method} trains no adapter; set method: lora, or remove it")
    if given["head"] is not None and "head" not in phases:
        raise HFTransferError(f"head: method {method} has no head of its own; set method: frozen, or remove it")
    if given["head"] == "linear" and task not in ON_VECTORS:
        raise HFTransferError(f"head: linear is fitted to one vector a row, and the task is {task}; set head: torch")
    if given["gradual"] and phases[-1] not in ("weights", "upper"):
        raise HFTransferError(f"gradual: method {method} trains no blocks one by one; remove it")
    if given["layer_decay"] is not None and not set(phases) & set(MOVES_BLOCKS):
        raise HFTransferError(f"layer_decay: method {method} trains no blocks; remove it")
    if given["early_stopping_patience"] and solved(given, task):
        raise HFTransferError(
            f"early_stopping_patience: method {method} fits its head at once, not in epochs; set head: torch"
        )


def _labels(given: Mapping[str, Any], task: str) -> None:
    loss, single = given["loss"] or {}, "single_label_classification"
    shapes = {"loss.focal": loss.get("focal")}
    shapes["training.label_smoothing_factor"] = given["training"].get("label_smoothing_factor")
    if given["balanced"] and task != single:
        raise HFTransferError(f"balanced: a row has no one class in {task}; remove it")
    shapes["loss.class_weights"] = loss.get("class_weights") if task in NOT_CLASSES else None
    for option, value in shapes.items():
        if value and task in NOT_CLASSES:
            raise HFTransferError(f"{option}: is of class probabilities, and {task} has none; remove it")
        if value and given["head"] == "linear":
            raise HFTransferError(f"{option}: head: linear is fitted by scikit-learn, without it; set head: torch")
    if given["calibrate"] and task not in CALIBRATED:
        raise HFTransferError(f"calibrate: a temperature is for class probabilities, and {task} has none; remove it")
    if given["general"] is not None and task == "causal_lm":
        raise HFTransferError("general: is labelled data of the same classes; evaluate a language model on it instead")


def _near(given: Mapping[str, Any], task: str, classifies: bool) -> None:
    near, method = given["near"] or {}, given["method"]
    begun = classifies or task == "causal_lm"
    if near.get("wise_ft") is not None and METHODS[method].new:
        raise HFTransferError(f"near.wise_ft: method {method} begins with nothing to go back to; remove it")
    if near.get("wise_ft") is not None and method != "linear_then_full" and not (begun and method != "few_shot"):
        raise HFTransferError(f"near.wise_ft: {NO_START}")
    if near.get("ema") and given["early_stopping_patience"]:
        raise HFTransferError(
            "near.ema: the average is of the whole training, and early_stopping_patience keeps one epoch; choose one"
        )
    if near.get("l2_sp") and METHODS[method].new:
        raise HFTransferError(f"near.l2_sp: method {method} begins with no pretrained weights; remove it")
    if near.get("l2_sp") and not set(METHODS[method].phases) & set(MOVES_BLOCKS):
        raise HFTransferError(f"near.l2_sp: method {method} leaves the pretrained weights as they are; remove it")
    for option, wanted in (("ema", near.get("ema")), ("soup", near.get("soup", 1) > 1)):
        if wanted and (solved(given, task) or method == "few_shot"):
            raise HFTransferError(f"near.{option}: method {method} ends with a head that is fitted at once; remove it")
    apart = [f"near.{name}" for name in ("soup", "wise_ft") if near.get(name) not in (None, 1)]
    apart += ["architecture"] if given["architecture"] is not None else []
    if method == "lora" and not given["merge"] and apart:
        raise HFTransferError(
            f"merge: false leaves an adapter of the untouched base, and {apart[0]} changes it; remove one"
        )
