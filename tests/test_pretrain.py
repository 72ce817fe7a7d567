"""`pretrain`: where it starts, what trains, what it measures, and what it refuses."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

import hftransfer
from hftransfer import models
from hftransfer.errors import HFTransferError
from hftransfer.trainers.pretraining import PretrainingTrainer

QUICK = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-3}


def pretrain(tiny_bert, tmp_path, data, **options):
    given = {"training": QUICK, "head_steps": 3, "max_length": 16, "seed": 3, "output_dir": str(tmp_path / "pre")}
    return hftransfer.pretrain(str(tiny_bert), data, **{**given, **options})


@pytest.mark.parametrize("options", [{}, {"whole_word": True}, {"pack": True, "max_length": 32}])
def test_two_domains_are_read_and_the_loss_compared(tiny_bert, reviews, tmp_path, options):
    result = pretrain(tiny_bert, tmp_path, [reviews("source"), reviews("target")], **options)
    names = [f"{name}.{when}" for name in ("loss", "perplexity", "bits_per_byte") for when in ("before", "after")]
    assert all(result.metrics[name] > 0 for name in names)
    assert result.evidence["verdict"]["outcome"] in ("helped", "hurt", "no measurable difference")
    assert len(result.evidence["data"]) == 2
    curves = ["new head, encoder frozen", "masked-LM loss", "masked-LM loss, watched rows"]
    assert [curve["name"] for curve in result.evidence["curves"]] == curves
    assert (result.path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_checkpoint_with_its_head_gets_no_new_one(tiny_bert, reviews, tmp_path):
    first = pretrain(tiny_bert, tmp_path, reviews("source"))
    again = hftransfer.pretrain(
        str(first.path), reviews("source"), training=QUICK, max_length=16, seed=3, output_dir=str(tmp_path / "again")
    )
    assert "new head, encoder frozen" not in [curve["name"] for curve in again.evidence["curves"]]
    assert again.metrics["loss.before"] == pytest.approx(first.metrics["loss.after"], rel=1e-5)


def test_a_stream_is_read_as_far_as_asked(tiny_bert, reviews, tmp_path):
    stream = {"path": "csv", "data_files": reviews("source"), "streaming": True}
    with pytest.raises(HFTransferError, match="max_train_samples"):
        pretrain(tiny_bert, tmp_path, stream)
    result = pretrain(tiny_bert, tmp_path, stream, max_train_samples=20)
    assert result.evidence["data"][0]["rows"] == 20


def weights_that_moved(before, after):
    """Names of the weights that differ; both are folders with a masked-LM head."""
    one, two = (models.load(str(folder), "masked_lm").state_dict() for folder in (before, after))
    return {name for name, value in one.items() if not torch.equal(value, two[name])}


@pytest.fixture
def fitted(tiny_bert, reviews, tmp_path):
    """A checkpoint that brings its head, so that nothing else is fitted before."""
    result = pretrain(tiny_bert, tmp_path, reviews("source"), output_dir=str(tmp_path / "fitted"))
    return result.path


def test_frozen_blocks_stay_as_they_were(fitted, reviews, tmp_path):
    result = pretrain(fitted, tmp_path, reviews("source"), freeze=1)
    moved = weights_that_moved(fitted, result.path)
    assert moved and all(name.startswith(("bert.encoder.layer.1.", "cls.")) for name in moved)
    alone = pretrain(fitted, tmp_path, reviews("source"), freeze="embeddings", output_dir=str(tmp_path / "alone"))
    moved = weights_that_moved(fitted, alone.path)
    assert any(name.startswith("bert.encoder.layer.0.") for name in moved)
    assert not any(name.startswith("bert.embeddings.") for name in moved)


def test_adapters_are_merged_into_the_weights_they_adapt(fitted, reviews, tmp_path):
    lora = {"r": 2, "target_modules": ["query"], "init_lora_weights": False}
    result = pretrain(fitted, tmp_path, reviews("source"), lora=lora)
    expected = {f"bert.encoder.layer.{i}.attention.self.query.weight" for i in range(2)}
    assert weights_that_moved(fitted, result.path) == expected
    assert result.metrics["trained_weights"] == 2 * (2 * 32 + 32 * 2)
    names = AutoModelForMaskedLM.from_pretrained(result.path).state_dict()
    assert not any("lora" in name for name in names)


def test_lower_layers_move_less_under_layer_decay(fitted, reviews, tmp_path):
    training = {**QUICK, "max_steps": 1, "warmup_steps": 0, "weight_decay": 0.0, "lr_scheduler_type": "constant"}
    result = pretrain(fitted, tmp_path, reviews("source"), layer_decay=0.1, training=training)
    one, two = (models.load(str(folder), "masked_lm").state_dict() for folder in (fitted, result.path))

    def step(name):  # Adam's first step is the learning rate, whatever the gradient
        return float((one[name] - two[name]).abs().max())

    names = [
        "cls.predictions.transform.dense.weight",
        *(f"bert.encoder.layer.{i}.output.dense.weight" for i in (1, 0)),
    ]
    names.append("bert.embeddings.position_embeddings.weight")
    assert [step(name) for name in names] == pytest.approx([1e-3, 1e-4, 1e-5, 1e-6], rel=0.05)


def test_forgetting_is_measured_on_general_data_and_replay_brings_some_of_it(fitted, reviews, tmp_path):
    general = reviews("target", name="general")
    result = pretrain(fitted, tmp_path, reviews("source"), general=general, replay=0.2)
    assert result.metrics["general_loss.before"] > 0 and result.metrics["general_loss.after"] > 0
    lines = {line["name"] for line in result.evidence["comparison"]}
    assert "masked-LM loss on general data" in lines
    assert "on general data the loss" in result.evidence["verdict"]["text"]
    rows = next(int(note.split()[0]) for note in result.evidence["notes"] if "rows to train on" in note)
    assert 76 <= rows <= 84  # 64 own documents are four fifths of the text, general ones are about as long


def test_from_scratch_keeps_the_config_and_tokenizer_and_no_weight(fitted, reviews, tmp_path):
    result = pretrain(fitted, tmp_path, reviews("source"), from_scratch=True, config={"num_hidden_layers": 1})
    network = AutoModelForMaskedLM.from_pretrained(result.path)
    assert network.config.num_hidden_layers == 1 and network.config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(result.path).get_vocab() == AutoTokenizer.from_pretrained(fitted).get_vocab()
    assert "new head, encoder frozen" not in [curve["name"] for curve in result.evidence["curves"]]
    assert result.evidence["notes"][0].startswith("'before' is the untrained network")


def test_a_new_network_learns_its_tokenizer_from_the_corpus(reviews, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    result = pretrain("scratch/bert", tmp_path, reviews("source"), config={**sizes, "vocab_size": 300})
    tokenizer = AutoTokenizer.from_pretrained(result.path)
    text = "the kitchen knife, very quiet: ÄÖÜ 日本"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text  # no byte is unknown
    network = AutoModelForSequenceClassification.from_pretrained(result.path)
    assert network.config.vocab_size == len(tokenizer) <= 300
    assert network.config.pad_token_id == tokenizer.pad_token_id


def test_training_stops_when_the_watched_loss_no_longer_falls(fitted, reviews, tmp_path, monkeypatch):
    losses = iter([3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("hftransfer.stages.pretraining_record.Found.watch", lambda self: next(losses))
    training = {**QUICK, "max_steps": 16}
    result = pretrain(fitted, tmp_path, reviews("source"), early_stopping_patience=2, training=training)
    watched = result.evidence["curves"][-1]["points"]
    assert watched == [[2, 3.0], [4, 2.0], [6, 2.5], [8, 2.5]]


def test_masks_and_lengths_follow_their_schedules(fitted, reviews, tmp_path, monkeypatch):
    seen = []
    count = PretrainingTrainer._get_num_items_in_batch

    def counted(self, batches, device):
        seen.extend((int(b["input_ids"].shape[1]), int((b["labels"] != -100).sum())) for b in batches)
        return count(self, batches, device)

    monkeypatch.setattr(PretrainingTrainer, "_get_num_items_in_batch", counted)
    training = {**QUICK, "max_steps": 24, "per_device_train_batch_size": 16}
    pretrain(fitted, tmp_path, reviews("source", 200), mask_rate=[0.9, 0.1], max_length=[4, 16], training=training)
    assert seen[0][0] < seen[-1][0]
    first, last = (
        sum(hidden for _, hidden in part) / sum(width for width, _ in part) for part in (seen[:4], seen[-4:])
    )
    assert first > 2 * last


def test_new_words_begin_as_the_mean_of_their_pieces(fitted, reviews, tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("text\n" + "the kitchenknife and a soupspoon\n" * 40)
    training = {**QUICK, "max_steps": 1, "learning_rate": 0.0}
    result = pretrain(fitted, tmp_path, str(path), extend_vocabulary=2, training=training)
    old, new = AutoTokenizer.from_pretrained(fitted), AutoTokenizer.from_pretrained(result.path)
    added = set(new.get_vocab()) - set(old.get_vocab())
    assert added == {"kitchenknife", "soupspoon"}
    tables = [models.load(str(f), "masked_lm").get_input_embeddings().weight for f in (fitted, result.path)]
    for word in added:
        pieces = old(word, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(tables[1][new.convert_tokens_to_ids(word)], tables[0][pieces].mean(0))
        assert new(word.upper(), add_special_tokens=False)["input_ids"] == [new.convert_tokens_to_ids(word)]
    biases = [models.load(str(f), "masked_lm").cls.predictions.bias for f in (fitted, result.path)]
    pieces = old("soupspoon", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(biases[1][new.convert_tokens_to_ids("soupspoon")], biases[0][pieces].mean())
    assert result.metrics["tokens_per_word.after"] < result.metrics["tokens_per_word.before"]
    assert result.metrics["bits_per_byte.with_old_words"] > 0
    assert any("'before' already has the new words" in note for note in result.evidence["notes"])


@pytest.mark.parametrize(
    "options, said",
    [
        ({"augment": True}, "augment: objective masked_lm has no such option"),
        ({"mask_rate": 1.5}, "mask_rate: expected number > 0 and < 1"),
        ({"max_length": 65}, "max_length: 65 tokens are more than the 64 positions"),
        ({"freeze": 3}, "freeze: BertForMaskedLM has 2 blocks"),
        (
            {"freeze": "embedings"},
            "freeze: expected embeddings or a number of blocks, found 'embedings'; did you mean",
        ),
        ({"freeze": 1, "lora": {"r": 2}}, "freeze: with lora only the adapters train"),
        ({"lora": {"target_modules": ["nothing"]}}, "has no layer 'nothing'; its linear layers: query, key, value"),
        ({"lora": {"rank": 2}}, "lora.rank: LoraConfig has no such field"),
        ({"replay": 0.1}, "replay: takes texts from general, which is not given"),
        ({"config": {"hiden_size": 3}}, "config.hiden_size: BertConfig has no such field; did you mean 'hidden_size'"),
        (
            {"objective": "mae", "max_length": None},
            "model: ViTMAEForPreTraining is made from vit_mae or vit weights, not from bert",
        ),
        ({"objective": "causal_lm"}, "model: "),
        ({"objective": "masked"}, "objective: there is no 'masked'; did you mean 'masked_lm'"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(tiny_bert, reviews, tmp_path, options, said):
    with pytest.raises(HFTransferError) as error:
        pretrain(tiny_bert, tmp_path, reviews("source"), **options)
    assert said in str(error.value) and "\n" not in str(error.value)
    left = {path.name for path in tmp_path.iterdir()} - {"models", "source.csv", ".pre.lock"}
    assert left == set()  # no half-made folder either


@pytest.mark.parametrize(
    "model, said",
    [
        ("scratch/brt", "model: transformers has no model type 'brt'; did you mean"),
        ("scratch/bert", "config.vocab_size: 100 tokens do not hold the 256 bytes"),
    ],
)
def test_a_new_network_that_cannot_be_is_told_in_one_line(reviews, tmp_path, model, said):
    with pytest.raises(HFTransferError, match=said):
        pretrain(model, tmp_path, reviews("source"), config={"vocab_size": 100})


def test_replay_counts_text_and_not_documents(fitted, reviews, tmp_path):
    long = tmp_path / "long.csv"
    long.write_text("text\n" + ("the kitchen knife " * 40 + "\n") * 30)
    own = reviews("source")
    result = pretrain(fitted, tmp_path, own, general=str(long), replay=0.5, max_length=64)
    size = sum(len(line.split(",")[0]) for line in Path(own).read_text().splitlines()[1:]) * 0.8
    rows = next(int(note.split()[0]) for note in result.evidence["notes"] if "rows to train on" in note)
    documents = size / (40 * len("the kitchen knife "))
    assert rows < 64 + 3 * (documents + 2)  # by documents, 64 long ones would have come in


def test_a_stream_that_is_interrupted_ends_with_the_same_bits(tiny_bert, reviews, tmp_path, monkeypatch):
    stream = {"path": "csv", "data_files": reviews("source", 200), "streaming": True}
    training = {**QUICK, "max_steps": 6, "save_strategy": "steps", "save_steps": 2, "bf16": False}
    given = {"max_train_samples": 60, "training": training}
    whole = pretrain(tiny_bert, tmp_path, stream, output_dir=str(tmp_path / "whole"), **given)
    step = PretrainingTrainer.compute_loss

    def interrupted(self, *arguments, **keywords):
        if self.label == "pretrain" and self.state.global_step == 3:
            raise KeyboardInterrupt
        return step(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(PretrainingTrainer, "compute_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tiny_bert, tmp_path, stream, output_dir=str(tmp_path / "parts"), **given)
    parts = pretrain(tiny_bert, tmp_path, stream, output_dir=str(tmp_path / "parts"), **given)
    assert weights_that_moved(whole.path, parts.path) == set()


def test_a_network_without_gradient_checkpointing_or_blocks_is_told_before_it_trains(reviews, tmp_path):
    lstm = {"objective": "causal_lm", "config": {"hidden_size": 8, "num_hidden_layers": 1, "vocab_size": 300}}
    for options, said in (
        ({"training": {**QUICK, "gradient_checkpointing": True}}, "training.gradient_checkpointing: LSTMForCausalLM"),
        ({"layer_decay": 0.5}, "layer_decay: LSTMForCausalLM has no list of blocks"),
    ):
        with pytest.raises(HFTransferError, match=said):
            pretrain("scratch/lstm", tmp_path, reviews("source"), **lstm, **options)
    result = pretrain("scratch/lstm", tmp_path, reviews("source"), freeze="embeddings", **lstm)
    assert result.metrics["loss.after"] < result.metrics["loss.before"]
