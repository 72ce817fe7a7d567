"""Adapters: what trains exactly, what a folder holds, what comes back, for BERT, GPT-2 and ViT."""

import copy
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2Model,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
)

import hftransfer
from hftransfer import adapters, models
from hftransfer.errors import HFTransferError
from hftransfer.foreign import dataclass_fields
from hftransfer.peft_methods import REFUSED_METHODS, UNMERGEABLE, AdapterFields, peft_methods
from hftransfer.trainers.exact import ExactTrainer, training_arguments

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LABELS = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
JOBS = {"bert": "text_classification", "gpt": "text_classification", "vit": "image_classification"}
NEW = {"bert": {"bert.pooler.dense", "classifier"}, "gpt": {"score"}, "vit": {"classifier"}}
BERT_DENSE = ["attention.output.dense", "intermediate.dense", "output.dense"]
LINEAR = {
    "bert": [f"attention.self.{part}" for part in ("query", "key", "value")] + BERT_DENSE,
    "gpt": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    "vit": ["attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2"],
}
STACK = {"bert": "bert.encoder.layer", "gpt": "transformer.h", "vit": "vit.layers"}
SAVED = {  # ways of which folders are read by plain transformers and PEFT in a fresh process
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True, "r": 4},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa_niter": {"init_lora_weights": "pissa_niter_4", "use_dora": True},
    "pissa_rslora": {"init_lora_weights": "pissa", "use_rslora": True, "r": 2},
    "pissa_patterns": {"init_lora_weights": "pissa", "rank_pattern": {"dense": 2}, "alpha_pattern": {"dense": 3}},
    "bias": {"bias": "all"},
    "loha": {"peft_type": "LOHA"},
    "ia3": {"peft_type": "IA3"},
    "vera": {"peft_type": "VERA"},
}
SMALL = {  # what these methods need in a network this small
    "C3A": {"block_size": 16},
    "MISS": {"r": 8},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 4},
    "VBLORA": {"vector_length": 16, "num_vectors": 64},
    "WAVEFT": {"n_frequency": 100},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Checkpoints that lack what a classifier needs: BERT its pooler too."""
    torch.manual_seed(0)
    places = {name: tmp_path_factory.mktemp("bases") / f"tiny_{name}" for name in JOBS}
    BertForMaskedLM(BertConfig(vocab_size=80, max_position_embeddings=64, **SIZES)).save_pretrained(places["bert"])
    ids = {"bos_token_id": 1, "eos_token_id": 0}
    gpt = GPT2Config(vocab_size=80, n_embd=32, n_layer=2, n_head=2, n_positions=64, **ids)
    GPT2Model(gpt).save_pretrained(places["gpt"])
    vit = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **SIZES))
    vit.vit.save_pretrained(places["vit"])
    return places


def begun(bases, name):
    """(network, names of its new weights); the new weights are the same each time."""
    torch.manual_seed(1)
    return models.load_reported(str(bases[name]), JOBS[name], **LABELS)


def batch(name, rows=3):
    torch.manual_seed(2)
    if name == "vit":
        return {"pixel_values": torch.randn(rows, 3, 16, 16)}
    mask = torch.ones(rows, 9, dtype=torch.long)
    mask[0, 6:] = 0
    return {"input_ids": torch.randint(2, 80, (rows, 9)) * mask, "attention_mask": mask}


@torch.no_grad()
def logits(network, name):
    return network.eval()(**batch(name)).logits


def trained(model, name, steps=3):
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for _ in range(steps):
        loss = model(**batch(name), labels=torch.tensor([0, 1, 2])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def made(bases, name, **fields):
    network, new = begun(bases, name)
    return adapters.wrapped(network, AdapterFields().check(fields), new=new, job=JOBS[name])


def plainly(network, folder):
    """As PEFT's users load it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peft.PeftModel.from_pretrained(network, folder)


