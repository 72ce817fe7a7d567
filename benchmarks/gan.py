"""`GANTrainer` against loops written by hand, and what every loss comes to in equally many steps.

    python benchmarks/gan.py                               # speed, both pairs of networks
    python benchmarks/gan.py --only conv --steps 200 --rounds 3
    python benchmarks/gan.py --quality mixture             # modes and good samples by loss, 3 seeds
    python benchmarks/gan.py --quality mixture --steps 4000    # the table that recipes/gan_mlp_blobs.yaml refers to
    python benchmarks/gan.py --quality digits --steps 800

Speed, in steps of the generator a second, on noise in memory, batches of 64, fp32, all sides with a moving average:

plain    a loop of the same two networks, losses and optimizers, which computes nothing that it throws away
naive    the loop of many tutorials: the generator's graph is built in the discriminator's step, whose weights get
         gradients in the generator's step
ours     `GANTrainer`, with its watching, its log and its random numbers by step and row; no checkpoint, no quality

All draw new latents for the generator's step, as Goodfellow et al. (2014) do. Rounds are interleaved: a speed is the
median over rounds, a ratio the median of the rounds' own ratios.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from sides import machine, ratio
from torch.nn.functional import softplus

import hftransfer
from hftransfer.gans import new_pair
from hftransfer.stages.gan import LOSSES
from hftransfer.trainers.gan import GANTrainer, gan_arguments
from hftransfer.trainers.gan_draws import Samples
from hftransfer.trainers.gan_model import GanModel
from hftransfer.trainers.gan_players import Game

BATCH, DECAY = 64, 0.999
PLAYER = {"learning_rate": 1e-3, "betas": [0.0, 0.99], "lr_scheduler_type": "cosine"}
PAIRS: dict[str, tuple[str, list[int], dict[str, Any]]] = {
    "mlp": ("mlp", [1, 32, 32], {}),
    "conv": ("conv", [1, 8, 8], {"base_channels": 16}),
}
STEPS = {"mlp": 1500, "conv": 300}  # some seconds: what a training costs once must not count for much
MIXTURE: dict[str, Any] = {  # as in recipes/gan_mlp_blobs.yaml
    "model": "scratch/gan_mlp",
    "data": {"path": "demo/mixture", "name": "grid25"},
    "config": {"latent_size": 2, "generator": {"batch_norm": False}, "discriminator": {"input_scale": 5}},
    "penalty_weight": {"r3gan": 1e-4, "wasserstein_gp": 0.1},  # blobs are small: a slope to them is steep
    "by": "coverage",
    "batch": 256,
    "shown": ("modes", "good_share", "coverage"),
}
DIGITS: dict[str, Any] = {  # as in recipes/gan_digits.yaml, without labels
    "model": "scratch/gan_conv",
    "data": "demo/digits",
    "config": {"base_channels": 16},
    "penalty_weight": {},
    "by": "frechet",
    "batch": 64,
    "shown": ("frechet", "kernel", "coverage", "label_divergence"),
}


def by_hand(kind: str, rows: torch.Tensor, steps: int, *, naive: bool) -> float:
    """Seconds of a loop; with `naive`, one that computes what it throws away."""
    name, shape, config = PAIRS[kind]
    generator, discriminator = new_pair(name, shape, 0, config)
    average = copy.deepcopy(generator)
    movers = [
        torch.optim.AdamW(player.parameters(), 2e-4, (0.5, 0.999), weight_decay=0.0, fused=True)
        for player in (generator, discriminator)
    ]
    order = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), BATCH, shuffle=True, drop_last=True)
    size, done, started = generator.config.latent_size, 0, time.perf_counter()
    generator.train(), discriminator.train()
    while done < steps:
        for (real,) in order:
            with torch.set_grad_enabled(naive):
                fake = generator(torch.randn(BATCH, size))
            logits = discriminator(torch.cat([real, fake.detach()]))
            loss = softplus(-logits[:BATCH]).mean() + softplus(logits[BATCH:]).mean()
            movers[1].zero_grad()
            loss.backward()
            movers[1].step()
            discriminator.requires_grad_(naive)
            loss = softplus(-discriminator(generator(torch.randn(BATCH, size)))).mean()
            movers[0].zero_grad()
            loss.backward()
            movers[0].step()
            discriminator.requires_grad_(True)
            with torch.no_grad():
                for one, other in zip(average.parameters(), generator.parameters(), strict=True):
                    one.lerp_(other, 1 - DECAY)
            done += 1
            if done == steps:
                break
    return time.perf_counter() - started


def ours(kind: str, rows: torch.Tensor, steps: int) -> float:
    """Seconds of `GANTrainer`."""
    name, shape, config = PAIRS[kind]
    model = GanModel(*new_pair(name, shape, 0, config), Game(ema=DECAY))
    with tempfile.TemporaryDirectory() as folder:
        fields = {"max_steps": steps, "per_device_train_batch_size": BATCH, "bf16": False, "save_strategy": "no"}
        fields["logging_steps"] = max(1, steps // 40)
        trainer = GANTrainer(
            model=model, args=gan_arguments(fields, Path(folder), 0), train_dataset=Samples(rows), label="gan"
        )
        started = time.perf_counter()
        trainer.train_or_resume()
        return time.perf_counter() - started


def speed(kind: str, steps: int, rounds: int) -> Table:
    """Steps a second of all sides."""
    rows = torch.rand(2048, *PAIRS[kind][1]) * 2 - 1
    sides: dict[str, Callable[[], float]] = {
        "plain": lambda: by_hand(kind, rows, steps, naive=False),
        "naive": lambda: by_hand(kind, rows, steps, naive=True),
        "ours": lambda: ours(kind, rows, steps),
    }
    for run in sides.values():
        torch.manual_seed(0)
        run()  # warms up
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            torch.manual_seed(number)
            found[name].append({"speed": steps / run()})
    table = Table(title=f"{kind} {PAIRS[kind][1]}: {steps} steps, {rounds} rounds, {machine()}", title_justify="left")
    for heading in ("side", "steps/s", ": plain", ": naive"):
        table.add_column(heading)
    for name, runs in found.items():
        ratios = [f"{ratio(runs, found[peer], 'speed'):.2f}" for peer in ("plain", "naive")]
        table.add_row(name, f"{statistics.median(run['speed'] for run in runs):.1f}", *ratios)
    return table


def quality(setting: dict[str, Any], losses: Sequence[str], steps: int, seeds: int) -> Table:
    """What each loss comes to, mean and range over seeds; wasserstein_gp's critic moves 5 times a step."""
    table = Table(title=f"{setting['data']}: {steps} steps, {seeds} seeds", title_justify="left")
    for heading in ("loss", *setting["shown"], "outcomes"):
        table.add_column(heading)
    floor: dict[str, float] = {}
    for loss in losses:
        runs = [one_game(setting, loss, steps, seed) for seed in range(seeds)]
        cells = []
        for name in setting["shown"]:
            values = [run.metrics[name] for run in runs]
            cells.append(f"{statistics.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})")
        outcomes = [run.evidence["outcome"]["outcome"] for run in runs]
        table.add_row(loss, *cells, ", ".join(outcomes))
        floor = {name: runs[0].metrics[f"floor.{name}"] for name in setting["shown"]}
        Console(width=140).print(table.title, loss, *cells, *outcomes)
    table.add_row("real samples", *(f"{value:.3g}" for value in floor.values()), "")
    return table


