"""The verbs, one a file, and the one table that names them."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

Made = Literal["checkpoint", "vectors", "clusters"]
Taken = Made | Literal["anything"]
PUSH = "push"  # what is done with the results when all other stages are


class Stage(NamedTuple):
    """One line of `STAGES`."""

    does: str
    makes: Made | None = "checkpoint"  # what later stages can refer to by `$id`
    takes: Mapping[
        str, Made | Literal["anything"]
    ] = {}  # of its options, which take such a reference; `model` always takes a checkpoint


STAGES = {
    "pretrain": Stage("continue self-supervision on unlabelled data"),
    "finetune": Stage("fit the labels of one data set"),
    "adapt": Stage("labels in the source domain, none in the target"),
    "gan": Stage("a generator against a discriminator"),
    "embed": Stage("a vector for each row", makes="vectors"),
    "cluster": Stage(
        "groups of vectors, named and drawn", makes="clusters", takes={"data": "vectors", "fitted": "clusters"}
    ),
    "compare": Stage("a checkpoint against a new network, on few labels", makes=None),
    "zero_shot": Stage("labels told by their names or descriptions, none trained on", makes=None),
    "evaluate": Stage("metrics of a checkpoint on a data set", makes=None),
    PUSH: Stage("to the Hub, when everything is done", makes=None, takes={"folder": "anything"}),
}


def verb(name: str) -> Callable[..., Any]:
    """The function of a stage: `stages/NAME.py` holds `NAME`. Importing it imports no torch."""
    return getattr(importlib.import_module(f"{__name__}.{name}"), name)


def planner(name: str) -> Callable[..., dict[str, Any]]:
    """The function that checks a stage's data and model, trains nothing, and says what would be done."""
    return importlib.import_module(f"{__name__}.{name}").plan
