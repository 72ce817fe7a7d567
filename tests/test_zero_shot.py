"""`zero_shot` from data to record: rows, abstention, refinement, comparisons, mistakes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
)

import hftransfer
from hftransfer.errors import HFTransferError
from hftransfer.functional.empty_prior import sigmoid
from hftransfer.signatures import validate
from hftransfer.stages.zero_shot import plan

LABELS = {"calm": "quiet gentle still", "loud": "noisy shouting roaring"}
NAMES = list(LABELS)
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
OPTIONS = {"labels": LABELS, "templates": ["{label}"], "max_length": 32, "bf16": False}


@pytest.fixture(scope="module")
def bag(tmp_path_factory, word_tokenizer):
    """An encoder that is nearly a bag of words, so that descriptions tell something."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(word_tokenizer), max_position_embeddings=64, initializer_range=0.02, **SIZES)
    network = BertModel(config)
    with torch.no_grad():
        network.embeddings.word_embeddings.weight.normal_()
    folder = tmp_path_factory.mktemp("bag")
    network.save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def nli(tmp_path_factory, word_tokenizer):
    torch.manual_seed(0)
    names = ["entailment", "neutral", "contradiction"]
    config = BertConfig(
        vocab_size=len(word_tokenizer), max_position_embeddings=64, initializer_range=0.5, num_labels=3,
        id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}, **SIZES,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("nli")
    BertForSequenceClassification(config).save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    return str(folder)


def told(model, data, tmp_path, **options):
    given = {**OPTIONS, "output_dir": str(tmp_path / "out"), **options}
    found = hftransfer.zero_shot(model, data, **given)
    return found, pq.read_table(found.path / "predictions.parquet").to_pydict()


def test_rows_are_told_and_measured_beside_the_usual_class_and_few_labels(bag, reviews, tmp_path):
    found, lines = told(bag, reviews("source", 100), tmp_path, shots=[1, 2])
    assert len(lines["row"]) == found.metrics["rows"] == 20
    assert found.metrics["accuracy"] > 0.8 > found.metrics["majority_class_accuracy"]
    assert found.metrics["coverage"] == 1 and found.metrics["accuracy_of_answered"] == found.metrics["accuracy"]
    assert {"accuracy.1_shot", "spread.2_shot", "accuracy.as_asked"} <= set(found.metrics)
    text = Path(reviews("source", 100)).read_text().splitlines()[1:]
    true = [text[row].rpartition(",")[2] for row in lines["row"]]
    assert np.mean([a == b for a, b in zip(true, lines["label"], strict=True)]) == found.metrics["accuracy"]
    scores = np.array([lines["score.calm"], lines["score.loud"]]).T
    assert scores.sum(1) == pytest.approx(np.ones(20), abs=1e-6)
    assert [NAMES[k] for k in scores.argmax(1)] == lines["label"] and not any(lines["abstained"])
    evidence = found.evidence
    assert evidence["verdict"]["outcome"] == "helped"
    assert [row[0] for row in evidence["tables"][0]["rows"]] == [
        "the most frequent class", "zero-shot: as asked", "logistic regression on 1 label a class",
        "logistic regression on 2 labels a class",
    ]  # fmt: skip
    assert any("Reimers" in paper for paper in evidence["citations"])
    assert sum(map(sum, evidence["confusion"]["after"])) == 20
    again, _ = told(bag, reviews("source", 100), tmp_path, shots=[1, 2])
    assert again.reused and again.metrics == found.metrics


def test_nothing_is_said_below_the_threshold_and_accuracy_does_not_move(bag, reviews, tmp_path):
    data = reviews("source", 100)
    plain, before = told(bag, data, tmp_path, temperature=0.5)
    confidence = np.maximum(before["score.calm"], before["score.loud"])
    threshold = float(np.median(confidence))
    found, after = told(bag, data, tmp_path, temperature=0.5, threshold=threshold, output_dir=str(tmp_path / "b"))
    assert after["abstained"] == (confidence < threshold).tolist()
    expected = [None if c < threshold else label for c, label in zip(confidence, before["label"], strict=True)]
    assert after["label"] == expected and None in expected
    assert found.metrics["accuracy"] == plain.metrics["accuracy"]
    assert found.metrics["coverage"] == pytest.approx(np.mean(confidence >= threshold))
    assert any("are answered" in note for note in found.evidence["notes"])


