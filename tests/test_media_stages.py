"""`pretrain` and `compare` on images and sounds, from files in folders, as the front door runs them."""

import numpy as np
import pytest
from PIL import Image
from transformers import AutoModel, AutoModelForImageClassification, ViTMAEForPreTraining

import hftransfer

VIT = {
    "image_size": 16, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
}  # fmt: skip
GPT = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64, "vocab_size": 17}
QUICK = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def run(objective, model, config, data, folder, **options):
    common = {"training": QUICK, "head_steps": 2, "seed": 1, "output_dir": str(folder)}
    return hftransfer.pretrain(model, data, objective=objective, config=config, **common, **options)


def compared(model, data, folder):
    few = {"labels_per_class": [2], "seeds": 1, "training": QUICK, "seed": 1}
    few |= {"methods": ["probe", "full"], "against": "scratch"}
    return hftransfer.compare(str(model), data, output_dir=str(folder), **few)


def complete(result):
    """What every objective leaves."""
    assert result.metrics["loss.before"] > 0 and result.metrics["loss.after"] > 0
    assert result.evidence["verdict"]["text"].startswith("Pretraining ")
    for picture in result.evidence["pictures"]:
        assert picture["caption"]
        with Image.open(result.path / picture["file"]) as drawn:
            assert drawn.size[0] > 16


@pytest.mark.parametrize(
    "objective, model, config",
    [
        ("mae", "scratch/vit_mae", VIT),
        ("simmim", "scratch/vit_mae", VIT),  # the recipe for mae, with another objective
    ],
)
def test_images_are_painted_in_and_the_encoder_goes_on(objective, model, config, pictures, tmp_path):
    first = run(objective, model, config, pictures, tmp_path / "first", augment="crop")
    complete(first)
    encoder = AutoModel.from_pretrained(first.path)
    assert type(encoder).__name__ == "ViTModel"
    AutoModelForImageClassification.from_pretrained(first.path, num_labels=2)
    again = run(objective, str(first.path), {}, pictures, tmp_path / "again", augment=False)
    assert "new head" not in str([curve["name"] for curve in again.evidence["curves"]])
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["loss.after"], rel=1e-4)
    judged = compared(first.path, pictures, tmp_path / "judged")
    assert set(judged.metrics) >= {"accuracy.probe.2.pretrained", "accuracy.full.2.scratch"}


def test_a_plain_vit_goes_on_with_a_decoder_of_the_size_asked_for(pictures, tmp_path):
    sizes = {key: value for key, value in VIT.items() if "decoder" not in key} | {"encoder_stride": 4}
    plain = run("simmim", "scratch/vit", sizes, pictures, tmp_path / "plain", augment=False)
    decoder = {key: value for key, value in VIT.items() if "decoder" in key} | {"norm_pix_loss": True}
    whole = run("mae", str(plain.path), decoder, pictures, tmp_path / "whole", augment=False)
    assert "new head, encoder frozen" in [curve["name"] for curve in whole.evidence["curves"]]
    config = ViTMAEForPreTraining.from_pretrained(whole.path / "pretraining").config
    assert config.decoder_hidden_size == 16 and config.norm_pix_loss and config.hidden_size == 16


def test_the_next_pixel_is_told_and_the_network_classifies(pictures, tmp_path):
    first = run("next_pixel", "scratch/imagegpt", GPT, pictures, tmp_path / "first")
    complete(first)
    assert first.metrics["bits_per_pixel.after"] == pytest.approx(first.metrics["loss.after"] / np.log(2))
    again = run("next_pixel", str(first.path), {}, pictures, tmp_path / "again")
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["loss.after"], rel=1e-4)
    judged = compared(first.path, pictures, tmp_path / "judged")
    assert 0 <= judged.metrics["accuracy.full.2.pretrained"] <= 1


def test_spectrograms_are_painted_in_and_the_encoder_is_judged_on_sounds(tones, tmp_path):
    first = run("audio_mae", "scratch/vit_mae", {**VIT, "image_size": 32}, tones, tmp_path / "first")
    complete(first)
    assert AutoModel.from_pretrained(first.path).config.num_channels == 1
    again = run("audio_mae", str(first.path), {}, tones, tmp_path / "again")
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["loss.after"], rel=1e-4)
    judged = compared(first.path, tones, tmp_path / "judged")
    assert judged.metrics["test_rows"] == 4
