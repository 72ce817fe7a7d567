"""What the networks of both kinds have in common: how weights begin, how samples are made and judged."""

import contextlib
import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel as TransformersModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutput

from hftransfer.errors import HFTransferError
from hftransfer.gans.labels import Labels, asked, checked
from hftransfer.gans.latents import drawn, truncated
from hftransfer.gans.layers import LabelNorm, SpectralConv2d, SpectralLinear, begin, linear

OUTPUTS = ("pt", "np", "pil")


class GanNetwork(TransformersModel):
    """How weights begin: states keep their size from layer to layer (He et al. 2015, arXiv:1502.01852)."""

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            init.normal_(module.weight, std=module.first_gain / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                init.zeros_(module.bias)
            if isinstance(module, SpectralLinear | SpectralConv2d):
                begin(module)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight)  # as large as the latents that it joins
        elif isinstance(module, LabelNorm):
            super()._init_weights(module)
            init.ones_(module.gain)
            init.zeros_(module.shift)
        else:
            super()._init_weights(module)

    def _check_batch(self, rows: int) -> None:
        """Batch norm makes nothing of one row, and torch does not always say so."""
        if self.training and rows == 1 and self.config.batch_norm:
            raise HFTransferError(
                "batch_norm: a batch of one row has no statistics to train with; use batches of two rows at least, or "
                "make a new network with batch_norm: false"
            )