@pytest.mark.parametrize("refine", ["kmeans", "em"])
def test_prototypes_move_to_unlabelled_rows(bag, tmp_path, refine):
    """Descriptions say a third of it: rows of the same class share more words than those."""
    rng = np.random.default_rng(0)
    words = [*LABELS.values()]
    texts = [
        " ".join([*rng.choice(words[n % 2].split(), 2), *rng.choice(["pan", "oven", "soup"], 1)]) for n in range(200)
    ]
    data = Dataset.from_dict({"text": texts, "label": [NAMES[n % 2] for n in range(200)]})
    options = {"labels": {"calm": "quiet", "loud": "noisy"}, "calibrate": True, "shots": []}
    found, _ = told(bag, data, tmp_path, refine=refine, **options)
    metrics = found.metrics
    assert metrics["accuracy"] == metrics[f"accuracy.refined_by_{refine}"] > metrics["accuracy.as_asked"]
    assert "accuracy.calibrated" in metrics and "accuracy.1_shot" not in metrics
    assert any("over 200 unlabelled rows" in note for note in found.evidence["notes"])


def test_labels_of_the_rows_take_no_part_in_what_is_said(bag, reviews, tmp_path):
    """Other labels on the same texts, the same answers: neither refinement nor calibration looks at them."""
    texts = [line.rpartition(",")[0] for line in Path(reviews("source", 60)).read_text().splitlines()[1:]]
    answers = []
    for name, order in (("a", 1), ("b", -1)):
        half = [NAMES[::order][n % 2] for n in range(60)]
        rows = DatasetDict(train=Dataset.from_dict({"text": texts[:40], "label": half[:40]}),
                           test=Dataset.from_dict({"text": texts[40:], "label": half[40:]}))  # fmt: skip
        _, lines = told(bag, rows, tmp_path, refine="em", calibrate=True, output_dir=str(tmp_path / name))
        answers.append([lines["row"], lines["score.calm"]])
    assert answers[0] == answers[1] and answers[0][0] == list(range(40, 60))


def test_a_label_that_gets_nothing_is_told(bag, tmp_path):
    data = Dataset.from_dict({"text": ["quiet still gentle", "gentle still quiet", "still gentle quiet still"]})
    found, _ = told(bag, data, tmp_path, labels={"calm": "quiet still gentle", "odd": "spade leaf soil"})
    assert any("likeliest for no row: 'odd'" in note for note in found.evidence["notes"])


def test_unlabelled_rows_are_all_told_under_their_numbers(bag, tmp_path):
    rows = Dataset.from_dict({"text": ["quiet", "", "noisy", "  ", "still roaring still"]})
    found, lines = told(bag, rows, tmp_path)
    assert lines["row"] == [0, 2, 4] and lines["label"][:2] == ["calm", "loud"]
    assert found.metrics == {"rows": 3, "coverage": 1.0}
    assert found.evidence["outcome"]["text"].startswith("found: 3 of 3 rows are told")
    parts = DatasetDict(train=rows, test=Dataset.from_dict({"text": ["noisy", "still"]}))
    for split, expected in (("test", [5, 6]), ("train", [0, 2, 4]), ("all", [0, 2, 4, 5, 6])):
        _, lines = told(bag, parts, tmp_path, split=split, output_dir=str(tmp_path / split))
        assert lines["row"] == expected
    empty = rows.add_column("label", [None] * 5)
    found, _ = told(bag, empty, tmp_path, output_dir=str(tmp_path / "empty"))
    assert "accuracy" not in found.metrics


