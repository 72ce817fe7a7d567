"""Formulas: tensors and arrays in, numbers out. No Hugging Face, no files, and no torch until a formula is asked for.

An adaptation formula is one function in a module of the same name. It takes keyword-only inputs, each naming what it
needs, and the trainer passes exactly those (`inputs_of`):

    features_source (n, d)   features_target (m, d)   pooled features of the step's source and target rows
    logits_source (n, k)     logits_target (m, k)     the classifier's outputs for them
    labels_source (n,)                                source labels; target labels are never given
    discriminator                                     callable (rows, width) -> (rows, 1) logits, float32, source = 1
    progress                                          fraction of training done, 0..1
    threshold                                         confidence that makes a pseudo-label
    loss_source, loss_masked_lm                       scalars: cross entropy on source, masked-LM loss on target
    num_source, num_target                            rows of each domain in the step

The objective is `loss_source + weight * formula(...)`. A formula that asks for `loss_source` mixes it in itself: what
it returns is the whole objective. To add a formula: its module, its test, and one line of `ADAPTATION`.
"""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple


class Formula(NamedTuple):
    """One line of `ADAPTATION`: where the formula is, whose it is, and its published defaults."""

    module: str  # in this package; "" is no formula: train on the source alone
    paper: str  # the citation that reports and model cards print
    weight: float  # trade-off against the source loss; constant over training
    schedule: str  # of the pressure on the encoder, applied *inside* the formula: "constant", or "sigmoid" of progress
    discriminator: str  # what the discriminator sees, hence its width: "" (none), "features", "features*classes"


# fmt: off
ADAPTATION: dict[str, Formula] = {
    "source_only": Formula(
        "", "", 0.0, "constant", ""),
    "coral": Formula(
        "coral", "Sun and Saenko 2016, Deep CORAL, arXiv:1607.01719", 1.0, "constant", ""),
    "mmd": Formula(
        "mmd", "Long et al. 2015, Deep Adaptation Networks, arXiv:1502.02791", 1.0, "constant", ""),
    "mcc": Formula(
        "mcc", "Jin et al. 2020, Minimum Class Confusion, arXiv:1912.03699", 1.0, "constant", ""),
    "dann": Formula(
        "dann", "Ganin et al. 2016, Domain-Adversarial Training, arXiv:1505.07818", 1.0, "sigmoid", "features"),
    "cdan": Formula(
        "cdan", "Long et al. 2018, CDAN+E, arXiv:1705.10667", 1.0, "sigmoid", "features*classes"),
    "pseudo_label": Formula(
        "pseudo_label", "Lee 2013, Pseudo-Label; Sohn et al. 2020, FixMatch, arXiv:2001.07685", 1.0, "constant", ""),
    "udalm": Formula(
        "udalm", "Karouzos et al. 2021, UDALM, arXiv:2104.07078", 1.0, "constant", ""),
}
# fmt: on


def adaptation_formula(name: str) -> Callable[..., Any] | None:
    """The function behind a name of `ADAPTATION`, imported now; None for `source_only`, which adds nothing.

    None rather than a function that returns zero: a loss connected to nothing hides in a sum, None cannot be called.

    Raises:
        ValueError: no formula has this name.
    """
    if name not in ADAPTATION:
        raise ValueError(f"no adaptation formula is named '{name}'; known: {', '.join(ADAPTATION)}")
    module = ADAPTATION[name].module
    return getattr(importlib.import_module(f"{__name__}.{module}"), module) if module else None


def inputs_of(function: Callable[..., Any]) -> set[str]:
    """The names of what a formula wants to be passed."""
    return set(inspect.signature(function).parameters)
