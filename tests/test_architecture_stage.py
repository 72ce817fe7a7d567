"""Changed parts through `finetune`: what is saved is an ordinary checkpoint, and its record tells what was kept."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification, ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import hftransfer
from hftransfer import models
from hftransfer.errors import HFTransferError

FEW = {"max_steps": 2, "per_device_train_batch_size": 4}


def finetuned(model, data, folder, architecture, **options):
    options = {"training": FEW, "max_length": 24, **options}
    result = hftransfer.finetune(str(model), str(data), architecture=architecture, output_dir=str(folder), **options)
    evidence = json.loads((result.path / "evidence.json").read_text())
    return result, evidence


def counted(evidence):
    """Its table of parameters, part by part."""
    table = next(table for table in evidence["tables"] if table["title"].endswith("parameters are carried over"))
    return {row[0]: row[1:] for row in table["rows"]}


def test_answers_by_an_encoder(tiny_bert, tmp_path):
    data = tmp_path / "answers.jsonl"
    rows = [{"prompt": "the kitchen", "completion": f"very {word} soup"} for word in ("quiet", "still", "noisy")]
    data.write_text("\n".join(map(json.dumps, rows * 5)))
    result, evidence = finetuned(tiny_bert, data, tmp_path / "out", {"is_decoder": True})
    assert "no token sees a later one (is_decoder: true)" in evidence["notes"]
    with models.quiet_transformers():
        network = AutoModelForCausalLM.from_pretrained(result.path)
    one, other = (network(input_ids=torch.tensor([[2, 20, 21, last]])).logits for last in (22, 23))
    assert torch.equal(one[:, :3], other[:, :3]) and not torch.equal(one, other)
    assert counted(evidence)["blocks"][2:] == [0, 0]
    with pytest.raises(HFTransferError, match="is an encoder, and causal_lm needs a decoder"):
        finetuned(tiny_bert, data, tmp_path / "seen", None)


def test_grey_and_larger_images_by_one_block(pictures, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    base = tmp_path / "vit"
    ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(base)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(base)
    changes = {"num_channels": 1, "image_size": 24, "layers": 1}
    result, evidence = finetuned(base, pictures, tmp_path / "out", changes)
    network = AutoModelForImageClassification.from_pretrained(result.path)
    whole = sum(value.numel() for value in network.parameters())
    table = counted(evidence)
    assert sum(row[0] for part, row in table.items() if part != "pooler") == whole
    assert table["embeddings"][2] == 16 * (8 * 8 + 3 * 3) and table["head"][1:] == [0, 0, 34]
    assert network(pixel_values=torch.zeros(1, 1, 24, 24)).logits.shape == (1, 2)
    scores = hftransfer.evaluate(str(result.path), pictures, output_dir=str(tmp_path / "judged")).metrics
    assert 0 <= scores["accuracy"] <= 1


def test_a_chain_in_which_the_head_grows(tiny_bert, reviews, tmp_path):
    first, _ = finetuned(tiny_bert, reviews("source"), tmp_path / "first", {"layers": [1]})
    changes = {"head": "widened", "reinitialize_top": 1}
    last, evidence = finetuned(first.path, reviews("target", classes=3), tmp_path / "last", changes)
    assert "the rows of calm, loud are carried over, odd is new" in " ".join(evidence["notes"])
    table = counted(evidence)
    assert table["head"] == [99, 66, 0, 33] and table["blocks"][1] == table["pooler"][1] == 0
    assert models.config_of(str(last.path)).id2label == {0: "calm", 1: "loud", 2: "odd"}
