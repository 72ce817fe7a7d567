"""Cards of checkpoints with a trained head, and of adapters alone: their lines run, and say what the network says."""

import json
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from torch import nn

from hftransfer import adapters, lstm, report, scratch
from hftransfer.data import palette
from hftransfer.models import quiet_transformers

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
VIT = {**SIZES, "image_size": 16, "patch_size": 4, "num_channels": 1}
WAVES = {
    **SIZES, "conv_dim": [8, 8], "conv_stride": [10, 8], "conv_kernel": [10, 8], "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
AST = {**SIZES, "num_mel_bins": 16, "max_length": 16, "patch_size": 4, "frequency_stride": 4, "time_stride": 4}
NAMES = ["calm", "loud", "odd"]


def labels(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def saved(folder: Path, cls: Any, fields: dict[str, Any], reader: Any) -> nn.Module:
    torch.manual_seed(0)
    with quiet_transformers():
        network = cls(cls.config_class(**fields))
        network.save_pretrained(folder)
        reader.save_pretrained(folder)
    return network


def texts(folder: Path, name: str, **fields: Any) -> nn.Module:
    decoder = name.startswith("GPT2")
    reader = scratch.learn_tokenizer(["a text of words"] * 9, 300, masked=not decoder, max_length=64)
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64} if decoder else {**SIZES}
    sizes |= {} if decoder else {"max_position_embeddings": 64}
    ends = {"eos_token_id": reader.eos_token_id, "pad_token_id": reader.pad_token_id} if decoder else {}
    cls = getattr(transformers, name)
    return saved(folder, cls, {"vocab_size": len(reader), **sizes, **ends, **fields}, reader)


def colours() -> Any:
    return palette.processor(8, np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3))


def pictures(folder: Path, channels: int = 1, **fields: Any) -> nn.Module:
    sizes = {**VIT, "num_channels": channels}
    reader = scratch.image_processor(transformers.ViTConfig(**sizes))
    return saved(folder, transformers.ViTForImageClassification, {**sizes, **labels(NAMES), **fields}, reader)


def drawings(folder: Path) -> nn.Module:
    sizes = {"n_positions": 64, "vocab_size": 17, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return saved(folder, transformers.ImageGPTForImageClassification, {**sizes, **labels(NAMES)}, colours())


def spectrograms(folder: Path) -> nn.Module:
    reader = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=16)
    return saved(folder, transformers.ViTForImageClassification, {**VIT, **labels(NAMES)}, reader)


def longer_spectrograms(folder: Path) -> nn.Module:
    reader = transformers.ASTFeatureExtractor(num_mel_bins=16, max_length=16)
    return saved(folder, transformers.ASTForAudioClassification, {**AST, **labels(NAMES)}, reader)


def waveforms(folder: Path) -> nn.Module:
    reader = transformers.Wav2Vec2FeatureExtractor()
    return saved(folder, transformers.Wav2Vec2ForSequenceClassification, {**WAVES, **labels(NAMES)}, reader)


def adapter(
    folder: Path, make: Any, job: str, base: str = "tiny", new: tuple[str, ...] = ("classifier",)
) -> nn.Module:
    """Of a base beside the run; it has another head, or none."""
    network = make(folder.parent.parent / base)
    names = [name for name, _ in network.named_parameters() if name.startswith(new)]
    wrapped = adapters.wrapped(network, {"r": 2, "init_lora_weights": False}, new=names, job=job)
    folder.mkdir(exist_ok=True)
    adapters.save(wrapped, folder, base)
    for file in (folder.parent.parent / base).iterdir():
        if "token" in file.name or "processor" in file.name:
            shutil.copy(file, folder)
    return wrapped


