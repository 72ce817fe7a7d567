"""Discriminators are tables over a few states, so that optima and divergences can be written out."""

import itertools
import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch.nn.functional import softplus

from hftransfer.functional.gan_losses import LOSSES

COUNTS_REAL, COUNTS_FAKE = torch.tensor([5, 3, 2]), torch.tensor([1, 4, 5])
STATES = torch.arange(3)
REAL, FAKE = STATES.repeat_interleave(COUNTS_REAL), STATES.repeat_interleave(COUNTS_FAKE)
PAIRS = torch.cartesian_prod(REAL, FAKE).T  # every pair once, as independent draws would in the limit
P, Q = COUNTS_REAL / 10.0, COUNTS_FAKE / 10.0
P, Q = P.double(), Q.double()
MIDDLE = (P + Q) / 2
JSD = ((P * (P / MIDDLE).log()).sum() + (Q * (Q / MIDDLE).log()).sum()) / 2
TV = (P - Q).abs().sum() / 2
LOG_RATIO = (P / Q).log()
OPTIMA = {  # the discriminator's table, and what it costs
    "minimax": (LOG_RATIO, math.log(4) - 2 * JSD),
    "non_saturating": (LOG_RATIO, math.log(4) - 2 * JSD),
    "least_squares": (P / (P + Q), (P * Q / (P + Q)).sum() / 2),
    "hinge": ((P - Q).sign(), 2 - 2 * TV),
    "r3gan": (LOG_RATIO, sum(P[x] * Q[y] * softplus(LOG_RATIO[y] - LOG_RATIO[x]) for x in STATES for y in STATES)),
}


def cost(name, table):
    real, fake = PAIRS if LOSSES[name].paired else (REAL, FAKE)
    return LOSSES[name].discriminator(table[real], table[fake])


def test_every_loss_is_seen():
    assert list(LOSSES) == ["minimax", "non_saturating", "least_squares", "hinge", "wasserstein_gp", "r3gan"]
    assert {*OPTIMA, "wasserstein_gp"} == set(LOSSES)
    for name, loss in LOSSES.items():
        assert "arXiv:" in loss.paper and loss.discriminator_steps >= 1, name
        assert bool(loss.penalty) == bool(loss.weight), name


@pytest.mark.parametrize("name", OPTIMA)
def test_the_optimal_discriminator_costs_what_the_divergence_says(name):
    table, value = OPTIMA[name]
    torch.testing.assert_close(cost(name, table), torch.as_tensor(value))
    generator = torch.Generator().manual_seed(0)
    for length, _ in itertools.product((0.1, 1.0, 10.0), range(20)):
        away = length * torch.randn(3, generator=generator, dtype=torch.float64)
        away = away - away.mean() if name == "r3gan" else away  # which a constant does not change
        assert cost(name, table + away) > cost(name, table)


@pytest.mark.parametrize("name", OPTIMA)
def test_descending_finds_the_optimum(name):
    table = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([table], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        cost(name, table).backward()
        optimizer.step()
    assert cost(name, table).item() == pytest.approx(float(OPTIMA[name][1]), abs=1e-2)


def test_the_optimal_critic_of_slope_one_costs_minus_the_distance():
    above = (P.cumsum(0) - Q.cumsum(0))[:-1]  # the critic's slope follows the difference of cumulative shares
    critic = torch.cat([torch.zeros(1), -above.sign()]).cumsum(0).double()
    distance = wasserstein_distance(STATES, STATES, P, Q)
    assert cost("wasserstein_gp", critic).item() == pytest.approx(-distance)
    slopes = itertools.product((-1.0, -0.3, 0.0, 0.7, 1.0), repeat=2)
    others = [torch.tensor([0.0, first, first + second]).double() for first, second in slopes]
    assert min(cost("wasserstein_gp", other).item() for other in others) == pytest.approx(-distance)


@pytest.mark.parametrize("name", LOSSES)
def test_the_players_pull_fakes_opposite_ways(name):
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8, dtype=torch.float64) / 4
    fake.requires_grad_()
    (down,) = torch.autograd.grad(LOSSES[name].generator(real, fake), fake)
    (up,) = torch.autograd.grad(LOSSES[name].discriminator(real, fake), fake)
    assert (down < 0).all()
    if name == "least_squares":
        torch.testing.assert_close(up, fake.detach() / 8)  # the discriminator wants 0 of them
    else:
        assert (up > 0).all()
    if name in ("minimax", "wasserstein_gp"):  # one value, played for by both
        torch.testing.assert_close(down, -up)


def test_only_the_value_as_written_saturates():
    def slope(name, logit):
        fake = torch.full((1,), logit, requires_grad=True)
        return torch.autograd.grad(LOSSES[name].generator(torch.zeros(1), fake), fake)[0].item()

    assert slope("minimax", -20.0) == pytest.approx(-math.exp(-20), rel=1e-4)
    for name in ("non_saturating", "hinge", "wasserstein_gp", "r3gan"):
        assert slope(name, -20.0) == pytest.approx(-1), name
    assert slope("least_squares", -20.0) == pytest.approx(-21)
    for name in ("minimax", "non_saturating"):
        assert slope(name, 0.0) == pytest.approx(-0.5)


def test_least_squares_pulls_back_what_looks_more_than_real():
    fake = torch.tensor([1.0, 3.0], requires_grad=True)
    LOSSES["least_squares"].generator(None, fake).backward()
    assert fake.grad.tolist() == [0.0, 1.0]


def test_hinge_has_nothing_to_gain_beyond_the_margin():
    real, fake = torch.tensor([1.5, 0.5], requires_grad=True), torch.tensor([-1.5, 2.0], requires_grad=True)
    LOSSES["hinge"].discriminator(real, fake).backward()
    assert real.grad.tolist() == [0.0, -0.5] and fake.grad.tolist() == [0.0, 0.5]


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_pairing_sees_differences_only(player):
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8, dtype=torch.float64)
    loss = getattr(LOSSES["r3gan"], player)
    torch.testing.assert_close(loss(real + 7, fake + 7), loss(real, fake))
    assert loss(real, real).item() == pytest.approx(math.log(2))
    torch.testing.assert_close(LOSSES["r3gan"].generator(real, fake), LOSSES["r3gan"].discriminator(fake, real))


def test_pairing_wants_partners():
    with pytest.raises(ValueError, match=r"as many: shapes \(8,\) and \(1,\)"):
        LOSSES["r3gan"].discriminator(torch.zeros(8), torch.zeros(1))
    with pytest.raises(ValueError, match="real"):
        LOSSES["r3gan"].generator(None, torch.zeros(8))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_bf16_logits_are_widened_and_great_ones_stay_finite(name, player):
    torch.manual_seed(0)
    real, fake = torch.randn(2, 8).bfloat16()
    loss = getattr(LOSSES[name], player)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(real, fake), loss(real.float(), fake.float()))
    for size in (-1e4, 1e4):
        fake = torch.full((8,), size, requires_grad=True)
        value = loss(real, fake)
        assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
        assert torch.autograd.grad(value, fake)[0].isfinite().all()


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if not loss.paired])
def test_each_side_counts_half_whatever_its_rows(name):
    torch.manual_seed(0)
    real, fake = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    for player in ("discriminator", "generator"):
        loss = getattr(LOSSES[name], player)
        torch.testing.assert_close(loss(real, fake.repeat(2)), loss(real, fake))
    torch.testing.assert_close(LOSSES[name].generator(None, fake), LOSSES[name].generator(real, fake))
