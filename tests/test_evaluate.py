"""`evaluate` tells of every kind of trained checkpoint what a plain computation with its own network tells."""

import json

import numpy as np
import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from sklearn import metrics as sklearn_metrics
from transformers import PreTrainedTokenizerFast

import hftransfer
from hftransfer import scratch
from hftransfer.errors import HFTransferError
from hftransfer.stages.evaluate import plan

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
NAMES = ["calm", "loud"]
TEXTS = [
    f"{words} {place}" for words in ("quiet", "noisy the", "a very still") for place in ("pan", "oven", "soup", "tree")
]


def labels(names):
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {n: i for i, n in enumerate(names)},
    }


@pytest.fixture
def saved(tmp_path, word_tokenizer):
    """A maker of checkpoints with random weights: `saved("BertForSequenceClassification", names)` -> its folder."""

    def make(name, names=NAMES, reader=word_tokenizer, **fields):
        torch.manual_seed(0)
        config_class = getattr(transformers, name).config_class
        known = {} if "vocab_size" in fields or "image_size" in fields else {"vocab_size": len(word_tokenizer)}
        if name.startswith("Bert"):
            known |= {"max_position_embeddings": 64, "initializer_range": 0.5, **SIZES}
        config = config_class(**{**known, **fields, **(labels(names) if names else {})})
        getattr(transformers, name)(config).save_pretrained(tmp_path / name)
        reader.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


def measured(folder, data, tmp_path, **options):
    given = {"max_length": 32, "output_dir": str(tmp_path / "out"), **options}
    return hftransfer.evaluate(str(folder), data, **given)


def logits_of(folder, auto, **inputs):
    with torch.no_grad():
        return getattr(transformers, auto).from_pretrained(folder)(**inputs).logits


def both(rows, features=None):
    """The same rows to train and to test on."""
    made = Dataset.from_dict(rows, features=features)
    return DatasetDict(train=made, test=made)


def test_texts_of_one_class(saved, tmp_path, word_tokenizer):
    folder = saved("BertForSequenceClassification")
    rows = {"text": TEXTS, "label": [NAMES[number % 3 > 0] for number in range(12)]}
    found = measured(folder, both(rows), tmp_path, metrics=["accuracy", "macro_f1"])
    read = word_tokenizer(TEXTS, padding=True, return_tensors="pt")
    classes = logits_of(folder, "AutoModelForSequenceClassification", **read).argmax(1).numpy()
    true = [NAMES.index(label) for label in rows["label"]]
    expected = {
        "accuracy": np.mean(classes == true),
        "macro_f1": sklearn_metrics.f1_score(true, classes, average="macro"),
    }
    assert found.metrics == pytest.approx({**expected, "rows": 12})
    assert found.evidence["confusion"]["after"] == sklearn_metrics.confusion_matrix(true, classes).tolist()
    assert [row["label"] for row in found.evidence["per_class"]] == NAMES
    assert found.evidence["data"][0]["labels"] == {"calm": 4, "loud": 8}


def test_train_and_test_rows_of_one_split_are_those_that_training_has(saved, reviews, tmp_path):
    folder = saved("BertForSequenceClassification")
    for split, rows in (("train", 64), ("test", 16)):
        found = measured(folder, reviews("source", 80), tmp_path, split=split, output_dir=str(tmp_path / split))
        assert found.metrics["rows"] == rows


def test_several_classes_a_row(saved, tmp_path, word_tokenizer):
    names = ["calm", "loud", "odd"]
    folder = saved("BertForSequenceClassification", names, problem_type="multi_label_classification")
    tags = [["calm"], ["odd", "loud"], []] * 4
    found = measured(folder, both({"text": TEXTS, "label": tags}), tmp_path)
    read = word_tokenizer(TEXTS, padding=True, return_tensors="pt")
    marks = (logits_of(folder, "AutoModelForSequenceClassification", **read) > 0).int().numpy()
    true = np.array([[name in row for name in names] for row in tags], dtype=int)
    expected = {
        average: sklearn_metrics.f1_score(true, marks, average=average, zero_division=0)
        for average in ("micro", "macro")
    }
    assert found.metrics["micro_f1"] == pytest.approx(expected["micro"])
    assert found.metrics["macro_f1"] == pytest.approx(expected["macro"])
    assert found.metrics["rows"] == 12 and "accuracy" not in found.metrics
    some = measured(folder, both({"text": TEXTS, "label": tags}), tmp_path, metrics=["micro_f1"])
    assert some.metrics == {"micro_f1": found.metrics["micro_f1"], "rows": 12}
    with pytest.raises(HFTransferError, match=r"^metrics: 'micro_f' is no metric of multi_label.*mean 'micro_f1'"):
        measured(folder, both({"text": TEXTS, "label": tags}), tmp_path, metrics=["micro_f"])


def test_numbers(saved, tmp_path, word_tokenizer):
    folder = saved("BertForSequenceClassification", ["value"], problem_type="regression")
    values = [0.5 * number for number in range(12)]
    found = measured(folder, both({"text": TEXTS, "label": values}), tmp_path)
    read = word_tokenizer(TEXTS, padding=True, return_tensors="pt")
    told = logits_of(folder, "AutoModelForSequenceClassification", **read)[:, 0].numpy()
    assert found.metrics["mae"] == pytest.approx(np.abs(told - values).mean(), rel=1e-4)
    assert found.metrics["rmse"] == pytest.approx(((told - values) ** 2).mean() ** 0.5, rel=1e-4)


