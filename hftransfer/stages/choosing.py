"""What is chosen or fitted on validation rows after training: a soup, a share of the way back, a temperature."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hftransfer import models
from hftransfer.errors import HFTransferError
from hftransfer.functional.temperature import temperature
from hftransfer.functional.weight_space import averaged, greedy_soup, interpolated
from hftransfer.stages.fitting import Fit, phases, settle_adapter
from hftransfer.stages.ways import run_phase

State = dict[str, Tensor]
SHARES = tuple(round(0.1 * step, 1) for step in range(11))
NO_START = (
    "a new head has no start to go back to; use method: linear_then_full, or a checkpoint that classifies these "
    "labels already"
)
CALIBRATED = ("single_label_classification", "multi_label_classification", "token_classification")


def state_of(network: nn.Module) -> State:
    """A copy of all weights, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


@dataclass
class Ended:
    """What was chosen when a network was fitted to its end."""

    start: State  # the weights before the last phase
    end: State  # and after it
    share: float | None = None  # of the end that the network has, where it went back
    along: dict[float, float] = field(default_factory=dict)  # validation metric by share, where that chose
    temperature: float | None = None


def fit_to_the_end(fit: Fit) -> Ended:
    """Runs all phases and all that is chosen after them; the network is then what is shipped."""
    ended = Ended(fit_whole(fit), {})
    if fit.near.get("wise_ft") is not None:
        _go_back(fit, ended)
    if fit.given["calibrate"]:
        ended.temperature = _calibrated(fit)
    settle_adapter(fit)
    return ended


def fit_whole(fit: Fit) -> State:
    """Runs all phases of a method, the last one for each seed of a soup. Returns the weights before the last one."""
    *first, last = phases(fit.given)
    for phase in first:
        run_phase(fit, phase)
    start = state_of(fit.network)
    count = fit.near.get("soup", 1)
    if count == 1:
        run_phase(fit, last)
    else:
        _soup(fit, last, start, count)
    return start


def _soup(fit: Fit, last: str, start: State, count: int) -> None:
    """The greedy soup: ingredients by validation score, each kept where the average does not get worse."""
    ingredients: list[State] = []
    for number in range(count):
        fit.network.load_state_dict(start)
        seeded = replace(fit, seed=fit.seed + number, folder=fit.folder / f"seed-{number}", name=f"seed {number + 1}")
        run_phase(seeded, last)
        settle_adapter(seeded)
        fit.network, fit.trainable, fit.watched = seeded.network, seeded.trainable, seeded.watched
        fit.curves |= {f"{last}, seed {number + 1}": seeded.curves.pop(last)}
        ingredients.append(state_of(fit.network))

    def judged(chosen: list[int]) -> float:
        fit.network.load_state_dict(averaged([ingredients[number] for number in chosen]))
        return signed(fit, validation_score(fit))

    scores = [judged([number]) for number in range(count)]
    chosen = greedy_soup(scores, judged)
    fit.network.load_state_dict(averaged([ingredients[number] for number in chosen]))
    shown = ", ".join(f"{abs(score):.3f}" for score in scores)
    fit.notes.append(
        f"soup: {len(chosen)} of {count} trainings averaged (validation {fit.task.metric} of each: {shown})"
    )


def validation_score(fit: Fit) -> float:
    """The task's metric on the validation rows."""
    assert fit.validation is not None
    found = fit.task.score(fit.task.predict(fit.model, fit.validation), fit.validation.labels)
    return float(found[fit.task.metric])


def signed(fit: Fit, score: float) -> float:
    """Higher is better."""
    return score if fit.task.higher_is_better else -score


def _go_back(fit: Fit, ended: Ended) -> None:
    """Moves the network between its start and its end (WiSE-FT)."""
    settle_adapter(fit)
    fit.adapter = None  # what is shipped is on the way to it
    ended.end, wanted = state_of(fit.network), fit.near["wise_ft"]
    if wanted == "best":
        for share in SHARES:
            fit.network.load_state_dict(interpolated(ended.start, ended.end, share))
            ended.along[share] = validation_score(fit)
        wanted = max(SHARES, key=lambda share: (signed(fit, ended.along[share]), share))
    ended.share = float(wanted)
    fit.network.load_state_dict(interpolated(ended.start, ended.end, ended.share))


def _calibrated(fit: Fit) -> float:
    """Fits a temperature on the validation rows and builds it into the last layer, so that any inference has it.

    Returns:
        The temperature, which is also written into the config, as `temperature_applied`.
    """
    assert fit.validation is not None
    logits = fit.task.predict(fit.model, fit.validation)
    found = temperature(*flat(fit.task.name, logits, fit.validation.labels))
    last = models.last_linear(fit.model)
    with torch.no_grad():
        last.weight /= found
        if last.bias is not None:
            last.bias /= found
    fit.network.config.temperature_applied = round(found, 6)
    return found


def flat(task: str, outputs: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels a row, a token being one."""
    if task != "token_classification":
        return outputs, np.asarray(labels)
    return np.concatenate(list(outputs)), np.concatenate([np.asarray(row) for row in labels])


def check_start(given: Mapping[str, Any], new: Sequence[str]) -> None:
    """Refuses a way back to a start that has new weights, which nothing trained.

    Raises:
        HFTransferError: in one line.
    """
    if (given["near"] or {}).get("wise_ft") is not None and new and given["method"] != "linear_then_full":
        raise HFTransferError(f"near.wise_ft: {NO_START} (new: {', '.join(new[:2])})")
