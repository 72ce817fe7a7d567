"""What tasks make of tokenizers, templates and sounds that are less usual."""

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import models as backends
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTForAudioClassification,
    BertConfig,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedTokenizerFast,
)

from hftransfer import models, tasks
from hftransfer.objectives.next_tokens import NextTokens
from hftransfer.tasks import answers

LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
LLAMA = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CUTS = {
    "gpt2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
    "roberta": lambda: pre_tokenizers.ByteLevel(add_prefix_space=True),
    "llama": lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
    "bert": pre_tokenizers.BertPreTokenizer,
}


def tokenizer(cuts, merges=(), normalizer=None, **more):
    """A token a byte, and one for each merged pair."""
    known = dict.fromkeys([*LETTERS, "<|end|>", *(first + second for first, second in merges)])
    made = Tokenizer(backends.BPE({piece: number for number, piece in enumerate(known)}, list(merges)))
    made.pre_tokenizer, made.decoder = CUTS[cuts](), decoders.ByteLevel()
    if normalizer is not None:
        made.normalizer = normalizer
    end = {"eos_token": "<|end|>", "pad_token": "<|end|>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **end, **more)


@pytest.mark.parametrize("rule", [None, normalizers.NFC(), normalizers.Sequence([normalizers.NFC()])])
@pytest.mark.parametrize("cuts", ["gpt2", "roberta", "llama"])
def test_words_are_read_as_they_stand_in_a_text(cuts, rule, tmp_path):
    plain = tokenizer(cuts, normalizer=rule)
    words = ["the", "pan", "don't", "boil"]
    reader = models.for_words(plain)
    read = reader(words, is_split_into_words=True)
    assert plain.decode(read["input_ids"]) == " " + " ".join(words)
    counts = np.bincount(read.word_ids(0))
    assert counts.tolist() == [1 + len(word) for word in words]
    reader.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert again(words, is_split_into_words=True)["input_ids"] == read["input_ids"]
    assert models.for_words(again)(words, is_split_into_words=True)["input_ids"] == read["input_ids"]
    assert reader(" ".join(words))["input_ids"] == read["input_ids"]
    start = "Ġ" if cuts == "roberta" else ""
    assert plain("pan")["input_ids"] == [plain.vocab[letter] for letter in f"{start}pan"]  # not changed itself


def test_a_tokenizer_of_other_kinds_stays_as_it_is():
    reader = tokenizer("bert")
    assert models.for_words(reader) is reader


TURNS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}<|end|>{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
TALK = [
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "ok?"},
    {"role": "assistant", "content": "yes"},
]


def told_and_learnt(reader, made):
    ids, labels = np.array(made["input_ids"]), np.array(made["labels"])
    assert (labels[labels >= 0] == ids[labels >= 0]).all()
    return reader.decode(ids[labels < 0]), reader.decode(ids[labels >= 0])


def test_a_prompt_that_ends_in_a_space_is_read_as_when_it_is_alone():
    """The space before an answer and its first letters are one piece, which a prompt alone does not have."""
    reader = tokenizer("gpt2", [("Ġ", "y"), ("Ġy", "e")], chat_template=TURNS)
    made = answers.encode(reader, TALK[1:], 64)
    prompt = reader.apply_chat_template(TALK[1:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert made["input_ids"][: len(prompt)] == prompt
    assert told_and_learnt(reader, made) == ("user: ok?\nassistant: ", "yes<|end|>")


def test_what_is_said_before_a_question_is_no_answer():
    reader = tokenizer("gpt2", chat_template=TURNS)
    told = "assistant: Hello<|end|>\nuser: ok?\nassistant: "
    assert told_and_learnt(reader, answers.encode(reader, TALK, 64)) == (told, "yes<|end|>")
    assert answers.encode(reader, TALK[:1], 64) is None


def test_a_second_text_is_told_apart_for_bert(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "pan", "boils"]
    reader = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    rows = Dataset.from_dict({"premise": ["the pan", "pan"], "hypothesis": ["pan boils", "the"], "label": ["a", "b"]})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    models.save(BertModel(BertConfig(vocab_size=8, **sizes)), tmp_path, reader)
    task, parts = tasks.read(DatasetDict(train=rows, test=rows), str(tmp_path), key="data", seed=0)
    inputs = task.inputs(parts["test"], str(tmp_path), key="data", max_length=16)
    batch = inputs.batch([inputs.rows[0], inputs.rows[1]])
    assert batch["input_ids"].tolist() == [[2, 5, 6, 3, 6, 7, 3], [2, 6, 3, 5, 3, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 7, [1] * 5 + [0] * 2]


def test_a_spectrogram_transformer_hears_what_its_reader_makes(tmp_path, tones):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ASTConfig(num_mel_bins=16, max_length=24, patch_size=4, frequency_stride=4, time_stride=4, **sizes)
    reader = ASTFeatureExtractor(sampling_rate=8000, num_mel_bins=16, max_length=24)
    models.save(ASTForAudioClassification(config), tmp_path, reader)
    task, parts = tasks.read(tones, str(tmp_path), key="data", seed=0)
    assert (task.kind, task.job, task.names) == ("sound", "audio_classification", ["high", "low"])
    inputs = task.inputs(parts["test"], str(tmp_path), key="data", max_length=16)
    network = models.load(str(tmp_path), task.job, **task.head).eval()
    outputs = task.predict(network, inputs)
    for row, output in zip(inputs.rows, outputs, strict=True):
        read = reader(row["waveform"], sampling_rate=8000, return_tensors="pt")
        with torch.no_grad():
            assert network(**read).logits[0].numpy() == pytest.approx(output, abs=1e-4)


def test_the_most_frequent_labels_are_a_floor_that_says_something():
    """Where no label is in half of the rows, the most frequent one; none, where that fits more rows."""
    task = tasks.find("multi_label_classification")("text", ["a", "b", "c"])
    rare = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float32)
    assert task.floor(rare, rare)["majority_example_f1"] == pytest.approx(3 / 7)
    none = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    assert task.floor(none, none)["majority_example_f1"] == pytest.approx(3 / 4)
    both = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1]], dtype=np.float32)
    assert task.floor(both, both)["majority_example_f1"] == pytest.approx((1 + 1 + 0.5) / 3)


@pytest.mark.parametrize("kind, chunked", [("gpt2", True), ("granite", False)])
def test_what_is_likeliest_is_what_all_logits_say(kind, chunked):
    """Granite divides its logits, so its output layer alone does not tell them."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    granite = GraniteConfig(vocab_size=11, num_key_value_heads=2, logits_scaling=3.0, pad_token_id=0, **sizes)
    gpt2 = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=8, vocab_size=11)
    network = (GPT2LMHeadModel(gpt2) if kind == "gpt2" else GraniteForCausalLM(granite)).eval()
    ids, labels = torch.randint(11, (600, 3)), torch.randint(11, (600, 3))  # more than are told together
    labels[::2, 1] = -100
    predictions = NextTokens(network)
    assert predictions.chunked == chunked
    with torch.no_grad():
        nats, right = predictions.judged(network, {"input_ids": ids}, labels)
        logits = network(input_ids=ids).logits
    assert torch.equal(right, (logits.argmax(-1) == labels) & (labels != -100))
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)
    assert torch.allclose(nats, expected, atol=1e-5)
    assert right.any()
