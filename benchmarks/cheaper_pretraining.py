"""What makes pretraining cheaper, one ingredient at a time: time of training and held-out loss, as ratios.

    python benchmarks/cheaper_pretraining.py --steps 100 --rounds 3

Continued masked-LM training of the embedded encoder on one domain's documentation, in one process. All sides take the
same number of steps from the same fitted head, in turns, so that a busy machine slows all alike; each is measured on
the same held-out rows under the same masks. A ratio of loss below 1 is a lower loss than the plain run's.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

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
    options.add_argument("--steps", type=int, default=100)
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
    seconds: dict[str, list[float]] = {name: [] for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    for number in range(given.rounds):
        for name in names:
            taken, loss = _once(name, str(fitted.path), given, number)
            seconds[name].append(taken)
            losses[name].append(loss)
    Console(width=110).print(_table(seconds, losses, given.steps))


def _once(name: str, model: str, given: argparse.Namespace, number: int) -> tuple[float, float]:
    """Seconds of the training alone, and the held-out loss after it."""
    spent: list[float] = []
    train = PretrainingTrainer.train_or_resume

    def timed(self: PretrainingTrainer) -> Any:
        self.watch = lambda: 0.0  # what is watched is no part of the ingredient
        start = time.perf_counter()
        found = train(self)
        spent.append(time.perf_counter() - start)
        return found

    own = dict(INGREDIENTS[name])
    training = {"max_steps": given.steps, "learning_rate": 1e-4, "save_strategy": "no", **own.pop("training", {})}
    PretrainingTrainer.train_or_resume = timed  # type: ignore[method-assign]
    try:
        folder = given.output_dir / f"{number}-{list(INGREDIENTS).index(name)}"
        result = hftransfer.pretrain(model, DATA, training=training, output_dir=folder, **own)
    finally:
        PretrainingTrainer.train_or_resume = train  # type: ignore[method-assign]
    return sum(spent), float(result.metrics["loss.after"])


def _table(seconds: dict[str, list[float]], losses: dict[str, list[float]], steps: int) -> Table:
    table = Table(title=f"masked LM, {steps} steps: ratios to plain", title_justify="left")
    for heading in ("Ingredient", "Time", "Held-out loss", "Loss itself"):
        table.add_column(heading)
    for name in seconds:
        time_ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["plain"], strict=True))
        loss = statistics.mean(losses[name])
        ratio = loss / statistics.mean(losses["plain"])
        table.add_row(name, f"{time_ratio:.2f}", f"{ratio:.3f}", f"{loss:.3f}")
    return table


if __name__ == "__main__":
    main()