def test_all_rows_of_labelled_data_leave_none_to_draw_few_labels_from(bag, reviews, tmp_path):
    found, lines = told(bag, reviews("source", 40), tmp_path, split="all")
    assert lines["row"] == list(range(40)) and "accuracy.1_shot" not in found.metrics
    with pytest.raises(HFTransferError, match=r"^shots: no labelled rows are left"):
        told(bag, reviews("source", 40), tmp_path, split="all", shots=[2], output_dir=str(tmp_path / "b"))


def test_several_labels_a_row(nli, tmp_path):
    tags = [["calm", "loud"], [], ["loud"], ["calm"]]
    rows = Dataset.from_dict(
        {"text": ["quiet noisy", "pan", "noisy", "still oven"] * 3, "label": tags * 3},
        features=Features({"text": Value("string"), "label": List(ClassLabel(names=NAMES))}),
    )  # fmt: skip
    data = DatasetDict(train=rows, test=rows)
    found, lines = told(nli, data, tmp_path, multi_label=True)
    scores = np.array([lines["score.calm"], lines["score.loud"]]).T
    assert lines["label"] == [[n for n, yes in zip(NAMES, row >= 0.5, strict=True) if yes] for row in scores]
    assert lines["abstained"] == [not label for label in lines["label"]]
    assert {"example_f1", "micro_f1", "majority_example_f1"} <= set(found.metrics)
    network = BertForSequenceClassification.from_pretrained(nli).eval()
    made = AutoTokenizer.from_pretrained(nli)("pan", LABELS["calm"], return_tensors="pt")
    with torch.no_grad():
        logits = network(**made).logits[0].numpy()
    assert scores[1, 0] == pytest.approx(sigmoid(logits[0] - logits[2]), abs=1e-5)
    with pytest.raises(HFTransferError, match=r"^multi_label: the column 'label' .* holds lists of labels; set"):
        told(nli, data, tmp_path, output_dir=str(tmp_path / "b"))
    one = rows.map(lambda row: {"label": "calm" if "quiet" in row["text"] else "loud"},
                   features=Features({"text": Value("string"), "label": Value("string")}))  # fmt: skip
    found, _ = told(nli, DatasetDict(train=one, test=one), tmp_path, multi_label=True, output_dir=str(tmp_path / "c"))
    assert "example_f1" in found.metrics


def test_images_are_told_with_a_sheet_of_examples(tmp_path, pictures, word_tokenizer):
    torch.manual_seed(0)
    text = {"vocab_size": len(word_tokenizer), "max_position_embeddings": 64, "eos_token_id": 3, **SIZES}
    sides = {"height": 16, "width": 16}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config={"image_size": 16, "patch_size": 8, **SIZES}, projection_dim=8)
    ).save_pretrained(tmp_path / "clip")
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=sides).save_pretrained(tmp_path / "clip")
    word_tokenizer.save_pretrained(tmp_path / "clip")
    labels = {"bright": "a noisy garden", "dark": "a quiet kitchen"}
    options = {"labels": labels, "calibrate": True, "refine": "kmeans", "templates": None}
    found, lines = told(str(tmp_path / "clip"), pictures, tmp_path, **options)
    assert len(lines["row"]) == 6 and set(lines["label"]) <= {"bright", "dark"}
    assert (found.path / "examples.png").stat().st_size > 100
    assert found.evidence["pictures"][0]["caption"].startswith(("right:", "wrong:"))
    assert found.metrics["accuracy"] >= 0.5 and "accuracy.4_shot" in found.metrics
    with pytest.raises(HFTransferError, match=r"^data: the model reads images, and .* no column of images"):
        told(str(tmp_path / "clip"), Dataset.from_dict({"text": ["a", "b"]}), tmp_path, output_dir=str(tmp_path / "b"))


