import pytest
import torch
from torch import nn

from hftransfer.functional.gradient_penalty import gradient_penalty, zero_centred

SHAPES = [(6, 5), (6, 2, 3, 4)]


def samples(shape):
    torch.manual_seed(0)
    mix = torch.rand(shape[0], *[1] * (len(shape) - 1), dtype=torch.float64)
    return torch.randn(2, *shape, dtype=torch.float64), mix


def slopes_by_hand(critic, rows):
    """One sample at a time by torch's Jacobian, which knows nothing of sums over a batch."""
    return torch.stack([torch.autograd.functional.jacobian(lambda row: critic(row[None])[0], row) for row in rows])


@pytest.fixture
def critic():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(7), nn.Tanh(), nn.Linear(7, 1), nn.Flatten(0)).double()


@pytest.mark.parametrize("shape", SHAPES)
def test_of_a_linear_critic_only_the_weight_counts(shape):
    (real, fake), mix = samples(shape)
    weight = torch.randn(shape[1:], dtype=torch.float64)

    def critic(rows):
        return (rows * weight).flatten(1).sum(1) + 3

    norm = weight.norm()
    torch.testing.assert_close(gradient_penalty(critic, real, fake, mix), (norm - 1) ** 2)
    real.requires_grad_()
    torch.testing.assert_close(zero_centred(critic(real), real), norm**2)
    weight /= norm
    assert gradient_penalty(critic, real, fake, mix).item() < 1e-28


@pytest.mark.parametrize("shape", SHAPES)
def test_values_sample_by_sample(shape, critic):
    (real, fake), mix = samples(shape)
    points = mix * real + (1 - mix) * fake
    norms = slopes_by_hand(critic, points).flatten(1).norm(dim=1)
    torch.testing.assert_close(gradient_penalty(critic, real, fake, mix), ((norms - 1) ** 2).mean())
    norms = slopes_by_hand(critic, real).flatten(1).norm(dim=1)
    real.requires_grad_()
    torch.testing.assert_close(zero_centred(critic(real), real), (norms**2).mean())


def test_the_share_is_that_of_the_real_sample(critic):
    (real, fake), mix = samples((6, 5))
    at_real = gradient_penalty(critic, real, fake, torch.ones_like(mix))
    torch.testing.assert_close(at_real, gradient_penalty(critic, real, real, mix))
    assert at_real != gradient_penalty(critic, real, fake, torch.zeros_like(mix))


def test_it_trains_the_critic_and_not_what_made_the_samples(critic):
    (real, fake), mix = samples((6, 5))
    critic(real)  # the first call gives the lazy layer its width
    fake.requires_grad_()
    gradient_penalty(critic, real, fake, mix).backward()
    assert fake.grad is None
    gradients = [parameter.grad for parameter in critic.parameters()]
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    assert gradients[0].abs().sum() > 0 and gradients[2].abs().sum() > 0
    assert gradients[3] is None or not gradients[3].any()  # a constant added has no slope


@pytest.mark.parametrize("penalty", ["gradient", "zero_centred"])
def test_its_own_gradient_is_right(penalty):
    (real, fake), mix = samples((3, 2))
    real.requires_grad_()

    def value(weight):
        def critic(rows):
            return (rows @ weight).tanh()

        if penalty == "gradient":
            return gradient_penalty(critic, real, fake, mix)
        return zero_centred(critic(real), real)

    assert torch.autograd.gradcheck(value, torch.randn(2, dtype=torch.float64, requires_grad=True))


def test_a_flat_critic_is_finite():
    (real, fake), mix = samples((6, 5))
    weight = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    value = gradient_penalty(lambda rows: rows @ weight, real, fake, mix)
    assert value == 1
    assert torch.autograd.grad(value, weight)[0].isfinite().all()


def test_under_autocast_it_is_float32(critic):
    (real, fake), mix = samples((6, 5))
    critic = critic.float()
    real, fake, mix = real.float(), fake.float(), mix.float()
    exact = gradient_penalty(critic, real, fake, mix)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = gradient_penalty(critic, real, fake.bfloat16(), mix)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0)
