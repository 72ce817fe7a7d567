"""Another vocabulary: tokens of the same text keep their rows whatever kind of tokenizer marks their words."""

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers import models as kinds
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
)

from hftransfer import architecture, models
from hftransfer.architecture.pieces import Piece, Pieces
from hftransfer.architecture.table import CARRIED, CHANGED, NEW
from hftransfer.architecture.tokens import origins
from hftransfer.errors import HFTransferError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
HEAD = {"num_labels": 2, "id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
BERTS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTAS = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>",
            "unk_token": "<unk>", "mask_token": "<mask>"}  # fmt: skip
GPTS = {"bos_token": "<|end|>", "eos_token": "<|end|>", "pad_token": "<|end|>"}
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def wordpiece(words, specials=BERTS, **options):
    vocab = {token: number for number, token in enumerate([*specials.values(), *words])}
    made = Tokenizer(kinds.WordPiece(vocab, unk_token=specials["unk_token"]))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocab[token]) for token in (specials["cls_token"], specials["sep_token"])]
    made.post_processor = processors.TemplateProcessing(
        single=f"{ends[0][0]} $A {ends[1][0]}", special_tokens=list(dict(ends).items())
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, **specials, **options)


def byte_bpe(words, specials=GPTS):
    """A byte-level BPE that has these words as tokens: each is merged from the left."""
    tokens, merges = [*dict.fromkeys(specials.values()), *BYTES], []
    for word in words:
        for end in range(1, len(word)):
            pair = (word[:end], word[end])
            if pair not in merges:
                merges.append(pair)
                tokens += [word[: end + 1]] if word[: end + 1] not in tokens else []
    made = Tokenizer(kinds.BPE({token: number for number, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, **specials)


def sentencepiece(words, specials=ROBERTAS):
    letters = [(letter, -9.0) for letter in "▁abcdefghijklmnopqrstuvwxyz."]
    pieces = [(token, 0.0) for token in dict.fromkeys(specials.values())] + letters + [(word, -3.0) for word in words]
    unknown = [token for token, _ in pieces].index(specials["unk_token"])
    made = Tokenizer(kinds.Unigram(pieces, unk_id=unknown))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=made, **specials)


def plain(words):
    made = Tokenizer(kinds.WordLevel({"[UNK]": 0, "[PAD]": 1, **{w: n + 2 for n, w in enumerate(words)}}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")


WORDS = ["the", "play", "##ing", "##s", "un", "##known", "known", ".", "##.", "k", "##k", "é", "中", "café"]
WORDPIECE = wordpiece(WORDS)
BPE = byte_bpe(["Ġthe", "the", "Ġplay", "ing", "Ġplaying", "Ġknown", "known", "Ġ.", "Ġcafé".encode().decode("utf-8")])
SENTENCES = sentencepiece(["▁the", "▁play", "ing", "▁known", "known", "s"])


def told(old, new):
    """{token of the new: (code, the old tokens it is made of)}"""
    made = origins(Pieces(old, "tokenizer"), Pieces(new, "tokenizer"))
    names = {number: token for token, number in old.get_vocab().items()}
    return {t: (made[n].code, [names[one] for one in made[n].ids]) for t, n in new.get_vocab().items()}


@pytest.mark.parametrize(
    "tokenizer, token, piece",
    [
        (WORDPIECE, "play", Piece(True, b"play")),
        (WORDPIECE, "##ing", Piece(False, b"ing")),
        (WORDPIECE, ".", Piece(False, b".")),
        (WORDPIECE, "é", Piece(True, "é".encode())),
        (BPE, "Ġplay", Piece(True, b"play")),
        (BPE, "ing", Piece(False, b"ing")),
        (BPE, "Ġ", Piece(True, b"")),
        (BPE, "Ċ", Piece(False, b"\n")),
        (BPE, "Ã", Piece(False, b"\xc3")),
        (SENTENCES, "▁play", Piece(True, b"play")),
        (SENTENCES, "ing", Piece(False, b"ing")),
        (SENTENCES, "▁", Piece(True, b"")),
    ],
)
def test_what_a_token_stands_for(tokenizer, token, piece):
    assert Pieces(tokenizer, "tokenizer").piece(token) == piece


def test_marks_of_words_are_compared_not_letters():
    found = told(WORDPIECE, BPE)
    assert found["Ġplay"] == (CARRIED, ["play"]) and found["ing"] == (CARRIED, ["##ing"])
    assert found["Ġplaying"] == (CHANGED, ["play", "##ing"])
    assert found["known"] == (CARRIED, ["##known"]) and found["Ġknown"] == (CARRIED, ["known"])
    assert found["."] == found["Ġ."] == (CARRIED, ["."])  # not the `##.` of no text
    assert found["k"] == (CARRIED, ["##k"])
    found = told(BPE, SENTENCES)
    assert found["▁play"] == (CARRIED, ["Ġplay"]) and found["ing"] == (CARRIED, ["ing"])
    assert found["▁"] == (CARRIED, ["Ġ"])
    found = told(SENTENCES, WORDPIECE)
    assert found["the"] == (CARRIED, ["▁the"]) and found["##known"] == (CARRIED, ["known"])
    assert found["un"] == (CHANGED, ["▁", "u", "n"])
    assert found["中"] == (NEW, [])


def test_what_a_word_is_made_of_is_what_the_old_tokenizer_makes_of_it():
    """Its own normalisation and merges: letters that it lowers, accents that it removes."""
    new = byte_bpe(["ĠThe", "ĠPlays", "Ġunknown"])
    found = told(WORDPIECE, new)
    assert found["ĠThe"] == (CHANGED, ["the"]) and found["ĠPlays"] == (CHANGED, ["play", "##s"])
    assert found["Ġunknown"] == (CHANGED, ["un", "##known"])
    assert found["Ġunk"] == (CHANGED, ["un", "##k"]) and found["Ġunkn"] == (NEW, [])
    assert told(WORDPIECE, byte_bpe(["ings"]))["ings"] == (CHANGED, ["##ing", "##s"])
    cut = BPE.backend_tokenizer.model.tokenize("Ġplayer")
    assert told(BPE, wordpiece(["player"]))["player"] == (CHANGED, [piece.value for piece in cut])


def test_bytes_of_a_character_are_bytes():
    """A character that no old token has is what its bytes are; one byte alone is no text for a WordPiece."""
    assert told(BPE, wordpiece(["ß"]))["ß"] == (CHANGED, ["Ġ", "Ã", "Ł"])
    assert told(WORDPIECE, BPE)["Ã"] == (NEW, [])
    specials = {"unk_token": "<unk>", "pad_token": "<unk>"}
    tokens = {token: number for number, token in enumerate(["<unk>", "<0xC3>", "<0x0A>", "▁the", "▁"])}
    falling = Tokenizer(kinds.BPE(tokens, [], unk_token="<unk>", byte_fallback=True))
    found = told(BPE, PreTrainedTokenizerFast(tokenizer_object=falling, **specials))
    assert found["<0xC3>"] == (CARRIED, ["Ã"]) and found["<0x0A>"] == (CARRIED, ["Ċ"])


def test_special_tokens_go_by_their_role():
    found = told(WORDPIECE, SENTENCES)
    roles = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<unk>": "[UNK]", "<mask>": "[MASK]"}
    assert all(found[new] == (CARRIED, [old]) for new, old in roles.items())
    assert told(WORDPIECE, BPE)["<|end|>"] == (CARRIED, ["[CLS]"])  # one that begins, ends and pads
    found = told(BPE, WORDPIECE)
    assert all(found[token] == (CARRIED, ["<|end|>"]) for token in ("[CLS]", "[SEP]", "[PAD]"))
    assert found["[MASK]"] == found["[UNK]"] == (NEW, [])


def test_plain_words_compare_with_words():
    assert told(plain(["the", "play"]), WORDPIECE)["play"] == (CARRIED, ["play"])
    assert told(plain(["the", "play"]), WORDPIECE)["##ing"] == (NEW, [])
    assert told(WORDPIECE, plain(["the", "unknown"]))["unknown"] == (CHANGED, ["un", "##known"])


@pytest.fixture
def saved(tmp_path):
    """A maker of checkpoint folders of a tokenizer; of a network that is not looked at, where none is given."""

    def make(name, tokenizer, cls=BertModel, config=BertConfig, **sizes):
        torch.manual_seed(0)
        folder = tmp_path / name
        tokenizer.save_pretrained(folder)
        special = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        network = cls(config(**{**special, **(sizes or SIZES)}))
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.1 * torch.randn_like(value))
        network.save_pretrained(folder)
        return str(folder)

    return make


def change(model, job, tokenizer, **others):
    head = HEAD if "classification" in job else {}
    return architecture.changed(model, job, head, {"tokenizer": tokenizer, **others}, kind="text")


def reloaded(network, job, folder):
    network.save_pretrained(folder)
    again, report = getattr(transformers, models.AUTO_CLASSES[job]).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["mismatched_keys"]
    return again


def adds_up(made):
    assert sum(row[1] for row in made.table["rows"]) == sum(value.numel() for value in made.network.parameters())
    assert all(row[1] == sum(row[2:]) for row in made.table["rows"])
    return {row[0]: row[2:] for row in made.table["rows"]}


@pytest.mark.parametrize("job", ["masked_lm", "text_classification"])
def test_the_same_tokenizer_is_the_identity(saved, job):
    cls = BertForMaskedLM if job == "masked_lm" else BertForSequenceClassification
    folder = saved("model", WORDPIECE, cls, BertConfig, **SIZES, vocab_size=64)  # a table that is padded
    made, old = change(folder, job, saved("other", WORDPIECE)), models.load(folder, job)
    old = {n: v for n, v in old.state_dict().items() if not n.startswith("classifier")}
    assert all(torch.equal(value, made.network.state_dict()[name]) for name, value in old.items())
    assert f"the tokenizer other has the same {len(WORDPIECE)} tokens" in made.notes
    assert sum(row[1] for row in adds_up(made).values()) == 0


def test_the_same_tokens_with_another_one_that_pads(saved):
    folder = saved("model", WORDPIECE, BertForMaskedLM, BertConfig, **SIZES)
    other = PreTrainedTokenizerFast(tokenizer_object=WORDPIECE.backend_tokenizer, **{**BERTS, "pad_token": "[UNK]"})
    made, old = change(folder, "masked_lm", saved("other", other)), models.load(folder, "masked_lm")
    assert made.network.config.pad_token_id == made.reader.pad_token_id == WORDPIECE.unk_token_id
    assert torch.equal(made.network.get_input_embeddings().weight, old.get_input_embeddings().weight)


def test_rows_are_carried_averaged_and_new_in_every_table(saved, tmp_path):
    """Of an encoder with a masked-LM head: the tied output layer and its bias follow the embeddings."""
    folder = saved("model", WORDPIECE, BertForMaskedLM, BertConfig, **SIZES)
    new = wordpiece(["playing", "the", "##ing", "ζ"])
    made, old = change(folder, "masked_lm", saved("other", new)), models.load(folder, "masked_lm")
    ids, olds = new.get_vocab(), WORDPIECE.get_vocab()
    table, before = made.network.bert.embeddings.word_embeddings.weight, old.bert.embeddings.word_embeddings.weight
    bias, bias_before = made.network.cls.predictions.bias, old.cls.predictions.bias
    for ours, theirs in ((table, before), (bias, bias_before)):
        for token in ("the", "##ing", *BERTS.values()):
            assert torch.equal(ours[ids[token]], theirs[olds[token]])
        mean = (theirs[olds["play"]] + theirs[olds["##ing"]]) / 2
        assert torch.allclose(ours[ids["playing"]], mean)
    assert bias[ids["ζ"]].item() == 0 and 0.005 < table[ids["ζ"]].std().item() < 0.05  # as the architecture begins
    assert made.network.get_output_embeddings().weight is table
    assert made.network.config.vocab_size == len(table) == len(new) and made.reader.get_vocab() == ids
    assert "of 9 tokens of other, carried over: 7; means of the old tokens of their text: 1; new: 1" in made.notes
    rows = adds_up(made)
    assert rows["embeddings"][1:] == [16, 16] and rows["head"][1:] == [1, 1]
    assert made.new == []
    text = {"input_ids": torch.tensor([made.reader("the playing")["input_ids"]])}
    again = reloaded(made.network, "masked_lm", tmp_path / "again")
    assert torch.equal(again(**text).logits, made.network(**text).logits)


def test_texts_of_shared_tokens_are_answered_as_before(saved):
    """In another order of tokens, the same words give the same logits."""
    folder = saved("model", WORDPIECE, BertForSequenceClassification, BertConfig, **SIZES, **HEAD)
    words = ["##ing", "##s", "play", "the"]
    made = change(folder, "text_classification", saved("other", wordpiece(words)))
    old, reader = models.load(folder, "text_classification"), models.tokenizer(folder)
    text = "the playing plays"
    ours = made.network(**made.reader(text, return_tensors="pt")).logits
    assert torch.allclose(ours, old(**reader(text, return_tensors="pt")).logits, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_decoders_with_tied_and_untied_output_layers(saved, name, tied, tmp_path):
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2} if name == "gpt2" else {**SIZES, "num_key_value_heads": 1}
    cls, config = {"gpt2": (GPT2LMHeadModel, GPT2Config), "llama": (LlamaForCausalLM, LlamaConfig)}[name]
    folder = saved("model", BPE, cls, config, **sizes, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0)
    new = byte_bpe(
        ["Ġplay", "ing", "Ġplaying", "Ġknow"], {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    )
    made, old = change(folder, "causal_lm", saved("other", new)), models.load(folder, "causal_lm")
    config = made.network.config
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 1, 2)
    assert made.network.generation_config.eos_token_id == 2
    ours, theirs = (network.get_output_embeddings().weight for network in (made.network, old))
    for number in (made.reader.convert_tokens_to_ids(token) for token in ("Ġplaying", "ing")):
        token = made.reader.convert_ids_to_tokens(number)
        assert torch.equal(ours[number], theirs[BPE.convert_tokens_to_ids(token)])
    assert (ours is made.network.get_input_embeddings().weight) is tied
    assert all(torch.equal(ours[number], theirs[0]) for number in (0, 1, 2))
    text = made.reader(" playing the known", return_tensors="pt")["input_ids"]
    again = reloaded(made.network, "causal_lm", tmp_path / "again")
    assert torch.equal(again(input_ids=text).logits, made.network(input_ids=text).logits)
    adds_up(made)


def test_positions_move_with_the_number_of_the_padding_token(saved, tmp_path):
    """RoBERTa counts them from it: `<pad>` was 3 and is 0, and the first token still has its own position."""
    first = {name: ROBERTAS[name] for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    old_reader = sentencepiece(["▁the", "▁play", "ing"], {**first, "cls_token": "<s>", "sep_token": "</s>"})
    assert old_reader.pad_token_id == 3
    sizes = {**SIZES, "max_position_embeddings": 20, **HEAD}
    folder = saved("model", old_reader, RobertaForSequenceClassification, RobertaConfig, **sizes)
    new = sentencepiece(
        ["▁play", "ing", "▁the"], {"pad_token": "<pad>", **first, "cls_token": "<s>", "sep_token": "</s>"}
    )
    assert new.pad_token_id == 0
    made = change(folder, "text_classification", saved("other", new))
    old = models.load(folder, "text_classification")
    assert made.network.config.max_position_embeddings == 17
    text = "the playing the play"
    theirs = old(**{k: v for k, v in old_reader(text, return_tensors="pt").items() if k != "token_type_ids"}).logits
    ours = made.reader(text, return_tensors="pt")
    assert torch.allclose(made.network(input_ids=ours["input_ids"]).logits, theirs, atol=1e-6)
    long = torch.full((1, 16), 9)  # as many tokens as before fit
    again = reloaded(made.network, "text_classification", tmp_path / "again")
    assert torch.equal(again(input_ids=long).logits, made.network(input_ids=long).logits)
    adds_up(made)


def test_a_padding_token_behind_all_positions(saved):
    folder = saved("model", SENTENCES, RobertaForMaskedLM, RobertaConfig, **SIZES, max_position_embeddings=20)
    late = byte_bpe([f"Ġ{word}" for word in ("the", "play")], {"bos_token": "<s>", "eos_token": "</s>"})
    late.add_special_tokens({"pad_token": "<pad>", "mask_token": "<mask>"})
    with pytest.raises(
        HFTransferError, match=r"architecture\.tokenizer: RobertaForMaskedLM counts positions from the"
    ):
        change(folder, "masked_lm", saved("other", late))


def test_what_the_network_decides_stays(saved, tmp_path):
    """Its inputs, its most tokens and the side that it is padded on are not the vocabulary's matter."""
    names = ["input_ids", "attention_mask"]
    old = wordpiece(["the"], model_max_length=16, padding_side="left", model_input_names=names)
    folder = saved("model", old, BertForSequenceClassification, BertConfig, **SIZES, type_vocab_size=1)
    made = change(folder, "text_classification", saved("other", wordpiece(["play", "the"])))
    made.reader.save_pretrained(tmp_path / "again")
    reader = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert (reader.model_max_length, reader.padding_side) == (16, "left")
    assert list(reader("the", "play")) == ["input_ids", "attention_mask"]


def test_with_layers_and_a_decoder(saved, tmp_path):
    folder = saved("model", WORDPIECE, BertForMaskedLM, BertConfig, **SIZES)
    made = change(folder, "causal_lm", saved("other", BPE), layers=1, is_decoder=True)
    assert made.network.config.eos_token_id == BPE.eos_token_id and made.network.config.vocab_size == len(BPE)
    text = made.reader(" the playing", return_tensors="pt")["input_ids"]
    again = reloaded(made.network, "causal_lm", tmp_path / "again")
    assert torch.equal(again(input_ids=text).logits, made.network(input_ids=text).logits)
    adds_up(made)


def test_a_tokenizer_that_is_nowhere_or_pads_with_nothing(saved, tiny_bert, tmp_path):
    with pytest.raises(HFTransferError, match=r"architecture\.tokenizer: .*there is no folder"):
        change(str(tiny_bert), "text_classification", str(tmp_path / "none"))
    made = PreTrainedTokenizerFast(tokenizer_object=BPE.backend_tokenizer)
    with pytest.raises(HFTransferError, match=r"architecture\.tokenizer: it has no padding token"):
        change(str(tiny_bert), "text_classification", saved("other", made))