def test_the_plan_counts_rows_and_reads_no_weights(bag, reviews):
    given = validate(hftransfer.zero_shot, {"model": bag, "data": reviews("source", 50), **OPTIONS})
    assert plan(**given) == {"class": "BertModel", "rows": {"told": 10, "few labels from": 40}, "steps": 0}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"labels": []}, r"^zero_shot: labels: found none; telling labels apart needs two"),
        ({"labels": {"calm": "quiet"}}, r"^zero_shot: labels: found one, 'calm'; telling"),
        ({"labels": ["calm", "calm"]}, r"^zero_shot: labels: two are named 'calm'"),
        ({"labels": {"calm": " ", "loud": "noisy"}}, r"^zero_shot: labels: calm: expected a description"),
        ({"labels": [True, "loud"]}, r"^zero_shot: labels: expected names, found True; write it in quotes"),
        ({"labels": ["calm", "lout"]}, r"^labels: the data has no label 'lout'; did you mean 'loud'\?"),
        ({"labels": None, "templates": []}, r"^zero_shot: templates: "),
        ({"templates": ["no place"]}, r"^templates: 'no place' has no \{label\}; similarity needs one"),
        ({"threshold": 1.5}, r"^zero_shot: threshold: "),
        ({"way": "similar"}, r"^zero_shot: way: there is no 'similar'; did you mean 'similarity'\?"),
        ({"way": "likelihood"}, r"^way: likelihood needs a causal language model's head, .*; way: similarity fits it"),
        ({"refine": "em", "multi_label": True}, r"^refine: each row moves the vector of one label"),
        ({"multi_label": True}, r"^multi_label: similarity weighs labels against each other"),
        ({"multi_label": True, "shots": [1]}, r"^shots: rows of several labels are of no one class"),
        ({"max_length": 100}, r"^max_length: 100 tokens are more than the 64 positions"),
    ],
)
def test_mistakes_are_told_in_one_line(bag, reviews, tmp_path, options, message):
    with pytest.raises(HFTransferError, match=message) as caught:
        told(bag, reviews("source", 40), tmp_path, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_mistakes_that_depend_on_the_data_or_the_checkpoint(bag, nli, tmp_path, pictures):
    unlabelled = Dataset.from_dict({"text": ["quiet", "noisy"]})
    with pytest.raises(HFTransferError, match=r"^labels: the data has no labels of its own; name them"):
        told(bag, unlabelled, tmp_path, labels=None)
    three = Dataset.from_dict({"text": ["quiet", "noisy", "odd"] * 4, "label": ["calm", "loud", "odd"] * 4})
    with pytest.raises(HFTransferError, match=r"^labels: the data also has 'odd', which could never be told"):
        told(bag, three, tmp_path)
    with pytest.raises(HFTransferError, match=r"^refine: entailment has no vectors of labels that could be moved"):
        told(nli, unlabelled, tmp_path, refine="em")
    with pytest.raises(HFTransferError, match=r"^data: the model reads texts, and 'pictures' holds images"):
        told(bag, pictures, tmp_path)
    pairs = Dataset.from_dict({"premise": ["a", "b"], "hypothesis": ["c", "d"]})
    with pytest.raises(HFTransferError, match=r"^data: .* has two texts a row, and labels are told of one"):
        told(bag, pairs, tmp_path)


def test_the_record_is_strict_json(bag, reviews, tmp_path):
    found, _ = told(bag, reviews("source", 40), tmp_path, threshold=1.0)
    assert found.metrics["coverage"] < 0.5
    json.loads((found.path / "evidence.json").read_text(), parse_constant=pytest.fail)


def test_labels_that_are_not_the_datas_are_told_and_nothing_is_measured(tiny_bert, reviews, tmp_path):
    found = hftransfer.zero_shot(
        str(tiny_bert),
        reviews("source", 12),
        labels=["kitchen", "garden"],
        max_length=64,
        output_dir=str(tmp_path / "out"),
    )
    assert found.metrics["rows"] == 12 and "accuracy" not in found.metrics
    assert any(
        "the data's labels ('calm', 'loud') are not those that are told" in note for note in found.evidence["notes"]
    )
    with pytest.raises(HFTransferError, match=r"labels: the data has no label 'loudd'; did you mean 'loud'\?"):
        hftransfer.zero_shot(
            str(tiny_bert),
            reviews("source", 12),
            labels=["calm", "loudd"],
            max_length=64,
            output_dir=str(tmp_path / "no"),
        )
