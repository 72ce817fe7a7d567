"""`adapt` on tiny models: every method trains what it must, and target labels touch nothing but the evaluation."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import ClassLabel
from datasets import Dataset as Rows
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2Model, pipeline

import hftransfer
import hftransfer.stages.adapt as stage
from hftransfer import inference, models
from hftransfer.errors import HFTransferError
from hftransfer.functional import ADAPTATION
from hftransfer.trainers.adaptation import AdaptationModel, Pairs, PairSampler
from hftransfer.trainers.exact import EpochSampler

QUICK = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "bf16": False}


def adapt(tiny_bert, reviews, tmp_path, name="adapted", **options):
    given = {"training": QUICK, "max_length": 16, "seed": 3, "output_dir": str(tmp_path / name)}
    return hftransfer.adapt(str(tiny_bert), reviews("source"), reviews("target", 60), **{**given, **options})


@pytest.mark.parametrize("method", ADAPTATION)
def test_every_method_leaves_a_plain_classifier_and_a_comparison(tiny_bert, reviews, tmp_path, method):
    result = adapt(tiny_bert, reviews, tmp_path, method=method)
    model = AutoModelForSequenceClassification.from_pretrained(result.path)
    assert model.config.id2label == {0: "calm", 1: "loud"}
    names = ("transductive.accuracy", "inductive.accuracy", "target.accuracy")
    assert all(f"{name}.{which}" in result.metrics for name in names for which in ("source_only", "adapted"))
    evidence = result.evidence
    assert evidence["verdict"]["outcome"] in ("helped", "hurt", "no measurable difference")
    assert [line["rows"] for line in evidence["comparison"]] == [60, 60, 48, 48, 12, 12]
    assert evidence["citations"] == ([ADAPTATION[method].paper] if ADAPTATION[method].paper else [])
    moved = load_file(result.path / "model.safetensors")
    start = models.load(str(tiny_bert), "text_classification", num_labels=2).state_dict()
    still = [name for name, value in moved.items() if name.startswith("bert") and torch.equal(value, start[name])]
    assert still in ([], ["bert.embeddings.position_ids"])


def test_the_saved_classifier_predicts_what_was_measured(tiny_bert, reviews, tmp_path):
    result = adapt(tiny_bert, reviews, tmp_path)
    target = list(csv.DictReader(Path(reviews("target", 60)).read_text().splitlines()))
    classify = pipeline("text-classification", str(result.path))
    found = [answer["label"] for answer in classify([row["text"] for row in target])]
    accuracy = np.mean([label == row["label"] for label, row in zip(found, target, strict=True)])
    assert accuracy == pytest.approx(result.metrics["target.accuracy.adapted"])


def test_changing_target_labels_changes_nothing_but_the_evaluation(tiny_bert, reviews, tmp_path):
    plain = adapt(tiny_bert, reviews, tmp_path, name="plain", prior_correction="em")
    path = Path(reviews("target", 60))
    rows = list(csv.reader(path.read_text().splitlines()))
    other = {"calm": "loud", "loud": "calm"}
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *([text, other[label]] for text, label in rows[1:])])
    shuffled = hftransfer.adapt(
        str(tiny_bert),
        reviews("source"),
        str(path),
        training=QUICK,
        max_length=16,
        seed=3,
        prior_correction="em",
        output_dir=str(tmp_path / "shuffled"),
    )
    assert (plain.path / "model.safetensors").read_bytes() == (shuffled.path / "model.safetensors").read_bytes()
    assert plain.evidence["embedding"]["after"]["target"] == shuffled.evidence["embedding"]["after"]["target"]
    accuracy = [found.metrics["target.accuracy.adapted"] for found in (plain, shuffled)]
    assert accuracy[0] == pytest.approx(1 - accuracy[1])


def test_a_target_without_labels_is_adapted_to_and_not_judged(tiny_bert, reviews, tmp_path):
    path = tmp_path / "unlabelled.csv"
    path.write_text("text\n" + "\n".join(f"garden tree quite quiet {i}" for i in range(40)) + "\n")
    result = hftransfer.adapt(
        str(tiny_bert), reviews("source"), str(path), training=QUICK, max_length=16, output_dir=str(tmp_path / "out")
    )
    assert "verdict" not in result.evidence and "comparison" not in result.evidence
    assert any("not measured" in note for note in result.evidence["notes"])
    assert "source.accuracy.adapted" in result.metrics


def test_a_ready_classifier_is_its_own_baseline(tiny_bert, reviews, tmp_path):
    plain = hftransfer.finetune(
        str(tiny_bert), reviews("source"), training=QUICK, max_length=16, seed=3, output_dir=str(tmp_path / "plain")
    )
    still = {**QUICK, "learning_rate": 0.0}
    result = adapt(tiny_bert, reviews, tmp_path, training=still, baseline=str(plain.path))
    warm = hftransfer.adapt(
        str(plain.path),
        reviews("source"),
        reviews("target", 60),
        training=still,
        max_length=16,
        seed=3,
        output_dir=str(tmp_path / "warm"),
    )
    assert result.metrics["target.accuracy.source_only"] == warm.metrics["target.accuracy.source_only"]
    assert warm.metrics["target.agreement"] == 1.0  # a step size of zero leaves the source-only model as it was


@pytest.mark.parametrize("how", ["bbse", "em"])
def test_prior_correction_starts_from_what_the_training_assumed(how, monkeypatch):
    """Exact posteriors of a classifier trained on even classes: the target's own shares are found and used."""
    rng = np.random.default_rng(0)
    shares = {"source": 0.1, "source test": 0.1, "target": 0.3}  # of class 1; classes are normal, 2 apart

    def drawn(share, rows=20_000):
        labels = (rng.random(rows) < share).astype(int)
        return labels, labels * 2.0 + rng.normal(size=rows)

    domains = {name: drawn(share) for name, share in shares.items()}
    rows = {name: Rows.from_dict({"label": labels, "x": x}) for name, (labels, x) in domains.items()}
    rows = {name: part.cast_column("label", ClassLabel(names=["a", "b"])) for name, part in rows.items()}
    network = torch.nn.Linear(1, 2)
    with torch.no_grad():  # log odds 2x - 2 under even shares
        network.weight.copy_(torch.tensor([[0.0], [2.0]]))
        network.bias.copy_(torch.tensor([0.0, -2.0]))
    network.config = SimpleNamespace(num_labels=2)

    def predict(network, tokenizer, part):
        x = torch.tensor(part["x"][:], dtype=torch.float32)[:, None]
        return inference.Predictions(network(x).detach().numpy(), x.numpy())

    monkeypatch.setattr(inference, "predict", predict)

    def accuracy():
        return (predict(network, None, rows["target"]).classes == domains["target"][0]).mean()

    before = accuracy()
    stage._correct_prior(network, {"prior_correction": how, "balanced": True}, rows, None)
    shift = (network.bias[1] - network.bias[0] + 2).item()
    assert shift == pytest.approx(np.log(0.3 / 0.7), abs=0.1)
    assert accuracy() > before + 0.005


