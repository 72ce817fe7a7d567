"""The same network with fewer blocks, another head or other fields: what is kept is exact, and all is counted."""

import copy

import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    WavLMConfig,
    WavLMForSequenceClassification,
)
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hftransfer import architecture, models, tuning
from hftransfer.errors import HFTransferError

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
LABELS = ["calm", "loud", "odd"]
IDS = torch.tensor([[2, 9, 14, 30, 12, 3]])
CHECKPOINTS = {
    "bert": (BertForSequenceClassification, BertConfig, SIZES),
    "roberta": (RobertaForSequenceClassification, RobertaConfig, {**SIZES, "max_position_embeddings": 34}),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig,
        {"dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 32, "sinusoidal_pos_embds": True},
    ),
    "gpt2": (GPT2LMHeadModel, GPT2Config, {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 32}),
    "llama": (LlamaForCausalLM, LlamaConfig, {**SIZES, "num_key_value_heads": 1}),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {
            **SIZES,
            "num_key_value_heads": 1,
            "use_sliding_window": True,
            "max_window_layers": 2,
            "sliding_window": 3,
            "tie_word_embeddings": True,
        },
    ),
    "vit": (ViTForImageClassification, ViTConfig, {**SIZES, "image_size": 8, "patch_size": 4}),
}
TASKS = [(name, "text_classification") for name in CHECKPOINTS if name != "vit"] + [("vit", "image_classification")]
TASKS += [(name, "causal_lm") for name in ("gpt2", "llama", "qwen2")]


def named(labels):
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def head_of(job):
    return {} if job == "causal_lm" else named(LABELS)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, word_tokenizer):
    """Folders of four-block networks with spread-out weights; a trained head where their class has one."""
    made = {}
    for name, (cls, config, sizes) in CHECKPOINTS.items():
        torch.manual_seed(0)
        special = {} if name == "vit" else {"vocab_size": len(word_tokenizer), "pad_token_id": 0}
        network = cls(config(**sizes, **special, **named(LABELS)))
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.2 * torch.randn_like(value))
        made[name] = str(tmp_path_factory.mktemp(name) / name)
        network.save_pretrained(made[name])
        half = [0.5] * 3
        reader = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=half, image_std=half)
        (reader if name == "vit" else word_tokenizer).save_pretrained(made[name])
    return made


def change(model, job, spec, head=None):
    kind = "image" if job.startswith("image") else "text"
    return architecture.changed(model, job, head_of(job) if head is None else head, spec, kind=kind)


@torch.no_grad()
def logits(network):
    config = network.config
    if hasattr(config, "image_size"):
        torch.manual_seed(1)
        return network(pixel_values=torch.randn(2, config.num_channels, config.image_size, config.image_size)).logits
    return network(input_ids=IDS).logits


def reloaded(network, job, folder):
    network.save_pretrained(folder)
    auto = getattr(transformers, models.AUTO_CLASSES[job])
    again, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    return again


def adds_up(made):
    whole = sum(value.numel() for value in made.network.parameters())
    assert sum(row[1] for row in made.table["rows"]) == whole
    assert all(row[1] == sum(row[2:]) for row in made.table["rows"])
    assert {len(row) for row in made.table["rows"]} == {len(made.table["columns"])}
    return {row[0]: row[2:] for row in made.table["rows"]}


@pytest.mark.parametrize("name, job", TASKS)
def test_nothing_changed_is_the_checkpoint(checkpoints, name, job):
    loaded, new = models.load_reported(checkpoints[name], job, **head_of(job))
    made = change(checkpoints[name], job, {})
    assert set(made.new) == set(new)
    theirs = loaded.state_dict()
    assert made.network.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[n]) for n, value in made.network.state_dict().items() if n not in new)
    if not new:
        assert torch.equal(logits(made.network), logits(loaded))
    rows = adds_up(made)
    assert sum(row[2] for row in rows.values()) == sum(loaded.get_parameter(n).numel() for n in new)
    assert not any(row[1] for row in rows.values())


