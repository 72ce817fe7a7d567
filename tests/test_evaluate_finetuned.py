"""What `finetune` leaves is measured by `evaluate` as it was by `finetune`, and its card's lines run."""

import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value
from huggingface_hub import ModelCard
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, ViTConfig, ViTModel

import hftransfer
from hftransfer import models, report, scratch
from hftransfer.models import quiet_transformers

QUICK = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "bf16": False}
WORDS = ["quiet", "noisy", "oven", "pan", "soup", "the", "garden", "strange"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_bert, word_tokenizer):
    """A BERT, a GPT without a padding token, and a ViT that hears nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bases")
    shutil.copytree(tiny_bert, folder / "bert")
    reader = PreTrainedTokenizerFast(
        tokenizer_object=word_tokenizer.backend_tokenizer, eos_token="[SEP]", unk_token="[UNK]"
    )
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=64, vocab_size=len(reader), eos_token_id=3)
    models.save(GPT2LMHeadModel(config), folder / "gpt", reader)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    seen = ViTConfig(image_size=16, patch_size=4, num_channels=1, **sizes)
    models.save(ViTModel(seen), folder / "vit", scratch.image_processor(seen))
    return folder


def rows_of(task):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(30)]
    columns = {
        "single": {"text": texts, "label": ["calm", "loud", "odd"] * 10},
        "pairs": {"premise": texts, "hypothesis": texts[::-1], "label": ["calm", "loud", "odd"] * 10},
        "several": {"text": texts, "label": [["calm"], ["loud", "odd"], []] * 10},
        "numbers": {"text": texts, "label": rng.normal(size=30).tolist()},
        "answers": {"prompt": texts, "completion": texts[::-1]},
    }
    if task == "words":
        features = Features(tokens=List(Value("string")), ner_tags=List(ClassLabel(names=["O", "B-X", "I-X"])))
        tokens = [text.split() for text in texts]
        return Dataset.from_dict(
            {"tokens": tokens, "ner_tags": [[number % 3 for number in range(len(row))] for row in tokens]}, features
        )
    return Dataset.from_dict(columns[task])


def judged_by(task):
    return {"several": "example_f1", "numbers": "mae", "words": "entity_f1", "answers": "perplexity"}.get(
        task, "accuracy"
    )


def printed_by(run, folder, monkeypatch, capsys):
    """What the lines of a run's card print."""
    text = report.card(run, folder).read_text(encoding="utf-8")
    (snippet,) = re.findall(r"## How to load it\n\n```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(folder)
    capsys.readouterr()
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        exec(snippet, {})
    return capsys.readouterr().out


CASES = [
    *((model, task) for model in ("bert", "gpt") for task in ("single", "pairs", "several", "numbers", "words")),
    ("gpt", "answers"),
    ("vit", "pictures"),
]


ADAPTERS = [("bert", "single"), ("bert", "words"), ("gpt", "several"), ("gpt", "answers"), ("vit", "pictures")]
ALONE = {"method": "lora", "merge": False}


@pytest.mark.parametrize(
    "model, task, options", [*((*case, {}) for case in CASES), *((*case, ALONE) for case in ADAPTERS)]
)
def test_both_tell_the_same(bases, pictures, tmp_path, model, task, options, monkeypatch, capsys):
    shutil.copytree(bases / model, tmp_path / "run" / model)
    data = pictures if task == "pictures" else rows_of(task)
    common = {"max_length": 32, "seed": 3}
    made = hftransfer.finetune(
        str(tmp_path / "run" / model), data, training=QUICK, output_dir=str(tmp_path / "run" / "1-finetune"),
        **common, **options,
    )  # fmt: skip
    again = hftransfer.evaluate(str(made.path), data, output_dir=str(tmp_path / "run" / "2-evaluate"), **common)
    assert {name: made.metrics[name] for name in again.metrics if name != "rows"} == pytest.approx(
        {name: value for name, value in again.metrics.items() if name != "rows"}, abs=1e-5
    )
    assert again.metrics["rows"] == made.metrics["test_rows"]
    card = ModelCard.load(report.card(tmp_path / "run", made.path)).data
    assert [one.metric_value for one in card.eval_results if one.metric_value == made.metrics[judged_by(task)]]
    assert printed_by(tmp_path / "run", made.path, monkeypatch, capsys).strip()
