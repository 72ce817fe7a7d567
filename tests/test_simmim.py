"""SimMIM: the loss is transformers' own, whole blocks are hidden, the mask token is no zero, a plain ViT comes out."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, ViTConfig, ViTForMaskedImageModeling, ViTImageProcessorPil, ViTModel

from hftransfer.errors import HFTransferError
from hftransfer.objectives.simmim import SimMIM, block_of

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def config_of(**changes):
    return ViTConfig(**{"image_size": 16, "patch_size": 4, "encoder_stride": 4, "num_channels": 3, **SIZES, **changes})


def objective_of(settings=None, seed=0, **changes):
    torch.manual_seed(0)
    network = ViTForMaskedImageModeling(config_of(**changes)).eval()
    SimMIM.mend(network, list(network.state_dict()))
    size = {"height": network.config.image_size, "width": network.config.image_size}
    reader = ViTImageProcessorPil(size=size)
    return SimMIM(network, reader, {**SimMIM.settings, **(settings or {})}, seed=seed)


def rows(count, size=16):
    rng = np.random.default_rng(0)
    return [{"pixels": rng.integers(0, 256, (size, size, 3), dtype=np.uint8), "row": i} for i in range(count)]


@pytest.mark.parametrize("mask_rate", [0.6, 0.3])
def test_the_loss_is_the_models_own(mask_rate):
    objective = objective_of({"mask_rate": mask_rate})
    batch = objective.collator(fixed=True)(rows(5))
    sums, counts = objective.losses(objective.network, batch)
    own = objective.network(pixel_values=batch["pixel_values"], bool_masked_pos=batch["hidden"]).loss
    assert sums.shape == counts.shape == (5,)
    assert torch.allclose(sums.sum() / counts.sum(), own, rtol=1e-5)
    assert objective.count(batch) == counts.sum() == 5 * int(np.ceil(16 * mask_rate))


def test_the_gradient_is_finite_and_reaches_the_mask_token():
    objective = objective_of()
    objective.losses(objective.network, objective.collator(fixed=False)(rows(3))).sums.sum().backward()
    gradients = {name: parameter.grad for name, parameter in objective.network.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["vit.embeddings.mask_token"].abs().sum() > 0


def test_a_hidden_patch_is_not_seen():
    objective = objective_of()
    batch = objective.collator(fixed=True)(rows(2))
    painted = objective.painted(batch)
    where = batch["hidden"].reshape(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    changed = batch["pixel_values"] + where * torch.randn(2, 3, 16, 16)
    assert torch.equal(objective.painted({**batch, "pixel_values": changed}), painted)


def test_the_mask_token_is_refilled_only_where_it_is_new_or_zero():
    network = ViTForMaskedImageModeling(config_of())
    token = network.vit.embeddings.mask_token
    assert not token.any()  # when this fails, transformers was repaired
    SimMIM.mend(network, [])
    filled = token.clone()
    assert filled.std() > 0.005
    SimMIM.mend(network, [])
    assert torch.equal(token, filled)
    SimMIM.mend(network, ["vit.embeddings.mask_token"])
    assert not torch.equal(token, filled)


@pytest.mark.parametrize(
    ("size", "patch", "block"), [(192, 16, 2), (224, 16, 2), (224, 32, 1), (32, 4, 1), (96, 8, 2)]
)
def test_blocks_are_the_papers_and_smaller_on_small_images(size, patch, block):
    assert block_of(size, patch) == block


def test_what_is_saved_is_a_plain_vit_of_the_same_states(tmp_path):
    objective = objective_of()
    objective.save(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    assert type(plain) is ViTModel and plain.embeddings.mask_token is None
    pixels = torch.randn(2, 3, 16, 16)
    assert torch.allclose(plain(pixels).last_hidden_state, objective.network.vit(pixels).last_hidden_state, atol=1e-6)
    whole, report = ViTForMaskedImageModeling.from_pretrained(tmp_path / "pretraining", output_loading_info=True)
    assert not report["missing_keys"] and whole.vit.embeddings.mask_token.std() > 0


def test_pictures_are_painted_where_hidden():
    objective = objective_of()
    shown = objective.show(rows(7))
    assert {value.shape for value in shown.values()} == {(6, 16, 16, 3)}
    (picture,) = objective.picture(shown, shown)["pictures"]
    assert picture["file"] == "simmim.png" and picture["png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "changes", "told"),
    [
        ({}, {"encoder_stride": 16}, r"^model: its encoder_stride 16 must be its patch_size 4"),
        ({}, {"image_size": 18}, r"^model: its image_size 18 is no multiple"),
        ({"mask_rate": 0.99}, {}, r"^mask_rate: 0.99 of 16 blocks hides all"),
        ({"mask_rate": 0.0}, {}, r"^mask_rate: expected a share"),
    ],
)
def test_what_cannot_work_is_told_at_once(settings, changes, told):
    with pytest.raises(HFTransferError, match=told):
        SimMIM.check(config_of(**changes), None, {**SimMIM.settings, **settings})
    SimMIM.check(config_of(), None, SimMIM.settings)
