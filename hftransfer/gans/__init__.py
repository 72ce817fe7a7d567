"""Generators and discriminators as `transformers` checkpoints: a pair of perceptrons and a convolutional one.

Importing this package registers the model types `gan_mlp_generator`, `gan_mlp_discriminator`, `gan_conv_generator` and
`gan_conv_discriminator` with `AutoConfig` and `AutoModel`, and the discriminators as backbones with
`AutoModelForImageClassification`.
"""

from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from hftransfer.gans.base import Discriminator, Generator, ImageClassifier
from hftransfer.gans.config import GanMLPDiscriminatorConfig, GanMLPGeneratorConfig
from hftransfer.gans.mlp import GanMLPDiscriminator, GanMLPForImageClassification, GanMLPGenerator

__all__ = [
    "Discriminator",
    "GanMLPDiscriminator",
    "GanMLPDiscriminatorConfig",
    "GanMLPForImageClassification",
    "GanMLPGenerator",
    "GanMLPGeneratorConfig",
    "Generator",
    "ImageClassifier",
]

for network in (GanMLPGenerator, GanMLPDiscriminator):
    AutoConfig.register(network.config_class.model_type, network.config_class, exist_ok=True)
    AutoModel.register(network.config_class, network, exist_ok=True)
for classifier in (GanMLPForImageClassification,):
    AutoModelForImageClassification.register(classifier.config_class, classifier, exist_ok=True)