@pytest.mark.parametrize("fields", [{}, {"use_dora": True}], ids=["lora", "dora"])
@pytest.mark.parametrize("name", JOBS)
def test_every_linear_layer_in_the_blocks_trains_and_the_new_weights_and_nothing_else(bases, name, fields):
    model = made(bases, name, **fields)
    layers = {f"{STACK[name]}.{block}.{end}" for block in range(2) for end in LINEAR[name]}
    matrices = ["lora_A.default.weight", "lora_B.default.weight"]
    matrices += ["lora_magnitude_vector.default.weight"] if fields else []
    expected = {f"base_model.model.{layer}.{matrix}" for layer in layers for matrix in matrices}
    ends = ("weight",) if name == "gpt" else ("weight", "bias")  # GPT-2's score has no bias
    expected |= {f"base_model.model.{module}.modules_to_save.default.{end}" for module in NEW[name] for end in ends}
    assert {key for key, value in model.named_parameters() if value.requires_grad} == expected
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trained(model, name)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == expected


@pytest.mark.parametrize("name", JOBS)
def test_a_head_that_the_checkpoint_gave_stays_unless_it_is_named(bases, name, tmp_path):
    network, _ = begun(bases, name)
    network.save_pretrained(tmp_path)
    network, new = models.load_reported(str(tmp_path), JOBS[name], **LABELS)
    assert new == []
    model = adapters.wrapped(network, {}, new=new, job=JOBS[name])
    assert not any("modules_to_save" in key for key, _ in model.named_parameters())
    head = sorted(NEW[name])[-1]
    network, new = models.load_reported(str(tmp_path), JOBS[name], **LABELS)
    model = adapters.wrapped(network, {"modules_to_save": [head]}, new=new, job=JOBS[name])
    held = {key for key, value in model.named_parameters() if value.requires_grad and "modules_to_save" in key}
    assert held and all(f".{head}.modules_to_save." in key for key in held)


def test_a_module_whose_name_ends_like_a_new_one_s_stays(bases):
    """PEFT takes names by their ends: DistilBERT's `pre_classifier` with its `classifier`."""
    network, _ = begun(bases, "bert")
    network.pre_classifier = torch.nn.Linear(2, 2)
    model = adapters.wrapped(network, {}, new=["classifier.weight", "classifier.bias"])
    training = [key for key, value in model.named_parameters() if value.requires_grad]
    assert any(".classifier.modules" in key for key in training)
    assert not any("pre_classifier" in key for key in training)


def test_new_layers_in_the_blocks_train_whole_and_are_not_adapted(bases):
    network, new = begun(bases, "bert")
    again = [key for key, _ in network.named_parameters() if ".layer.1." in key]
    model = adapters.wrapped(network, {}, new=[*new, *again])
    training = [key for key, value in model.named_parameters() if value.requires_grad]
    assert not any("lora_" in key and ".layer.1." in key for key in training)
    assert len([key for key in training if ".layer.1." in key]) == len(again)
    trained(model, "bert")
    before = logits(model, "bert")
    assert torch.allclose(logits(adapters.merged(model), "bert"), before, atol=1e-5)


@pytest.mark.parametrize("way", ["lora", "dora", "rslora", "pissa", "ia3"])
@pytest.mark.parametrize("name", JOBS)
def test_merged_is_the_plain_network_with_the_same_logits(bases, name, way):
    network, _ = begun(bases, name)
    network.requires_grad_(True)
    still = next(key for key, _ in network.named_parameters())
    expected = {key: value.shape for key, value in network.state_dict().items()}
    network, new = begun(bases, name)
    network.get_parameter(still).requires_grad_(False)
    model = trained(adapters.wrapped(network, SAVED[way], new=new, job=JOBS[name]), name)
    before = logits(model, name)
    merged = adapters.merged(model)
    assert type(merged) is type(network)
    assert torch.allclose(logits(merged, name), before, atol=1e-5)
    assert {key: value.shape for key, value in merged.state_dict().items()} == expected
    assert [key for key, value in merged.named_parameters() if not value.requires_grad] == [still]
    assert not any(isinstance(module, peft.tuners.tuners_utils.BaseTunerLayer) for module in merged.modules())


