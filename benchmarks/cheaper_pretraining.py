"""What makes pretraining cheaper, one ingredient at a time, at equal held-out loss.

    python benchmarks/cheaper_pretraining.py --steps 150 --rounds 2

Continued masked-LM training of the embedded encoder on one domain's documentation, in one process. All sides take the
same number of steps from the same fitted head, in turns, so that a busy machine slows all alike. The loss on the same
watched rows is taken at every tenth of the training, outside the clock. The time to plain's loss is when a side's
watched loss passes the plain run's last one (interpolated), as a share of the plain run's time; - where it does not
get there.
"""

import argparse
import itertools
import shutil
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

import hftransfer
from hftransfer.trainers.pretraining import PretrainingTrainer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DATA = {"path": "demo/docs", "name": "scipy"}
LORA = {"r": 16, "lora_alpha": 32, "target_modules": ["query", "key", "value", "dense"]}
INGREDIENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mask_rate: [0.3, 0.15]": {"mask_rate": [0.3, 0.15]},
    "max_length: [32, 128]": {"max_length": [32, 128]},
    "pack: true": {"pack": True},
    "freeze: embeddings": {"freeze": "embeddings"},
    "freeze: 3": {"freeze": 3},
    "lora": {"lora": LORA, "training": {"learning_rate": 1e-3}},
    "layer_decay: 0.8": {"layer_decay": 0.8},
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=150)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", nargs="+", choices=[*INGREDIENTS], default=[*INGREDIENTS])
    options.add_argument("--output_dir", type=Path, default=Path("outputs/benchmark_cheaper"))
    given = options.parse_args()
    shutil.rmtree(given.output_dir, ignore_errors=True)
    fitted = hftransfer.pretrain(
        MODEL,
        DATA,
        head_steps=80,
        training={"max_steps": 1, "learning_rate": 0.0},
        output_dir=given.output_dir / "fit",
    )
    names = list(dict.fromkeys(["plain", *given.only]))
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(given.rounds):
        for name in names:
            runs[name].append(_once(name, str(fitted.path), given, number))
    Console(width=110).print(_table(runs, given.steps))


class Run(NamedTuple):
    """One training."""

    seconds: float
    curve: list[tuple[float, float]]  # (seconds of training, loss on the watched rows)
    loss: float  # held out, at the end


def _once(name: str, model: str, given: argparse.Namespace, number: int) -> Run:
    curve: list[tuple[float, float]] = []
    spent = 0.0
    train = PretrainingTrainer.train_or_resume

    def timed(self: PretrainingTrainer) -> Any:
        nonlocal spent
        start, watching, measure = time.perf_counter(), 0.0, self.watch

        def watch() -> float:
            nonlocal watching
            reached = time.perf_counter()
            loss = measure()  # type: ignore[misc]
            curve.append((reached - start - watching, loss))
            watching += time.perf_counter() - reached
            return loss

        self.watch = watch
        found = train(self)
        spent = time.perf_counter() - start - watching
        return found

    own = dict(INGREDIENTS[name])
    every = max(1, given.steps // 10)
    training = {"max_steps": given.steps, "eval_steps": every, "learning_rate": 1e-4, "save_strategy": "no"}
    training |= own.pop("training", {})
    PretrainingTrainer.train_or_resume = timed  # type: ignore[method-assign]
    try:
        folder = given.output_dir / f"{number}-{list(INGREDIENTS).index(name)}"
        result = hftransfer.pretrain(model, DATA, training=training, output_dir=folder, **own)
    finally:
        PretrainingTrainer.train_or_resume = train  # type: ignore[method-assign]
    return Run(spent, curve, float(result.metrics["loss.after"]))


def _when(curve: list[tuple[float, float]], wanted: float) -> float | None:
    """Seconds until a curve passes a loss."""
    for (before, high), (after, low) in itertools.pairwise(curve):
        if low <= wanted:
            return before + (after - before) * max(0.0, (high - wanted) / max(high - low, 1e-9))
    return None


def _table(runs: dict[str, list[Run]], steps: int) -> Table:
    table = Table(title=f"masked LM, {steps} steps: ratios to plain", title_justify="left")
    for heading in ("Ingredient", "Time", "Time to plain's loss", "Held-out loss", "Loss itself"):
        table.add_column(heading)
    plain = runs["plain"]
    for name, found in runs.items():
        ratio = statistics.median(one.seconds / base.seconds for one, base in zip(found, plain, strict=True))
        reached = [_when(one.curve, base.curve[-1][1]) for one, base in zip(found, plain, strict=True)]
        shares = [r / base.seconds for r, base in zip(reached, plain, strict=True) if r is not None]
        equal = f"{statistics.median(shares):.2f}" if len(shares) == len(found) else "-"
        loss = statistics.mean(one.loss for one in found)
        change = loss / statistics.mean(one.loss for one in plain)
        table.add_row(name, f"{ratio:.2f}", equal, f"{change:.3f}", f"{loss:.3f}")
    return table


if __name__ == "__main__":
    main()