@pytest.mark.parametrize("chosen", [[1, 2], [3, 0], [2]])
@pytest.mark.parametrize("name, job", TASKS)
def test_kept_layers_are_those_of_the_checkpoint(checkpoints, name, job, chosen, tmp_path):
    """As the old network whose list of blocks was cut by hand, through a save and a plain load."""
    made = change(checkpoints[name], job, {"layers": chosen})
    old = models.load(checkpoints[name], job, **head_of(job))
    stack = tuning.blocks(old)
    for ours, number in zip(tuning.blocks(made.network), chosen, strict=True):
        theirs = stack[number].state_dict()
        assert all(torch.equal(value, theirs[n]) for n, value in ours.state_dict().items())
    kept = [stack[number] for number in chosen]
    del stack[:]
    stack.extend(kept)
    for place, block in enumerate(stack):  # what a cache of keys and values counts by
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    types = getattr(old.config, "layer_types", None)
    old.config.num_hidden_layers = len(chosen)
    if types:
        old.config.layer_types = [types[number] for number in chosen]
    old.load_state_dict({n: v for n, v in made.network.state_dict().items() if n in made.new}, strict=False)
    assert torch.allclose(logits(made.network), logits(old), atol=1e-6)
    assert torch.equal(logits(reloaded(made.network, job, tmp_path)), logits(made.network))
    named = f"layers {', '.join(map(str, chosen))} of 4 are" if len(chosen) > 1 else f"layer {chosen[0]} of 4 is"
    assert f"{named} kept" in made.notes
    assert adds_up(made)["blocks"][1:] == [0, 0]


@pytest.mark.parametrize("name, job", TASKS)
def test_all_layers_are_the_identity(checkpoints, name, job):
    torch.manual_seed(0)
    whole = change(checkpoints[name], job, {"layers": 4})
    torch.manual_seed(0)
    assert torch.equal(logits(whole.network), logits(change(checkpoints[name], job, {}).network))


@pytest.mark.parametrize("layers, chosen", [(3, "0, 1, 2"), ("every_second", "0, 2"), ([3, 1], "3, 1")])
def test_ways_to_name_layers(checkpoints, layers, chosen):
    made = change(checkpoints["bert"], "text_classification", {"layers": layers})
    assert f"layers {chosen} of 4 are kept" in made.notes
    assert made.network.config.num_hidden_layers == len(tuning.blocks(made.network)) == len(chosen.split(", "))


@pytest.mark.parametrize(
    "layers, message",
    [
        (5, "architecture.layers: BertForSequenceClassification has 4 blocks, and 5 cannot be kept"),
        ([0, 4], "architecture.layers: BertForSequenceClassification has 4 blocks, 0 to 3; there is no block 4"),
        ([1, 1], "architecture.layers: block 1 is named twice"),
        (0, "architecture.layers: expected whole number"),
        ([], "architecture.layers: expected whole number"),
        ([-1], "architecture.layers: expected whole number"),
        ("every_other", "architecture.layers: expected whole number.*did you mean|architecture.layers: expected"),
    ],
)
def test_layers_that_are_not_there(checkpoints, layers, message):
    with pytest.raises(HFTransferError, match=message):
        change(checkpoints["bert"], "text_classification", {"layers": layers})


def test_blocks_that_cannot_stand_in_each_others_place():
    torch.manual_seed(0)
    network = WavLMForSequenceClassification(WavLMConfig(**SIZES, conv_dim=[8] * 7, num_conv_pos_embeddings=16))
    with pytest.raises(HFTransferError, match=r"block 1 cannot stand in place 0: attention\.rel_attn_embed"):
        architecture.changed(network, "audio_classification", named(LABELS), {"layers": [1, 2]}, kind="sound")


def test_blocks_that_share_their_weights(word_tokenizer):
    config = transformers.AlbertConfig(**SIZES, vocab_size=60, embedding_size=8)
    network = transformers.AlbertForSequenceClassification(config)
    with pytest.raises(HFTransferError, match="has 1 blocks of weights and its config 4 layers"):
        change(network, "text_classification", {"layers": 2})


def test_a_recurrent_network_has_no_blocks(tmp_path, word_tokenizer):
    from hftransfer.lstm import LSTMConfig, LSTMForCausalLM

    LSTMForCausalLM(LSTMConfig(vocab_size=len(word_tokenizer), hidden_size=8)).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(HFTransferError, match=r"architecture\.layers: LSTMForCausalLM has no list of blocks"):
        change(str(tmp_path), "causal_lm", {"layers": 1})
    assert "lstm" in adds_up(change(str(tmp_path), "causal_lm", {}))


@pytest.mark.parametrize("name, job", [("bert", "text_classification"), ("gpt2", "causal_lm")])
def test_the_top_begins_anew_as_the_architecture_begins(checkpoints, name, job, tmp_path):
    made = change(checkpoints[name], job, {"layers": 3, "reinitialize_top": 2})
    old, stack = tuning.blocks(models.load(checkpoints[name], job)), tuning.blocks(made.network)
    changed = [not torch.equal(next(stack[n].parameters()), next(old[n].parameters())) for n in range(3)]
    assert changed == [False, True, True]
    for block in stack[1:]:
        matrices = [value for value in block.parameters() if value.dim() == 2]
        assert matrices and all(0.005 < float(value.detach().std()) < 0.03 for value in matrices)
    rows = adds_up(made)
    assert rows["blocks"][2] == 2 * rows["blocks"][0]
    if name == "bert":
        assert rows["pooler"][0] == 0 and rows["pooler"][2] > 0
        assert "the top 2 blocks and the pooler begin anew" in made.notes
    assert torch.equal(logits(reloaded(made.network, job, tmp_path)), logits(made.network))