READ = """
import json, sys, warnings
import torch
from safetensors.torch import load_file, save_file
import peft, transformers

warnings.simplefilter("ignore")
asked, alone, out = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
found = {}

def keep(name, model, inputs):
    with torch.no_grad():
        found[name] = model.eval()(**load_file(inputs)).logits

for name, folder, base, kind, inputs in asked:
    config = transformers.AutoConfig.from_pretrained(f"{folder}/base_config.json")
    network = getattr(transformers, kind).from_pretrained(base, config=config)
    keep(name, peft.PeftModel.from_pretrained(network, folder), inputs)
keep("auto", peft.AutoPeftModelForSequenceClassification.from_pretrained(alone, num_labels=3), inputs=asked[0][-1])
whole = transformers.AutoModelForSequenceClassification.from_pretrained(alone, num_labels=3)
keep("transformers", whole, inputs=asked[0][-1])
save_file(found, out)
"""


def test_a_fresh_process_gives_the_same_logits_with_transformers_and_peft_alone(bases, tmp_path):
    """The base by its config and weights; or by the name in the adapter, where it is there under that name."""
    expected, asked = {}, []
    for name, job in JOBS.items():
        inputs = tmp_path / f"{name}.safetensors"
        save_file(batch(name), inputs)
        for way, fields in SAVED.items():
            if (name, way) == ("gpt", "loha"):  # PEFT's has no layer for GPT-2's
                continue
            model = trained(made(bases, name, **fields), name)
            folder = tmp_path / name / way
            adapters.save(model, folder, bases[name].name)
            expected[f"{name} {way}"] = logits(model, name)
            place = [str(folder), str(bases[name]), models.AUTO_CLASSES[job], str(inputs)]
            asked.append([f"{name} {way}", *place])
    out, alone = tmp_path / "found.safetensors", tmp_path / "bert" / "pissa"
    command = [sys.executable, "-c", READ, json.dumps(asked), str(alone), str(out)]
    subprocess.run(command, check=True, capture_output=True, cwd=bases["bert"].parent)
    found = load_file(out)
    assert len(found) == len(expected) + 2 == 3 * len(SAVED) - 1 + 2
    expected |= dict.fromkeys(("auto", "transformers"), expected["bert pissa"])
    wrong = [key for key, value in expected.items() if not torch.allclose(found[key], value, atol=1e-5)]
    assert wrong == []


@pytest.mark.parametrize("name", JOBS)
def test_a_folder_holds_the_adapter_the_head_and_no_local_path(bases, name, tmp_path):
    model = made(bases, name, init_lora_weights="pissa", r=2)
    adapters.save(model, tmp_path / "adapter", "someone/tiny")
    folder = tmp_path / "adapter"
    assert {path.name for path in folder.iterdir()} == {adapters.WEIGHTS, adapters.CONFIG, adapters.BASE_CONFIG}
    for file in (adapters.CONFIG, adapters.BASE_CONFIG):
        text = (folder / file).read_text()
        assert str(bases[name].parent) not in text and str(Path.home()) not in text
    config = json.loads((folder / adapters.CONFIG).read_text())
    assert config["base_model_name_or_path"] == "someone/tiny" and config["inference_mode"] is True
    assert config["task_type"] == ("SEQ_CLS" if name != "vit" else None)
    assert config["r"] == 4 and config["init_lora_weights"] is True  # of the untouched base
    whole = json.loads((folder / adapters.BASE_CONFIG).read_text())
    assert whole["id2label"] == {"0": "a", "1": "b", "2": "c"} and whole["architectures"] == [
        type(model.get_base_model()).__name__
    ]


def test_an_adapter_s_files_are_the_same_in_every_process(bases, tmp_path):
    """PEFT keeps names in sets, whose order is a process's own."""
    model = made(bases, "bert", exclude_modules=["key", "value", "intermediate.dense"])
    adapters.save(model, tmp_path, "someone/tiny")
    config = json.loads((tmp_path / adapters.CONFIG).read_text())
    for field in ("target_modules", "exclude_modules", "modules_to_save"):
        assert len(config[field]) > 1 and config[field] == sorted(config[field])