def one_game(setting: dict[str, Any], loss: str, steps: int, seed: int) -> Any:
    training = {"max_steps": steps, "per_device_train_batch_size": setting["batch"], "bf16": False}
    with tempfile.TemporaryDirectory() as folder:
        result = hftransfer.gan(
            setting["model"], setting["data"], config=setting["config"], loss=loss, by=setting["by"], ema=0.99,
            penalty_weight=setting["penalty_weight"].get(loss),
            generator=PLAYER, discriminator=PLAYER, looks=5, training=training, seed=seed, output_dir=folder + "/gan",
        )  # fmt: skip
        return _Kept(result.metrics, result.evidence)


class _Kept:
    """What is left of a run whose folder is gone."""

    def __init__(self, metrics: dict[str, Any], evidence: dict[str, Any]) -> None:
        self.metrics, self.evidence = metrics, evidence


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=list(PAIRS))
    options.add_argument("--quality", choices=["mixture", "digits"], help="instead of speed")
    options.add_argument("--losses", nargs="+", choices=LOSSES, help="of the quality (all)")
    options.add_argument("--steps", type=int, help="of the generator (1500 and 300; for quality 8000 and 800)")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    if given.quality:
        setting, steps = (MIXTURE, 8000) if given.quality == "mixture" else (DIGITS, 800)
        Console(width=140).print(quality(setting, given.losses or LOSSES, given.steps or steps, given.seeds))
        return
    for kind in [given.only] if given.only else PAIRS:
        Console(width=100).print(speed(kind, given.steps or STEPS[kind], given.rounds))


if __name__ == "__main__":
    main()