class Generator(GanNetwork):
    """Makes samples, with numbers in [-1, 1], of latent vectors."""

    main_input_name = "latents"
    input_modalities = ()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """(batch, *sample_shape) of latents (batch, latent_size) and, where it is conditional, labels (batch,).

        Raises:
            HFTransferError: labels that it cannot take, or a batch of one row in training with batch norm.
        """
        labels = checked(labels, self.config.num_classes)
        self._check_batch(len(latents))
        return self._samples(latents, labels)

    def _samples(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        raise NotImplementedError

    def latents(self, n: int, noise: torch.Generator) -> Tensor:
        """(n, latent_size) on the network's device, drawn from a generator of random numbers on the CPU."""
        return drawn(n, self.config.latent_size, noise).to(self.device, self.dtype)

    @torch.no_grad()
    def generate(
        self,
        n: int,
        *,
        seed: int = 42,
        labels: Labels | None = None,
        truncation: float | None = None,
        output_type: Literal["pt", "np", "pil"] = "pt",
        batch_size: int = 64,
    ) -> Any:
        """Samples, the same for the same seed on every device and for every batch size, up to rounding.

        Args:
            n: how many.
            seed: of latents, and of labels that are drawn.
            labels: one for all, or n of them, by number or by name; without, a conditional generator draws them
                evenly.
            truncation: keeps the latents' numbers within this distance of 0: below 1 samples are more typical, and
                less diverse. Hardly a number is beyond 4.
            output_type: `pt`, a tensor on the CPU, and `np`, an array, of the data's own units: images in [0, 1], as
                (n, channels, size, size) and (n, size, size, channels); `pil`, a list of images.
            batch_size: how many are made at once.

        Raises:
            HFTransferError: in one line, for anything wrong with these.
        """
        self._check_asked(n, seed, output_type, batch_size)
        noise = torch.Generator().manual_seed(int(seed))
        inputs = drawn(n, self.config.latent_size, noise)
        if truncation is not None:
            inputs = truncated(inputs, truncation)
        inputs = inputs.to(self.device, self.dtype)
        wanted = asked(labels, n, self.config.num_classes, noise, self.config.label2id)
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            made = [
                self(some, None if wanted is None else wanted[start : start + batch_size].to(self.device))
                for start, some in zip(range(0, n, batch_size), inputs.split(batch_size), strict=True)
            ]
        finally:
            for module, training in modes.items():
                module.training = training
        samples = self.in_units(torch.cat([some.float().cpu() for some in made]))
        return _as(output_type, samples, image=self.config.is_image)

    def _check_asked(self, n: int, seed: int, output_type: str, batch_size: int) -> None:
        for name, value, least in (("n", n, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value < 2**63:
                raise HFTransferError(f"{name}: expected a whole number from {least} on, found {value!r}")
        if output_type not in OUTPUTS:
            raise HFTransferError(f"output_type: expected one of {', '.join(OUTPUTS)}, found {output_type!r}")
        if output_type == "pil" and not self.config.is_image:
            raise HFTransferError(
                f"output_type: pil draws images, and this generator makes vectors of {self.config.sample_shape[0]} "
                "numbers; use pt or np"
            )

    def in_units(self, samples: Tensor) -> Tensor:
        """Samples in the data's own units: images in [0, 1], vectors by the config's `offset` and `scale`."""
        if self.config.is_image:
            return ((samples + 1) / 2).clamp(0, 1)
        return samples * samples.new_tensor(self.config.scale) + samples.new_tensor(self.config.offset)


def _as(output_type: str, samples: Tensor, *, image: bool) -> Any:
    if output_type == "pt":
        return samples
    values = samples.permute(0, 2, 3, 1).numpy() if image else samples.numpy()  # channels last
    if output_type == "np":
        return values
    from transformers.image_transforms import to_pil_image  # asks for Pillow by its name where it is missing

    pixels = (values * 255).round().astype(np.uint8)
    return [to_pil_image(one, do_rescale=False, input_data_format="channels_last") for one in pixels]


class Discriminator(GanNetwork):
    """Tells how real samples look, by features that other tasks can use."""

    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def _add_head(self, width: int) -> None:
        """One logit; of a conditional network, by each class's own direction as well (Miyato and Koyama 2018,
        arXiv:1802.05637: the projection).
        """
        spectral = self.config.spectral_norm
        self.head = linear(width, 1, gain=1.0, spectral=spectral)
        classes = self.config.num_classes
        self.projection = linear(width, classes, bias=False, gain=1.0, spectral=spectral) if classes else None

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Tensor:
        """(batch,) logits of samples (batch, *sample_shape) and, where it is conditional, their labels (batch,).

        Raises:
            HFTransferError: labels that it cannot take, or a batch of one row in training with batch norm.
        """
        labels = checked(labels, self.config.num_classes)
        found = self.features(pixel_values)  # (batch, width)
        logits = self.head(found)[:, 0]
        if self.projection is None or labels is None:
            return logits
        return logits + self.projection(found).gather(1, labels[:, None])[:, 0]

    def features(self, pixel_values: Tensor) -> Tensor:
        """(batch, width) what the logit is read from; a conditional network needs no labels for them.

        Raises:
            HFTransferError: samples of another shape, or a batch of one row in training with batch norm.
        """
        shape, wanted = list(pixel_values.shape[1:]), list(self.config.sample_shape)
        if shape != wanted:
            raise HFTransferError(f"pixel_values: this network judges samples of {wanted}, and these are {shape}")
        self._check_batch(len(pixel_values))
        return self._features(pixel_values)

    def _features(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError

    def stages(self) -> list[nn.Module]:
        """The parts from the image up to the features, to be frozen from below (FreezeD: Mo et al. 2020,
        arXiv:2002.10964).
        """
        raise NotImplementedError

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """As any network; and what makes its inputs of images, so that the folder is a classifier's backbone."""
        super().save_pretrained(save_directory, *args, **options)
        if self.config.is_image and options.get("is_main_process", True):
            _image_processor(self.config).save_pretrained(save_directory)


def _image_processor(config: Any) -> Any:
    """Scales to the image's size and to [-1, 1], what a generator makes. Here, as this file is published by itself."""
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    half = [0.5] * config.num_channels
    size = {"height": config.image_size, "width": config.image_size}
    return ViTImageProcessorPil(size=size, image_mean=half, image_std=half)


class ImageClassifier(GanNetwork):
    """A discriminator's features and a linear layer over the labels; the discriminator's own head stays and idles."""

    base_model_prefix = "discriminator"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    discriminator_class: type[Discriminator]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not config.is_image:
            raise HFTransferError("model: this discriminator judges vectors, and classifies no images")
        self.discriminator = self.discriminator_class(config)
        self.classifier = linear(config.hidden_size, config.num_labels, gain=0.1)  # no class is likelier at first
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **_: Any) -> ImageClassifierOutput:
        """Logits, (batch, labels), and with `labels` the loss of `config.problem_type`.

        A batch of one row in training, as the last of an epoch may be, is normalised as in use.
        """
        with self._as_in_use() if self.training and len(pixel_values) == 1 else contextlib.nullcontext():
            found = self.discriminator.features(pixel_values)
        logits = self.classifier(found)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits)

    @contextlib.contextmanager
    def _as_in_use(self) -> Iterator[None]:
        """Batch norm by its running statistics: one row has none."""
        norms = [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        changed = [module for module in (self.discriminator, *norms) if module.training]
        for module in changed:
            module.training = False
        try:
            yield
        finally:
            for module in changed:
                module.training = True