def test_words(saved, tmp_path):
    """The data's own numbers of the classes are other ones."""
    folder = saved("BertForTokenClassification", ["O", "B-ROOM", "I-ROOM"])
    features = Features(
        {"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["I-ROOM", "O", "B-ROOM"]))}
    )
    words, tags = [["the", "kitchen", "oven"], ["a", "pan"]], [[1, 2, 0], [1, 1]]
    found = measured(folder, both({"tokens": words, "ner_tags": tags}, features), tmp_path)
    read = transformers.AutoTokenizer.from_pretrained(folder)(
        words, is_split_into_words=True, padding=True, return_tensors="pt"
    )
    told = logits_of(folder, "AutoModelForTokenClassification", **read).argmax(-1)
    right = [*(told[0, 1:4] == torch.tensor([0, 1, 2])).tolist(), *(told[1, 1:3] == 0).tolist()]
    assert found.metrics["token_accuracy"] == pytest.approx(np.mean(right))
    assert [row["support"] for row in found.evidence["per_class"] if row["label"] == "ROOM"] == [1]


def test_answers(saved, tmp_path, word_tokenizer):
    reader = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]"
    )
    folder = saved("GPT2LMHeadModel", None, reader, n_layer=1, n_embd=16, n_head=2, n_positions=64, eos_token_id=3)
    found = measured(folder, both({"prompt": ["the pan"], "completion": ["very quiet"]}), tmp_path)
    ids = reader("the pan very quiet", add_special_tokens=False, return_tensors="pt")["input_ids"]
    ids = torch.cat([ids, torch.tensor([[reader.eos_token_id]])], 1)
    logits = logits_of(folder, "AutoModelForCausalLM", input_ids=ids)
    expected = torch.nn.functional.cross_entropy(logits[0, 1:4], ids[0, 2:5])
    assert found.metrics["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert found.metrics["perplexity"] == pytest.approx(np.exp(found.metrics["loss"]))


def test_pictures(saved, tmp_path, pictures):
    sizes = {"image_size": 16, "patch_size": 4, "num_channels": 1, **SIZES}
    reader = scratch.image_processor(transformers.ViTConfig(**sizes))
    folder = saved("ViTForImageClassification", ["bright", "dark"], reader, **sizes)
    found = measured(folder, pictures, tmp_path, metrics=["accuracy"])
    assert found.metrics["rows"] == 6 and set(found.metrics) == {"accuracy", "rows"}
    assert plan(**options(folder, pictures)) == {"class": "ViTForImageClassification", "rows": {"test": 6}, "steps": 0}


def test_sounds_as_spectrograms_and_as_waveforms(saved, tmp_path, tones):
    sizes = {"image_size": 16, "patch_size": 4, "num_channels": 1, **SIZES}
    heard = transformers.ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=16)
    seen = saved("ViTForImageClassification", ["high", "low"], heard, **sizes)
    convolutions = {"conv_dim": (8, 8), "conv_stride": (10, 8), "conv_kernel": (10, 8)}
    reader = transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000)
    waves = saved(
        "Wav2Vec2ForSequenceClassification", ["high", "low"], reader,
        **SIZES, **convolutions, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, vocab_size=9,
    )  # fmt: skip
    for folder in (seen, waves):
        found = measured(folder, tones, tmp_path, output_dir=str(tmp_path / f"of_{folder.name}"), metrics=["accuracy"])
        assert found.metrics["rows"] == 4 and np.sum(found.evidence["confusion"]["after"]) == 4


def options(folder, data, **changed):
    """What `plan` gets from the front door."""
    given = {
        "model": str(folder),
        "data": data,
        "split": "test",
        "metrics": ["accuracy"],
        "max_length": 32,
        "seed": 42,
    }
    return {**given, **changed}


def test_what_cannot_be_measured_is_told_in_a_line(tiny_bert, saved, reviews, tmp_path):
    folder = saved("BertForSequenceClassification", ["calm", "mild"])
    for tried, said in (
        (lambda: plan(**options(tiny_bert, reviews("source"))), "evaluate: model: it has no trained head"),
        (lambda: plan(**options(folder, reviews("source"))), "data: .* has labels that .* lacks?: 'loud'"),
        (lambda: plan(**options(folder, "no/such.csv", max_length=65)), "max_length: 65 tokens are more than the 64"),
        (lambda: plan(**options(folder, reviews("source"), metrics=["acuracy"])), "metrics: 'acuracy'"),
        (lambda: measured(folder, reviews("source"), tmp_path), "data: .* has labels that .* lacks?: 'loud'"),
    ):
        with pytest.raises(HFTransferError, match=f"^{said}") as error:
            tried()
        assert "\n" not in str(error.value)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, "problem_type": "multi_class"}))
    with pytest.raises(HFTransferError, match="problem_type multi_class"):
        plan(**options(folder, reviews("source")))
