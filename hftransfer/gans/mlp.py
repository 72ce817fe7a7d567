"""The pair of multilayer perceptrons (Goodfellow et al. 2014, arXiv:1406.2661): for vectors, and for small images."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from hftransfer.gans.base import Discriminator, Generator, ImageClassifier
from hftransfer.gans.config import GanMLPDiscriminatorConfig, GanMLPGeneratorConfig
from hftransfer.gans.layers import BEFORE_TANH, SLOPE, linear


def _layers(widths: list[int], *, batch_norm: bool, spectral: bool = False) -> nn.ModuleList:
    """A linear layer, perhaps a norm, and a leaky ReLU from each width to the next."""
    norms = [[nn.BatchNorm1d(width)] if batch_norm else [] for width in widths[1:]]
    return nn.ModuleList(
        nn.Sequential(linear(inside, outside, spectral=spectral), *norm, nn.LeakyReLU(SLOPE))
        for (inside, outside), norm in zip(pairwise(widths), norms, strict=True)
    )


class GanMLPGenerator(Generator):
    """Latents, and an embedding of the label beside them, to a sample."""

    config_class = GanMLPGeneratorConfig
    base_model_prefix = "generator"

    def __init__(self, config: GanMLPGeneratorConfig) -> None:
        super().__init__(config)
        size, classes = config.latent_size, config.num_classes
        self.label_embedding = nn.Embedding(classes, size) if classes else None
        widths = [2 * size if classes else size, *config.hidden_sizes]
        self.layers = _layers(widths, batch_norm=config.batch_norm)
        self.to_sample = linear(widths[-1], math.prod(config.sample_shape), gain=BEFORE_TANH)
        self.post_init()

    def _samples(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        states = latents
        if self.label_embedding is not None:
            states = torch.cat([states, self.label_embedding(labels)], dim=1)
        for layer in self.layers:
            states = layer(states)
        return torch.tanh(self.to_sample(states)).view(-1, *self.config.sample_shape)


class GanMLPDiscriminator(Discriminator):
    """A sample as a row of numbers to its logit."""

    config_class = GanMLPDiscriminatorConfig
    base_model_prefix = "discriminator"

    def __init__(self, config: GanMLPDiscriminatorConfig) -> None:
        super().__init__(config)
        widths = [math.prod(config.sample_shape), *config.hidden_sizes]
        self.layers = _layers(widths, batch_norm=config.batch_norm, spectral=config.spectral_norm)
        self._add_head(widths[-1])
        self.post_init()

    def _features(self, pixel_values: Tensor) -> Tensor:
        states = pixel_values.flatten(1) * self.config.input_scale
        for layer in self.layers:
            states = layer(states)
        return states

    def stages(self) -> list[nn.Module]:
        return list(self.layers)


class GanMLPForImageClassification(ImageClassifier):
    """A perceptron that was a discriminator, as an image classifier."""

    config_class = GanMLPDiscriminatorConfig
    discriminator_class = GanMLPDiscriminator