@pytest.mark.parametrize("method", sorted(peft_methods()))
def test_every_method_of_peft_works_or_says_why_not(bases, method, tmp_path):
    """Trained, saved, put on the base again by PEFT and by us, merged: the same logits."""
    fields = {"peft_type": method, **SMALL.get(method, {})}
    if method in REFUSED_METHODS:
        with pytest.raises(ValueError, match="; choose another method"):
            AdapterFields().check(fields)
        return
    name = {"SHADOW": "gpt"}.get(method, "bert")
    if method in ("ADAPTION_PROMPT", "TRAINABLE_TOKENS"):
        with pytest.raises(HFTransferError, match="cannot train a new head beside it; choose another method"):
            made(bases, name, **fields)
        return
    if "num_virtual_tokens" in dataclass_fields(*peft_methods()[method]):
        fields["num_virtual_tokens"] = 4
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="(?s).*(sparse|Sparse|CUDA)", category=UserWarning
        )  # PEFT's, torch's
        model = trained(made(bases, name, **fields), name)
        expected = logits(model, name)
        adapters.save(model, tmp_path / "adapter", "someone/tiny")
        network, _ = begun(bases, name)
        assert torch.allclose(logits(plainly(network, tmp_path / "adapter"), name), expected, atol=1e-5)
        assert adapters.can_merge(model) == (method not in UNMERGEABLE)
        if method in UNMERGEABLE:
            with pytest.raises(HFTransferError, match="acts beside the weights and cannot become part of them"):
                adapters.merged(model)
            return
        network, _ = begun(bases, name)
        assert torch.allclose(logits(adapters.put_on(network, tmp_path / "adapter"), name), expected, atol=1e-5)
        assert torch.allclose(logits(adapters.merged(model), name), expected, atol=1e-5)


def test_eva_begins_from_rows(bases, tmp_path):
    network, new = begun(bases, "bert")
    rows = [batch("bert", 16) for _ in range(3)]
    fields = {"init_lora_weights": "eva", "r": 4, "eva_config": {"rho": 2.0}}
    model = adapters.wrapped(network, fields, new=new, job="text_classification", batches=rows)
    trained(model, "bert")
    adapters.save(model, tmp_path / "adapter", "someone/tiny")
    again, _ = begun(bases, "bert")
    assert torch.allclose(logits(plainly(again, tmp_path / "adapter"), "bert"), logits(model, "bert"), atol=1e-5)


