"""`finetune`: every method on every kind of network, every task, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    ViTConfig,
    ViTModel,
)

import hftransfer
from hftransfer import models, scratch, tasks, tuning
from hftransfer.errors import HFTransferError
from hftransfer.functional.few_labels import linear_model
from hftransfer.signatures import validate
from hftransfer.stages import finetune as finetune_stage

QUICK = {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "bf16": False}
NAMES = ["calm", "loud"]


@pytest.fixture(scope="session")
def made(tmp_path_factory, word_tokenizer, tiny_bert):
    """Folders of tiny networks by name."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    gpt = GPT2Config(
        n_layer=2, n_embd=16, n_head=2, n_positions=64, vocab_size=len(word_tokenizer), eos_token_id=3, bos_token_id=3
    )
    GPT2LMHeadModel(gpt).save_pretrained(folder / "gpt")
    PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder / "gpt")
    vit = ViTConfig(
        image_size=16, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    ViTModel(vit, add_pooling_layer=False).save_pretrained(folder / "vit")
    scratch.image_processor(vit).save_pretrained(folder / "vit")
    roberta = RobertaConfig(
        vocab_size=len(word_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=70, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(roberta).save_pretrained(folder / "roberta")
    word_tokenizer.save_pretrained(folder / "roberta")
    return {"bert": tiny_bert, **{name: folder / name for name in ("gpt", "vit", "roberta")}}


@pytest.fixture
def data(reviews, pictures):
    """Labelled data for each network."""
    texts = reviews("source", 60)
    return {"bert": texts, "gpt": texts, "roberta": texts, "vit": pictures}


def finetune(model, data, folder, **options):
    given = {"training": QUICK, "max_length": 16, "seed": 1, "output_dir": str(folder), **options}
    return hftransfer.finetune(str(model), data, **given)


def opened(folder, kind):
    cls = AutoModelForImageClassification if kind == "vit" else AutoModelForSequenceClassification
    return cls.from_pretrained(folder).eval()


def read(model, data, network=None):
    """The test rows and the task, as the stage has them."""
    task, parts = tasks.read(data, str(model), key="data", seed=1)
    return task, {name: task.inputs(part, str(model), key="data", max_length=16) for name, part in parts.items()}


def accuracy(network, model, data):
    task, rows = read(model, data)
    return task.score(task.predict(network, rows["test"]), rows["test"].labels)["accuracy"]


def changed(folder, model, kind):
    """Names of parameters that differ from the checkpoint's, those it lacks included."""
    job = "image_classification" if kind == "vit" else "text_classification"
    before = dict(models.load(str(model), job, num_labels=2).named_parameters())
    after = dict(opened(folder, kind).named_parameters())
    return {name for name, value in after.items() if not torch.equal(value, before[name])}, set(after)


METHODS = {
    "full": {},
    "frozen": {},
    "frozen torch": {"head": "torch"},
    "partial": {"trainable": 1},
    "linear_then_full": {},
    "lora": {"lora": {"r": 2}},
    "few_shot": {},
    "scratch": {},
}


@pytest.mark.parametrize("kind", ["bert", "gpt", "vit"])
@pytest.mark.parametrize("way", METHODS)
def test_every_method_changes_what_it_should_and_the_folder_is_an_ordinary_checkpoint(way, kind, made, data, tmp_path):
    result = finetune(made[kind], data[kind], tmp_path / "out", method=way.split()[0], **METHODS[way])
    network = opened(result.path, kind)
    assert result.metrics["accuracy"] == accuracy(network, made[kind], data[kind])
    assert [network.config.id2label[k] for k in range(2)] == (["bright", "dark"] if kind == "vit" else NAMES)
    moved, names = changed(result.path, made[kind], kind)
    head = {name for name in names if name.startswith(("classifier", "score"))}
    blocks = {
        name
        for name, value in network.named_parameters()
        if any(value is p for p in tuning.blocks(network).parameters())
    }
    last = {
        name
        for name, value in network.named_parameters()
        if any(value is p for p in tuning.blocks(network)[-1].parameters())
    }
    assert head & moved
    if way in ("frozen", "frozen torch"):
        assert moved == head and result.metrics["trainable"] < result.metrics["parameters"] / 10
    if way == "partial":
        assert (
            blocks & moved <= last
            and last & moved
            and not [name for name in moved if "embed" in name or "wte" in name]
        )
    if way == "lora":
        assert moved - head <= blocks and all(".weight" in name for name in moved & blocks) and blocks & moved
    if way == "scratch":
        assert {
            name for name in names if "weight" in name and ("dense" in name or "attn.c" in name or "embed" in name)
        } <= moved


def test_a_frozen_head_is_scikit_learn_s_on_the_features(made, data, tmp_path):
    result = finetune(made["bert"], data["bert"], tmp_path / "out", method="frozen")
    network = opened(result.path, "bert")
    _, rows = read(made["bert"], data["bert"])
    batch = rows["train"].batch(rows["train"].rows)
    with torch.no_grad():
        seen, logits = models.classify(network, batch)
    expected = linear_model(seen.numpy(), rows["train"].labels, "single_label_classification")
    np.testing.assert_allclose(logits.numpy(), seen.numpy() @ expected.weight.T + expected.bias, atol=2e-3)
    assert (tmp_path / ".features").is_dir()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT reads it
@pytest.mark.parametrize(
    "kind, merge, lora",
    [
        ("bert", True, {"r": 2}),
        ("gpt", True, {"r": 2, "use_rslora": True}),
        ("vit", True, {"r": 2, "use_dora": True}),
        ("bert", False, {"r": 2, "init_lora_weights": "pissa"}),
        ("bert", True, {"r": 2, "init_lora_weights": "eva"}),
        ("bert", False, {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}),
    ],
)
def test_an_adapter_reloads_on_its_base_to_the_same_logits(kind, merge, lora, made, data, tmp_path):
    result = finetune(made[kind], data[kind], tmp_path / "out", method="lora", lora=lora, merge=merge)
    adapter = result.path / "adapter" if merge else result.path
    base = opened_new(made[kind], kind)
    # which token pads is the tokenizer's matter, and the config beside the adapter tells it
    base.config.pad_token_id = json.loads((adapter / "base_config.json").read_text()).get("pad_token_id")
    reloaded = PeftModel.from_pretrained(base, adapter).eval()
    assert result.metrics["accuracy"] == accuracy(reloaded, made[kind], data[kind])
    if not merge:
        assert not (result.path / "model.safetensors").exists()
        return
    _, rows = read(made[kind], data[kind])
    batch = rows["test"].batch(rows["test"].rows)
    with torch.no_grad():
        whole = opened(result.path, kind)(**batch).logits
        torch.testing.assert_close(reloaded(**batch).logits, whole, atol=1e-5, rtol=1e-4)


def opened_new(model, kind):
    cls = AutoModelForImageClassification if kind == "vit" else AutoModelForSequenceClassification
    return cls.from_pretrained(model, num_labels=2)


@pytest.mark.parametrize("method", ["frozen", "linear_then_full", "few_shot"])
def test_a_head_of_several_layers(method, made, data, tmp_path):
    """RoBERTa's head has a dense layer: only gradients can train it, if pairs have not."""
    result = finetune(made["roberta"], data["roberta"], tmp_path / "out", method=method)
    told = [note for note in result.evidence["notes"] if "by gradients" in note]
    assert bool(told) == (method != "few_shot")
    if method == "frozen":
        moved, names = changed(result.path, made["roberta"], "roberta")
        assert moved == {name for name in names if name.startswith("classifier.")}


def test_a_head_before_other_phases_learns_at_its_own_rate(made, data, tmp_path):
    """The small rate is for what is pretrained."""
    training = {**QUICK, "learning_rate": 1e-12, "max_steps": 30}
    result = finetune(made["roberta"], data["roberta"], tmp_path / "out", method="linear_then_full", training=training)
    start = dict(models.load(str(made["roberta"]), "text_classification", num_labels=2).named_parameters())
    for name, value in opened(result.path, "roberta").named_parameters():
        if not name.startswith("classifier."):
            torch.testing.assert_close(value, start[name], atol=1e-6, rtol=0)
    points = result.evidence["curves"][0]["points"]
    assert points[-1][1] < points[0][1]


@pytest.mark.parametrize("kind", ["bert", "gpt", "vit"])
def test_a_cut_changes_no_weight(kind, made, data, tmp_path, monkeypatch):
    folder = still(made[kind], tmp_path / "still")
    options = {"method": "partial", "trainable": 1}
    cut = finetune(folder, data[kind], tmp_path / "cut", **options)
    monkeypatch.setattr("hftransfer.cut.Cut._tried", lambda self, _: setattr(self, "possible", False) or {})
    whole = finetune(folder, data[kind], tmp_path / "whole", **options)
    assert any("ran at every step" in note for note in whole.evidence["notes"])
    assert not any("ran at every step" in note for note in cut.evidence["notes"])
    weights = load_file(whole.path / "model.safetensors")
    for name, value in load_file(cut.path / "model.safetensors").items():
        torch.testing.assert_close(value, weights[name], atol=2e-5, rtol=1e-3)


def still(model, folder):
    """The same checkpoint without dropout."""
    shutil.copytree(model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {name: 0.0 for name in config if "dropout" in name or "pdrop" in name}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_parts_by_name(made, data, tmp_path):
    names = ["layer.0.attention", "pooler"]
    result = finetune(made["bert"], data["bert"], tmp_path / "out", method="partial", trainable=names)
    moved, names = changed(result.path, made["bert"], "bert")
    wanted = {n for n in names if n.startswith(("bert.encoder.layer.0.attention", "bert.pooler", "classifier"))}
    assert moved <= wanted and {name.split(".")[1] for name in moved} == {"encoder", "pooler", "weight", "bias"}
    embeddings = finetune(made["bert"], data["bert"], tmp_path / "low", method="partial", trainable=["embeddings"])
    assert not any("ran at every step" in note for note in embeddings.evidence["notes"])
    moved, _ = changed(embeddings.path, made["bert"], "bert")
    assert "bert.embeddings.word_embeddings.weight" in moved and not [n for n in moved if "encoder" in n]


def recipe(model, data, folder, **options):
    given = {"data": "$source", "training": QUICK, "max_length": 24, **options}
    written = {"name": "small", "model": str(model), "source": data, "stages": [{"finetune": given}]}
    return hftransfer.run(written, output_dir=str(folder))


def tags(path):
    """Words in which every colour begins an entity."""
    rows = [("the soup is very quiet", [0, 1, 2, 0, 0]), ("a knife and some weird soil", [0, 1, 0, 0, 1, 2])] * 12
    names = ["O", "B-thing", "I-thing"]
    lines = [json.dumps({"tokens": text.split(), "label": [names[tag] for tag in row]}) for text, row in rows]
    path.write_text("\n".join(lines))
    return str(path)


def several(path):
    """Texts with any number of topics."""
    rows = [("quiet pan", ["calm"]), ("noisy oven", ["loud"]), ("weird noisy soup", ["loud", "odd"]), ("knife", [])]
    path.write_text("\n".join(json.dumps({"text": text, "label": labels}) for text, labels in rows * 10))
    return str(path)


def numbers(path):
    """Texts with a number."""
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(["noisy"] * n + ["pan"]), "label": n + float(rng.random())} for n in range(5)] * 8
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def pairs(path):
    """Two sentences that say the same, or not."""
    rows = [("the pan", "the pan", "same"), ("the pan", "a knife", "other"), ("soup", "soil", "other")] * 12
    path.write_text("sentence1,sentence2,label\n" + "\n".join(",".join(row) for row in rows))
    return str(path)


def answers(path):
    """Prompts and what to say."""
    rows = [{"prompt": f"the {word} is", "completion": "very quiet"} for word in ("pan", "oven", "knife", "soup")] * 6
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


TASKS = {
    "token_classification": (tags, "AutoModelForTokenClassification"),
    "multi_label_classification": (several, "AutoModelForSequenceClassification"),
    "regression": (numbers, "AutoModelForSequenceClassification"),
    "single_label_classification": (pairs, "AutoModelForSequenceClassification"),
    "causal_lm": (answers, "AutoModelForCausalLM"),
}


@pytest.mark.parametrize(
    "task, kind, options",
    [
        ("token_classification", "bert", {}),
        ("token_classification", "bert", {"method": "frozen", "loss": {"class_weights": True}}),
        ("token_classification", "gpt", {"method": "partial", "trainable": 1, "early_stopping_patience": 1}),
        ("multi_label_classification", "bert", {"method": "frozen", "calibrate": True}),
        (
            "multi_label_classification",
            "gpt",
            {"loss": {"focal": 1.0, "class_weights": True}, "early_stopping_patience": 1},
        ),
        ("regression", "bert", {"method": "linear_then_full", "near": {"wise_ft": "best"}}),
        ("regression", "gpt", {"method": "frozen", "head": "torch"}),
        ("single_label_classification", "bert", {"method": "few_shot"}),
        ("causal_lm", "gpt", {}),
        ("causal_lm", "gpt", {"method": "lora", "lora": {"r": 2}}),
        ("causal_lm", "gpt", {"method": "partial", "trainable": 1, "near": {"wise_ft": 0.5}}),
        ("causal_lm", "gpt", {"early_stopping_patience": 1, "near": {"soup": 2}}),
    ],
)
def test_every_task_ends_in_its_own_kind_of_checkpoint_and_a_report(task, kind, options, made, tmp_path):
    make, auto = TASKS[task]
    data = make(tmp_path / ("data.csv" if make is pairs else "data.jsonl"))
    ran = recipe(made[kind], data, tmp_path / "out", **options)
    network = getattr(transformers, auto).from_pretrained(tmp_path / "out" / "final")
    told, rows = tasks.read(data, str(made[kind]), key="data", seed=42)
    assert told.name == task
    held = told.inputs(rows["test"], str(made[kind]), key="data", max_length=24)
    score = told.score(told.predict(models.ready(network), held), held.labels)
    numbers = ran.metrics["finetune"]
    assert numbers[told.metric] == pytest.approx(score[told.metric], abs=1e-4)
    page = (tmp_path / "out" / "report.html").read_text()
    card = (tmp_path / "out" / "final" / "README.md").read_text()
    assert "labelled rows" in page and "Fine-tune on labels" in page and len(card) > 500
    if task == "causal_lm":
        assert numbers["loss"] < 5 and numbers["perplexity"] > 1


def refuse(model, data, **options):
    """The one line of an error that is found before anything is read of the weights, and also by `plan`."""
    given = {"training": QUICK, "max_length": 16, **options}
    with pytest.raises(HFTransferError) as told:
        hftransfer.finetune(str(model), data, output_dir="never", **given)
    line = str(told.value)
    assert "\n" not in line
    if not line.startswith("finetune: "):
        with pytest.raises(HFTransferError) as planned:
            plan(str(model), data, **given)
        assert str(planned.value) == line
    return line


def plan(model, data, **options):
    given = {"training": QUICK, "max_length": 16, "seed": 1, **options}
    checked = validate(finetune_stage.finetune, {"model": str(model), "data": data, **given})
    return finetune_stage.plan(**checked)


BAD = [  # network, options, what the line begins with, what else it says
    ("bert", {"method": "partial", "trainable": 3}, "trainable: ", "has 2 blocks, not 3"),
    ("bert", {"method": "partial", "trainable": ["encodr"]}, "trainable: ", "did you mean 'bert.encoder'"),
    ("bert", {"trainable": 1}, "finetune: trainable: ", "method full has no such option"),
    ("bert", {"method": "lora", "lora": {"target_modules": ["q_proj"]}}, "lora.target_modules: ", "query"),
    ("gpt", {"method": "lora", "lora": {"target_modules": ["query"]}}, "lora.target_modules: ", "c_attn"),
    ("bert", {"lora": {"r": 2}}, "lora: ", "method full trains no adapter"),
    ("bert", {"merge": False}, "merge: ", "method full trains no adapter"),
    ("bert", {"head": "torch"}, "head: ", "method full has no head of its own"),
    ("bert", {"method": "frozen", "gradual": True}, "gradual: ", "trains no blocks one by one"),
    ("bert", {"method": "lora", "layer_decay": 0.9}, "layer_decay: ", "trains no blocks"),
    ("bert", {"method": "frozen", "early_stopping_patience": 2}, "early_stopping_patience: ", "head: torch"),
    ("bert", {"method": "frozen", "near": {"soup": 2}}, "near.soup: ", "fitted at once"),
    ("bert", {"method": "few_shot", "near": {"ema": 0.9}}, "near.ema: ", "fitted at once"),
    ("bert", {"method": "lora", "near": {"l2_sp": 0.1}}, "near.l2_sp: ", "as they are"),
    ("bert", {"method": "scratch", "near": {"l2_sp": 0.1}}, "near.l2_sp: ", "no pretrained weights"),
    ("bert", {"near": {"wise_ft": 0.5}}, "near.wise_ft: ", "a new head has no start to go back to"),
    ("bert", {"method": "few_shot", "near": {"wise_ft": 0.5}}, "near.wise_ft: ", "a new head has no start"),
    ("bert", {"method": "scratch", "near": {"wise_ft": 0.5}}, "near.wise_ft: ", "nothing to go back to"),
    ("bert", {"near": {"ema": 0.9}, "early_stopping_patience": 1}, "near.ema: ", "choose one"),
    ("bert", {"method": "lora", "merge": False, "near": {"soup": 2}}, "merge: ", "near.soup changes it"),
    ("bert", {"method": "frozen", "head": "linear", "loss": {"focal": 1.0}}, "loss.focal: ", "set head: torch"),
    ("bert", {"max_length": 65}, "max_length: ", "64 positions"),
    ("bert", {"method": "lora", "lora": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2}}, "lora: ", "merge"),
    ("bert", {"method": "ful"}, "finetune: method: ", "did you mean 'full'"),
    ("vit", {"task": "causal_lm"}, "task: ", "is for texts"),
]


@pytest.mark.parametrize("kind, options, begins, says", BAD)
def test_options_that_contradict_each_other(kind, options, begins, says, made, data):
    line = refuse(made[kind], data[kind], **options)
    assert line.startswith(begins) and says in line


@pytest.mark.parametrize(
    "make, options, begins",
    [
        (several, {"method": "few_shot"}, "method: few_shot"),
        (numbers, {"loss": {"class_weights": True}}, "loss.class_weights: "),
        (several, {"balanced": True}, "balanced: "),
        (numbers, {"task": "single_label_classification"}, "data: "),
        (numbers, {"calibrate": True}, "calibrate: "),
        (numbers, {"loss": {"focal": 2.0}}, "loss.focal: "),
        (numbers, {"training": {**QUICK, "label_smoothing_factor": 0.1}}, "training.label_smoothing_factor: "),
        (tags, {"method": "frozen", "head": "linear"}, "head: "),
    ],
)
def test_options_that_the_task_has_no_use_for(make, options, begins, made, tmp_path):
    line = refuse(made["bert"], make(tmp_path / "data.jsonl"), **options)
    assert line.startswith(begins)


def test_a_language_model_has_no_new_head(made, tmp_path):
    data = answers(tmp_path / "data.jsonl")
    for method in ("frozen", "linear_then_full"):
        assert refuse(made["gpt"], data, method=method).startswith(f"method: {method} fits a new head")
    assert refuse(made["gpt"], data, general=data).startswith("general: ")
    assert "AutoModelForCausalLM" in refuse(made["vit"], data) or "images" in refuse(made["vit"], data)


def test_data_that_cannot_be_learnt(made, tmp_path, reviews):
    ids = tmp_path / "ids.csv"
    ids.write_text("text,label\n" + "".join(f"the pan number {n},{n}\n" for n in range(40)))
    line = refuse(made["bert"], str(ids))
    assert line.startswith("data: ") and "label" in line
    other = reviews("target", 30, classes=3, name="other")
    line = refuse(made["bert"], reviews("source"), general=other)
    assert line.startswith("general: ") and "odd" in line


def test_a_plan_counts_rows_and_steps_and_reads_no_weights(made, data, monkeypatch):
    bare = made["bert"]
    monkeypatch.setattr("hftransfer.models.load_reported", None)
    steps = {"num_train_epochs": 2, "per_device_train_batch_size": 8}

    def planned(**options):
        found = plan(bare, data["bert"], training=steps, **options)
        return found["rows"], found["steps"]

    assert planned() == ({"train": 48, "test": 12}, 12)
    assert planned(method="frozen") == ({"train": 48, "test": 12}, 0)
    assert planned(method="frozen", head="torch")[1] == 12
    assert planned(method="frozen", loss={"focal": 1.0})[1] == 12
    assert planned(method="linear_then_full")[1] == 12
    assert planned(method="linear_then_full", head="torch")[1] == 24
    assert planned(method="few_shot")[1] == 12
    assert planned(folds=3)[1] == 12 + 3 * 8
    rows, count = planned(near={"soup": 3})
    assert rows == {"train": 41, "validation": 7, "test": 12} and count == 3 * 12
    assert plan(made["roberta"], data["roberta"], training=steps, method="frozen")["steps"] == 12
    assert plan(made["gpt"], data["gpt"])["class"] == "GPT2ForSequenceClassification"


@pytest.mark.parametrize("method", ["full", "partial", "lora", "frozen", "few_shot"])
def test_a_model_that_an_earlier_stage_will_make_can_be_planned(method, reviews, tmp_path, capsys):
    """`pretrain` on a new network: there is no checkpoint yet, only its config and a reader."""
    from hftransfer import recipe as front

    options = {"method": method, "training": QUICK, "max_length": 16} | (
        {"trainable": 1} if method == "partial" else {}
    )
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    written = {
        "name": "small", "model": "scratch/bert", "source": reviews("source"),
        "stages": [
            {"pretrain": {"data": "$source", "config": config, "training": QUICK, "max_length": 16}},
            {"finetune": {"data": "$source", **options}},
        ],
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(written))
    front.main([str(tmp_path / "mine.yaml"), "--dry_run", "--output_dir", str(tmp_path / "out")])
    assert "BertForSequenceClassification" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{}, {"method": "lora", "merge": False}])
