"""`compare`: both sides get the same rows and steps, and an interrupted comparison goes on."""

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import hftransfer
from hftransfer import inference, models
from hftransfer.errors import HFTransferError
from hftransfer.functional.few_labels import draw, probe
from hftransfer.functional.patches import position_table
from hftransfer.lstm import LSTMConfig, LSTMModel
from hftransfer.stages import grid, grid_record
from hftransfer.stages.beginning import new_network
from hftransfer.stages.cells import Grid

QUICK = {"max_steps": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def compare(model, data, folder, **options):
    given = {"labels_per_class": [2, 4], "seeds": 2, "max_length": 16, "seed": 1, "training": QUICK}
    given |= {"methods": ["probe", "full"], "against": "scratch"}
    return hftransfer.compare(str(model), data, output_dir=str(folder), **{**given, **options})


@pytest.fixture(scope="session")
def tiny_gpt(tmp_path_factory, word_tokenizer):
    """A decoder of 64 positions that names no padding token, nor does its tokenizer."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_gpt"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]"
    )
    config = GPT2Config(
        n_layer=1, n_embd=16, n_head=2, n_positions=64, vocab_size=len(word_tokenizer), eos_token_id=3, bos_token_id=3
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_lstm(tmp_path_factory, word_tokenizer):
    """An encoder of an architecture that has no class for classifying."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_lstm"
    LSTMModel(LSTMConfig(vocab_size=len(word_tokenizer), hidden_size=16, num_hidden_layers=1)).save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    return folder


def options_of(model, data, **options):
    """What `plan` gets from the front door."""
    given = {
        "model": str(model), "against": "scratch", "task": None,
        "data": data, "labels_per_class": [2, 4], "seeds": 2, "seed": 1,
        "methods": ["probe", "full"], "test_rows": 10, "min_steps": 0, "max_train_samples": None, "training": QUICK,
        "max_length": 16,
    }  # fmt: skip
    return {**given, **options}


def rare(rows_of, test_rows_of=None):
    """Texts with so many training rows of each class, in the classes' order, and so many to test on."""
    names = [f"class {number}" for number in range(len(rows_of))]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})

    def part(counts):
        labels = [label for label, count in enumerate(counts) for _ in range(count)]
        return Dataset.from_dict({"text": ["the pan is very quiet"] * len(labels), "label": labels}, features=features)

    return DatasetDict(train=part(rows_of), test=part(test_rows_of or [4] * len(rows_of)))


def test_fewer_labels_are_among_more_and_each_class_has_as_many():
    labels = np.array([0, 1, 2] * 10 + [2])
    few, many = draw(labels, 3, seed=5), draw(labels, 7, seed=5)
    assert set(few) < set(many)
    assert np.bincount(labels[many]).tolist() == [7, 7, 7]
    assert not np.array_equal(draw(labels, 3, seed=6), few)


def test_a_probe_separates_what_a_line_separates():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = np.eye(3, 8)[labels] * 100 + rng.normal(size=(60, 8))
    assert (probe(features[:30].astype("float32"), labels[:30], features[30:].astype("float32")) == labels[30:]).all()


def test_both_ways_are_measured_for_both_sides(tiny_bert, reviews, tmp_path):
    result = compare(tiny_bert, reviews("source"), tmp_path / "out")
    names = {f"{what}.{way}.{n}.{side}" for what in ("accuracy", "spread") for way in ("probe", "full")
             for n in (2, 4) for side in ("pretrained", "scratch")}  # fmt: skip
    assert names <= set(result.metrics)
    assert all(0 <= result.metrics[name] <= 1 for name in names)
    assert len(result.evidence["curves"]) == 4 and len(result.evidence["curves"][0]["spread"]) == 2
    assert result.evidence["verdict"]["text"].startswith("Pretraining ")
    assert not list(result.path.glob("*.safetensors"))


def test_a_checkpoint_against_itself_makes_no_difference(tiny_bert, reviews, tmp_path):
    result = compare(tiny_bert, reviews("source"), tmp_path / "out", against=str(tiny_bert))
    for line in result.evidence["comparison"]:
        assert line["before"] == line["after"] and line["difference"] == 0
    assert result.evidence["verdict"]["outcome"] == "no measurable difference"


