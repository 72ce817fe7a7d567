"""Two real processes (gloo, CPU) train what one does with the doubled batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

import hftransfer

WORKER = """
import json, os, sys
from transformers import PreTrainedModel
import hftransfer
from hftransfer import processes

verb, folder, model, source, target, options = sys.argv[1:]
options = json.loads(options)
data = {"data": source if verb == "finetune" else [source, target]}
data = {"source": source, "target": target} if verb == "adapt" else data
saves, save = [], PreTrainedModel.save_pretrained
PreTrainedModel.save_pretrained = lambda self, *a, **k: (saves.append(a), save(self, *a, **k))[1]
result = getattr(hftransfer, verb)(model, **data, **options, output_dir=folder)
state = processes.state()
line = f"rank {state.process_index} of {state.num_processes}, {state.distributed_type}, {len(saves)} saved"
os.write(1, (line + "\\n").encode())  # in one piece: both ranks write here
"""
GPT2 = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 32, "vocab_size": 300}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TRAINING = {"max_steps": 5, "logging_steps": 1, "learning_rate": 1e-3, "bf16": False, "save_strategy": "no"}


@pytest.fixture
def still_bert(tmp_path, word_tokenizer):
    """A tiny BERT without dropout: processes draw different dropout."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(word_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(tmp_path / "still")
    word_tokenizer.save_pretrained(tmp_path / "still")
    return str(tmp_path / "still")


def torchrun(script: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *script]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def points(folder: Path, last: bool = True) -> list[float]:
    curves = json.loads((folder / "evidence.json").read_text())["curves"]
    return [loss for _, loss in curves[-1]["points"]]


@pytest.mark.parametrize(
    "verb, options",
    [
        ("adapt", {"method": "mcc", "balanced": False}),
        ("adapt", {"method": "coral", "weight": 100.0, "balanced": True}),
        ("pretrain", {"head_steps": 2}),
        ("pretrain", {"objective": "causal_lm", "config": GPT2, "layer_decay": 0.8}),
        ("finetune", {}),
        ("finetune", {"method": "partial", "trainable": 1, "near": {"l2_sp": 0.5}}),
        ("finetune", {"method": "lora", "lora": {"r": 2}}),
    ],
    ids=["mcc", "coral", "masked_lm", "causal_lm", "finetune", "partial", "lora"],
)
def test_two_processes_equal_one_with_the_doubled_batch(verb, options, still_bert, reviews, tmp_path, capfd):
    source, target = reviews("source", 80), reviews("target", 80)
    model = "scratch/gpt2" if "config" in options else still_bert
    common = {**options, "max_length": 16, "seed": 5}

    def training(batch):
        return {"training": {**TRAINING, "per_device_train_batch_size": batch}}

    data = {"data": source if verb == "finetune" else [source, target]}
    data = {"source": source, "target": target} if verb == "adapt" else data
    one = getattr(hftransfer, verb)(model, **data, **common, **training(16), output_dir=str(tmp_path / "one"))
    (tmp_path / "worker.py").write_text(WORKER)
    given = json.dumps({**common, **training(8)})
    ran = torchrun(["worker.py", verb, str(tmp_path / "two"), model, source, target, given], tmp_path)
    assert ran.returncode == 0, ran.stderr
    told = [f"rank {rank} of 2, DistributedType.MULTI_CPU, {saved} saved" for rank, saved in ((0, 1), (1, 0))]
    assert sorted(ran.stdout.splitlines()) == told  # only the main process writes the checkpoint
    assert ran.stderr.count("| 0/5 [") == capfd.readouterr().err.count("| 0/5 [")  # and only it shows a bar
    assert points(tmp_path / "two") == pytest.approx(points(one.path), rel=2e-4)
    weights = load_file(tmp_path / "two" / "model.safetensors")
    for name, value in load_file(one.path / "model.safetensors").items():
        torch.testing.assert_close(weights[name], value, rtol=5e-3, atol=5e-4)


def test_a_mistake_is_told_once_and_both_processes_end(tmp_path, still_bert, reviews):
    script = ["-m", "hftransfer.recipe", "bert_domain_adapt", "--model", still_bert, "--source", reviews("source")]
    ran = torchrun([*script, "--target", reviews("target", 20, classes=3), "--output_dir", "out"], tmp_path)
    assert ran.returncode != 0
    assert sum(line.startswith("error: target: ") for line in ran.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
