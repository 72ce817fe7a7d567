"""Every objective, stopped and started again, ends with the weights of a run that never stopped."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import Trainer, TrainerCallback, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

import hftransfer

VIT = {
    "image_size": 16, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip
MAE = {
    **VIT, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}  # fmt: skip
GPT2 = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 32, "vocab_size": 300}
LSTM = {"hidden_size": 16, "num_hidden_layers": 1, "vocab_size": 300}
PIXELS = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64, "vocab_size": 9}
CASES = {
    "gpt2": ("causal_lm", "scratch/gpt2", "text", {"config": GPT2, "max_length": 32}),
    "gpt2 growing": ("causal_lm", "scratch/gpt2", "text", {"config": GPT2, "max_length": [8, 32]}),
    "lstm": ("causal_lm", "scratch/lstm", "text", {"config": LSTM, "max_length": 32, "pack": False}),
    "mae": ("mae", "scratch/vit_mae", "image", {"config": MAE}),
    "mae scheduled": ("mae", "scratch/vit_mae", "image", {"config": MAE, "mask_rate": [0.5, 0.8]}),
    "simmim": ("simmim", "scratch/vit", "image", {"config": {**VIT, "encoder_stride": 4}}),
    "next_pixel": ("next_pixel", "scratch/imagegpt", "image", {"config": PIXELS}),
    "audio_mae": ("audio_mae", "scratch/vit_mae", "sound", {"config": {**MAE, "image_size": 32}}),
    "wav2vec2": ("wav2vec2", "", "sound", {}),
}


class Stopped(Exception):
    """Stands for a kill between two steps."""


class StopAt(TrainerCallback):
    """Raises at the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Stopped


@pytest.fixture
def tiny_wav2vec2(tmp_path):
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(16, 16, 16),
        conv_stride=(5, 4, 4), conv_kernel=(10, 8, 4), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        codevector_dim=16, proj_codevector_dim=16, num_codevectors_per_group=4, mask_time_length=2, num_negatives=4,
    )  # fmt: skip
    Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path / "wav2vec2")
    Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(tmp_path / "wav2vec2")
    return str(tmp_path / "wav2vec2")


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_pretraining_ends_with_the_same_bits(
    name, reviews, pictures, tones, tiny_wav2vec2, tmp_path, monkeypatch
):
    objective, model, kind, options = CASES[name]
    data = {"text": reviews("source", 60), "image": pictures, "sound": tones}[kind]
    training = {
        "max_steps": 9, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps",
        "save_steps": 2, "bf16": False,
    }  # fmt: skip
    given = {"objective": objective, "training": training, "seed": 3, **options}

    def run(folder):
        return hftransfer.pretrain(model or tiny_wav2vec2, data, output_dir=str(tmp_path / folder), **given)

    whole, train = run("whole"), Trainer.train
    for step in (3, 6):

        def interrupted(self, *arguments, step=step, **keywords):
            self.add_callback(StopAt(step))
            return train(self, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train", interrupted)
            with pytest.raises(Stopped):
                run("parts")
    parts = run("parts")
    one, two = (load_file(result.path / "model.safetensors") for result in (whole, parts))
    differing = [key for key in one if not torch.equal(one[key], two[key])]
    assert one and differing == []
    assert parts.metrics == whole.metrics


def test_the_held_out_loss_is_the_same_in_batches_of_any_make_up(pictures, tmp_path):
    """What is hidden in a row, and so its cost, is keyed on the row."""
    from hftransfer import data, inference, models
    from hftransfer.objectives import find

    run = hftransfer.pretrain(
        "scratch/vit_mae", pictures, objective="mae", config=MAE, training={"max_steps": 1, "bf16": False},
        output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    network = models.load(str(run.path), "mae")
    objective = find("mae")(network, models.reader(str(run.path), "image"), find("mae").settings, seed=1)
    rows = objective.rows(data.unlabelled(pictures, key="data", seed=0, kind="image")["train"], key="data")
    whole = inference.costs(objective, rows)
    some = inference.costs(objective, rows.select([7, 3, 5]))
    np.testing.assert_allclose(some, whole[[7, 3, 5]], rtol=1e-5)
    assert isinstance(rows.files, Dataset)