def test_an_interrupted_comparison_goes_on(tiny_bert, reviews, tmp_path, monkeypatch):
    whole = compare(tiny_bert, reviews("source"), tmp_path / "whole")
    fitted, runs = hftransfer.stages.grid._fitted, []

    def interrupted(*arguments):
        runs.append(1)
        if len(runs) == 4:
            raise KeyboardInterrupt
        return fitted(*arguments)

    monkeypatch.setattr("hftransfer.stages.grid._fitted", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(tiny_bert, reviews("source"), tmp_path / "parts")
    again = compare(tiny_bert, reviews("source"), tmp_path / "parts")
    assert len(runs) == 4 + 8 - 3  # the three that were done are not done again
    assert again.metrics == whole.metrics


def test_what_cannot_be_compared_is_refused(tiny_bert, reviews, tmp_path):
    from hftransfer.stages.compare import plan

    with pytest.raises(HFTransferError, match="scratch/bert has no weights yet"):
        compare("scratch/bert", reviews("source"), tmp_path / "out")
    with pytest.raises(HFTransferError, match="expected"):
        compare(tiny_bert, reviews("source"), tmp_path / "out", labels_per_class=[])
    planned = plan(**options_of(tiny_bert, reviews("source")))
    assert planned["rows"] == {"labelled": 64, "test": 10} and planned["steps"] == 2 * 2 * 2 * 3
    assert planned["class"] == type(models.load(str(tiny_bert), "text_classification")).__name__


def test_rows_longer_than_the_positions_are_refused_before_anything_is_read(tiny_gpt, tiny_bert, reviews, tmp_path):
    from hftransfer.stages.compare import plan

    for model, against in ((tiny_gpt, None), (tiny_bert, tiny_gpt)):
        given = {"against": str(against) if against else "scratch", "max_length": 128}
        with pytest.raises(HFTransferError, match=r"^max_length: 128 tokens are more than the 64 positions"):
            plan(**options_of(model, "no/such/data.csv", **given))
        with pytest.raises(HFTransferError, match=r"^max_length: 128 tokens are more than the 64 positions"):
            compare(model, reviews("source"), tmp_path / "out", **given)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_decoder_without_a_padding_token_is_fine_tuned_from_scratch_too(tiny_gpt, reviews, tmp_path):
    result = compare(tiny_gpt, reviews("source"), tmp_path / "out", methods=["full"], labels_per_class=[3], seeds=1)
    assert 0 <= result.metrics["accuracy.full.3.scratch"] <= 1


def test_an_encoder_without_a_classifier_can_be_probed_only(tiny_lstm, reviews, tmp_path):
    from hftransfer.stages.compare import plan

    result = compare(tiny_lstm, reviews("source"), tmp_path / "out", methods=["probe"])
    assert 0 <= result.metrics["accuracy.probe.2.pretrained"] <= 1
    assert plan(**options_of(tiny_lstm, reviews("source"), methods=["probe"]))["class"] == "LSTMModel"
    with pytest.raises(HFTransferError, match=r"^model: lstm has no AutoModelForSequenceClassification class"):
        plan(**options_of(tiny_lstm, reviews("source")))
    with pytest.raises(HFTransferError, match=r"^model: lstm has no AutoModelForSequenceClassification class"):
        compare(tiny_lstm, reviews("source"), tmp_path / "other")


def test_one_class_that_a_sample_leaves_is_told_in_a_line(tiny_bert, reviews, tmp_path):
    from hftransfer.stages.compare import plan

    for tried in (
        lambda: compare(tiny_bert, reviews("source"), tmp_path / "out", max_train_samples=1),
        lambda: plan(**options_of(tiny_bert, reviews("source"), max_train_samples=1)),
    ):
        with pytest.raises(HFTransferError, match=r"^max_train_samples: 1 rows? .* of one class; raise it"):
            tried()


def test_a_class_to_test_on_must_have_rows_to_train_on(tiny_bert):
    with pytest.raises(HFTransferError, match=r"^data: .*'class 1'.* no row to train on"):
        grid.plan(options_of(tiny_bert, rare([9, 0, 9])))
    grid.plan(options_of(tiny_bert, rare([9, 0, 9], [4, 0, 4])))  # only a name: it is neither drawn nor tested


def test_a_class_of_fewer_rows_than_asked_is_noted_and_planned(tiny_bert, tmp_path):
    training = {"num_train_epochs": 1.0, "per_device_train_batch_size": 1}
    planned = grid.plan(options_of(tiny_bert, rare([9, 3, 9]), labels_per_class=[2, 5], training=training))
    assert planned["steps"] == 2 * 2 * (2 * 3 + 5 + 3 + 5)
    few = compare(tiny_bert, rare([9, 3, 9]), tmp_path / "few", labels_per_class=[2, 5], methods=["probe"])
    assert [note for note in few.evidence["notes"] if "fewer rows" in note] == [
        "classes with fewer rows than were asked for are drawn whole: 'class 1' (3)"
    ]
    enough = compare(tiny_bert, rare([9, 5, 9]), tmp_path / "enough", labels_per_class=[2, 5], methods=["probe"])
    assert not [note for note in enough.evidence["notes"] if "fewer rows" in note]


def test_the_spread_is_that_of_a_sample_and_none_of_one_draw():
    assert grid_record._spread(np.array([0.25, 0.5, 1.0])) == pytest.approx(np.std([0.25, 0.5, 1.0], ddof=1))
    assert grid_record._spread(np.array([0.5])) == 0.0


def test_a_new_network_begins_as_the_pretraining_did(pictures, tmp_path):
    sizes = {
        "image_size": 16, "patch_size": 4, "num_channels": 1, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
    }  # fmt: skip
    made = hftransfer.pretrain(
        "scratch/vit_mae", pictures, objective="mae", config=sizes, output_dir=str(tmp_path / "mae"), seed=1,
        training={"max_steps": 1, "per_device_train_batch_size": 4},
    )  # fmt: skip
    labels = {"num_labels": 2, "id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    torch.manual_seed(0)
    new = new_network(str(made.path), "image_classification", labels)
    assert type(new).__name__ == "ViTForImageClassification" and new.classifier.out_features == 2
    embeddings = new.vit.embeddings
    assert torch.equal(embeddings.position_embeddings.detach(), position_table(4, 16).view(1, 17, 16))
    weight = embeddings.patch_embeddings.projection.weight
    assert 0.9 < weight.abs().max() / (6 / (16 + 16)) ** 0.5 <= 1  # uniform to this bound, as Xavier's is
    pretrained = models.load(str(made.path), "image_classification", **labels)
    layer = "vit.layers.0.attention.q_proj.weight"
    assert layer in new.state_dict(), list(new.state_dict())
    assert not torch.equal(new.state_dict()[layer], pretrained.state_dict()[layer])
    torch.manual_seed(1)
    other = new_network(str(made.path), "image_classification", labels)
    assert not torch.equal(other.state_dict()[layer], new.state_dict()[layer])


def test_a_checkpoints_frozen_features_are_computed_once(tiny_bert, reviews, tmp_path, monkeypatch):
    taken, features = [], inference.features
    monkeypatch.setattr(inference, "features", lambda *given: (taken.append(1), features(*given))[1])
    compare(tiny_bert, reviews("source"), tmp_path / "out", methods=["probe"], seeds=3)
    assert len(taken) == 2 * (1 + 3)  # train and test rows: once pretrained, and once for each new network


def test_every_way_is_compared_and_one_is_advised(tiny_bert, reviews, tmp_path):
    methods = ["scratch", "frozen", {"lora": {"lora": {"r": 2}}}, {"partial": {"id": "last", "trainable": 1}}, "full"]
    result = compare(
        tiny_bert, reviews("source"), tmp_path / "out", methods=methods, against=None, labels_per_class=[2, "all"]
    )
    names = ("scratch", "frozen", "lora", "last", "full")
    assert {f"accuracy.{name}.{number}" for name in names for number in (2, "all")} <= set(result.metrics)
    assert result.metrics["majority_class_accuracy"] > 0
    table = result.evidence["tables"][0]
    assert [row[0] for row in table["rows"]] == [*names, "majority class accuracy"]
    pairs = result.evidence["tables"][1]
    assert len(pairs["rows"]) == 10 and pairs["rows"][0][0] == "frozen over scratch"
    assert "(" in pairs["rows"][0][1] and pairs["rows"][0][1].split(") ")[1] in ("better", "worse", "no difference")
    assert all(len(row) == len(table["columns"]) for row in table["rows"])
    trained = {row[0]: int(row[5].replace(",", "")) for row in table["rows"][:-1]}
    assert trained["frozen"] < trained["lora"] < trained["last"] < trained["full"] == trained["scratch"]
    advice = [note for note in result.evidence["notes"] if note.startswith("Which way: ")]
    assert len(advice) == 1 and "with 2 labels a class take " in advice[0] and "transfer hurt" in advice[0]
    assert len(result.evidence["curves"]) == 5 and result.evidence["curves"][0]["points"][1][0] == 64


@pytest.mark.parametrize(
    "methods, reason",
    [
        (["fulll"], "methods: there is no method 'fulll'; did you mean 'full'"),
        ([{"lora": {"lorra": {}}}], r"methods: lora.lorra: unknown key; did you mean 'lora'"),
        ([{"full": {"seed": 1}}], "methods: full.seed: the comparison decides it"),
        (["full", "full"], "methods: two are named 'full'"),
        ([{"partial": {"trainable": 9}}], "methods: partial.trainable: .* has 2 blocks"),
        ([{"full": {"id": "../../out"}}], "methods: id '../../out': expected a name of letters"),
        ([{"full": {"layer_decay": 2}}], "methods: full.layer_decay: expected"),
    ],
)
def test_a_wrong_method_is_told_in_a_line(tiny_bert, reviews, tmp_path, methods, reason):
    with pytest.raises(HFTransferError, match=reason) as caught:
        compare(tiny_bert, reviews("source"), tmp_path / "out", methods=methods)
    assert "\n" not in str(caught.value)


def test_parts_change_in_new_networks_too(tiny_bert, reviews, tmp_path):
    """The same network, smaller, from scratch: what the parameters that are left are worth."""
    half = {"architecture": {"layers": 1}}
    common = {"labels_per_class": [2], "seeds": 1}
    result = compare(
        tiny_bert,
        reviews("source"),
        tmp_path / "a",
        methods=[{"scratch": half}, {"full": half}],
        against=None,
        **common,
    )
    trained = [row[4] for row in result.evidence["tables"][0]["rows"][:2]]
    assert trained[0] == trained[1]
    both = compare(tiny_bert, reviews("source"), tmp_path / "b", methods=[{"full": half}], **common)
    shown = both.evidence["tables"][0]["rows"]
    assert [row[0] for row in shown[:2]] == ["full, pretrained", "full, from scratch"]
    assert shown[0][4] == shown[1][4] == trained[0]


def test_what_the_states_hold_already_is_shown_where_nobody_asked(tiny_bert, reviews, tmp_path):
    result = compare(
        tiny_bert, reviews("source"), tmp_path / "out", methods=["scratch", "full"], against=None, seeds=1
    )
    assert "accuracy.frozen_floor.2" in result.metrics
    assert not any("frozen_floor" in note for note in result.evidence["notes"] if note.startswith("Which way"))
    assert not any("frozen_floor" in row[0] for row in result.evidence["tables"][1]["rows"])


def test_few_rows_get_the_steps_that_many_get_by_their_epochs(tiny_bert, reviews):
    options = {"methods": ["full"], "against": None, "labels_per_class": [2, "all"], "seeds": 3}
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 4}
    plan = grid.plan(options_of(tiny_bert, reviews("source"), **options, training=training, min_steps=10))
    assert plan["rows"]["labelled"] == 64
    assert plan["steps"] == 3 * (10 + 2 * 16)  # 4 rows, and 64 rows by epochs; the frozen floor takes none
    told = grid.plan(options_of(tiny_bert, reviews("source"), **options, training={"max_steps": 7}, min_steps=10))
    assert told["steps"] == 3 * (7 + 7)


def test_the_best_of_equal_ways_is_not_sold_as_better():
    """Ten ways of tossing a coin: the luckiest one beats one coin by its luck, and by nothing when others judge it."""

    class Task:
        metric, higher_is_better = "accuracy", True

    class Toss:
        def __init__(self, name):
            self.name, self.contender = name, self

    naive, fair = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ways = [Toss(f"way{number}") for number in range(10)]
        cells = {f"{way.name}.8.0": {"rows": rng.integers(0, 2, 200).tolist(), "metrics": {}} for way in ways}
        found = Grid({"seeds": 1, "seed": seed, "labels_per_class": [8]}, Task(), ways, cells)
        naive.append(found.rows(found.best(ways, 8), 8).mean())
        names, worth = found.chosen(ways, 8)
        assert 1 <= len(names) <= 2 and worth.shape == (200,)
        fair.append(worth.mean())
    assert np.mean(naive) > 0.54
    assert abs(np.mean(fair) - 0.5) < 0.015


def test_answers_are_compared_without_a_new_head_and_above_the_untrained_model(tiny_gpt, tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join('{"prompt": "the pan is", "completion": "very quiet"}' for _ in range(20)))
    result = compare(tiny_gpt, str(path), tmp_path / "out", methods=None, against=None, labels_per_class=[2], seeds=1)
    assert {f"loss.{name}.2" for name in ("scratch", "lora", "full")} <= set(result.metrics)
    assert result.metrics["untrained_loss"] > 0
    table = result.evidence["tables"][0]
    assert "2 labelled rows" in table["columns"] and table["rows"][-1][0] == "untrained loss"
