"""Watching two players: running numbers, warnings in words, and whether a training converged.

Losses say little about a GAN: each is measured against an opponent that moves. What tells is how often the
discriminator is right, whether the generator still gets a gradient, whether its samples differ from each other, and a
quality that is measured beside the game.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback

from hftransfer import processes
from hftransfer.trainers.gan_checks import check_batch

logger = logging.getLogger("hftransfer")

WATCHED_ROWS = 64  # whose latents are fixed, and of the data's that their diversity is compared with
LAST = 5  # logs that have to agree before anything is said
SURE = 0.98  # mean accuracy of a discriminator that has won
WRONG = 0.3  # of one that points the wrong way
UNSURE = 0.03  # from one half, of one that has lost
VANISHED = 0.01  # of the generator's gradient at its strongest
FALLEN = 0.5  # of the best diversity so far
POOR = 0.25  # of the data's diversity
FEWEST = 5  # evaluations before a training can be called converged
FLAT = 0.05  # of all that quality gained: no improvement
LOST = 0.5  # of all that quality gained: the training has come undone

History = Sequence[Mapping[str, Any]]


class GanWatch(TrainerCallback):
    """Sums up what moves return, looks at the diversity of the same latents' samples at each log, and warns."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.label = trainer, trainer.label
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.fixed: tuple[Tensor, Tensor | None, float] | None = None  # latents, labels, the data's diversity

    def add(self, **values: Tensor) -> None:
        """Adds numbers of one move to the running means; nothing waits for the device."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.detach().clone()
            self.counts[name] = self.counts.get(name, 0) + 1

    def since_last(self) -> dict[str, float]:
        """The means over moves and processes since they were last asked for, and what is read off now."""
        names = sorted(self.sums)
        means = torch.stack([self.sums[name].float() / self.counts[name] for name in names])
        found = dict(zip(names, self.trainer.accelerator.reduce(means, "mean").tolist(), strict=True))
        self.sums, self.counts = {}, {}
        rates = {group["player"]: group["lr"] for group in self.trainer.optimizer.param_groups}
        found |= {"discriminator_learning_rate": rates["discriminator"], "diversity": self.diversity()}
        model = self.trainer.model
        return found | ({"augment_p": model.augment_p.item()} if model.game.augment else {})

    @torch.no_grad()
    def diversity(self) -> float:
        """Mean distance between the generator's samples of fixed latents, in that of as many real samples."""
        generator = self.trainer.model.generator
        latents, labels, real = self._fixed()
        mode = generator.training
        spread = _spread(generator.eval()(latents, labels))
        generator.train(mode)
        return spread / real if real else math.nan

    def _fixed(self) -> tuple[Tensor, Tensor | None, float]:
        if self.fixed is None:
            rows, seed = self.trainer.train_dataset, self.trainer.args.seed
            chosen = np.random.default_rng(seed).permutation(len(rows))[:WATCHED_ROWS].tolist()
            many = hasattr(rows, "__getitems__")
            batch = self.trainer.data_collator(rows.__getitems__(chosen) if many else [rows[row] for row in chosen])
            batch = self.trainer._prepare_inputs(batch)
            check_batch(self.trainer.model.generator, batch)
            latents = self.trainer.model.generator.latents(len(chosen), torch.Generator().manual_seed(seed))
            self.fixed = latents.to(self.trainer.args.device), batch.get("labels"), _spread(batch["pixel_values"])
        return self.fixed

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Forgets what an interrupted training had collected, and looks at samples before any is learnt from."""
        self.trainer.batches, self.sums, self.counts = [], {}, {}
        self._fixed()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not processes.is_main() or "loss" not in (logs or {}):
            return
        before = alarms(state.log_history[:-1])
        for kind, words in alarms(state.log_history).items():
            if kind not in before:
                logger.warning("%s: step %d: %s", self.label, state.global_step, words)


def _spread(samples: Tensor) -> float:
    """Mean Euclidean distance between two of them."""
    return float(torch.pdist(samples.flatten(1).float()).mean()) if len(samples) > 1 else 0.0


def _numbers(history: History, name: str) -> list[float]:
    return [float(entry[name]) for entry in history if name in entry]


def alarms(history: History) -> dict[str, str]:
    """What the last logs agree on that is wrong, by kind, in words; a function of Trainer's log history alone.

    - `discriminator wins`: its accuracy on real and fake samples was at least 0.98 in the mean of the last 5 logs.
    - `discriminator is backwards`: it was at most 0.3.
    - `generator vanishes`: its gradient was below a hundredth of its strongest (over 5 logs) in each of them.
    - `discriminator lost`: accuracies within 0.03 of one half in each of them while the generator's gradient vanishes.
    - `diversity fell`: the same latents' samples lie closer to each other than half of the best before (over 5 logs),
      and than half of the data's, in each of them; or, after 20 logs, than a quarter of the data's.
    """
    found: dict[str, str] = {}
    real, fake = (_numbers(history, f"accuracy_{kind}") for kind in ("real", "fake"))
    slopes, spread = _numbers(history, "generator_grad_norm"), _numbers(history, "diversity")
    if len(real) < LAST:
        return found
    right = [*real[-LAST:], *fake[-LAST:]]
    accuracy = float(np.mean(right))
    if accuracy >= SURE:
        found["discriminator wins"] = (
            f"the discriminator is right {accuracy:.1%} of the time and teaches the generator little; lower its "
            "learning rate, add a penalty (r1) or augmentation, or take the non_saturating loss"
        )
    if accuracy <= WRONG:
        found["discriminator is backwards"] = (
            f"the discriminator is right {accuracy:.1%} of the time, less than chance: its penalty does not let "
            "its slope turn round; lower penalty_weight (0.1 for vectors of few numbers)"
        )
    strongest = _highest(slopes)
    if max(slopes[-LAST:]) < VANISHED * strongest:
        found["generator vanishes"] = (
            f"the generator's gradient has vanished, to {np.mean(slopes[-LAST:]):.2g} from {strongest:.2g}; take "
            "another loss than minimax, or a weaker discriminator"
        )
        if max(abs(share - 0.5) for share in right) <= UNSURE:
            found["discriminator lost"] = (
                "the discriminator cannot tell real from fake and gives no gradient; if samples are not good, raise "
                "its learning rate or discriminator_steps"
            )
    last, best = max(spread[-LAST:]), _highest(spread)
    if last < FALLEN * min(1.0, best) or (len(spread) >= 4 * LAST and last < POOR):
        found["diversity fell"] = (
            f"samples lie {np.mean(spread[-LAST:]):.0%} as far from each other as the data (at best {best:.0%}): the "
            "generator makes few things; add a penalty (r1_r2), augmentation or batch_norm, or lower learning rates"
        )
    return found


def _highest(values: Sequence[float]) -> float:
    """Of the means of each 5 in a row."""
    return float(np.lib.stride_tricks.sliding_window_view(values, LAST).mean(axis=1).max())


class Told(NamedTuple):
    """How a training went, and the sentence that says why."""

    outcome: Literal["converged", "collapsed", "diverged", "undecided"]
    text: str


def told(history: History, *, by: str | None = None, higher_is_better: bool = False) -> Told:
    """Whether a training converged, from Trainer's log history; `by` names the quality in it, `eval_...`.

    In this order:

    - diverged: a loss, a gradient or the quality is not finite; or the discriminator has won and the generator's
      gradient has vanished; or the last quality has lost more than half of what the best had gained on the first.
    - collapsed: diversity fell, as `alarms` has it, and stayed there to the end.
    - converged: at least 5 evaluations; the best of the last third is not better than the best before it by more than
      5 % of all that was gained; something was gained; and there is no alarm.
    - undecided: anything else, with what is missing.
    """
    numbers = ("loss", "discriminator_loss", "penalty", "generator_grad_norm", "discriminator_grad_norm")
    for name in (*numbers, *([by] if by else [])):
        for entry in history:
            if name in entry and not math.isfinite(entry[name]):
                return Told("diverged", f"Diverged: {name} is {entry[name]} at step {entry['step']}.")
    found = alarms(history)
    if {"discriminator wins", "generator vanishes"} <= found.keys():
        return Told("diverged", f"Diverged: {found['discriminator wins']}; {found['generator vanishes']}.")
    if "diversity fell" in found:
        return Told("collapsed", f"Collapsed: {found['diversity fell']}.")
    sign = 1 if higher_is_better else -1
    values = [(entry["step"], float(entry[by])) for entry in history if by is not None and by in entry]
    if by is None or len(values) < FEWEST:
        return Told("undecided", f"Undecided: {len(values)} evaluations of quality are too few to tell.")
    return _by_quality(by, values, sign, found)


def _by_quality(by: str, values: list[tuple[int, float]], sign: int, found: Mapping[str, str]) -> Told:
    scores = [sign * value for _, value in values]
    (step, best), (_, first), (_, last) = max(values, key=lambda entry: sign * entry[1]), values[0], values[-1]
    gained, name = sign * (best - first), by.removeprefix("eval_")
    way = f"{name} went from {first:.3g} to {best:.3g} at step {step}"
    if gained <= 0:
        return Told("undecided", f"Undecided: {name} was never better than at the first evaluation, {first:.3g}.")
    if sign * (best - last) > LOST * gained:
        return Told("diverged", f"Diverged: {way}, and was lost again: {last:.3g} at the end.")
    if found:
        return Told("undecided", f"Undecided: {way}, but {'; '.join(found.values())}.")
    part = max(1, len(scores) // 3)
    if max(scores[-part:]) - max(scores[:-part]) > FLAT * gained:
        return Told("undecided", f"Undecided: {way} and was still improving; train longer.")
    return Told("converged", f"Converged: {way} and no longer improves; no player wins and samples stay diverse.")