def test_what_was_fine_tuned_is_evaluated_in_the_same_recipe(options, made, data, tmp_path, monkeypatch):
    """Also an adapter alone, whose base is looked for where the run is started too."""
    monkeypatch.chdir(made["bert"].parent)
    common = {"data": "$source", "max_length": 16}
    written = {"name": "small", "model": str(made["bert"]), "source": data["bert"]}
    written["stages"] = [{"finetune": {**common, "training": QUICK, **options}}, {"evaluate": common}]
    ran = hftransfer.run(written, output_dir=str(tmp_path / "out"))
    assert ran.metrics["evaluate"]["accuracy"] == ran.metrics["finetune"]["accuracy"]
    assert type(ran.model()).__name__ == "BertForSequenceClassification"


def test_the_labels_of_a_later_stage_are_known_to_the_plan(made, data, reviews, tmp_path):
    written = {"name": "small", "model": str(made["bert"]), "source": data["bert"]}
    other = reviews("target", 30, classes=3, name="other")
    written["stages"] = [
        {"finetune": {"data": "$source", "max_length": 16}},
        {"evaluate": {"data": other, "max_length": 16}},
    ]
    with pytest.raises(HFTransferError, match="odd"):
        hftransfer.run(written, output_dir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_smoothing_of_several_labels_is_ours(made, tmp_path, monkeypatch):
    """Trainer's own would be turned off with a warning."""
    asked = []
    task = tasks.find("multi_label_classification")
    loss = task.loss
    monkeypatch.setattr(task, "loss", lambda self, *a, **k: asked.append(k["smoothing"]) or loss(self, *a, **k))
    training = {**QUICK, "label_smoothing_factor": 0.1}
    finetune(made["bert"], several(tmp_path / "data.jsonl"), tmp_path / "out", training=training)
    assert set(asked) == {0.1}


def test_parts_that_change_and_ways_of_training(made, data, tmp_path):
    for number, options in enumerate(
        [
            {"method": "lora", "lora": {"r": 2}, "architecture": {"layers": 1}},
            {"method": "partial", "trainable": 1, "architecture": {"reinitialize_top": 2}},
        ]
    ):
        result = finetune(made["bert"], data["bert"], tmp_path / str(number), **options)
        assert result.metrics["accuracy"] == accuracy(opened(result.path, "bert"), result.path, data["bert"])
        assert not (result.path / "adapter").exists()  # its base would be a network that is nowhere
    with pytest.raises(HFTransferError, match="trainable: BertForSequenceClassification has 1 block"):
        finetune(made["bert"], data["bert"], tmp_path / "no", method="partial", architecture={"layers": 1})
    first = tmp_path / "0"
    with pytest.raises(HFTransferError, match=r"near.wise_ft: a new head.*\(new: classifier"):
        finetune(first, data["bert"], tmp_path / "no", architecture={"head": "new"}, near={"wise_ft": 0.3})
    back = finetune(first, data["bert"], tmp_path / "back", near={"wise_ft": 0})
    assert load_file(back.path / "model.safetensors").keys() == load_file(first / "model.safetensors").keys()
    for name, value in load_file(back.path / "model.safetensors").items():
        assert torch.equal(value, load_file(first / "model.safetensors")[name])
