"""Two players: whatever is killed, however many processes run, the numbers are the same.

Run as a script, this file is the training that is killed, or one of two processes.
"""

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from hftransfer.gans import new_pair
from hftransfer.trainers.gan import GANTrainer, gan_arguments
from hftransfer.trainers.gan_draws import Draws, Samples
from hftransfer.trainers.gan_model import GanModel
from hftransfer.trainers.gan_players import PLAYERS, Game, Player

STEPS, SAVE = 12, 5
SMALL = {"generator": {"hidden_sizes": [16, 16]}, "discriminator": {"hidden_sizes": [16, 16]}}
PLAIN = {"generator": {"hidden_sizes": [16, 16], "batch_norm": False}, "discriminator": {"hidden_sizes": [16, 16]}}
CONV = {"base_channels": 4, "latent_size": 8, "generator": {"batch_norm": False}}
SPECTRAL = {**CONV, "spectral_norm": True}
UNLIKE = {  # players that differ in all that they have
    "generator": Player(1e-3, (0.0, 0.9), 0.01, "linear", 2, 0.5),
    "discriminator": Player(2e-3, (0.5, 0.99), 0.1, "cosine", 0.2, 0.3),
}
SHRUNK = {"augment": ("color", "translation", "cutout"), "augment_p": None, "augment_images": 200}
# name: kind, samples, classes, config, game, batch, accumulation
SETTINGS = {
    "dropout": ("mlp", [2], 0, SMALL, Game("hinge", **UNLIKE), 8, 1),
    "critic": ("mlp", [2], 0, PLAIN, Game("wasserstein_gp", discriminator_steps=3, ema=0.9), 4, 1),
    "accumulated": ("mlp", [1, 8, 8], 0, SMALL, Game("non_saturating", augment=("translation",)), 4, 4),
    "r1": ("mlp", [2], 0, PLAIN, Game("least_squares", penalty="r1", **UNLIKE), 8, 2),
    "adaptive": ("conv", [1, 8, 8], 3, SPECTRAL, Game("r3gan", freeze=1, discriminator=Player(2e-2), **SHRUNK), 8, 1),
    "everything": ("conv", [1, 8, 8], 3, CONV, Game("minimax", discriminator_steps=2, **SHRUNK, **UNLIKE), 4, 2),
}


class Stopped(Exception):
    """Stands for a kill between two steps."""


class StopAt(TrainerCallback):
    """Ends at a step: by an exception, or as a killed process does."""

    def __init__(self, step, kill=False):
        self.step, self.kill = step, kill

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Stopped


def samples(shape, classes, rows=70):
    rng = np.random.default_rng(7)
    values = torch.tensor(rng.uniform(-1, 1, (rows, *shape)), dtype=torch.float32)
    return Samples(values, torch.tensor(rng.integers(classes, size=rows)) if classes else None)


def trainer(name, folder, batch=None, accumulation=None, rate=None, **training):
    kind, shape, classes, config, game, own_batch, own_accumulation = SETTINGS[name]
    if rate is not None:
        players = {player: replace(game.player(player), learning_rate=rate) for player in PLAYERS}
        game = replace(game, **players)
    torch.manual_seed(3)
    generator, discriminator = new_pair(kind, shape, classes, config)
    if name == "dropout":  # so that a global random state matters
        discriminator.head = nn.Sequential(nn.Dropout(0.3), discriminator.head)
    arguments = gan_arguments(
        {
            "max_steps": STEPS,
            "save_strategy": "steps",
            "save_steps": SAVE,
            "logging_steps": 2,
            "bf16": False,
            "per_device_train_batch_size": batch or own_batch,
            "gradient_accumulation_steps": accumulation or own_accumulation,
            **training,
        },
        Path(folder),
        5,
    )
    model = GanModel(generator, discriminator, game)
    return GANTrainer(model=model, args=arguments, train_dataset=samples(shape, classes), label="gan")


def everything_of(trained):
    """All that a training ends with, but for how long it took."""
    optimizer = trained.optimizer.state_dict()
    timed = ("train_runtime", "train_loss")  # of this call of train
    return {
        "model": trained.model.state_dict(),
        "optimizer": {
            f"{row} {name}": value for row, kept in optimizer["state"].items() for name, value in kept.items()
        },
        "groups": optimizer["param_groups"],
        "schedules": trained.lr_scheduler.state_dict(),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "latents": trained.model.generator.latents(
            4, Draws((5, trained.state.global_step, 0)).noise("latents")
        ).tolist(),
        "history": [entry for entry in trained.state.log_history if not any(name in entry for name in timed)],
    }


