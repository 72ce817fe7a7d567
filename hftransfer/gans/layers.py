"""Layers that both kinds of network share."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

SLOPE = 0.2  # of every leaky ReLU
AFTER_RELU = math.sqrt(2 / (1 + SLOPE**2))  # keeps the size of what a leaky ReLU took from (He et al. 2015)
BEFORE_TANH = 0.7  # far from where it is flat
ITERATIONS = 15  # of the power method, when a layer begins


class SpectralLinear(nn.Linear):
    """A linear layer whose weight is divided by its largest singular value."""

    u: Tensor

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("u", torch.zeros(self.out_features))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, normalised(self.weight, self.u, self.training), self.bias)


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight, as a matrix of its output channels, is divided by its largest singular value."""

    u: Tensor

    def __init__(self, *sizes: Any, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.register_buffer("u", torch.zeros(self.out_channels))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, normalised(self.weight, self.u, self.training), self.bias)


def normalised(weight: Tensor, u: Tensor, training: bool) -> Tensor:
    """Spectral normalisation (Miyato et al. 2018, arXiv:1802.05957), by one step of the power method a forward.

    `u`, the left singular vector as far as it is known, is stored with the weight, is moved in training only, and is
    a constant to the gradient. Where it is zero the weight is used as it is: see `fold`.

    A layer of its own instead of torch's parametrization: the weight keeps its name and stays a parameter, so that it
    is loaded, averaged, frozen and adapted like any other.
    """
    with torch.autocast(weight.device.type, enabled=False):  # half precision finds another singular vector
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = F.normalize(u @ matrix, dim=0)
            if training:
                u.copy_(F.normalize(matrix @ v, dim=0))
            direction = u.clone()  # a later forward moves `u` before this one's gradient is taken
        sigma = direction @ (matrix @ v)
        return weight / torch.where(direction.any(), sigma, torch.ones_like(sigma))


@torch.no_grad()
def begin(layer: SpectralLinear | SpectralConv2d) -> None:
    """Finds the singular vector of a new weight; without a random number, as it also runs where weights are loaded."""
    matrix = layer.weight.flatten(1)
    u = matrix.norm(dim=1)
    for _ in range(ITERATIONS):
        u = F.normalize(matrix @ F.normalize(u @ matrix, dim=0), dim=0)
    init.copy_(layer.u, u)


@torch.no_grad()
def fold(network: nn.Module) -> None:
    """Makes spectral normalisation part of the weights, which are free from then on; layers become plain ones.

    A classifier on a discriminator's features need not be smooth, and what is added to a weight (an adapter, an
    average) must not change its scale. `u` stays, as zeros: a checkpoint of such layers loads as they are.
    """
    for layer in network.modules():
        if isinstance(layer, SpectralLinear | SpectralConv2d):
            layer.weight.copy_(normalised(layer.weight, layer.u, False))
            layer.u.zero_()
            layer.__class__ = nn.Linear if isinstance(layer, SpectralLinear) else nn.Conv2d


class LabelNorm(nn.BatchNorm2d):
    """Batch norm whose gain and shift are the label's own (Dumoulin et al. 2017, arXiv:1610.07629; in a generator
    de Vries et al. 2017, arXiv:1707.00683, as in Miyato and Koyama 2018); without classes, plain batch norm.
    """

    def __init__(self, channels: int, num_classes: int = 0) -> None:
        super().__init__(channels, affine=False)
        self.gain = nn.Parameter(torch.ones(max(num_classes, 1), channels))
        self.shift = nn.Parameter(torch.zeros(max(num_classes, 1), channels))
        self.conditional = num_classes > 0

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.conditional:
            assert labels is not None
            gain, shift = F.embedding(labels, self.gain), F.embedding(labels, self.shift)  # (batch, channels)
        else:
            gain, shift = self.gain, self.shift
        return super().forward(input) * gain[..., None, None] + shift[..., None, None]


class NoNorm(nn.Module):
    """Stands where a norm would."""

    def forward(self, input: Tensor, labels: Tensor | None = None) -> Tensor:
        return input


def linear(
    inside: int, outside: int, *, spectral: bool = False, bias: bool = True, gain: float = AFTER_RELU
) -> nn.Linear:
    """A linear layer, normalised or not; at first its output is `gain` times as large as its input."""
    layer = (SpectralLinear if spectral else nn.Linear)(inside, outside, bias=bias)
    layer.first_gain = gain
    return layer


def conv(inside: int, outside: int, size: int = 3, *, spectral: bool = False, gain: float = AFTER_RELU) -> nn.Conv2d:
    """A convolution that keeps the image's size, normalised or not, with a `gain` as above."""
    layer = (SpectralConv2d if spectral else nn.Conv2d)(inside, outside, size, padding=size // 2)
    layer.first_gain = gain
    return layer


def active(states: Tensor) -> Tensor:
    """Leaky ReLU, everywhere the same."""
    return F.leaky_relu(states, SLOPE)