def test_a_head_without_bias_cannot_hold_a_prior(tiny_bert, tmp_path, word_tokenizer, reviews):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(word_tokenizer), n_embd=16, n_layer=1, n_head=2, n_positions=64, pad_token_id=0)
    GPT2Model(config).save_pretrained(tmp_path / "gpt")
    word_tokenizer.save_pretrained(tmp_path / "gpt")
    given = stage.validate(
        hftransfer.adapt,
        {"model": str(tmp_path / "gpt"), "source": reviews("source"), "target": reviews("target")}
        | {"prior_correction": "em"},
    )
    with pytest.raises(HFTransferError, match="prior_correction: the head of GPT2ForSequenceClassification has no"):
        stage.plan(**given)
    assert models.head_has_bias(str(tiny_bert))


def test_the_baseline_trained_here_sees_classes_as_often(tiny_bert, reviews, tmp_path, monkeypatch):
    seen = {}
    build = EpochSampler.__init__

    def spy(self, *given, **named):
        seen[named["weights"] is not None] = True
        build(self, *given, **named)

    monkeypatch.setattr(EpochSampler, "__init__", spy)
    adapt(tiny_bert, reviews, tmp_path)
    assert seen == {True: True}
    seen.clear()
    adapt(tiny_bert, reviews, tmp_path, name="plain", balanced=False)
    assert seen == {False: True}


def test_a_model_object_is_left_alone(tiny_bert, reviews, tmp_path, word_tokenizer):
    given = models.load(str(tiny_bert), "encoder")
    before = {name: value.clone() for name, value in given.state_dict().items()}
    hftransfer.finetune(given, reviews("source"), training=QUICK, max_length=16, output_dir=str(tmp_path / "out"))
    assert all(torch.equal(value, before[name]) for name, value in given.state_dict().items())


def test_the_discriminator_and_the_shared_encoder_are_saved_once(tiny_bert):
    network = models.load(str(tiny_bert), "text_classification", num_labels=2)
    masked = models.masked_lm_on(network, str(tiny_bert))
    model = AdaptationModel(network, method="cdan", masked_lm=masked, masked_lm_weight=1.0)
    names = set(model.state_dict())
    assert any(name.startswith("discriminator") for name in names)
    assert not any(name.startswith("masked_lm.bert") for name in names)
    assert masked.get_output_embeddings().weight is network.get_input_embeddings().weight


def test_balanced_pairs_draw_classes_evenly_and_depend_on_seed_and_epoch_only():
    source = {"label": [0] * 90 + [1] * 10}
    labels = np.array(source["label"])
    weights = np.where(labels == 1, 0.05, 0.5 / 90)
    pairs = Pairs(list(range(100)), list(range(30)))
    sampler = PairSampler(pairs, seed=1, weights=lambda: (weights, None))
    drawn = np.array(list(sampler))
    assert 0.3 < labels[drawn[:, 0]].mean() < 0.7
    assert np.bincount(drawn[:, 1], minlength=30).min() >= 3  # every target row comes in each pass
    assert np.array_equal(drawn, list(sampler))
    sampler.set_epoch(1)
    assert not np.array_equal(drawn, list(sampler))


def test_evidence_is_plain_json(tiny_bert, reviews, tmp_path):
    result = adapt(tiny_bert, reviews, tmp_path)
    text = (result.path / "evidence.json").read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
