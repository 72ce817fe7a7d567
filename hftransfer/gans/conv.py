"""The convolutional pair: as deep as the image is large (DCGAN: Radford et al. 2016, arXiv:1511.06434), of residual
blocks (Miyato et al. 2018, arXiv:1802.05957).
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hftransfer.gans.base import Discriminator, Generator, ImageClassifier
from hftransfer.gans.config import SMALLEST, GanConvDiscriminatorConfig, GanConvGeneratorConfig
from hftransfer.gans.layers import BEFORE_TANH, LabelNorm, NoNorm, active, conv, linear


class UpBlock(nn.Module):
    """Doubles an image: two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, *, batch_norm: bool, num_classes: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = (
            LabelNorm(width, num_classes) if batch_norm else NoNorm() for width in (inside, outside)
        )
        self.first, self.second = conv(inside, outside), conv(outside, outside)
        self.shortcut = conv(inside, outside, 1, gain=1.0)

    def forward(self, states: Tensor, labels: Tensor | None) -> Tensor:
        found = self.first(_doubled(active(self.first_norm(states, labels))))
        found = self.second(active(self.second_norm(found, labels)))
        return _added(found, _doubled(self.shortcut(states)))


class DownBlock(nn.Module):
    """Halves an image: two convolutions beside a shortcut."""

    def __init__(self, inside: int, outside: int, *, batch_norm: bool, spectral: bool) -> None:
        super().__init__()
        self.first_norm, self.second_norm = (LabelNorm(inside) if batch_norm else NoNorm() for _ in range(2))
        self.first, self.second = conv(inside, inside, spectral=spectral), conv(inside, outside, spectral=spectral)
        self.shortcut = conv(inside, outside, 1, spectral=spectral, gain=1.0)

    def forward(self, states: Tensor) -> Tensor:
        found = self.first(active(self.first_norm(states)))
        found = self.second(active(self.second_norm(found)))
        return _added(F.avg_pool2d(found, 2), self.shortcut(F.avg_pool2d(states, 2)))


def _doubled(states: Tensor) -> Tensor:
    return F.interpolate(states, scale_factor=2.0, mode="nearest")


def _added(found: Tensor, shortcut: Tensor) -> Tensor:
    """A sum as large as each of its parts: without norms, states would grow from block to block."""
    return (found + shortcut) / math.sqrt(2)


class GanConvGenerator(Generator):
    """Latents to an image. A label acts through the norms; without norms its embedding stands beside the latents."""

    config_class = GanConvGeneratorConfig
    base_model_prefix = "generator"

    def __init__(self, config: GanConvGeneratorConfig) -> None:
        super().__init__(config)
        widths = config.widths()[::-1]
        joined = config.num_classes > 0 and not config.batch_norm
        self.label_embedding = nn.Embedding(config.num_classes, config.latent_size) if joined else None
        self.from_latents = linear(config.latent_size * (1 + joined), widths[0] * SMALLEST**2, gain=1.0)
        self.blocks = nn.ModuleList(
            UpBlock(inside, outside, batch_norm=config.batch_norm, num_classes=config.num_classes)
            for inside, outside in pairwise(widths)
        )
        self.last_norm = LabelNorm(widths[-1], config.num_classes) if config.batch_norm else NoNorm()
        self.to_image = conv(widths[-1], config.num_channels, gain=BEFORE_TANH)
        self.post_init()

    def _samples(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        states = latents
        if self.label_embedding is not None:
            states = torch.cat([states, self.label_embedding(labels)], dim=1)
        states = self.from_latents(states).view(len(states), -1, SMALLEST, SMALLEST)
        for block in self.blocks:
            states = block(states, labels)
        return torch.tanh(self.to_image(active(self.last_norm(states, labels))))


class GanConvDiscriminator(Discriminator):
    """An image to its logit."""

    config_class = GanConvDiscriminatorConfig
    base_model_prefix = "discriminator"

    def __init__(self, config: GanConvDiscriminatorConfig) -> None:
        super().__init__(config)
        widths, spectral = config.widths(), config.spectral_norm
        self.from_image = conv(config.num_channels, widths[0], spectral=spectral, gain=1.0)
        parts = {"batch_norm": config.batch_norm, "spectral": spectral}
        self.blocks = nn.ModuleList(DownBlock(inside, outside, **parts) for inside, outside in pairwise(widths))
        self.to_vector = linear(widths[-1] * SMALLEST**2, widths[-1], spectral=spectral)
        self._add_head(widths[-1])
        self.post_init()

    def _features(self, pixel_values: Tensor) -> Tensor:
        states = self.from_image(pixel_values)
        for block in self.blocks:
            states = block(states)
        return active(self.to_vector(active(states).flatten(1)))

    def stages(self) -> list[nn.Module]:
        return [self.from_image, *self.blocks, self.to_vector]


class GanConvForImageClassification(ImageClassifier):
    """A convolutional network that was a discriminator, as an image classifier."""

    config_class = GanConvDiscriminatorConfig
    discriminator_class = GanConvDiscriminator