def test_more_blocks_anew_than_are_kept(checkpoints):
    with pytest.raises(HFTransferError, match=r"architecture\.reinitialize_top: 2 blocks are kept, and 3 cannot"):
        change(checkpoints["bert"], "text_classification", {"layers": 2, "reinitialize_top": 3})


@pytest.mark.parametrize("name, job", [("bert", "text_classification"), ("vit", "image_classification")])
def test_a_trained_head_of_the_same_labels_is_kept(checkpoints, name, job):
    old = models.load(checkpoints[name], job)
    for wanted in (None, "kept"):
        made = change(checkpoints[name], job, {"head": wanted})
        assert torch.equal(logits(made.network), logits(old)) and made.new == []
        assert "the trained head is kept: its labels are the same (calm, loud, odd)" in made.notes
    made = change(checkpoints[name], job, {"head": "new"})
    assert not torch.equal(logits(made.network), logits(old)) and adds_up(made)["head"][0] == 0
    assert "the trained head is replaced by a new one for calm, loud, odd: as asked" in made.notes


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"], ["odd", "loud", "calm"]])
def test_a_head_of_other_labels_is_replaced_however_many_they_are(checkpoints, labels):
    made = change(checkpoints["roberta"], "text_classification", {}, named(labels))
    assert made.network.config.id2label == dict(enumerate(labels))
    assert set(made.new) == {f"classifier.{n}.{kind}" for n in ("dense", "out_proj") for kind in ("weight", "bias")}
    assert "it knew calm, loud, odd" in " ".join(made.notes)
    with pytest.raises(
        HFTransferError, match=r"architecture\.head: the trained head knows calm, loud, odd, and the da"
    ):
        change(checkpoints["roberta"], "text_classification", {"head": "kept"}, named(labels))


@pytest.mark.parametrize("name, job", [("roberta", "text_classification"), ("vit", "image_classification")])
def test_a_wider_head_keeps_the_rows_of_known_labels(checkpoints, name, job, tmp_path):
    labels = ["odd", "shrill", "calm", "dull", "loud"]
    made = change(checkpoints[name], job, {"head": "widened"}, named(labels))
    wide, old = logits(made.network), logits(models.load(checkpoints[name], job))
    for number, label in enumerate(LABELS):
        assert torch.allclose(wide[:, labels.index(label)], old[:, number], atol=1e-6)
    last = models.last_linear(made.network)
    assert all(0.005 < last.weight[number].std().item() < 0.05 for number in (1, 3))  # as the architecture begins
    rows = adds_up(made)["head"]
    assert rows[2] == 2 * (last.in_features + 1)
    assert len(made.new) == 2 and all(path.endswith(("weight", "bias")) for path in made.new)
    assert "the rows of odd, calm, loud are carried over, shrill, dull are new" in " ".join(made.notes)
    assert torch.equal(logits(reloaded(made.network, job, tmp_path)), wide)


def test_a_task_that_names_no_problem_has_the_usual_one(checkpoints, tmp_path, word_tokenizer):
    """As `models.load` has it: a regression's own loss would be kept."""
    config = BertConfig(**SIZES, vocab_size=len(word_tokenizer), num_labels=1, problem_type="regression")
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    head = {name: value for name, value in named(LABELS).items() if name != "problem_type"}
    made = change(str(tmp_path), "text_classification", {}, head)
    assert made.network.config.problem_type == "single_label_classification"


def test_a_wider_head_that_knows_no_label_or_does_not_exist(checkpoints):
    with pytest.raises(HFTransferError, match="knows calm, loud, odd and none of no, yes"):
        change(checkpoints["bert"], "text_classification", {"head": "widened"}, named(["no", "yes"]))
    for wanted in ("kept", "widened"):
        with pytest.raises(HFTransferError, match=f"the checkpoint has no trained head that could be {wanted}"):
            change(checkpoints["gpt2"], "text_classification", {"head": wanted})
    with pytest.raises(HFTransferError, match=r"architecture\.head: a language model has no head of labels"):
        change(checkpoints["gpt2"], "causal_lm", {"head": "new"})


def test_fields_of_the_config(checkpoints, tmp_path):
    made = change(checkpoints["bert"], "text_classification", {"config": {"hidden_dropout_prob": 0.3}})
    assert made.network.bert.embeddings.dropout.p == 0.3
    assert torch.equal(logits(made.network), logits(models.load(checkpoints["bert"], "text_classification")))
    assert "the config has hidden_dropout_prob 0.3" in made.notes
    spec = {"config": {"intermediate_size": 48}}
    made = change(checkpoints["bert"], "text_classification", spec)
    assert "the config has intermediate_size 48: 12 weights of another shape are new" in made.notes
    assert len(made.new) == 12
    again = reloaded(made.network, "text_classification", tmp_path)
    assert torch.equal(logits(again), logits(made.network)) and again.config.intermediate_size == 48