BERT, GPT = "BertForSequenceClassification", "GPT2ForSequenceClassification"
MANY, NUMBER = {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}
CASES: dict[str, tuple[Any, str, str, str]] = {  # maker, the Hub's task, what it is for, what the snippet prints
    "bert": (lambda to: texts(to, BERT, **labels(NAMES)), "text-classification", "Classifying texts", "'label': "),
    "gpt": (lambda to: texts(to, GPT, **labels(NAMES)), "text-classification", "Classifying texts", "'label': "),
    "bert, several labels": (
        lambda to: texts(to, BERT, **labels(NAMES), **MANY), "text-classification", "Telling which labels fit texts",
        "'label': 'odd'",
    ),
    "bert, a number": (
        lambda to: texts(to, BERT, **labels(["value"]), **NUMBER), "text-classification", "Giving a number to texts",
        "'score': ",
    ),
    "bert, words": (
        lambda to: texts(to, "BertForTokenClassification", **labels(NAMES)), "token-classification",
        "Labelling the words of texts", "'entity': ",
    ),
    "gpt, words": (
        lambda to: texts(to, "GPT2ForTokenClassification", **labels(NAMES)), "token-classification",
        "Labelling the words of texts", "'entity': ",
    ),
    "gpt, answers": (lambda to: texts(to, "GPT2LMHeadModel"), "text-generation", "Answering texts", "generated_text"),
    "vit": (pictures, "image-classification", "Classifying images", ""),
    "vit, colours": (lambda to: pictures(to, 3), "image-classification", "Classifying images", ""),
    "vit, several labels": (
        lambda to: pictures(to, **MANY), "image-classification", "Telling which labels fit images", "'odd': 0.",
    ),
    "vit, a number": (
        lambda to: pictures(to, **labels(["value"]), **NUMBER), "image-classification", "Giving a number to images",
        ".",
    ),
    "imagegpt": (drawings, "image-classification", "Classifying images", ""),
    "vit, sounds": (spectrograms, "audio-classification", "Classifying sounds", ""),
    "ast": (longer_spectrograms, "audio-classification", "Classifying sounds", ""),
    "wav2vec2": (waveforms, "audio-classification", "Classifying sounds", ""),
    "bert, adapter": (
        lambda to: adapter(to, lambda base: texts(base, BERT, **labels(NAMES)), "text_classification"),
        "text-classification", "Classifying texts", "",
    ),
    "bert, words, adapter": (
        lambda to: adapter(
            to, lambda base: texts(base, "BertForTokenClassification", **labels(NAMES)), "token_classification"
        ),
        "token-classification", "Labelling the words of texts", "['",
    ),
    "gpt, answers, adapter": (
        lambda to: adapter(to, lambda base: texts(base, "GPT2LMHeadModel"), "causal_lm", new=("nothing",)),
        "text-generation", "Answering texts", "text to read",
    ),
    "vit, adapter": (
        lambda to: adapter(to, pictures, "image_classification"), "image-classification", "Classifying images", "",
    ),
}  # fmt: skip


def snippet_of(card: str) -> str:
    (snippet,) = re.findall(r"## How to load it\n\n```python\n(.*?)```", card, flags=re.DOTALL)
    return str(snippet)


