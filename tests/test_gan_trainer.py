"""Two players under `Trainer`: each moves by its own rules and by nothing else."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import relu, softplus
from transformers import TrainerCallback

from hftransfer.errors import HFTransferError
from hftransfer.functional.gan_losses import LOSSES
from hftransfer.gans import new_pair
from hftransfer.trainers.exact import EpochSampler, sound_checkpoint
from hftransfer.trainers.gan import GANTrainer, gan_arguments, planned_steps, rows_of_an_update
from hftransfer.trainers.gan_average import ramped
from hftransfer.trainers.gan_draws import Draws, Samples, WholeUpdates
from hftransfer.trainers.gan_model import MIDDLES, GanModel
from hftransfer.trainers.gan_players import Game, Player, schedule
from hftransfer.trainers.watching import Watch

TRAINING = {"max_steps": 6, "logging_steps": 2, "save_strategy": "no", "bf16": False, "per_device_train_batch_size": 8}
SEED, ROWS, BATCH = 5, 40, 8
CONFIG = {"latent_size": 6, **{player: {"hidden_sizes": [16, 16]} for player in ("generator", "discriminator")}}
STILL = {**CONFIG, "generator": {"hidden_sizes": [16, 16], "batch_norm": False}}


def ring(rows=ROWS):
    angles = torch.tensor(np.random.default_rng(0).uniform(0, 2 * math.pi, rows), dtype=torch.float32)
    return torch.stack([angles.cos(), angles.sin()], dim=1) * 0.8


def pair(config=STILL, kind="mlp", shape=(2,), classes=0):
    torch.manual_seed(1)
    return new_pair(kind, list(shape), classes, config)


def trainer(folder, game, *, networks=None, data=None, training=None, **rest):
    arguments = gan_arguments({**TRAINING, **(training or {})}, Path(folder), SEED)
    model = GanModel(*(networks or pair()), game)
    return GANTrainer(model=model, args=arguments, train_dataset=data or Samples(ring()), label="gan", **rest)


def weights(module):
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


class At(TrainerCallback):
    """Calls a function at an event of some step."""

    def __init__(self, event, function, step=None):
        self.step, self.function = step, function
        setattr(self, event, self._called)

    def _called(self, args, state, control, **others):
        if self.step in (None, state.global_step):
            self.function(**others)


# The loops that a reader would write, formulas written out; r and f are logits.
HAND = {
    "minimax": (lambda r, f: softplus(-r).mean() + softplus(f).mean(), lambda r, f: -softplus(f).mean()),
    "non_saturating": (lambda r, f: softplus(-r).mean() + softplus(f).mean(), lambda r, f: softplus(-f).mean()),
    "least_squares": (
        lambda r, f: ((r - 1) ** 2).mean() / 2 + (f**2).mean() / 2,
        lambda r, f: ((f - 1) ** 2).mean() / 2,
    ),
    "hinge": (lambda r, f: relu(1 - r).mean() + relu(1 + f).mean(), lambda r, f: -f.mean()),
    "wasserstein_gp": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "r3gan": (lambda r, f: softplus(f - r).mean(), lambda r, f: softplus(r - f).mean()),
}


def squared_slopes(critic, samples):
    samples = samples.detach().clone().requires_grad_(True)
    (slopes,) = torch.autograd.grad(critic(samples).sum(), samples, create_graph=True)
    return (slopes**2).sum(dim=1)


def hand_penalty(kind, critic, real, fake, mix):
    if kind == "gradient":
        return 10 * ((squared_slopes(critic, mix * real + (1 - mix) * fake).sqrt() - 1) ** 2).mean()
    found = torch.zeros(())
    for samples, name in ((real, "r1"), (fake, "r2")):
        if name in kind:
            found = found + 0.5 * squared_slopes(critic, samples).mean()
    return found


def by_hand(loss, penalty, steps, players, updates):
    """Plain PyTorch: two optimizers, `backward` on everything, gradients of the idle player zeroed afterwards."""
    generator, critic = pair()
    optimizers = {}
    for name, network in (("generator", generator), ("discriminator", critic)):
        own = players[name]
        groups = [
            {"params": [v for n, v in network.named_parameters() if n.endswith("bias")], "weight_decay": 0.0},
            {"params": [v for n, v in network.named_parameters() if not n.endswith("bias")]},
        ]
        optimizers[name] = torch.optim.AdamW(groups, own.learning_rate, own.betas, weight_decay=own.weight_decay)
    data, average = ring(), weights(generator)
    sampler = EpochSampler(ROWS, seed=SEED)
    each = BATCH * steps
    for update in range(updates):
        sampler.set_epoch(update // (ROWS // each))
        start = update % (ROWS // each) * each
        rows = torch.tensor(list(sampler))[start : start + each].view(steps, BATCH)
        for move in range(steps + 1):
            draws = Draws((SEED, update, move))
            latents = generator.latents(BATCH, draws.noise("latents"))
            real, fake = data[rows[min(move, steps - 1)]], generator(latents)
            player = "discriminator" if move < steps else "generator"
            if player == "discriminator":
                value = HAND[loss][0](critic(real), critic(fake.detach()))
                mix = torch.rand(BATCH, 1, generator=draws.noise("mix"))
                value = value + hand_penalty(penalty, critic, real, fake.detach(), mix)
            else:
                value = HAND[loss][1](critic(real), critic(fake))
            value.backward()
            moving = {"generator": generator, "discriminator": critic}[player]
            for group in optimizers[player].param_groups:  # linearly to 0, the schedule of the test's players
                group["lr"] = players[player].learning_rate * (updates - update) / updates
            nn.utils.clip_grad_norm_(moving.parameters(), players[player].max_grad_norm)
            optimizers[player].step()
            generator.zero_grad()
            critic.zero_grad()
        decay = 0.5 ** (1 / min(math.log(0.5) / math.log(0.9), 0.05 * (update + 1)))
        for name, value in weights(generator).items():
            average[name] = decay * average[name] + (1 - decay) * value
    return weights(generator), weights(critic), average


@pytest.mark.parametrize(
    "loss, penalty, steps",
    [
        ("minimax", "", 1),
        ("non_saturating", "r1", 2),
        ("least_squares", "", 1),
        ("hinge", "r1_r2", 1),
        ("wasserstein_gp", "gradient", 5),
        ("r3gan", "r1_r2", 1),
    ],
)
def test_every_loss_moves_the_players_as_a_loop_written_by_hand(loss, penalty, steps, tmp_path):
    players = {
        "generator": Player(1e-3, (0.0, 0.9), 0.1, "linear", 0, 0.02),
        "discriminator": Player(2e-3, (0.5, 0.99), 0.2, "linear", 0, 0.05),
    }
    weight = 1.0 if penalty.startswith("r1") else None
    game = Game(loss, penalty=penalty, penalty_weight=weight, discriminator_steps=steps, ema=0.9, **players)
    ours = trainer(tmp_path, game)
    ours.train_or_resume()
    model = ours.model
    found = [weights(part) for part in (model.generator, model.discriminator, model.generator_ema)]
    for mine, other in zip(found, by_hand(loss, penalty, steps, players, 6), strict=True):
        for name, value in other.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-4, atol=1e-5)
    for start, end in zip(pair(), found, strict=False):
        assert max((value - end[name]).abs().max() for name, value in weights(start).items()) > 2e-3


def test_each_step_moves_its_player_alone_and_no_gradient_is_computed_for_the_other(tmp_path, monkeypatch):
    ours = trainer(tmp_path, Game("hinge", penalty="r1", discriminator_steps=2))
    step, seen = torch.optim.AdamW.step, []

    def watched(self, *arguments, **options):
        have = {
            player: {value.grad is not None for value in getattr(ours.model, player).parameters()}
            for player in ("generator", "discriminator", "generator_ema")
        }
        before = {player: weights(getattr(ours.model, player)) for player in have}
        result = step(self, *arguments, **options)
        moved = {
            player
            for player, old in before.items()
            if any(not torch.equal(old[name], value) for name, value in weights(getattr(ours.model, player)).items())
        }
        seen.append((have, moved))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    ours.train_or_resume()
    discriminator = ({"generator": {False}, "discriminator": {True}, "generator_ema": {False}}, {"discriminator"})
    generator = ({"generator": {True}, "discriminator": {False}, "generator_ema": {False}}, {"generator"})
    assert seen == [discriminator, discriminator, generator] * 6


def test_players_have_groups_and_schedules_of_their_own(tmp_path):
    game = Game(
        generator=Player(1e-3, (0.0, 0.9), 0.1, "linear", 2), discriminator=Player(2e-3, lr_scheduler_type="constant")
    )
    ours = trainer(tmp_path, game)
    ours.train_or_resume()
    groups = {(group["player"], group["weight_decay"]): group for group in ours.optimizer.param_groups}
    assert groups.keys() == {("generator", 0.1), ("generator", 0.0), ("discriminator", 0.0)}
    assert groups["generator", 0.1]["betas"] == (0.0, 0.9) and groups["discriminator", 0.0]["betas"] == (0.5, 0.999)
    names = {id(value): name for name, value in ours.model.named_parameters()}
    assert all(names[id(value)].endswith("bias") for value in groups["generator", 0.0]["params"])
    rates = [entry["learning_rate"] for entry in ours.state.log_history if "loss" in entry]
    assert rates == pytest.approx([0.5e-3, 0.75e-3, 0.25e-3])  # at steps 1, 3 and 5, counted from 0
    assert {entry["discriminator_learning_rate"] for entry in ours.state.log_history if "loss" in entry} == {2e-3}
    assert schedule(game, "generator", steps=6)(6) == 0 and schedule(game, "discriminator", steps=6)(6) == 1


@pytest.mark.parametrize("norm", [{"spectral_norm": True}, {"discriminator": {"batch_norm": True}}])
def test_frozen_stages_do_not_move_and_others_do(norm, tmp_path):
    def trained(freeze, name):
        config = {"base_channels": 4, "latent_size": 6, **norm}
        networks = pair(config, "conv", (1, 8, 8))
        data = Samples(torch.rand(ROWS, 1, 8, 8) * 2 - 1)
        ours = trainer(tmp_path / name, Game("hinge", freeze=freeze), networks=networks, data=data)
        before = [weights(stage) for stage in ours.model.discriminator.stages()]
        ours.train_or_resume()
        after = [weights(stage) for stage in ours.model.discriminator.stages()]
        return [
            {key for key in old if not torch.equal(old[key], new[key])} for old, new in zip(before, after, strict=True)
        ]

    free, half = trained(0, "free"), trained(2, "half")
    assert all(free)
    assert half[:2] == [set(), set()] and half[2] == free[2]


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(HFTransferError, match="freeze: the discriminator has 2 stages, not 9"):
        GanModel(*pair(), Game(freeze=9))


def test_the_average_is_ramped_up_and_takes_buffers_over(tmp_path):
    assert ramped(0.999, 10**6, 0.05) == pytest.approx(0.999) and ramped(0.0, 5, 0.05) == 0
    assert ramped(0.999, 200, 0.05) ** 10 == pytest.approx(0.5)  # a twentieth of the steps so far halves
    assert ramped(0.999, 1, 0.05) < 1e-5
    ours = trainer(tmp_path, Game(), networks=pair(CONFIG))
    ours.train_or_resume()
    average, generator = ours.model.generator_ema, ours.model.generator
    assert not any(value.requires_grad for value in average.parameters()) and not average.training
    buffers = dict(average.named_buffers())
    assert buffers and all(torch.equal(buffers[name], value) for name, value in generator.named_buffers())
    assert any(not torch.equal(a, b) for a, b in zip(average.parameters(), generator.parameters(), strict=True))
    assert ours.model.averaged() is average and GanModel(*pair(), Game(ema=None)).averaged() is not None


def test_the_best_evaluation_by_a_named_number_is_what_training_ends_with(tmp_path):
    for higher, scores, step in ((True, [1.0, 3.0, 2.0], 4), (False, [3.0, 2.0, 1.0], 6), (False, [1.0, 2.0, 3.0], 2)):
        told, kept = iter(scores), {}
        watch = Watch(
            lambda told=told: {"eval_quality": next(told)}, by="eval_quality", higher_is_better=higher, keep_best=True
        )
        ours = trainer(
            tmp_path / f"{higher}{step}", Game(), watch=watch, training={"eval_strategy": "steps", "eval_steps": 2}
        )
        ours.add_callback(At("on_step_end", lambda kept=kept, ours=ours, **_: kept.update(weights(ours.model)), step))
        ours.train_or_resume()
        now = weights(ours.model)
        assert kept.keys() == now.keys() and all(torch.equal(kept[name], now[name]) for name in kept)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_a_loss_that_is_not_finite_stops_and_the_last_good_checkpoint_is_kept(player, tmp_path, monkeypatch):
    line, broken = LOSSES["hinge"], []
    formula = getattr(line, player)
    monkeypatch.setitem(
        LOSSES, "hinge", line._replace(**{player: lambda r, f: formula(r, f) * (math.inf if broken else 1)})
    )
    training = {"max_steps": 9, "save_strategy": "steps", "save_steps": 2}
    ours = trainer(tmp_path, Game("hinge"), training=training)
    ours.add_callback(At("on_step_end", lambda **_: broken.append(1), 5))
    with pytest.raises(HFTransferError, match=r"(loss|norm) is -?(nan|inf) at step 6; .*checkpoint-4.*players'"):
        ours.train_or_resume()
    assert sound_checkpoint(tmp_path).name == "checkpoint-4"
    broken.clear()
    again = trainer(tmp_path, Game("hinge"), training=training)
    again.train_or_resume()
    assert again.resumed.name == "checkpoint-4" and again.state.global_step == 9


def test_bf16_keeps_weights_and_slopes_in_full_precision(tmp_path):
    found, judged = {}, []
    for bf16 in (False, True):
        networks = pair({"base_channels": 4, "latent_size": 6, "generator": {"batch_norm": False}}, "conv", (1, 8, 8))
        networks[1].head.register_forward_hook(lambda module, inputs, output: judged.append(output.dtype))
        data = Samples(torch.tensor(np.random.default_rng(1).uniform(-1, 1, (ROWS, 1, 8, 8)), dtype=torch.float32))
        training = {"bf16": bf16, "max_steps": 1, "logging_steps": 1}
        game = Game("wasserstein_gp", discriminator_steps=1)
        ours = trainer(tmp_path / str(bf16), game, networks=networks, data=data, training=training)
        found[bf16] = ours.train_or_resume()[0]
        assert {value.dtype for value in ours.model.parameters()} == {torch.float32}
    half = torch.bfloat16  # of both players' moves, but for the penalty's look at the critic
    assert judged == [torch.float32, torch.float32, torch.float32, half, torch.float32, half]
    for name in ("loss", "discriminator_loss", "penalty", "generator_grad_norm"):
        assert found[True][name] == pytest.approx(found[False][name], rel=0.05, abs=0.01)


def test_what_is_logged(tmp_path):
    game = Game("wasserstein_gp", augment=("color",), augment_p=0.5)
    data = Samples((torch.rand(ROWS, 1, 8, 8) * 255).to(torch.uint8))
    ours = trainer(tmp_path, game, networks=pair(STILL, shape=(1, 8, 8)), data=data)
    history = ours.train_or_resume()
    assert [entry["step"] for entry in history] == [2, 4, 6]
    assert history[0].keys() == {
        *("loss", "discriminator_loss", "penalty", "accuracy_real", "accuracy_fake", "diversity", "augment_p"),
        *("grad_norm", "generator_grad_norm", "discriminator_grad_norm"),
        *("learning_rate", "discriminator_learning_rate", "epoch", "step"),
    }
    assert all(0 <= entry[f"accuracy_{kind}"] <= 1 for entry in history for kind in ("real", "fake"))


def test_diversity_is_measured_in_the_datas(tmp_path):
    ours = trainer(tmp_path, Game(), data=Samples(ring(400)))
    assert ours.watching.diversity() == ours.watching.diversity()
    assert ours.model.generator.training
    ours.model.generator.forward = lambda latents, labels=None: ring(len(latents))
    assert ours.watching.diversity() == pytest.approx(1.0, abs=0.1)
    ours.model.generator.forward = lambda latents, labels=None: torch.ones(len(latents), 2)
    assert ours.watching.diversity() == 0


def test_a_player_that_wins_is_told_once_in_words(tmp_path, caplog):
    weak, strong = Player(1e-6), Player(1e-2)
    with caplog.at_level(logging.WARNING, logger="hftransfer"):
        trainer(
            tmp_path,
            Game("minimax", generator=weak, discriminator=strong),
            data=Samples(ring() / 100 + 0.9),
            training={"max_steps": 200, "logging_steps": 10},
        ).train_or_resume()
    told = [record.getMessage() for record in caplog.records if "discriminator is right" in record.getMessage()]
    assert len(told) == 1 and told[0].startswith("gan: step ")


def test_random_numbers_belong_to_rows():
    draws = Draws((1, 2, 3))
    whole = torch.rand(10, 4, generator=draws.noise("real", 4))
    assert torch.equal(torch.rand(7, 4, generator=draws.at(3).noise("real", 4)), whole[3:])
    like = torch.zeros(10, 1, 2, 2)
    assert torch.equal(draws.at(6).mix(like[6:]), draws.mix(like)[6:]) and draws.mix(like).shape == (10, 1, 1, 1)
    others = [Draws((1, 2, 4)).noise("real"), Draws((2, 2, 3)).noise("real"), draws.noise("fake")]
    assert len({torch.rand(1, generator=noise).item() for noise in (draws.noise("real"), *others)}) == 4


def test_an_epoch_is_whole_updates_and_every_row_has_its_turn():
    sampler = EpochSampler(10, seed=0)
    whole = WholeUpdates(sampler, 4)
    seen = []
    for epoch in range(20):
        sampler.set_epoch(epoch)
        rows = list(whole)
        assert len(rows) == len(whole) == 8 == len(set(rows))
        seen += rows
    assert set(seen) == set(range(10))


def test_samples_are_batches_of_rows():
    values, labels = torch.tensor([[0, 255], [51, 204]], dtype=torch.uint8), torch.tensor([3, 4])
    batch = Samples(values, labels).__getitems__([1, 0])
    assert torch.allclose(batch["pixel_values"], torch.tensor([[-0.6, 0.6], [-1.0, 1.0]]))
    assert batch["labels"].tolist() == [4, 3] and Samples(values)[0].keys() == {"pixel_values"}


def test_every_loss_has_a_middle():
    assert MIDDLES.keys() == LOSSES.keys()


@pytest.mark.parametrize(
    "training, error",
    [
        ({"learning_rate": 1e-4}, "training.learning_rate: each player has its own"),
        ({"max_grad_norm": 1.0}, "training.max_grad_norm: each player has its own"),
        ({"fp16": True}, "training.fp16: not for two players: .*bf16"),
        ({"deepspeed": {}, "fsdp": "full_shard"}, "training.fsdp: "),
        ({"auto_find_batch_size": True}, "training.auto_find_batch_size: "),
        ({"ddp_find_unused_parameters": False}, "training.ddp_find_unused_parameters: "),
        ({"metric_for_best_model": "fid"}, "training.metric_for_best_model: .*EarlyStoppingCallback.*patience"),
    ],
)
def test_what_does_not_go_with_two_players_is_refused_in_a_line(training, error, tmp_path):
    with pytest.raises(HFTransferError, match=error) as told:
        gan_arguments({**TRAINING, **training}, tmp_path, 0)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED"])
def test_what_the_launcher_asks_for_is_refused_too(name, tmp_path, monkeypatch):
    arguments = gan_arguments(TRAINING, tmp_path, 0)
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(HFTransferError, match=f"training.{name.lower()}: "):
        GANTrainer(model=GanModel(*pair(), Game()), args=arguments, train_dataset=Samples(ring()), label="gan")


def test_several_devices_in_one_process_are_refused(tmp_path):
    arguments = gan_arguments(TRAINING, tmp_path, 0)
    arguments._n_gpu = 2
    with pytest.raises(HFTransferError, match="DataParallel"):
        GANTrainer(model=GanModel(*pair(), Game()), args=arguments, train_dataset=Samples(ring()), label="gan")


@pytest.mark.parametrize(
    "options, error",
    [
        ({"loss": "hinged"}, "loss: .*'hinged'; did you mean 'hinge'"),
        ({"penalty": "r2"}, "penalty: unknown 'r2'"),
        ({"discriminator_steps": 0}, "discriminator_steps: expected a whole number above 0, found 0"),
        ({"ema": 1.0}, "ema: "),
        ({"augment_p": 1.5}, "augment_p: "),
        ({"generator": Player(lr_scheduler_type="linaer")}, "generator.lr_scheduler_type: .*'linear'"),
        ({"discriminator": Player(lr_scheduler_type="reduce_lr_on_plateau")}, "discriminator.lr_scheduler_type: "),
        ({"generator": Player(lr_scheduler_type="warmup_stable_decay")}, "generator.lr_scheduler_type: "),
    ],
)
def test_settings_that_cannot_be_are_told(options, error):
    with pytest.raises(HFTransferError, match=error):
        Game(**options)


def test_penalties_are_the_losss_own_unless_told():
    assert Game("wasserstein_gp").penalized == ("gradient", 10.0) and Game("wasserstein_gp").steps == 5
    assert Game("hinge").penalized[0] == "" and Game("hinge", penalty="r1", penalty_weight=0.3).penalized == (
        "r1",
        0.3,
    )
    assert Game("r3gan", penalty="").penalized[0] == "" and replace(Game(), penalty="gradient").penalized[1] == 10.0


def test_sizes_that_do_not_fit_are_told(tmp_path):
    with pytest.raises(HFTransferError, match="data: 40 rows are fewer than the 48 of an update"):
        trainer(tmp_path, Game(discriminator_steps=6))
    with pytest.raises(HFTransferError, match="per_device_train_batch_size: batch normalisation"):
        trainer(tmp_path, Game(), networks=pair(CONFIG), training={"per_device_train_batch_size": 1})
    networks = pair({**STILL, "discriminator": {"hidden_sizes": [8], "batch_norm": True}})
    with pytest.raises(HFTransferError, match="penalty: r1 holds for each row alone"):
        GanModel(*networks, Game(penalty="r1"))
    assert rows_of_an_update({**TRAINING, "gradient_accumulation_steps": 2}, 3) == 48


@pytest.mark.parametrize(
    "data, says",
    [
        (ring() * 100 + 100, r"reach from .* to 18\d.*, and the generator makes -1 to 1; scale by x / 127.5 - 1"),
        (ring() * 3, r"reach from -2.3.* to 2.4, .* by \(x - middle\)"),
        (ring() * math.nan, "pixel_values are not all finite"),
        (torch.zeros(ROWS, 3), r"samples are \[3\], and the generator makes \[2\]"),
    ],
)
def test_samples_that_the_generator_cannot_make_are_told_before_the_first_step(data, says, tmp_path, monkeypatch):
    rows = [{"pixel_values": row} for row in data]  # a user's own data
    ours = trainer(tmp_path, Game(), data=rows)
    monkeypatch.setattr(GANTrainer, "training_step", lambda *_: pytest.fail("a step was taken"))
    with pytest.raises(HFTransferError, match=f"^data: .*{says}") as told:
        ours.train_or_resume()
    assert "\n" not in str(told.value)
    named = trainer(tmp_path, Game(), data=[{"image": row} for row in data])
    with pytest.raises(HFTransferError, match=r"^data: a batch has no pixel_values, but image"):
        named.train_or_resume()


@pytest.mark.parametrize("world, config, told", [(2, CONFIG, 1), (1, CONFIG, 0), (2, STILL, 0)])
def test_statistics_of_several_processes_are_warned_of(world, config, told, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(type(gan_arguments(TRAINING, tmp_path, 0)), "world_size", world)
    trainer(tmp_path, Game(), networks=pair(config))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == told and all("each of the 2 processes' own rows" in line for line in lines)


def test_a_training_that_was_interrupted_within_an_update_begins_with_none_of_it(tmp_path, monkeypatch):
    training = {"gradient_accumulation_steps": 4, "save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    game = Game("hinge")
    whole = trainer(tmp_path / "whole", game, training=training)
    history = whole.train_or_resume()
    cut, step, calls = trainer(tmp_path / "cut", game, training=training), GANTrainer.training_step, []

    def dies(self, *given, **options):
        calls.append(1)
        if len(calls) == 7:  # the second update's third batch
            raise KeyboardInterrupt
        return step(self, *given, **options)

    monkeypatch.setattr(GANTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        cut.train_or_resume()
    assert cut.batches
    again = cut.train_or_resume()
    assert all(torch.equal(value, weights(cut.model)[name]) for name, value in weights(whole.model).items())
    assert again[-1]["discriminator_loss"] == history[-1]["discriminator_loss"]


def test_steps_are_known_before(tmp_path):
    training = {**TRAINING, "max_steps": -1, "num_train_epochs": 1.5, "gradient_accumulation_steps": 2}
    ours = trainer(tmp_path, Game(), training=training)
    ours.train_or_resume()
    assert ours.state.global_step == planned_steps(training, ROWS, 1) == 3
    assert planned_steps(TRAINING, ROWS, 1) == 6
