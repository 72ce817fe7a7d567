import copy

import pytest
import torch
from torch import nn

from hftransfer.functional.l2_sp import l2_sp


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


def start_of(network):
    return {name: value.detach().clone() for name, value in network.named_parameters() if name.startswith("0.")}


def test_value_and_gradient_by_hand(network):
    start = start_of(network)
    with torch.no_grad():
        network[0].weight += 0.5
    penalty = l2_sp(dict(network.named_parameters()), start, alpha=0.1, beta=0.01)
    new = sum(float(value.detach().square().sum()) for value in network[1].parameters())
    assert float(penalty.detach()) == pytest.approx(0.05 * 12 * 0.25 + 0.005 * new, rel=1e-5)
    penalty.backward()
    torch.testing.assert_close(network[0].weight.grad, torch.full((3, 4), 0.1 * 0.5))
    torch.testing.assert_close(network[0].bias.grad, torch.zeros(3))
    torch.testing.assert_close(network[1].weight.grad, 0.01 * network[1].weight.detach())


def test_at_the_start_only_what_is_new_is_pulled(network):
    everything = {name: value.detach().clone() for name, value in network.named_parameters()}
    parameters = dict(network.named_parameters())
    assert l2_sp(parameters, everything, alpha=1.0, beta=1.0) == 0
    assert l2_sp(parameters, start_of(network), alpha=1.0, beta=0.0) == 0
    assert l2_sp(parameters, start_of(network), alpha=1.0, beta=1.0) > 0
    assert float(l2_sp({}, {}, alpha=1.0, beta=1.0)) == 0


def test_a_training_stays_nearer(network):
    start, far = start_of(network), {}
    inputs, wanted = torch.randn(16, 4), torch.randn(16, 2)
    for alpha in (0.0, 10.0):
        trained = copy.deepcopy(network)
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
        for _ in range(100):
            optimizer.zero_grad()
            moving = dict(trained.named_parameters())
            ((trained(inputs) - wanted).square().mean() + l2_sp(moving, start, alpha=alpha, beta=0.0)).backward()
            optimizer.step()
        far[alpha] = float((trained[0].weight.detach() - start["0.weight"]).norm())
    assert far[10.0] < far[0.0] / 3
