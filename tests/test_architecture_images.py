"""Other channels and sizes of images: a network answers as before where the two can be compared."""

import json

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset, Image
from PIL import Image as Pillow
from transformers import (
    ASTFeatureExtractor,
    BeitConfig,
    BeitForImageClassification,
    DeiTConfig,
    DeiTForImageClassification,
    Dinov2Config,
    Dinov2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hftransfer import architecture, inputs, models
from hftransfer.errors import HFTransferError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {**SIZES, "image_size": 12, "patch_size": 4}
HEAD = {"num_labels": 2, "id2label": {0: "dark", 1: "bright"}, "label2id": {"dark": 0, "bright": 1}}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
NETWORKS = {
    "vit": (ViTForImageClassification, ViTConfig(**PATCHES, **HEAD)),
    "deit": (DeiTForImageClassification, DeiTConfig(**PATCHES, **HEAD)),
    "dinov2": (Dinov2ForImageClassification, Dinov2Config(**PATCHES, **HEAD)),
    "resnet": (
        ResNetForImageClassification,
        ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", **HEAD),
    ),
    "swin": (
        SwinForImageClassification,
        SwinConfig(image_size=16, patch_size=4, embed_dim=8, depths=[1], num_heads=[2], window_size=2, **HEAD),
    ),
    "beit": (BeitForImageClassification, BeitConfig(**PATCHES, use_relative_position_bias=True, **HEAD)),
}


@pytest.fixture
def saved(tmp_path):
    """A maker of checkpoint folders: `saved("vit", mean, std, num_channels=3)`."""

    def make(name, mean=0.5, std=0.5, reader=None, **fields):
        torch.manual_seed(0)
        cls, config = NETWORKS[name]
        network = cls(type(config).from_dict({**config.to_dict(), **fields}))
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.2 * torch.randn_like(value))
        channels, size = network.config.num_channels, getattr(network.config, "image_size", 32)
        mean, std = (value if isinstance(value, list) else [value] * channels for value in (mean, std))
        square = {"height": size, "width": size}
        reader = reader or ViTImageProcessorPil(size=square, image_mean=mean, image_std=std)
        network.save_pretrained(tmp_path / name)
        reader.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


def change(model, spec, kind="image"):
    return architecture.changed(model, "image_classification", HEAD, spec, kind=kind)


@torch.no_grad()
def logits(network, pixels, **options):
    return network(pixel_values=pixels, **options).logits


def pixels(channels, size, seed=0):
    return torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(seed))


def reloaded(network, folder):
    network.save_pretrained(folder)
    again, report = transformers.AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    return again


def pictures(levels, size=20):
    """Rows of images as they are read: grey noise of some levels."""
    rng = np.random.default_rng(0)
    grey = [np.clip(rng.normal(level, 20, (size, size)), 0, 255).astype(np.uint8) for level in levels]
    rows = Dataset.from_dict({"image": [Pillow.fromarray(image) for image in grey], "label": [0] * len(levels)})
    return rows.cast_column("image", Image(decode=False))


def answers(network, reader):
    """Logits of grey pictures through the reader, as every stage reads them."""
    read = inputs.labelled_inputs(
        pictures([30, 120, 220]), network, key="data", max_length=8, kind="image", reader=reader
    )
    return logits(network, pixels=read.batch([read.rows[place] for place in range(3)])["pixel_values"])


@pytest.mark.parametrize("before, after", [(3, 1), (1, 3), (3, 5), (4, 1)])
@pytest.mark.parametrize("name", ["vit", "dinov2", "resnet", "swin"])
def test_a_grey_image_is_answered_as_before_in_any_number_of_channels(saved, name, before, after, tmp_path):
    folder = saved(name, num_channels=before)
    made, old = change(folder, {"num_channels": after}), models.load(folder, "image_classification")
    grey = pixels(1, getattr(old.config, "image_size", 32))
    ours = logits(made.network, grey.repeat(1, after, 1, 1))
    assert torch.allclose(ours, logits(old, grey.repeat(1, before, 1, 1)), atol=1e-4)
    assert made.network.config.num_channels == after and made.new == []
    assert torch.equal(logits(reloaded(made.network, tmp_path / "again"), grey.repeat(1, after, 1, 1)), ours)
    rows = {row[0]: row for row in made.table["rows"]}
    changed = [n for n, v in made.network.named_parameters() if v.shape != dict(old.named_parameters())[n].shape]
    assert len(changed) == 1
    assert rows["embeddings"][3] == made.network.get_parameter(changed[0]).numel()
    assert sum(row[1] for row in made.table["rows"]) == sum(value.numel() for value in made.network.parameters())


@pytest.mark.parametrize("before, after", [(3, 1), (1, 3)])
def test_readers_follow_the_channels(saved, before, after):
    """A colour's own mean and deviation go into the weights, so that grey pictures are answered exactly as before."""
    folder = saved("vit", *((MEAN, STD) if before == 3 else (0.3, 0.2)), num_channels=before)
    made, old = change(folder, {"num_channels": after}), models.load(folder, "image_classification")
    assert len(made.reader.image_mean) == len(made.reader.image_std) == after
    assert torch.allclose(answers(made.network, made.reader), answers(old, models.reader(folder, "image")), atol=1e-4)


