"""Dry runs of recipes that begin with a new network, or go on with a checkpoint instead; and what `final/` holds."""

import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import (
    ImageGPTConfig,
    ImageGPTForCausalImageModeling,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForPreTraining,
)

import hftransfer
from hftransfer import chain, models, recipe, scratch
from hftransfer.data import palette

RECIPES = Path(__file__).parent.parent / "recipes"
VIT = {
    "image_size": 16, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
}  # fmt: skip
QUICK = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def dry_run(name, *words):
    recipe.main([name, "--dry_run", *map(str, words)])


def refused(capsys, name, *words):
    with pytest.raises(SystemExit):
        dry_run(name, *words)
    return capsys.readouterr().err


def vit_mae():
    config = ViTMAEConfig(**VIT)
    return ViTMAEForPreTraining(config), scratch.image_processor(config)


def imagegpt():
    config = ImageGPTConfig(n_layer=1, n_embd=16, n_head=2, n_positions=64, vocab_size=17)
    return ImageGPTForCausalImageModeling(config), palette.processor(8, palette.scaled(torch.rand(16, 3).numpy()))


def wav2vec2():
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, codevector_dim=8, proj_codevector_dim=8,
        num_codevectors_per_group=4,
    )  # fmt: skip
    return Wav2Vec2ForPreTraining(config), Wav2Vec2FeatureExtractor()


def own_line(name):
    """The words that a recipe's header gives for going on from a checkpoint."""
    text = (RECIPES / f"{name}.yaml").read_text()
    (lines,) = re.findall(r"^# From a .*checkpoint.*:\n((?:#   --.*\n)+)", text, flags=re.MULTILINE)
    return shlex.split(lines.replace("#", ""))


@pytest.mark.parametrize(
    "name, make, data",
    [
        ("vit_mae_pretrain", vit_mae, "pictures"),
        ("image_next_pixel", imagegpt, "pictures"),
        ("audio_fill_in_the_blank", wav2vec2, "tones"),
    ],
)
def test_the_line_in_a_media_recipe_continues_a_checkpoint(name, make, data, request, tmp_path, capsys):
    network, reader = make()
    models.save(network, tmp_path / "checkpoint", reader)
    folder = request.getfixturevalue(data)
    words = [*own_line(name), "--unlabelled", folder, "--labelled", folder]
    words[words.index("--model") + 1] = str(tmp_path / "checkpoint")
    dry_run(name, *words)
    assert type(network).__name__ in capsys.readouterr().out
    found = chain.resolve(chain.load(chain.find(name)), recipe.parse(words)[2]).steps[0].given
    assert found["config"] == {} and found["training"]["learning_rate"] <= 1.5e-4


@pytest.mark.parametrize("nothing", ["{}", "null"])
def test_nothing_in_the_place_of_a_mapping_takes_it_away(nothing):
    def given(*words):
        found = chain.resolve(chain.load(chain.find("vit_mae_pretrain")), recipe.parse(words)[2])
        return found.steps[0].given

    assert given("--pretrain.config", nothing)["config"] == {}
    assert given("--pretrain.config.num_channels", "3", "--pretrain.config", nothing)["config"] == {"num_channels": 3}
    assert given("--pretrain", f"{{config: {nothing}}}")["config"] == {}
    assert given("--pretrain.config", "{num_channels: 3}")["config"]["image_size"] == 32  # a part joins the others
    assert given("--pretrain.training", nothing)["training"]["learning_rate"] == 1.5e-4  # the objective's own
    assert given("--pretrain.lora", "null")["lora"] is None


def test_a_later_stage_of_a_new_network_is_planned(capsys):
    dry_run("gpt_continue_pretrain")
    page = " ".join(capsys.readouterr().out.split())
    assert page.count("GPT2LMHeadModel") == 2 and page.count("documents") == 2
    told = refused(capsys, "gpt_continue_pretrain", "--domain.max_length", "256")
    assert told.startswith("error: domain.max_length: 256 tokens are more than the 128 positions")
    longer = ["--general.config.n_positions", "256", "--domain.max_length", "256"]
    dry_run("gpt_continue_pretrain", *longer)
    assert "domain.objective" in refused(capsys, "gpt_continue_pretrain", "--domain.objective", "masked_lmm")
    assert "model" in refused(capsys, "gpt_continue_pretrain", "--domain.objective", "masked_lm")


def test_the_data_of_a_later_stage_is_checked_for_what_the_network_will_read(tmp_path, pictures, tones, capsys):
    small = [f"--pretrain.config.{key}={value}" for key, value in VIT.items()]
    assert "labelled: " in refused(capsys, "vit_mae_pretrain", *small, "--labelled", tmp_path / "nonsense.csv")
    (tmp_path / "texts.csv").write_text("text,label\n" + "a,b\nc,d\n" * 20)
    dry_run("vit_mae_pretrain", *small, "--unlabelled", pictures, "--labelled", pictures)
    assert "ViTForImageClassification" in capsys.readouterr().out
    dry_run("audio_fill_in_the_blank", *small, "--unlabelled", tones, "--labelled", tones)
    assert "ViTForImageClassification" in capsys.readouterr().out
    image = ["vit_mae_pretrain", *small, "--unlabelled", pictures]
    sound = ["audio_fill_in_the_blank", *small, "--unlabelled", tones]
    for words in (
        [*image, "--labelled", tmp_path / "texts.csv"],
        [*image, "--labelled", tones],
        [*sound, "--labelled", pictures],
    ):
        assert "labelled: " in refused(capsys, *words)


def test_other_new_networks_are_planned_too(pictures, capsys):
    config = "{n_positions: 64, vocab_size: 17, n_embd: 16, n_layer: 1, n_head: 2}"
    dry_run("image_next_pixel", "--pretrain.config", config, "--unlabelled", pictures, "--labelled", pictures)
    assert "ImageGPTForImageClassification" in capsys.readouterr().out
    told = refused(capsys, "lstm_order_prediction", "--pretrain.config.vocab_size", "10")
    assert told.startswith("error: pretrain.config.vocab_size: 10 tokens do not hold")


def test_what_is_planned_leaves_nothing_behind(pictures, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    dry_run("vit_mae_pretrain", "--unlabelled", pictures, "--labelled", pictures)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_final_goes_on_with_its_decoder(pictures, tmp_path):
    stage = {"objective": "mae", "config": VIT, "augment": False, "training": QUICK}
    raw = {"model": "scratch/vit_mae", "unlabelled": pictures}
    raw["stages"] = [{"pretrain": {"data": "$unlabelled", **stage}}]
    first = hftransfer.run(raw, output_dir=tmp_path / "out")
    made = {path.relative_to(first.path).as_posix() for path in first.path.rglob("*") if path.is_file()}
    whole = {f"pretraining/{name}" for name in ("config.json", "model.safetensors", "preprocessor_config.json")}
    assert whole <= made and {path for path in made if path.startswith("pretraining/")} == whole
    again = hftransfer.pretrain(
        str(first.path), pictures, objective="mae", augment=False, training=QUICK, output_dir=str(tmp_path / "again")
    )
    assert "new head" not in str([curve["name"] for curve in again.evidence["curves"]])
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["pretrain"]["loss.after"], rel=1e-4)
