"""wav2vec 2.0: the network's own loss as sums over rows, keyed masks and negatives, the temperature of the codes."""

import io
import logging

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Audio, Dataset, Features
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, Wav2Vec2Config, Wav2Vec2ForPreTraining

from hftransfer.errors import HFTransferError
from hftransfer.objectives import wav2vec2
from hftransfer.objectives.wav2vec2 import Wav2Vec2, num_frames, samples_for

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

RATE = 16000
SETTINGS = dict(Wav2Vec2.settings)


@pytest.fixture(scope="module")
def content():
    """Noisy gliding tones of 0.3 to 1 second."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(8):
        time = np.arange(int(rng.uniform(0.3, 1.0) * RATE)) / RATE
        wave = 0.3 * np.sin(2 * np.pi * (rng.uniform(200, 900) + rng.uniform(-500, 2000) * time) * time)
        file = io.BytesIO()
        soundfile.write(file, wave + 0.02 * rng.normal(size=len(time)), RATE, format="WAV")
        files.append({"bytes": file.getvalue(), "path": f"{number}.wav"})
    return Dataset(pa.table({"audio": files}, schema=Features({"audio": Audio(decode=False)}).arrow_schema))


def config(**changes):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    layers = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    codes = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 6, "num_negatives": 5}
    norm = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
    none = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"), 0.0)
    rest = {"feat_proj_dropout": 0.0, "feat_quantizer_dropout": 0.0, "vocab_size": 4}
    return Wav2Vec2Config(**{**sizes, **layers, **codes, **norm, **none, **rest, **changes})


@pytest.fixture
def objective(content):
    torch.manual_seed(0)
    network = Wav2Vec2ForPreTraining(config())
    return Wav2Vec2(network, Wav2Vec2.new_reader(network.config, content), SETTINGS, seed=1)


def own_loss(network, batch):
    """The stock loss, a sum, on the same masks and negatives."""
    hidden = batch["mask_time_indices"]
    others = torch.zeros(*hidden.shape, batch["others"].shape[1], dtype=torch.long)
    others[hidden] = batch["others"]
    inputs = {"input_values": batch["input_values"], "attention_mask": batch["attention_mask"]}
    return network(**inputs, mask_time_indices=hidden, sampled_negative_indices=others).loss


@pytest.mark.parametrize("training", [False, True])
def test_the_rows_sum_to_the_network_s_own_loss(objective, content, training):
    rows = objective.rows(content, key="data")
    batch = objective.collator(fixed=not training)(list(rows))
    network = objective.network.train(training)
    torch.manual_seed(0)  # of the Gumbel noise
    found = objective.losses(network, batch)
    torch.manual_seed(0)
    torch.testing.assert_close(found.sums.sum(), own_loss(network, batch))
    assert found.counts.sum() == objective.count(batch) == batch["mask_time_indices"].sum()


def test_a_row_costs_the_same_in_any_company_but_for_the_codes_of_the_batch(objective, content):
    objective.network.eval().config.diversity_loss_weight = 0.0
    rows = objective.rows(content, key="data")
    collator = objective.collator(fixed=True)
    together = objective.losses(objective.network, collator(list(rows)))
    for place in (0, 5):
        alone = objective.losses(objective.network, collator([rows[place]]))
        torch.testing.assert_close(alone.sums[0], together.sums[place], rtol=1e-4, atol=1e-4)
        assert alone.counts[0] == together.counts[place]


def test_masks_and_negatives_depend_on_seed_epoch_and_row_only(objective, content):
    rows = objective.rows(content, key="data")
    collator = objective.collator(fixed=False)
    together, alone = collator(list(rows)), collator([rows.select([6, 3])[1]])
    frames, width = alone["mask_time_indices"].shape[1], together["mask_time_indices"].shape[1]
    assert (together["mask_time_indices"][3, :frames] == alone["mask_time_indices"][0]).all()
    assert not together["mask_time_indices"][3, frames:].any()
    before = int(together["mask_time_indices"][:3].sum())
    own = together["others"][before : before + len(alone["others"])]
    assert (own - 3 * width == alone["others"]).all()
    collator.set_epoch(1)
    assert not torch.equal(collator([rows[3]])["others"], alone["others"])
    fixed = objective.collator(fixed=True)
    first = fixed([rows[3]])
    fixed.set_epoch(1)
    assert all(torch.equal(value, first[name]) for name, value in fixed([rows[3]]).items())


def test_long_sounds_are_cut(objective, content, monkeypatch):
    monkeypatch.setattr(wav2vec2, "LONGEST", 4000)
    rows = objective.rows(content, key="data")
    assert set(objective.lengths(rows)) == {4000}
    assert objective.collator(fixed=False)(list(rows))["input_values"].shape == (len(rows), 4000)


def test_the_temperature_follows_the_share_of_the_training(objective, content):
    rows = objective.rows(content, key="data")
    assert objective.scheduled
    for progress, expected in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):
        batch = objective.collator(fixed=False)([objective.at(row, progress) for row in rows])
        objective.losses(objective.network, batch)
        assert objective.network.quantizer.temperature == pytest.approx(expected)


def test_frames_and_samples_agree_with_the_network(objective):
    needed = samples_for(objective.network.config)
    for samples in (needed - 1, needed, 12345):
        expected = int(objective.network._get_feat_extract_output_lengths(samples))
        assert num_frames(objective.network.config, samples) == expected
    assert [num_frames(objective.network.config, needed - less) for less in (0, 1)] == [4, 3]


def test_every_weight_learns_and_the_loss_falls(objective, content):
    rows = list(objective.rows(content, key="data"))
    network, batch = objective.network.train(), objective.collator(fixed=True)(rows)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        found = objective.losses(network, batch)
        losses.append(float(found.sums.detach().sum() / found.counts.sum()))
        optimizer.zero_grad()
        (found.sums.sum() / found.counts.sum()).backward()
        optimizer.step()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert [name for name, value in network.named_parameters() if torch.equal(value, before[name])] == []


def test_what_is_left_classifies_with_a_new_head_only_and_goes_on(objective, content, tmp_path):
    objective.save(tmp_path)
    _, report = AutoModelForAudioClassification.from_pretrained(tmp_path, num_labels=10, output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"projector", "classifier"}
    reader = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert reader.to_dict() == objective.reader.to_dict()
    again = Wav2Vec2(Wav2Vec2ForPreTraining.from_pretrained(tmp_path), reader, SETTINGS, seed=1)
    batch = again.collator(fixed=True)(list(again.rows(content, key="data")))
    losses = [one.losses(one.network.eval(), batch).sums for one in (objective, again)]
    torch.testing.assert_close(*losses)


def test_collapsed_codes_are_an_alarm(objective, content, caplog):
    rows = objective.rows(content, key="data")
    before = objective.show(rows)
    with torch.no_grad():
        objective.network.quantizer.weight_proj.bias[::6] += 1e4  # one code of each group, whatever is heard
    after = objective.show(rows)
    assert after["codes"] == pytest.approx(2.0)
    with caplog.at_level(logging.WARNING, "hftransfer"):
        table = objective.picture(before, after)["samples"]
    assert "code perplexity 2.0 of 12" in caplog.text
    assert len(table["rows"]) == 2 and all(len(row) == len(table["columns"]) for row in table["rows"])
    assert len(objective.picture(None, before)["samples"]["columns"]) == 2


def test_what_cannot_work_is_said_in_one_line():
    from transformers import ASTFeatureExtractor

    wrong = [
        (config(apply_spec_augment=False), None, SETTINGS, "apply_spec_augment"),
        (config(mask_feature_prob=0.1), None, SETTINGS, "mask_feature_prob"),
        (config(), None, {"mask_rate": 1.5}, "mask_rate: expected"),
        (config(), ASTFeatureExtractor(num_mel_bins=32), SETTINGS, "reads waveforms"),
    ]
    for changed, reader, settings, message in wrong:
        with pytest.raises(HFTransferError, match=message) as caught:
            Wav2Vec2.check(changed, reader, settings)
        assert "\n" not in str(caught.value)
