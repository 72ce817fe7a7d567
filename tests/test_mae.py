"""MAE: the loss is transformers' own, masks are keyed and exact, places are told apart, and a plain ViT comes out."""

import copy
import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    ViTImageProcessorPil,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from hftransfer.errors import HFTransferError
from hftransfer.objectives.mae import MAE

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DECODER = {f"decoder_{name}": value for name, value in SIZES.items()} | {"decoder_num_hidden_layers": 1}


def config_of(**changes):
    return ViTMAEConfig(**{"image_size": 16, "patch_size": 4, "num_channels": 1, **SIZES, **DECODER, **changes})


def reader_of(config):
    size = {"height": config.image_size, "width": config.image_size}
    middle = [0.5] * config.num_channels
    return ViTImageProcessorPil(size=size, image_mean=middle, image_std=middle)


def objective_of(settings=None, seed=0, mended=True, **changes):
    torch.manual_seed(0)
    network = ViTMAEForPreTraining(config_of(**changes))
    if mended:
        MAE.mend(network, list(network.state_dict()))
    return MAE(network.eval(), reader_of(network.config), {**MAE.settings, **(settings or {})}, seed=seed)


def content(count, size=20, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        written = io.BytesIO()
        shape = (size, size, 3) if channels == 3 else (size, size)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(written, "PNG")
        rows.append({"bytes": written.getvalue(), "path": None})
    return datasets.Dataset.from_dict(
        {"image": rows}, features=datasets.Features({"image": datasets.Image(decode=False)})
    )


def batch_of(objective, count=5, fixed=True):
    rows = objective.rows(content(count, channels=objective.channels), key="data")
    return objective.collator(fixed=fixed)([rows[i] for i in range(count)])


@pytest.mark.parametrize("norm_pix_loss", [False, True])
@pytest.mark.parametrize("mask_rate", [0.75, 0.5, 0.3])
def test_the_loss_is_the_models_own(norm_pix_loss, mask_rate):
    objective = objective_of({"mask_rate": mask_rate}, norm_pix_loss=norm_pix_loss, num_channels=3)
    batch = batch_of(objective)
    sums, counts = objective.losses(objective.network, batch)
    objective.network.config.mask_ratio = mask_rate
    own = objective.network(pixel_values=batch["pixel_values"], noise=batch["hidden"].float())
    assert torch.equal(own.mask.bool(), batch["hidden"])
    assert sums.shape == counts.shape == (5,)
    assert torch.allclose(sums.sum() / counts.sum(), own.loss, rtol=1e-5)
    assert objective.count(batch) == counts.sum() == 5 * (16 - int(16 * (1 - mask_rate)))


def test_the_gradient_is_the_models_own():
    objective = objective_of(norm_pix_loss=True)
    other = copy.deepcopy(objective.network)
    batch = batch_of(objective)
    sums, counts = objective.losses(objective.network, batch)
    (sums.sum() / counts.sum()).backward()
    other(pixel_values=batch["pixel_values"], noise=batch["hidden"].float()).loss.backward()
    pairs = list(zip(objective.network.named_parameters(), other.parameters(), strict=True))
    assert len(pairs) > 40
    for (name, ours), theirs in pairs:
        assert (ours.grad is None) == (theirs.grad is None) == ("pos" in name), name  # the positions are fixed
        if ours.grad is not None:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name


def test_a_rows_loss_does_not_depend_on_its_batch():
    objective = objective_of()
    rows = objective.rows(content(4), key="data")
    collate = objective.collator(fixed=False)
    together = objective.losses(objective.network, collate([rows[i] for i in range(4)])).sums
    alone = torch.cat([objective.losses(objective.network, collate([rows[i]])).sums for i in range(4)])
    assert torch.allclose(together, alone, rtol=1e-5)


def test_masks_and_cuts_follow_seed_epoch_and_row_alone():
    objective = objective_of()
    rows = objective.rows(content(6), key="data")
    collate, fixed = objective.collator(fixed=False), objective.collator(fixed=True)
    first = collate([rows[i] for i in range(6)])
    again = collate([rows[i] for i in (5, 2)])
    for name in ("pixel_values", "hidden"):
        assert torch.equal(first[name][[5, 2]], again[name])
    still = fixed([rows[0]])
    collate.set_epoch(1), fixed.set_epoch(1)
    later = collate([rows[i] for i in range(6)])
    assert all(not torch.equal(first[name], later[name]) for name in first)
    assert all(torch.equal(still[name], fixed([rows[0]])[name]) for name in still)
    other = objective_of(seed=1).collator(fixed=True)([rows[0]])
    assert torch.equal(still["pixel_values"], other["pixel_values"])  # measured uncut
    assert not torch.equal(still["hidden"], other["hidden"])


def test_a_schedule_changes_how_many_are_hidden():
    objective = objective_of({"mask_rate": [0.25, 0.75]})
    rows = objective.rows(content(2), key="data")
    collate = objective.collator(fixed=False)
    counts = []
    for progress in (0.0, 0.5, 1.0):
        batch = collate([objective.at(rows[i], progress) for i in range(2)])
        counts.append(int(batch["hidden"][0].sum()))
        assert objective.losses(objective.network, batch).counts.tolist() == [counts[-1]] * 2
    assert counts == [4, 8, 12] and int(collate([rows[0]])["hidden"].sum()) == 12


def test_from_scratch_places_are_told_apart_only_once_mended():
    """The trap: transformers leaves all positions at zero, so all hidden patches are predicted alike."""

    def spread(objective):
        batch = batch_of(objective, 1)
        predicted = objective._predicted(objective.network, batch)[batch["hidden"]]
        return float((predicted[0] - predicted[1]).abs().max().detach())

    assert spread(objective_of(mended=False)) < 1e-6  # when this fails, transformers was repaired
    mended = objective_of()
    assert spread(mended) > 1e-3
    weights = mended.network.state_dict()
    for name in (
        "vit.embeddings.position_embeddings",
        "decoder.decoder_pos_embed",
        "vit.embeddings.cls_token",
        "decoder.mask_token",
    ):
        assert weights[name].std() > 0, name
    tables = [p for n, p in mended.network.named_parameters() if "pos" in n]
    assert len(tables) == 2 and not any(table.requires_grad for table in tables)


def test_mending_leaves_alone_what_a_checkpoint_holds():
    objective = objective_of()
    for parameter in objective.network.parameters():
        parameter.data.add_(0.25)
    before = {name: value.clone() for name, value in objective.network.state_dict().items()}
    MAE.mend(objective.network, ["decoder.mask_token"])
    after = objective.network.state_dict()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"decoder.mask_token"}