def test_a_reader_that_makes_colours_makes_grey(saved):
    reader = BitImageProcessorPil(size={"shortest_edge": 14}, crop_size={"height": 12, "width": 12})
    made = change(saved("dinov2", reader=reader), {"num_channels": 1})
    assert made.reader.do_convert_rgb is False
    assert answers(made.network, made.reader).shape == (3, 2)


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2"])
@pytest.mark.parametrize("size", [20, 8])
def test_positions_are_interpolated_as_transformers_does(saved, name, size, tmp_path):
    folder = saved(name)
    made, old = change(folder, {"image_size": size}), models.load(folder, "image_classification")
    images = pixels(3, size)
    options = {} if name == "dinov2" else {"interpolate_pos_encoding": True}
    ours = logits(made.network, images)
    assert torch.allclose(ours, logits(old, images, **options), atol=1e-5)
    assert made.network.config.image_size == size and made.new == []
    assert dict(made.reader.size) == {"height": size, "width": size}
    assert torch.equal(logits(reloaded(made.network, tmp_path / "again"), images), ours)
    before = old.base_model.embeddings.position_embeddings
    after = made.network.base_model.embeddings.position_embeddings
    first = before.shape[1] - 9
    assert torch.equal(after[:, :first], before[:, :first])
    rows = {row[0]: row for row in made.table["rows"]}
    assert rows["embeddings"][3] == 16 * (size // 4) ** 2
    assert sum(row[1] for row in made.table["rows"]) == sum(value.numel() for value in made.network.parameters())


def test_the_same_size_or_channels_are_the_identity(saved):
    folder = saved("vit")
    made, old = change(folder, {"image_size": 12, "num_channels": 3}), models.load(folder, "image_classification")
    ours, theirs = made.network.state_dict(), old.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert made.reader.to_dict() == models.reader(folder, "image").to_dict()
    assert made.notes[:2] == ["images have 3 channels, as before", "images are of 12 x 12, as before"]


def test_both_together_and_a_size_that_no_weight_knows(saved):
    made = change(saved("vit"), {"image_size": 20, "num_channels": 1})
    assert answers(made.network, made.reader).shape == (3, 2)
    made = change(saved("swin"), {"image_size": 32})
    assert "images are of 32 x 32 instead of 16 x 16: no weight depends on it" in made.notes
    assert answers(made.network, made.reader).shape == (3, 2)


def test_a_reader_that_cuts_the_middle_out_keeps_the_proportion(saved):
    reader = BitImageProcessorPil(size={"shortest_edge": 14}, crop_size={"height": 12, "width": 12})
    made = change(saved("dinov2", reader=reader), {"image_size": 24})
    assert dict(made.reader.crop_size) == {"height": 24, "width": 24}
    assert made.reader.size["shortest_edge"] == 28
    assert answers(made.network, made.reader).shape == (3, 2)


def test_a_backbone_of_fewer_blocks_ends_at_its_last(saved, tmp_path):
    made = change(saved("dinov2"), {"layers": [1]})
    assert made.network.config.out_features == ["stage1"]
    again = reloaded(made.network, tmp_path / "again")
    assert torch.equal(logits(again, pixels(3, 12)), logits(made.network, pixels(3, 12)))


def test_spectrograms_of_another_size(tmp_path):
    torch.manual_seed(0)
    network = ViTForImageClassification(ViTConfig(**SIZES, image_size=16, patch_size=4, num_channels=1, **HEAD))
    network.save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=16, max_length=16, mean=-3.0, std=2.0).save_pretrained(tmp_path)
    made = change(str(tmp_path), {"image_size": 32}, kind="sound")
    heard = made.reader(np.zeros(16000, dtype=np.float32), sampling_rate=16000, return_tensors="np")["input_values"]
    assert heard.shape == (1, 32, 32) and (made.reader.mean, made.reader.std) == (-3.0, 2.0)
    assert logits(made.network, pixels(1, 32)).shape == (3, 2)
    made.reader.save_pretrained(tmp_path / "reader")
    stored = json.loads((tmp_path / "reader" / "preprocessor_config.json").read_text())
    assert (stored["num_mel_bins"], stored["max_length"]) == (32, 32)
    with pytest.raises(HFTransferError, match=r"architecture\.num_channels: .* sounds, which have one channel"):
        change(str(tmp_path), {"num_channels": 3}, kind="sound")


@pytest.mark.parametrize(
    "name, spec, message",
    [
        (
            "vit",
            {"image_size": 14},
            r"architecture\.image_size: patches of 4 do not fill 14 pixels; the nearest size is",
        ),
        ("beit", {"image_size": 20}, r"architecture\.image_size: .*relative_position_bias_table.*another way"),
        ("resnet", {"image_size": 20}, r"architecture\.image_size: ResNetForImageClassification has no image_size"),
        ("vit", {"tokenizer": "x"}, r"architecture\.tokenizer: the model reads images"),
        ("vit", {"is_decoder": True}, r"architecture\.is_decoder: ViTForImageClassification reads images"),
        ("vit", {"num_channels": 0}, r"architecture\.num_channels: expected whole number >= 1"),
    ],
)
def test_what_images_cannot_have(saved, name, spec, message):
    with pytest.raises(HFTransferError, match=message):
        change(saved(name), spec)


def test_windows_that_do_not_fit_a_size(saved):
    with pytest.raises(HFTransferError, match=r"architecture\.image_size: SwinForImageClassification takes no images"):
        change(saved("swin", window_size=4), {"image_size": 8})


def test_texts_have_no_images(tiny_bert):
    for spec, message in (({"num_channels": 1}, "reads no images"), ({"image_size": 8}, "has no image_size")):
        with pytest.raises(HFTransferError, match=message):
            architecture.changed(str(tiny_bert), "text_classification", HEAD, spec, kind="text")