@pytest.mark.parametrize(
    "name, fields, said",
    [
        ("bert", {"target_modules": ["nothing"]}, "BertForSequenceClassification has no layer 'nothing'"),
        ("bert", {"target_modules": ["query", "valeu"]}, "no layer 'valeu'; its linear layers: query, key, value, "),
        ("gpt", {"target_modules": ["query"]}, "no layer 'query'; its linear layers: c_attn, c_proj, c_fc, score"),
        ("vit", {"target_modules": "query"}, "nothing in ViTForImageClassification matches 'query'; a text is a "),
        ("vit", {"target_modules": "q("}, "lora.target_modules: 'q(' is no pattern"),
        ("bert", {"target_modules": ["LayerNorm"]}, "lora: Target module LayerNorm"),
        ("bert", {"modules_to_save": ["clasifier"]}, "part of BertForSequenceClassification is named 'clasi"),
        ("gpt", {"peft_type": "LOHA"}, "; choose another method, or other lora.target_modules"),
        ("gpt", {"init_lora_weights": "olora"}, "olora cannot begin in GPT2ForSequenceClassification; use pissa"),
        ("bert", {"init_lora_weights": "eva"}, "lora.init_lora_weights: eva reads texts before training"),
        ("bert", {"init_lora_weights": "pissa", "use_rslora": True, "rank_pattern": {"query": 2}}, "cannot be saved"),
        ("bert", {"use_dora": True, "lora_bias": True}, "lora: The argument lora_bias=True is not supported for DoRA"),
        ("vit", {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}, "PREFIX_TUNING puts words in front of texts"),
        ("bert", {"peft_type": "PREFIX_TUNING"}, "lora.num_virtual_tokens: PREFIX_TUNING needs it"),
        ("gpt", {"peft_type": "P_TUNING", "num_virtual_tokens": 4}, "P_TUNING hides from GPT2ForSequenceClassificat"),
        ("vit", {"peft_type": "SHADOW"}, "SHADOW is for language models"),
        ("gpt", {"peft_type": "OSF"}, "lora: OSF adapts no layer of GPT2ForSequenceClassification"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_in_one_line(bases, name, fields, said):
    with pytest.raises(HFTransferError) as error:
        made(bases, name, **fields)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_network_of_new_weights_has_nothing_to_adapt(bases):
    network, _ = begun(bases, "bert")
    with pytest.raises(HFTransferError, match="every weight is new"):
        adapters.wrapped(network, {}, new=[key for key, _ in network.named_parameters()])


@pytest.mark.parametrize("name", JOBS)
def test_fields_are_tried_on_a_network_without_weights(bases, name):
    def tried(merge=True, **fields):
        skeleton = models.skeleton(models.config_of(str(bases[name])), JOBS[name])
        adapters.check(skeleton, fields, job=JOBS[name], merge=merge)

    for fields in (
        {},
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"peft_type": "IA3"},
        {"peft_type": "VERA"},
    ):
        tried(**fields)
    with pytest.raises(HFTransferError, match="has no layer 'nothing'; its linear layers: "):
        tried(target_modules=["nothing"])
    prompts = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
    with pytest.raises(HFTransferError, match="lora: PREFIX_TUNING as set acts beside the weights"):
        tried(**prompts)
    if name != "vit":
        tried(merge=False, **prompts)


@pytest.mark.parametrize("name", JOBS)
def test_a_pretraining_trains_adapters_and_leaves_the_network_as_it_was_built(bases, name):
    network, _ = begun(bases, name)
    expected = copy.deepcopy(network)
    with adapters.trained(network, {"r": 2}):
        assert sum(p.requires_grad for p in network.parameters()) == 2 * 2 * len(LINEAR[name])
    assert [key for key, _ in network.named_parameters()] == [key for key, _ in expected.named_parameters()]
    assert all(p.requires_grad for p in network.parameters())
    assert torch.allclose(logits(network, name), logits(expected, name), atol=1e-6)
    with adapters.trained(network, None):
        assert all(p.requires_grad for p in network.parameters())


class Stopped(Exception):
    """Stands for a kill between two steps."""


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Stopped


def fitted(bases, name, fields, folder, stop=None):
    """A wrapper after six steps of `ExactTrainer`, or killed before."""
    model = made(bases, name, **fields)
    rows = [{**{key: value[0] for key, value in batch(name, 1).items()}, "labels": row % 3} for row in range(12)]
    for number, row in enumerate(rows):
        key = "pixel_values" if name == "vit" else "input_ids"
        row[key] = row[key].roll(number, -1)
    training = {"max_steps": 6, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}
    training |= {"learning_rate": 1e-2, "bf16": False}
    trainer = ExactTrainer(
        label="adapter", model=model, args=training_arguments(training, folder, 5), train_dataset=rows,
        callbacks=[StopAt(stop)] if stop else [],
    )  # fmt: skip
    trainer.train_or_resume()
    return model


@pytest.mark.parametrize("way", ["lora", "dora", "pissa", "pissa_niter", "loha", "ia3", "vera", "prefix"])
def test_an_interrupted_training_of_an_adapter_ends_with_the_same_bits(bases, way, tmp_path):
    fields = SAVED.get(way, {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4})
    whole = fitted(bases, "bert", fields, tmp_path / "whole").state_dict()
    with pytest.raises(Stopped):
        fitted(bases, "bert", fields, tmp_path / "again", stop=4)
    resumed = fitted(bases, "bert", fields, tmp_path / "again").state_dict()
    start = made(bases, "bert", **fields).state_dict()
    assert any(not torch.equal(start[key], value) for key, value in whole.items())
    assert [key for key, value in whole.items() if not torch.equal(resumed[key], value)] == []
    done = fitted(bases, "bert", fields, tmp_path / "again").state_dict()  # nothing left to train
    assert [key for key, value in whole.items() if not torch.equal(done[key], value)] == []


@pytest.fixture
def finished(bases, tmp_path, word_tokenizer):
    """(an adapter's folder beside its base's, the network that it was saved from), of any of the three networks."""

    def make(name, base_name=None, **fields):
        base = tmp_path / f"tiny_{name}"
        shutil.copytree(bases[name], base)
        if name != "vit":
            word_tokenizer.save_pretrained(base)
        model = trained(made(bases, name, **fields), name)
        adapters.save(model, tmp_path / "mine", base_name or base.name)
        return tmp_path / "mine", model

    return make


@pytest.mark.parametrize("name", JOBS)
def test_an_adapter_is_a_base_model(finished, name, caplog):
    folder, model = finished(name, init_lora_weights="pissa")
    with caplog.at_level("INFO", logger="hftransfer"):
        network, new = models.load_reported(str(folder), JOBS[name])
    assert f"model mine: an adapter, merged into its base tiny_{name}" in caplog.text
    assert new == [] and torch.allclose(logits(network, name), logits(model, name), atol=1e-5)
    assert network.config.id2label == models.config_of(str(folder)).id2label == {0: "a", 1: "b", 2: "c"}
    network.config.id2label = {0: "d", 1: "e", 2: "f"}
    adapters.write_base_config(network, folder)
    assert models.classifies(str(folder), ["d", "e", "f"])
    network.config.id2label = {0: "a", 1: "b", 2: "c"}
    adapters.write_base_config(network, folder)
    assert models.classifies(str(folder), ["a", "b", "c"]) and not models.classifies(str(folder), ["a", "b"])
    network, new = models.load_reported(str(folder), JOBS[name], **LABELS)
    assert new == [] and torch.allclose(logits(network, name), logits(model, name), atol=1e-5)
    network, new = models.load_reported(str(folder), JOBS[name], num_labels=5)
    assert {key.rpartition(".")[0] for key in new} == {sorted(NEW[name])[-1]}
    assert logits(network, name).shape == (3, 5)
    encoder, merged = models.load(str(folder), "encoder"), adapters.merged(model)
    expected = merged.base_model.state_dict()
    assert len(expected) > 20
    given = {
        key: value for key, value in encoder.state_dict().items() if key in expected
    }  # ViT's encoder has a pooler
    assert [key for key, value in given.items() if not torch.allclose(value, expected[key], atol=1e-5)] == []
    if name != "vit":
        assert models.tokenizer(str(folder)).pad_token == models.tokenizer(network).pad_token == "[PAD]"
        assert models.check(str(folder), JOBS[name]) == type(merged).__name__


def test_an_adapter_s_base_keeps_its_other_heads(finished):
    folder, model = finished("bert")
    network, new = models.load_reported(str(folder), "masked_lm")
    assert new == []
    merged = adapters.merged(model)
    assert torch.allclose(
        network.bert.encoder.layer[0].output.dense.weight, merged.bert.encoder.layer[0].output.dense.weight
    )


def test_an_adapter_s_identity_is_its_own_and_its_base_s(finished, bases):
    folder, _ = finished("bert")
    first = models.identity(str(folder))
    assert first == models.identity(str(folder)) != models.identity(str(folder.parent / "tiny_bert"))
    config = folder.parent / "tiny_bert" / "config.json"
    config.write_text(config.read_text() + " ")
    second = models.identity(str(folder))
    (folder / "notes.txt").write_text("x")
    assert len({first, second, models.identity(str(folder))}) == 3
    assert models.public_name(str(folder)) == "mine"


def test_an_adapter_on_an_adapter(finished, tmp_path):
    folder, _ = finished("bert")
    network, new = models.load_reported(str(folder), "text_classification")
    again = trained(
        adapters.wrapped(network, {"modules_to_save": ["classifier"]}, new=new, job="text_classification"), "bert"
    )
    adapters.save(again, tmp_path / "more", "mine")
    found = models.load(str(tmp_path / "more"), "text_classification")
    assert torch.allclose(logits(found, "bert"), logits(again, "bert"), atol=1e-5)


@pytest.mark.parametrize("name", JOBS)
def test_an_adapter_of_peft_s_own_saving_is_a_base_model_too(bases, name, tmp_path):
    """Without labels beside it, with a task type of PEFT's, its base named by its place."""
    network, _ = begun(bases, name)
    kind = {"task_type": "SEQ_CLS"} if name != "vit" else {"modules_to_save": ["classifier"]}
    targets = {"bert": ["query"], "gpt": ["c_attn"], "vit": ["q_proj"]}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = trained(peft.get_peft_model(network, peft.LoraConfig(target_modules=targets, **kind)), name)
        model.peft_config["default"].base_model_name_or_path = str(bases[name])
        model.save_pretrained(tmp_path / "theirs")
    found = models.load(str(tmp_path / "theirs"), JOBS[name])
    assert found.config.num_labels == 3
    if name != "bert":  # its new pooler PEFT does not save
        assert torch.allclose(logits(found, name), logits(model, name), atol=1e-5)
    layer = f"{STACK[name]}.0.{LINEAR[name][0]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = model.merge_and_unload()
    assert torch.allclose(found.get_submodule(layer).weight, merged.get_submodule(layer).weight, atol=1e-6)


def test_an_adapter_whose_base_is_nowhere_or_another(finished, bases, tmp_path):
    folder, _ = finished("bert")
    config = json.loads((folder / adapters.CONFIG).read_text())

    def says(said, **changed):
        (folder / adapters.CONFIG).write_text(json.dumps({**config, **changed}))
        with pytest.raises(HFTransferError, match=said) as error:
            models.load(str(folder), "text_classification")
        assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)

    says(
        "mine is an adapter of 'nobody/nothing', which is neither beside it nor",
        base_model_name_or_path="nobody/nothing",
    )
    says("mine is an adapter of 'gone', which is neither", base_model_name_or_path=str(tmp_path / "gone"))
    says("mine is an adapter of 'mine', which is neither", base_model_name_or_path="mine")
    says("mine is an adapter whose adapter_config.json names no base", base_model_name_or_path=None)
    says("mine is an adapter of PREFIX_TUNING, which cannot become part", peft_type="PREFIX_TUNING")
    says("mine is an adapter of NOTHING, which cannot become part", peft_type="NOTHING")
    says("mine does not fit its base", r=3)
    shutil.copytree(bases["gpt"], tmp_path / "tiny_gpt")
    says("mine", base_model_name_or_path="tiny_gpt")
    (folder / adapters.WEIGHTS).write_bytes(b"x")
    says("mine: adapter_model.safetensors cannot be read")
    (folder / adapters.WEIGHTS).unlink()
    says("mine is an adapter without adapter_model.safetensors; other weight formats can run code")


def test_an_adapter_serves_the_stages_as_its_merged_checkpoint_does(tiny_bert, reviews, tmp_path):
    torch.manual_seed(0)
    labels = {"num_labels": 2, "id2label": {0: "calm", 1: "loud"}, "label2id": {"calm": 0, "loud": 1}}
    network, new = models.load_reported(str(tiny_bert), "text_classification", **labels)
    model = adapters.wrapped(network, {"r": 2, "init_lora_weights": False}, new=new, job="text_classification")
    base = tmp_path / tiny_bert.name
    shutil.copytree(tiny_bert, base)
    adapters.save(model, tmp_path / "mine", tiny_bert.name)
    models.save(adapters.merged(model), tmp_path / "merged", models.tokenizer(str(tiny_bert)))
    found = [
        hftransfer.evaluate(
            str(tmp_path / name), reviews("source"), max_length=32, output_dir=str(tmp_path / f"of_{name}")
        ).metrics
        for name in ("mine", "merged")
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-5)


def test_a_finished_checkpoint_with_its_adapter_in_it_is_a_checkpoint(finished):
    folder, model = finished("bert")
    merged = adapters.merged(model)
    models.save(merged, folder)
    (folder / adapters.WEIGHTS).write_bytes(b"not read")
    assert models.resolve(str(folder)).base is None
