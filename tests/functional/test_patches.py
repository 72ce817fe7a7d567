"""Patches: cut as transformers cuts them, joined without loss, as many hidden, placed as the published weights say."""

import math

import numpy as np
import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from hftransfer.functional.patches import (
    hide_blocks,
    hide_patches,
    normalised,
    num_kept,
    patchify,
    position_table,
    rate_that_keeps,
    statistics,
    unpatchify,
)


@pytest.mark.parametrize("channels", [1, 3])
def test_patches_are_transformers_own_and_come_back_whole(channels):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    decoder = {f"decoder_{name}": value for name, value in sizes.items()}
    config = ViTMAEConfig(image_size=12, patch_size=4, num_channels=channels, **sizes, **decoder)
    pixels = torch.rand(2, channels, 12, 12)
    patches = patchify(pixels, 4)
    assert torch.equal(patches, ViTMAEForPreTraining(config).patchify(pixels))
    assert torch.equal(unpatchify(patches, 4), pixels)


def test_a_patch_is_one_place_of_the_image():
    pixels = torch.zeros(1, 1, 6, 6)
    pixels[0, 0, 2:4, 4:6] = 1  # second row of patches, third column
    assert patchify(pixels, 2).sum(-1).nonzero().tolist() == [[0, 5]]


def test_normalised_patches_do_not_know_brightness_and_contrast():
    patches = torch.rand(2, 5, 48)
    other = patches * 3 + 7
    assert torch.allclose(normalised(patches), normalised(other), atol=1e-3)
    mean, deviation = statistics(patches)
    assert torch.allclose(normalised(patches) * deviation + mean, patches, atol=1e-6)
    assert torch.allclose(normalised(patches).var(-1), torch.ones(2, 5), atol=1e-3)
    assert normalised(torch.ones(1, 1, 4)).isfinite().all()  # a plain patch


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.6, 0.75, 0.9])
@pytest.mark.parametrize("number", [4, 49, 64, 196])
def test_mae_hides_as_many_as_transformers(rate, number):
    hidden = hide_patches(number, rate, np.random.default_rng(0))
    assert hidden.shape == (number,) and (~hidden).sum() == int(number * (1 - rate)) == num_kept(number, rate)
    assert num_kept(number, rate_that_keeps(number, num_kept(number, rate))) == num_kept(number, rate)


def test_every_number_of_kept_patches_survives_its_rate():
    assert all(num_kept(n, rate_that_keeps(n, kept)) == kept for n in range(2, 300) for kept in range(n))


def test_every_patch_is_hidden_about_as_often():
    rng = np.random.default_rng(0)
    shares = np.mean([hide_patches(16, 0.75, rng) for _ in range(4000)], axis=0)
    assert np.abs(shares - 0.75).max() < 0.03


@pytest.mark.parametrize(("side", "block", "rate"), [(14, 2, 0.6), (12, 3, 0.5), (8, 1, 0.6)])
def test_simmim_hides_whole_blocks_and_at_least_the_share(side, block, rate):
    hidden = hide_blocks(side, block, rate, np.random.default_rng(0)).reshape(side, side)
    blocks = hidden.reshape(side // block, block, side // block, block)
    assert (blocks.all(axis=(1, 3)) == blocks.any(axis=(1, 3))).all()
    assert hidden.sum() == math.ceil((side // block) ** 2 * rate) * block**2


@pytest.mark.parametrize(("side", "width"), [(4, 16), (14, 192)])
def test_positions_are_those_of_the_published_weights(side, width):
    table = position_table(side, width)
    stock = build_2d_sinusoidal_position_embedding(side, side, width, cls_token=True)
    half = width // 2
    assert torch.allclose(table[0], torch.cat([stock[:, half:], stock[:, :half]], dim=1), atol=1e-6)
    assert table.dtype == torch.float32 and len(table[0].unique(dim=0)) == side**2 + 1  # no two places alike
