"""The sizes of the networks, and which sizes there are."""

import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from hftransfer.errors import HFTransferError

SMALLEST = 4  # the side of what the convolutional networks begin and end with


class _Sampled:
    """What both players' configs tell of a sample, whatever their networks are made of."""

    sample_shape: Any  # [numbers] of a vector, [channels, size, size] of an image
    num_classes: int

    @property
    def is_image(self) -> bool:
        """Whether a sample is an image, in [0, 1] outside of the networks; else it is a vector."""
        return len(self.sample_shape) == 3

    def check_labels(self) -> None:
        """Refuses a negative number of classes."""
        if self.num_classes < 0:
            raise HFTransferError("num_classes: expected a whole number, 0 for networks that know no labels")


class _MLP(_Sampled):
    """A sample of any shape is a row of numbers to a multilayer perceptron."""

    hidden_sizes: list[int] | tuple[int, ...]

    def check_sizes(self) -> None:
        """Refuses shapes that are neither vectors nor square images, and layers without width."""
        self.check_labels()
        shape, hidden = self.sample_shape, self.hidden_sizes
        square = len(shape) == 3 and shape[0] in (1, 3) and shape[1] == shape[2]
        if min(shape, default=0) < 1 or not (len(shape) == 1 or square):
            raise HFTransferError(
                f"sample_shape: {list(shape)} is neither a vector's [numbers] nor a square image's "
                "[channels, size, size] of 1 or 3 channels"
            )
        if min(hidden, default=0) < 1:
            raise HFTransferError(f"hidden_sizes: expected widths of layers, one at least, found {list(hidden)}")

    # Asked for by what makes a network's images; a config of vectors has neither.
    @property
    def image_size(self) -> int:
        return self._of_image(1, "image_size")

    @property
    def num_channels(self) -> int:
        return self._of_image(0, "num_channels")

    def _of_image(self, place: int, name: str) -> int:
        if not self.is_image:
            raise AttributeError(f"{type(self).__name__} of vectors has no {name}")
        return int(self.sample_shape[place])


class _Conv(_Sampled):
    """Each convolutional block halves or doubles the image, down to or up from 4 x 4."""

    image_size: int
    num_channels: int
    base_channels: int
    max_channels: int

    @property
    def sample_shape(self) -> list[int]:
        return [self.num_channels, self.image_size, self.image_size]

    def check_sizes(self) -> None:
        """Refuses images that blocks of a factor of 2 do not reach."""
        self.check_labels()
        check_image_size(self.image_size)
        if self.num_channels not in (1, 3):
            raise HFTransferError(f"num_channels: expected 1 (grey) or 3 (colour), found {self.num_channels}")
        for name in ("base_channels", "max_channels"):
            if getattr(self, name) < 1:
                raise HFTransferError(f"{name}: expected a whole number above 0, found {getattr(self, name)}")

    def widths(self) -> list[int]:
        """Channels at the image's own size, at half of it, and so on down to 4 x 4."""
        halvings = int(math.log2(self.image_size // SMALLEST))
        most = max(self.base_channels, self.max_channels)
        return [min(self.base_channels * 2**step, most) for step in range(halvings + 1)]


def check_image_size(size: int) -> None:
    """Refuses a size that no convolutional network fits.

    Raises:
        HFTransferError: naming sizes near it that do fit.
    """
    if size < 2 * SMALLEST or size & (size - 1):
        below = 2 ** max(3, int(math.log2(max(size, 8))))
        raise HFTransferError(
            f"image_size: {size} fits no convolutional network, which doubles {SMALLEST} x {SMALLEST} again and "
            f"again; use a power of two from 8 on, such as {below} or {2 * below}"
        )


@strict
class GanMLPGeneratorConfig(_MLP, PreTrainedConfig):
    """From a latent vector through ever wider layers to a sample; of an image, one number a pixel and channel.

    `offset` and `scale` bring a sample of a vector, whose numbers are in [-1, 1], into the data's own units.
    """

    model_type = "gan_mlp_generator"

    latent_size: int = 100
    hidden_sizes: list[int] | tuple[int, ...] = (128, 256, 512)
    sample_shape: list[int] | tuple[int, ...] = (1, 32, 32)
    num_classes: int = 0  # that samples are asked for by; not num_labels, which is a classifier's
    batch_norm: bool = True
    offset: float | int | list[float] = 0.0
    scale: float | int | list[float] = 1.0

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        self.check_sizes()
        check_latent_size(self.latent_size)


@strict
class GanMLPDiscriminatorConfig(_MLP, PreTrainedConfig):
    """From a sample through ever narrower layers to one logit: how real it looks."""

    model_type = "gan_mlp_discriminator"

    hidden_sizes: list[int] | tuple[int, ...] = (512, 256, 128)
    sample_shape: list[int] | tuple[int, ...] = (1, 32, 32)
    num_classes: int = 0
    batch_norm: bool = False
    spectral_norm: bool = False
    input_scale: float | int = 1.0  # factor of the samples: above 1, finer differences between them are learnt sooner

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        self.check_sizes()
        if self.input_scale <= 0:
            raise HFTransferError(f"input_scale: expected a number above 0, found {self.input_scale}")

    @property
    def hidden_size(self) -> int:
        """The width of the features."""
        return int(self.hidden_sizes[-1])


@strict
class GanConvGeneratorConfig(_Conv, PreTrainedConfig):
    """From a latent vector to 4 x 4 and through doubling blocks to an image, the channels halved with each."""

    model_type = "gan_conv_generator"

    latent_size: int = 100
    image_size: int = 32
    num_channels: int = 1
    base_channels: int = 32  # at the image's own size
    max_channels: int = 256
    num_classes: int = 0
    batch_norm: bool = True

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        self.check_sizes()
        check_latent_size(self.latent_size)


@strict
class GanConvDiscriminatorConfig(_Conv, PreTrainedConfig):
    """From an image through halving blocks to 4 x 4, to a vector of features and one logit."""

    model_type = "gan_conv_discriminator"

    image_size: int = 32
    num_channels: int = 1
    base_channels: int = 32
    max_channels: int = 256
    num_classes: int = 0
    batch_norm: bool = False
    spectral_norm: bool = False

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        self.check_sizes()

    @property
    def hidden_size(self) -> int:
        """The width of the features."""
        return self.widths()[-1]


def check_latent_size(size: int) -> None:
    """Refuses a generator without an input."""
    if size < 1:
        raise HFTransferError(f"latent_size: expected a whole number above 0, found {size}")