def test_an_output_layer_that_is_no_longer_tied_begins_as_the_embeddings(checkpoints, tmp_path):
    made = change(checkpoints["gpt2"], "causal_lm", {"config": {"tie_word_embeddings": False}})
    assert torch.equal(logits(made.network), logits(models.load(checkpoints["gpt2"], "causal_lm")))
    assert made.network.lm_head.weight is not made.network.transformer.wte.weight
    rows = adds_up(made)
    assert rows["head"] == [made.network.lm_head.weight.numel(), 0, 0] and made.new == []
    assert torch.equal(logits(reloaded(made.network, "causal_lm", tmp_path)), logits(made.network))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_dropout": 0.1}, r"architecture\.config\.hidden_dropout: BertConfig has no such field; did you mean"),
        ({"num_hidden_layers": 2}, r"architecture\.config\.num_hidden_layers: .*give architecture\.layers"),
        ({"vocab_size": 9}, r"architecture\.config\.vocab_size: .*give architecture\.tokenizer"),
        (
            {"hidden_size": 15},
            r"architecture: BertForSequenceClassification refuses this hidden_size \(The hidden size",
        ),
        ({"hidden_size": "wide"}, r"architecture\.config: BertConfig refuses it"),
    ],
)
def test_fields_that_are_not_set_so(checkpoints, fields, message):
    with pytest.raises(HFTransferError, match=message):
        change(checkpoints["bert"], "text_classification", {"config": fields})


def test_an_architecture_s_own_name_of_a_field_counts_as_the_field(checkpoints):
    with pytest.raises(HFTransferError, match=r"architecture\.config\.n_layer: .*give architecture\.layers"):
        change(checkpoints["gpt2"], "causal_lm", {"config": {"n_layer": 2}})


def test_an_unknown_option_names_the_nearest(checkpoints):
    with pytest.raises(
        HFTransferError, match=r"architecture\.layer: unknown key; did you mean 'architecture\.layers'"
    ):
        change(checkpoints["bert"], "text_classification", {"layer": 2})


def test_a_pooler_that_the_class_leaves_out_goes_along(checkpoints, tmp_path):
    """ViT's classifier has no pooler; one in the checkpoint is kept for what may come next."""
    config = ViTConfig(**SIZES, image_size=8, patch_size=4)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path)
    made = change(str(tmp_path), "image_classification", {"layers": 2})
    loaded = models.load(str(tmp_path), "image_classification", **named(LABELS))
    assert torch.equal(made.network.vit.pooler.dense.weight, loaded.vit.pooler.dense.weight)
    assert adds_up(made)["pooler"] == [sum(p.numel() for p in loaded.vit.pooler.parameters()), 0, 0]


def test_a_model_object_is_left_alone_and_gives_its_masked_lm_head(checkpoints):
    torch.manual_seed(0)
    network = BertForMaskedLM(BertConfig(**SIZES, vocab_size=60))
    network.config._name_or_path = network.name_or_path = checkpoints["bert"]
    before = copy.deepcopy(network.state_dict())
    made = change(network, "causal_lm", {"is_decoder": True, "layers": 2})
    assert torch.equal(
        made.network.cls.predictions.transform.dense.weight, before["cls.predictions.transform.dense.weight"]
    )
    assert made.new == []
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays(checkpoints, tmp_path, word_tokenizer, dtype):
    network = models.load(checkpoints["bert"], "text_classification").to(dtype)
    network.config.dtype = dtype
    network.save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    made = change(str(tmp_path), "text_classification", {"layers": 2, "head": "widened"}, named([*LABELS, "shrill"]))
    assert {value.dtype for value in made.network.parameters()} == {dtype}
    assert torch.equal(made.network.classifier.weight[:3], network.classifier.weight)


def test_the_seed_decides_what_is_new(checkpoints):
    spec = {"layers": 3, "reinitialize_top": 1, "head": "new"}
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(logits(change(checkpoints["bert"], "text_classification", spec).network))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_a_network_with_nothing_carried_over_is_all_new(checkpoints):
    network = models.load(checkpoints["vit"], "image_classification")
    table = architecture.summary(network, {})
    whole = sum(value.numel() for value in network.parameters())
    assert [sum(row[column] for row in table["rows"]) for column in range(1, 5)] == [whole, 0, 0, whole]
    assert [row[0] for row in table["rows"]] == ["embeddings", "blocks", "layernorm", "head"]
    assert table["title"] == f"0 of {whole:,} parameters are carried over"