def assert_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if name in ("model", "optimizer"):
            assert value.keys() == other[name].keys() and len(value) > 8
            for key in value:
                assert torch.equal(value[key], other[name][key]), f"{name}: {key}"
        else:
            assert value == other[name], name


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_game_ends_with_the_same_bits(name, tmp_path):
    whole = trainer(name, tmp_path / "whole")
    whole.train_or_resume()
    assert whole.state.epoch > 1
    for step in (3, 8):  # before there is a checkpoint, and between two
        again = trainer(name, tmp_path / "again")
        again.add_callback(StopAt(step))
        with pytest.raises(Stopped):
            again.train_or_resume()
    again = trainer(name, tmp_path / "again")
    again.train_or_resume()
    assert again.resumed.name == "checkpoint-5"
    assert_bits(everything_of(whole), everything_of(again))
    if name in ("adaptive", "everything"):
        assert 0 < whole.model.augment_p < 1  # it moved, and not to its end
    settled = trainer(name, tmp_path / "again")  # the training is over: its last checkpoint is all that there is
    settled.train_or_resume()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(settled.model.state_dict()[key], value), key


def test_a_killed_process_is_gone_on_from_with_the_same_bits(tmp_path):
    step = random.SystemRandom().randrange(SAVE + 1, STEPS + 1)
    command = [sys.executable, __file__, "killed", str(tmp_path / "again"), str(step)]
    killed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the killed one had; sums depend on it
    try:
        whole = trainer("everything", tmp_path / "whole")
        whole.train_or_resume()
        again = trainer("everything", tmp_path / "again")
        again.train_or_resume()
    finally:
        torch.set_num_threads(threads)
    assert again.resumed is not None, f"killed at step {step}"
    assert_bits(everything_of(whole), everything_of(again))


@pytest.mark.parametrize("name", ["critic", "r1", "everything"])
def test_accumulated_batches_equal_a_large_one(name, tmp_path):
    one = trainer(name, tmp_path / "one", 16, 1, rate=0.003, optim="sgd")
    four = trainer(name, tmp_path / "four", 4, 4, rate=0.003, optim="sgd")
    one.train_or_resume()
    four.train_or_resume()
    assert one.update_rows == four.update_rows
    start = trainer(name, tmp_path / "start").model
    for player in PLAYERS:
        pairs = zip(getattr(start, player).parameters(), getattr(one.model, player).parameters(), strict=True)
        assert max((before - after).abs().max() for before, after in pairs) > 2e-4  # not that nothing moved
    assert_close(one.model.state_dict(), four.model.state_dict())
    assert one.state.epoch == four.state.epoch


def assert_close(one, other):
    """To rounding, which SGD does not magnify as Adam does where a gradient is nearly 0."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1e-5, atol=5e-6, msg=lambda text, key=key: f"{key}: {text}")


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    names = ["critic", "r1", "adaptive"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ran = subprocess.run(
        [*command, __file__, "two", str(tmp_path), *names],
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ran.returncode == 0, ran.stderr
    assert sorted(ran.stdout.splitlines()) == ["rank 0 of 2", "rank 1 of 2"]
    for name in names:
        one = trainer(name, tmp_path / "one" / name, rate=0.003, optim="sgd")
        one.train_or_resume()
        ranks = [load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2)]
        for key, value in ranks[0].items():
            assert torch.equal(value, ranks[1][key]), f"{name}: the processes part at {key}"
        assert_close({key: value.clone() for key, value in one.model.state_dict().items()}, ranks[0])


def main(what, folder, *rest):
    if what == "killed":
        training = trainer("everything", folder)
        training.add_callback(StopAt(int(rest[0]), kill=True))
        training.train_or_resume()
    for name in rest:
        batch = SETTINGS[name][5] // 2
        training = trainer(name, Path(folder) / "two" / name, batch, rate=0.003, optim="sgd")
        training.train_or_resume()
        rank, world = training.args.process_index, training.args.world_size
        save_file(training.model.state_dict(), Path(folder) / f"{name}-{rank}.safetensors")
    os.write(1, f"rank {rank} of {world}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
