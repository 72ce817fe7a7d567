"""Masked autoencoding of spectrograms: MAE's own loss, keyed masks, and an encoder that plain transformers loads."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Audio, Dataset, Features
from transformers import (
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForImageClassification,
    ViTMAEConfig,
    ViTMAEForPreTraining,
)

from hftransfer.errors import HFTransferError
from hftransfer.objectives.audio_mae import AudioMAE

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE, SIZE = 16000, 32
SETTINGS = dict(AudioMAE.settings)


@pytest.fixture(scope="module")
def content():
    """Gliding tones of 0.2 to 0.6 seconds."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(24):
        time = np.arange(int(rng.uniform(0.2, 0.6) * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (rng.uniform(200, 900) + rng.uniform(-500, 2000) * time) * time)
        file = io.BytesIO()
        soundfile.write(file, wave + 0.01 * rng.normal(size=len(time)), RATE, format="WAV")
        files.append({"bytes": file.getvalue(), "path": f"{number}.wav"})
    return Dataset(pa.table({"audio": files}, schema=Features({"audio": Audio(decode=False)}).arrow_schema))


def config(**changes):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {f"decoder_{name}": value for name, value in sizes.items()}
    one = {"image_size": SIZE, "patch_size": 8, "num_channels": 1, "norm_pix_loss": True}
    return ViTMAEConfig(**{**sizes, **decoder, **one, **changes})


def begun(content, **changes):
    torch.manual_seed(0)
    network = ViTMAEForPreTraining(config(**changes))
    AudioMAE.mend(network, [name for name, _ in network.named_parameters()])
    return AudioMAE(network, AudioMAE.new_reader(network.config, content), SETTINGS, seed=1)


@pytest.fixture
def objective(content):
    return begun(content)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_loss_is_the_network_s_own_on_the_same_masks(content, norm_pix_loss):
    objective = begun(content, norm_pix_loss=norm_pix_loss)
    rows = objective.rows(content, key="data")
    batch = objective.collator(fixed=True)([rows[i] for i in range(5)])
    found = objective.losses(objective.network, batch)
    own = objective.network(pixel_values=batch["pixel_values"], noise=batch["hidden"].float())
    assert (own.mask.bool() == batch["hidden"]).all()
    torch.testing.assert_close(found.sums.sum() / found.counts.sum(), own.loss)
    assert found.counts.tolist() == [13] * 5 and objective.count(batch) == 65  # 16 patches, 3 stay


def test_cuts_and_masks_depend_on_seed_epoch_and_row_only(objective, content):
    rows = objective.rows(content, key="data")
    collator = objective.collator(fixed=False)
    together = collator([rows[i] for i in range(6)])
    alone = [collator([rows[i]]) for i in (5, 2)]
    for place, batch in zip((5, 2), alone, strict=True):
        assert (together["hidden"][place] == batch["hidden"][0]).all()
        assert (together["pixel_values"][place] == batch["pixel_values"][0]).all()
    picked = collator([rows.select([4, 2])[1]])
    assert (picked["pixel_values"] == alone[1]["pixel_values"]).all()
    collator.set_epoch(1)
    assert not (collator([rows[5]])["hidden"] == alone[0]["hidden"]).all()
    fixed = objective.collator(fixed=True)
    before = fixed([rows[5]])
    fixed.set_epoch(1)
    assert all((value == before[name]).all() for name, value in fixed([rows[5]]).items())


def test_it_learns(objective, content):
    rows = objective.rows(content, key="data")
    collator, fixed = objective.collator(fixed=False), objective.collator(fixed=True)(list(rows))
    parameters = [value for value in objective.network.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)

    def measured():
        with torch.no_grad():
            found = objective.losses(objective.network, fixed)
        return float(found.sums.sum() / found.counts.sum())

    before = measured()
    for epoch in range(60):
        collator.set_epoch(epoch)
        found = objective.losses(objective.network, collator(list(rows)))
        optimizer.zero_grad()
        (found.sums.sum() / found.counts.sum()).backward()
        optimizer.step()
    assert measured() < 0.9 * before


def test_what_is_left_is_a_plain_encoder_with_its_reader(objective, content, tmp_path):
    objective.save(tmp_path)
    rows = objective.rows(content, key="data")
    batch = objective.collator(fixed=True)([rows[i] for i in range(3)])
    plain = AutoModel.from_pretrained(tmp_path).eval()
    assert type(plain).__name__ == "ViTModel" and plain.config.num_channels == 1
    objective.network.config.mask_ratio = 0.0
    noise = torch.arange(16.0).expand(3, -1)  # nothing hidden, nothing shuffled
    whole = objective.network.eval().vit(pixel_values=batch["pixel_values"], noise=noise).last_hidden_state
    torch.testing.assert_close(plain(pixel_values=batch["pixel_values"]).last_hidden_state, whole)
    _, report = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=10, output_loading_info=True)
    assert sorted(report["missing_keys"]) == ["classifier.bias", "classifier.weight"]
    reader = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert reader.to_dict() == objective.reader.to_dict()
    AudioMAE.check(ViTMAEConfig.from_pretrained(tmp_path / "pretraining"), reader, SETTINGS)
    continued = AudioMAE(ViTMAEForPreTraining.from_pretrained(tmp_path / "pretraining"), reader, SETTINGS, seed=1)
    again = continued.losses(continued.network.eval(), batch)
    torch.testing.assert_close(again.sums, objective.losses(objective.network, batch).sums)


def test_the_picture_shows_spectrograms_before_and_after(objective, content):
    rows = objective.rows(content, key="data")
    shown = objective.show(rows)
    assert shown["original"].shape == (6, SIZE, SIZE, 1)
    for before in (None, shown):
        (picture,) = objective.picture(before, shown)["pictures"]
        assert picture["file"] == "audio_mae.png" and picture["png"].startswith(b"\x89PNG")


def test_what_cannot_work_is_said_in_one_line(content):
    reader = AudioMAE.new_reader(config(), content)
    wrong = [
        (config(num_channels=3), None, "one channel and this network takes 3"),
        (config(image_size=64), reader, "makes spectrograms of 32 x 32 and its network reads 64 x 64"),
        (config(), object(), "not of one checkpoint"),
    ]
    for changed, given, message in wrong:
        with pytest.raises(HFTransferError, match=message) as caught:
            AudioMAE.check(changed, given, SETTINGS)
        assert "\n" not in str(caught.value)
