"""Generators and discriminators as `transformers` checkpoints: a pair of perceptrons and a convolutional one.

Importing this package registers the model types `gan_mlp_generator`, `gan_mlp_discriminator`, `gan_conv_generator` and
`gan_conv_discriminator` with `AutoConfig` and `AutoModel`, and the discriminators as backbones with
`AutoModelForImageClassification`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from hftransfer.gans.base import Discriminator, Generator, ImageClassifier
from hftransfer.gans.config import (
    GanConvDiscriminatorConfig,
    GanConvGeneratorConfig,
    GanMLPDiscriminatorConfig,
    GanMLPGeneratorConfig,
)
from hftransfer.gans.conv import GanConvDiscriminator, GanConvForImageClassification, GanConvGenerator
from hftransfer.gans.layers import fold
from hftransfer.gans.mlp import GanMLPDiscriminator, GanMLPForImageClassification, GanMLPGenerator
from hftransfer.gans.pair import check_pair, new_pair, pair_configs

__all__ = [
    "Discriminator",
    "GanConvDiscriminator",
    "GanConvDiscriminatorConfig",
    "GanConvForImageClassification",
    "GanConvGenerator",
    "GanConvGeneratorConfig",
    "GanMLPDiscriminator",
    "GanMLPDiscriminatorConfig",
    "GanMLPForImageClassification",
    "GanMLPGenerator",
    "GanMLPGeneratorConfig",
    "Generator",
    "ImageClassifier",
    "check_pair",
    "fold",
    "new_pair",
    "pair_configs",
]

for network in (GanMLPGenerator, GanMLPDiscriminator, GanConvGenerator, GanConvDiscriminator):
    AutoConfig.register(network.config_class.model_type, network.config_class, exist_ok=True)
    AutoModel.register(network.config_class, network, exist_ok=True)
for classifier in (GanMLPForImageClassification, GanConvForImageClassification):
    AutoModelForImageClassification.register(classifier.config_class, classifier, exist_ok=True)