def ran(snippet: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The snippet's names after it ran in a folder."""
    names: dict[str, Any] = {}
    monkeypatch.chdir(folder)
    with warnings.catch_warnings(), quiet_transformers():
        warnings.simplefilter("ignore")
        exec(snippet, names)
    return names


@pytest.mark.parametrize("name", CASES)
def test_the_snippet_says_what_the_network_says(
    bare_run_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, task, use, shown = CASES[name]
    final = bare_run_folder / "final"
    network = make(final).eval()
    card = report.card(bare_run_folder, final).read_text(encoding="utf-8")
    capsys.readouterr()
    names = ran(snippet_of(card), final, monkeypatch)
    printed = capsys.readouterr().out.strip()
    data = ModelCard(card).data
    alone = "adapter" in name
    assert data.pipeline_tag == task and data.library_name == ("peft" if alone else "transformers")
    assert ("adapter" in data.tags) == alone
    assert f"## Intended use\n\n{use}" in card
    assert shown in printed
    if "inputs" in names:  # what a pipeline does inside is not ours
        with torch.no_grad():
            logits = network(**names["inputs"]).logits
            assert torch.allclose(names["network"](**names["inputs"]).logits, logits, atol=1e-5)
        if shown == "":
            assert printed == NAMES[int(logits.argmax())]


def test_a_chat_is_asked_as_its_template_has_it(
    bare_run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    final = bare_run_folder / "final"
    texts(final, "GPT2LMHeadModel")
    (final / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }} {% endfor %}")
    snippet = snippet_of(report.card(bare_run_folder, final).read_text(encoding="utf-8"))
    assert '"role": "user"' in snippet
    ran(snippet, final, monkeypatch)
    assert "'role': 'assistant'" in capsys.readouterr().out


def test_a_language_model_that_was_only_pretrained_continues(bare_run_folder: Path) -> None:
    final = bare_run_folder / "final"
    texts(final, "GPT2LMHeadModel")
    (bare_run_folder / "1-finetune" / "evidence.json").write_text(
        json.dumps({"stage": "pretrain", "id": "pretrain", "title": "Pretrain", "seconds": 1.0})
    )
    assert "## Intended use\n\nContinuing texts" in report.card(bare_run_folder, final).read_text(encoding="utf-8")


def test_an_adapter_on_an_lstm_says_what_its_base_needs(
    bare_run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def language_model(folder: Path) -> nn.Module:
        reader = scratch.learn_tokenizer(["a text of words"] * 9, 300, masked=False, max_length=64)
        fields = {"vocab_size": len(reader), "hidden_size": 16, "num_hidden_layers": 1}
        return saved(folder, lstm.LSTMForCausalLM, fields, reader)

    language_model(bare_run_folder / "final")
    shutil.copy(bare_run_folder / "final" / "config.json", bare_run_folder / "final" / "base_config.json")
    (bare_run_folder / "final" / "config.json").unlink()
    (bare_run_folder / "final" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))
    card = report.card(bare_run_folder, bare_run_folder / "final").read_text(encoding="utf-8")
    assert 'base = "a/b"' in card and "import hftransfer.lstm" in snippet_of(card)


@pytest.mark.parametrize(
    ("stage", "metrics", "expected"),
    [
        ("finetune", {"accuracy": 0.9, "macro_f1": 0.8, "majority_class_accuracy": 0.5, "test_rows": 40, "rows": 1},
         [("accuracy", "accuracy", 0.9), ("f1", "macro f1", 0.8)]),
        ("finetune", {"entity_f1": 0.7, "token_accuracy": 0.9, "test_rows": 40},
         [("f1", "entity f1", 0.7), ("token_accuracy", "token accuracy", 0.9)]),
        ("finetune", {"mae": 0.3, "rmse": float("nan"), "test_rows": 40}, [("mae", "mae", 0.3)]),
        ("finetune", {"loss": 1.0, "perplexity": 2.718, "test_rows": 40}, [("perplexity", "perplexity", 2.718)]),
        ("evaluate", {"example_f1": 0.6, "rows": 40}, [("f1", "example f1", 0.6)]),
        ("rank", {"accuracy": 0.9, "rows": 40}, []),
    ],
)  # fmt: skip
def test_what_a_stage_measured_alone_is_in_the_model_index(
    bare_run_folder: Path, stage: str, metrics: dict[str, float], expected: list[tuple[str, str, float]]
) -> None:
    folder = bare_run_folder / "1-finetune"
    told = {"stage": stage, "id": stage, "title": "Measured", "seconds": 1.0}
    told["data"] = [{"role": "labelled", "name": "some/data", "rows": 200}]
    (folder / "evidence.json").write_text(json.dumps(told))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    card = report.card(bare_run_folder, bare_run_folder / "final").read_text(encoding="utf-8")
    found = ModelCard(card).data.eval_results or []
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in found] == expected
    assert all(one.dataset_type == "some/data" for one in found)
    assert ("Evaluated on 40 texts of some/data" in card) == bool(expected)


def test_labels_are_told_as_the_task_has_them(bare_run_folder: Path) -> None:
    folder, final = bare_run_folder / "1-finetune", bare_run_folder / "final"
    scored = [{"label": name, "precision": 1, "recall": 1, "f1": 1, "support": 3} for name in ("{calm}", "loud")]
    told = {"stage": "finetune", "id": "finetune", "title": "Fit", "seconds": 1.0, "per_class": scored}
    (folder / "evidence.json").write_text(json.dumps(told))
    final.mkdir()
    for architecture, problem, said in (
        (BERT, "single_label_classification", "It always answers with one of its 2 labels ({calm} and loud), also"),
        (BERT, "multi_label_classification", "It answers with any number of its 2 labels ({calm} and loud)."),
        ("BertForTokenClassification", None, "It knows 2 labels ({calm} and loud)."),
        (BERT, "regression", "Giving a number to texts."),
    ):
        config = {"architectures": [architecture], "problem_type": problem}
        (final / "config.json").write_text(json.dumps(config))
        assert said in report.card(bare_run_folder, final).read_text(encoding="utf-8")
