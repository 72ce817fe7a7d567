"""Augmentation that gradients pass, so that a discriminator of few images never sees the images themselves.

Zhao et al. 2020, Differentiable Augmentation for Data-Efficient GAN Training, arXiv:2006.10738: real and generated
images alike are augmented wherever the discriminator looks, under draws of their own. How often follows the adaptive
rule of Karras et al. 2020, Training Generative Adversarial Networks with Limited Data, arXiv:2006.06676.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hftransfer.errors import HFTransferError, nearest

SHIFT, HOLE = 0.125, 0.5  # of the image's sides


class Operation(NamedTuple):
    """One line of `OPERATIONS`."""

    draws: int  # uniform numbers that an image takes
    apply: Callable[[Tensor, Tensor], Tensor]  # images (n, c, h, w), numbers in [0, 1] (n, draws) -> images


def diff_augment(
    images: Tensor, policy: Sequence[str], noise: torch.Generator | None = None, p: float | Tensor = 1.0
) -> Tensor:
    """Images after the operations of `policy`, each image under its own draws.

    An image takes as many draws whatever `p` is and whatever images are beside it: batches may be cut up, and a larger
    `p` augments the same images and more.

    Args:
        images: (n, c, h, w), in [-1, 1]: 0 is grey, and what comes in from outside or is cut out.
        policy: names of `OPERATIONS`, in the order of application.
        noise: a generator on the CPU, so that all devices draw alike; by default torch's own.
        p: chance of each operation to be applied to an image.

    Raises:
        HFTransferError: no operation has this name, or these are no images.
    """
    for name in policy:
        if name not in OPERATIONS:
            raise HFTransferError(f"augment: no operation is named '{name}'{nearest(name, OPERATIONS)}")
    if images.ndim != 4:
        raise HFTransferError(f"augment: samples of shape {tuple(images.shape[1:])} are no images; leave augment out")
    widths = [1 + OPERATIONS[name].draws for name in policy]
    draws = torch.rand(len(images), sum(widths), generator=noise).to(images.device)
    for name, drawn in zip(policy, draws.split(widths, dim=1), strict=True):
        applied = (drawn[:, 0] < p)[:, None, None, None]
        images = torch.where(applied, OPERATIONS[name].apply(images, drawn[:, 1:]), images)
    return images


def adapted_p(
    p: float | Tensor, signs_mean: Tensor, images: int, *, target: float = 0.6, images_to_one: int = 500_000
) -> Tensor:
    """The next `p`: up while the discriminator overfits, down while it does not, in equal steps.

    Args:
        p: the present one.
        signs_mean: E sign(D(x)) on real training images since the last change, r_t of the paper: 0 where the
            discriminator is at a loss, 1 where it knows them all.
        images: real images seen since the last change.
        target: r_t to hold.
        images_to_one: images in which `p` can go from 0 to 1; fewer for short trainings.
    """
    return (p + torch.sign(signs_mean - target) * (images / images_to_one)).clamp(0, 1)


def _color(images: Tensor, draws: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5, saturation times 0 to 2 (nothing to an image of one channel), contrast 0.5 to 1.5."""
    brightness, saturation, contrast = draws.to(images.dtype)[:, :, None, None, None].unbind(1)  # (n, 1, 1, 1) each
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return level + (0.5 + contrast) * (images - level)


def _translation(images: Tensor, draws: Tensor) -> Tensor:
    """Moves by up to an eighth of each side."""
    for dim, drawn in ((2, draws[:, 0]), (3, draws[:, 1])):
        size = images.shape[dim]
        furthest = int(size * SHIFT + 0.5)
        origin = torch.arange(size, device=images.device) - (_whole(drawn, 2 * furthest + 1) - furthest)  # (n, size)
        origin = origin.view(-1, 1, *((size, 1) if dim == 2 else (1, size)))
        # Around the edge rather than clamped: a pixel is then read once, and its gradient is no sum in any order.
        moved = images.gather(dim, (origin % size).expand_as(images))
        images = moved.masked_fill((origin < 0) | (origin >= size), 0)
    return images


def _cutout(images: Tensor, draws: Tensor) -> Tensor:
    """Cuts out a rectangle of half of each side, around any pixel, so that it may reach over the edge."""
    inside = []
    for size, drawn in zip(images.shape[2:], draws.unbind(1), strict=True):
        side = int(size * HOLE + 0.5)
        start = _whole(drawn, size + 1 - side % 2) - side // 2  # (n, 1)
        places = torch.arange(size, device=images.device)
        inside.append((places >= start) & (places < start + side))  # (n, size)
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0)


def _whole(drawn: Tensor, number: int) -> Tensor:
    """(n, 1), uniform in 0 .. number - 1: the product with the largest float below 1 is not rounded up to `number`."""
    return (drawn * number).long()[:, None]


OPERATIONS: dict[str, Operation] = {
    "color": Operation(3, _color),
    "translation": Operation(2, _translation),
    "cutout": Operation(2, _cutout),
}
