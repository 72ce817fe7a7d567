"""Encoders as decoders and back: whether a token's state depends on later tokens is seen, not believed."""

import pytest
import torch
import transformers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from hftransfer import architecture, models
from hftransfer.errors import HFTransferError

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
GROUPED = {**SIZES, "num_key_value_heads": 1}
HEAD = {"num_labels": 2, "id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1}}
NETWORKS = {
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES, vocab_size=80)),
    "encoder": lambda: BertModel(BertConfig(**SIZES, vocab_size=80)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SIZES, vocab_size=80, pad_token_id=0)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=80)
    ),
    "decoder": lambda: BertLMHeadModel(BertConfig(**SIZES, vocab_size=80, is_decoder=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=80, pad_token_id=0)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED, vocab_size=80, pad_token_id=0)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**GROUPED, vocab_size=80, pad_token_id=0, sliding_window=4)),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**GROUPED, head_dim=8, vocab_size=80, pad_token_id=0, sliding_window=4)
    ),
    "gpt_neo": lambda: GPTNeoForCausalLM(
        GPTNeoConfig(hidden_size=16, num_layers=2, attention_types=[[["global"], 2]], num_heads=2, vocab_size=80)
    ),
}


@pytest.fixture
def saved(tmp_path, word_tokenizer):
    """A maker of checkpoint folders: `saved("bert")`."""

    def make(name, **fields):
        torch.manual_seed(0)
        with models.quiet_transformers():
            network = NETWORKS[name]()
            network = type(network)(type(network.config).from_dict({**network.config.to_dict(), **fields}))
            network.save_pretrained(tmp_path / name)
        word_tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make


def change(model, job, decoder):
    head = HEAD if "classification" in job else {}
    return architecture.changed(model, job, head, {"is_decoder": decoder}, kind="text")


def reloaded(network, job, folder):
    network.save_pretrained(folder)
    with models.quiet_transformers():
        return getattr(transformers, models.AUTO_CLASSES[job]).from_pretrained(folder)


@torch.no_grad()
def sees_ahead(network):
    """Of each token of a text, whether its state depends on the last; with padding behind it and without."""
    ids = torch.tensor([[2, 30, 31, 32, 33, 34, 35, 36, 0]])
    other = ids.clone()
    other[0, 7] = 50
    found = set()
    for mask in (torch.ones(1, 8, dtype=torch.long), torch.tensor([[1] * 8 + [0]])):
        length = mask.shape[1]
        states = [
            network.base_model(input_ids=row[:, :length], attention_mask=mask).last_hidden_state[0, :7]
            for row in (ids, other)
        ]
        found |= {bool(difference > 1e-7) for difference in (states[0] - states[1]).abs().amax(1)}
    return found


@pytest.mark.parametrize("name", ["bert", "encoder", "roberta"])
def test_an_encoder_becomes_a_language_model(saved, name, tmp_path):
    folder = saved(name)
    made = change(folder, "causal_lm", True)
    assert sees_ahead(models.load(folder, "encoder")) == {True} and sees_ahead(made.network) == {False}
    again = reloaded(made.network, "causal_lm", tmp_path / "again")
    assert sees_ahead(again) == {False} and again.config.is_decoder
    ids = torch.tensor([[2, 30, 31, 32]])
    assert torch.equal(again(input_ids=ids).logits, made.network(input_ids=ids).logits)
    old = models.load(folder, "encoder" if name == "encoder" else "masked_lm").state_dict()
    ours = made.network.state_dict()
    assert all(torch.equal(value, old[n]) for n, value in ours.items() if n in old)
    assert bool(made.new) == (name == "encoder") and not any(path.startswith("bert.") for path in made.new)
    assert "no token sees a later one (is_decoder: true)" in made.notes


def test_a_language_model_made_of_an_encoder_knows_where_texts_end(saved, tmp_path):
    made = change(saved("bert"), "causal_lm", True)
    reader = made.reader
    assert (reader.bos_token, reader.eos_token) == ("[CLS]", "[SEP]")
    made.network.generation_config.max_new_tokens = 3
    again = reloaded(made.network, "causal_lm", tmp_path / "again")
    assert (again.config.bos_token_id, again.config.eos_token_id) == (reader.cls_token_id, reader.sep_token_id)
    assert again.generation_config.eos_token_id == reader.sep_token_id
    made_text = again.generate(torch.tensor([[2, 30, 31]]), do_sample=False, attention_mask=torch.ones(1, 3))
    assert made_text.shape[1] <= 6


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma3"])
def test_a_decoder_becomes_an_encoder(saved, name, tmp_path):
    folder = saved(name)
    made = change(folder, "text_classification", False)
    assert sees_ahead(models.load(folder, "encoder")) == {False}
    assert True in sees_ahead(made.network)
    if name not in ("mistral", "gemma3"):  # whose tokens see a window to both sides
        assert sees_ahead(made.network) == {True}
    again = reloaded(made.network, "text_classification", tmp_path / "again")
    assert sees_ahead(again) == sees_ahead(made.network)
    old = models.load(folder, "encoder").state_dict()
    assert all(torch.equal(value, old[n]) for n, value in made.network.base_model.state_dict().items())


