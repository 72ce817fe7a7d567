"""Tiny checkpoints and two small shifted domains, made on the spot; no network, no shared cache."""

import os
import tempfile

# read when the libraries are imported: before any test module
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a worker for each core
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp(prefix="hftransfer-tests-"))

import csv
import io
import string
import wave

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

# what tells the classes apart is shared by the domains, all around it is not
CLASSES = {"calm": ["quiet", "gentle", "still"], "loud": ["noisy", "shouting", "roaring"], "odd": ["strange", "weird"]}
DOMAINS = {
    "source": ["kitchen", "pan", "oven", "the", "a", "knife", "soup", "very"],
    "target": ["garden", "tree", "soil", "one", "some", "spade", "leaf", "quite"],
}
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


def sentences(domain: str, rows: int, classes: int = 2, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) of a domain; the label's words are a minority of the text's."""
    rng = np.random.default_rng((seed, len(domain), domain == "target"))
    names = list(CLASSES)[:classes]
    made = []
    for _ in range(rows):
        label = names[rng.integers(classes)]
        words = [*rng.choice(DOMAINS[domain], rng.integers(3, 9)), *rng.choice(CLASSES[label], 2)]
        made.append((" ".join(rng.permutation(words)), label))
    return made


@pytest.fixture(scope="session")
def word_tokenizer():
    """A BERT-like tokenizer that knows every word of both domains.

    Its vocabulary is written out: a trained one numbers equally frequent pieces anew in each process.
    """
    words = sorted({word for known in (*CLASSES.values(), *DOMAINS.values()) for word in known})
    letters = [f"{mark}{letter}" for mark in ("", "##") for letter in string.ascii_lowercase]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys([*SPECIAL.values(), *letters, *words]))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens([*SPECIAL.values()])
    ends = [(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **SPECIAL)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory, word_tokenizer):
    """The folder of a random two-layer BERT encoder with its tokenizer."""
    import torch

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny_bert"
    config = BertConfig(
        vocab_size=len(word_tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=word_tokenizer.pad_token_id,
    )
    BertModel(config).save_pretrained(folder)
    word_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def reviews(tmp_path):
    """A maker of csv files: `reviews("source", rows=80)` -> path of a file with the columns text and label."""

    def make(
        domain: str, rows: int = 80, classes: int = 2, seed: int = 0, name: str = "", label: str = "label"
    ) -> str:
        path = tmp_path / f"{name or domain}.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", label])
            writer.writerows(sentences(domain, rows, classes, seed))
        return str(path)

    return make


@pytest.fixture
def painted(tmp_path):
    """Makes a folder of so many bright and one of so many dark images, (height, width)."""

    def paint(count, shape):
        rng = np.random.default_rng(0)
        for name, level in (("bright", 200), ("dark", 20)):
            (tmp_path / "pictures" / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(level, 20, shape), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
        return str(tmp_path / "pictures")

    return paint


@pytest.fixture
def pictures(painted):
    """A folder of bright and one of dark images."""
    return painted(15, (20, 18))


@pytest.fixture
def tones(tmp_path):
    """A folder of high and one of low tones, 8 kHz."""
    rng = np.random.default_rng(0)
    for name, pitch in (("high", 1200), ("low", 200)):
        (tmp_path / "tones" / name).mkdir(parents=True)
        for number in range(12):
            time = np.arange(2000 + 100 * number) / 8000
            samples = 8000 * np.sin(2 * np.pi * (pitch + rng.uniform(-50, 50)) * time)
            file = io.BytesIO()
            with wave.open(file, "wb") as sound:
                sound.setparams((1, 2, 8000, 0, "NONE", ""))
                sound.writeframes(samples.astype("<i2").tobytes())
            (tmp_path / "tones" / name / f"{number}.wav").write_bytes(file.getvalue())
    return str(tmp_path / "tones")