def test_what_is_saved_is_a_plain_vit_of_the_same_states(tmp_path):
    objective = objective_of({"mask_rate": 0.5})
    objective.save(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, add_pooling_layer=False)
    assert type(plain) is ViTModel
    assert AutoImageProcessor.from_pretrained(tmp_path).to_dict() == objective.reader.to_dict()
    pixels = torch.randn(2, 1, 16, 16)
    encoder = objective.network.vit
    encoder.config.mask_ratio = 0.0
    theirs = encoder(pixels, noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
    assert torch.allclose(plain.eval()(pixels).last_hidden_state, theirs, atol=1e-5)
    classifier, report = AutoModelForImageClassification.from_pretrained(
        tmp_path, num_labels=10, output_loading_info=True
    )
    assert set(report["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not report["unexpected_keys"] and not report["mismatched_keys"]
    assert classifier.vit.embeddings.position_embeddings.std() > 0.1


def test_the_whole_network_is_kept_to_go_on(tmp_path):
    objective = objective_of({"mask_rate": 0.5})
    objective.save(tmp_path)
    whole, report = ViTMAEForPreTraining.from_pretrained(tmp_path / "pretraining", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and whole.config.mask_ratio == 0.5
    saved = whole.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in objective.network.state_dict().items())


@pytest.mark.parametrize(("norm_pix_loss", "channels"), [(True, 1), (False, 3)])
def test_pictures_show_what_was_hidden_and_painted(norm_pix_loss, channels):
    objective = objective_of(norm_pix_loss=norm_pix_loss, num_channels=channels)
    rows = objective.rows(content(8, channels=channels), key="data")
    before = objective.show(rows)
    assert {value.shape for value in before.values()} == {(6, 16, 16, channels)}
    hidden = objective.collator(fixed=True)([rows[i] for i in range(6)])["hidden"].reshape(6, 4, 4).numpy()
    seen = ~np.kron(hidden, np.ones((1, 4, 4), dtype=bool))
    for name in ("seen", "painted"):
        assert np.array_equal(before[name][seen], before["original"][seen])
        assert (before[name][~seen] != before["original"][~seen]).mean() > 0.9
    assert np.array_equal(objective.show(rows)["painted"], before["painted"])
    for given, told in ((before, 4), (None, 3)):
        (picture,) = objective.picture(given, before)["pictures"]
        image = Image.open(io.BytesIO(picture["png"]))
        assert picture["file"] == "mae.png" and image.height == told * 96 + (told - 1) * 6
        assert ("before" in picture["caption"]) == (given is not None)


def test_a_perfect_network_paints_the_original():
    objective = objective_of(norm_pix_loss=True)
    batch = batch_of(objective)
    target = objective.network.patchify(batch["pixel_values"])
    mean, std = target.mean(-1, keepdim=True), (target.var(-1, keepdim=True) + 1e-6).sqrt()
    objective._predicted = lambda runner, given: (target - mean) / std
    assert torch.allclose(objective.painted(batch), batch["pixel_values"], atol=1e-5)
    assert objective.losses(objective.network, batch).sums.max() < 1e-6


@pytest.mark.parametrize(
    ("settings", "changes", "told"),
    [
        ({}, {"image_size": 18}, r"^model: its image_size 18 is no multiple of its patch_size 4"),
        ({}, {"image_size": [16, 32]}, r"^model: its image_size \(16, 32\) is not square"),
        ({}, {"decoder_hidden_size": 18}, r"^model: its decoder_hidden_size must be a multiple of 4"),
        ({"mask_rate": 1.0}, {}, r"^mask_rate: expected a share between 0 and 1, found 1.0"),
        ({"mask_rate": [0.5, 0]}, {}, r"^mask_rate: expected a share between 0 and 1, found 0"),
        ({"mask_rate": 0.95}, {}, r"^mask_rate: 0.95 of 16 patches leaves 0"),
        ({"augment": "flip"}, {}, r"^augment: "),
    ],
)
def test_what_cannot_work_is_told_at_once(settings, changes, told):
    config = config_of(**changes)
    with pytest.raises(HFTransferError, match=told):
        MAE.check(config, None, {**MAE.settings, **settings})
    MAE.check(config_of(), None, MAE.settings)