def test_there_and_back_is_the_checkpoint(saved, tmp_path):
    folder = saved("gpt2")
    turned = change(folder, "text_classification", False)
    models.save(turned.network, tmp_path / "turned", turned.reader)
    back = change(str(tmp_path / "turned"), "causal_lm", True)
    assert sees_ahead(back.network) == {False}
    assert "no token sees a later one (is_causal: true)" in back.notes
    decoder = saved("decoder")
    made = change(decoder, "masked_lm", False)
    assert sees_ahead(made.network) == {True} and made.network.config.is_decoder is False
    with pytest.raises(HFTransferError, match="sees the next token, which a language model must predict; set true"):
        change(str(tmp_path / "turned"), "causal_lm", None)


def test_an_encoder_by_another_field_than_is_decoder(saved, tmp_path):
    folder = saved("gemma3", use_bidirectional_attention=True)
    assert True in sees_ahead(models.load(folder, "encoder"))
    made = change(folder, "causal_lm", True)
    assert sees_ahead(reloaded(made.network, "causal_lm", tmp_path / "again")) == {False}


@pytest.mark.parametrize(
    "name, job, decoder, note",
    [
        ("gpt2", "causal_lm", True, "no token sees a later one, as before"),
        ("encoder", "text_classification", False, "every token sees later ones too, as before"),
    ],
)
def test_what_is_so_already_stays(saved, name, job, decoder, note):
    folder = saved(name)
    made = change(folder, job, decoder)
    assert note in made.notes
    old = models.config_of(folder, {}, job).to_dict()
    assert {n: made.network.config.to_dict()[n] for n in ("eos_token_id", "bos_token_id")} == {
        n: old[n] for n in ("eos_token_id", "bos_token_id")
    }


@pytest.mark.parametrize(
    "name, job, decoder, message",
    [
        ("distilbert", "text_classification", True, "distilbert's code is an encoder's whatever its config says"),
        ("gpt_neo", "text_classification", False, "gpt_neo's code is a decoder's whatever its config says"),
        ("encoder", "text_classification", True, "classifies by its first token, which sees no other in a decoder"),
        ("gpt2", "causal_lm", False, "a language model that sees the next token need not predict it"),
        ("encoder", "causal_lm", None, "BertLMHeadModel sees the next token, which a language model must predict"),
    ],
)
def test_what_no_plain_checkpoint_holds_is_refused(saved, name, job, decoder, message):
    with pytest.raises(HFTransferError, match=rf"architecture\.is_decoder: .*{message}"):
        change(saved(name), job, decoder)


def test_an_encoder_and_decoder_is_refused():
    config = transformers.T5Config(d_model=16, d_ff=32, d_kv=8, num_layers=1, num_heads=2, vocab_size=80)
    network = transformers.T5ForSequenceClassification(config)
    for spec in ({"is_decoder": True}, {"layers": 1}):
        with pytest.raises(HFTransferError, match="an encoder and"):
            architecture.changed(network, "text_classification", HEAD, spec, kind="text")


def test_trying_leaves_the_random_generator_alone(saved):
    folder = saved("encoder")
    drawn = []
    for decoder in (False, None):
        torch.manual_seed(3)
        change(folder, "text_classification", decoder)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


def test_what_sees_the_past_only_until_a_row_is_padded_is_no_decoder(tmp_path, word_tokenizer):
    """DistilBERT takes `is_causal` where no mask is needed, and forgets it where one is."""
    config = DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=80, is_causal=True)
    DistilBertModel(config).save_pretrained(tmp_path)
    word_tokenizer.save_pretrained(tmp_path)
    assert sees_ahead(models.load(str(tmp_path), "encoder")) == {False, True}
    with pytest.raises(HFTransferError, match="distilbert's code is an encoder's whatever its config says"):
        change(str(tmp_path), "text_classification", True)
