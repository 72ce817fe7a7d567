"""The LSTM language model: a transformers checkpoint whose state is carried, reset and padded right."""

import importlib

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from hftransfer import lstm
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM, LSTMModel


def build(**sizes):
    torch.manual_seed(0)
    return LSTMForCausalLM(LSTMConfig(**{"vocab_size": 40, "hidden_size": 12, "pad_token_id": 0, **sizes})).eval()


def tokens(rows=3, length=7, seed=0):
    return torch.randint(1, 40, (rows, length), generator=torch.Generator().manual_seed(seed))


def greedily(model, ids, steps):
    """The whole sequence anew for each token, no state kept."""
    for _ in range(steps):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return ids


GREEDY = {"max_new_tokens": 6, "do_sample": False}


def generated(model, ids, mask=None, **more):
    return model.generate(ids, attention_mask=torch.ones_like(ids) if mask is None else mask, **{**GREEDY, **more})


def test_generate_is_the_greedy_loop_without_a_cache():
    model, ids = build(), tokens()
    assert torch.equal(generated(model, ids), greedily(model, ids, 6))
    assert torch.equal(generated(model, ids, use_cache=False), greedily(model, ids, 6))


def test_a_step_of_generation_reads_one_token():
    model, lengths = build(), []
    model.model.register_forward_hook(
        lambda _, given, keys, out: lengths.append(keys["input_ids"].shape[1]), with_kwargs=True
    )
    generated(model, tokens())
    assert lengths == [7, 1, 1, 1, 1, 1]


def test_beams_carry_their_own_states():
    model, ids = build(), tokens()
    kept = generated(model, ids, num_beams=3)
    assert torch.equal(kept, generated(model, ids, num_beams=3, use_cache=False))
    assert not torch.equal(kept, generated(model, ids))


@pytest.mark.parametrize("use_cache", [True, False])
def test_left_padding_changes_nothing(use_cache):
    model, ids = build(), tokens()
    lengths = (7, 4, 1)
    padded, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        padded[row, 7 - length :], mask[row, 7 - length :] = ids[row, :length], 1
    found = generated(model, padded, mask, use_cache=use_cache)
    for row, length in enumerate(lengths):
        assert torch.equal(found[row, 7 - length :], greedily(model, ids[row : row + 1, :length], 6)[0])
    logits = model(padded, attention_mask=mask).logits
    torch.testing.assert_close(logits[1, 3:], model(ids[1:2, :4]).logits[0])


def test_right_padding_changes_nothing_and_the_state_is_that_of_the_last_real_token():
    model, ids = build(), tokens(rows=2)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    found = model(ids, attention_mask=mask)
    short = model(ids[1:, :4])
    torch.testing.assert_close(found.logits[1, :4], short.logits[0])
    torch.testing.assert_close(found.past_key_values.hidden[:, 1:], short.past_key_values.hidden)
    torch.testing.assert_close(found.past_key_values.cell[:, 1:], short.past_key_values.cell)


def test_a_text_in_two_pieces_is_the_whole_text():
    model, ids = build(), tokens()
    whole = model(ids)
    first = model(ids[:, :4])
    second = model(ids[:, 4:], past_key_values=first.past_key_values, attention_mask=torch.ones_like(ids))
    torch.testing.assert_close(torch.cat([first.logits, second.logits], dim=1), whole.logits)
    torch.testing.assert_close(second.past_key_values.cell, whole.past_key_values.cell)
    assert second.past_key_values.get_seq_length() == 7


def test_the_state_begins_anew_where_positions_restart():
    model, ids = build(), tokens(rows=2)
    positions = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5, 6]])
    packed = model(ids, position_ids=positions)
    assert packed.past_key_values is None  # no one text to go on from
    for start, end in ((0, 3), (3, 5), (5, 6), (6, 7)):
        torch.testing.assert_close(packed.logits[0, start:end], model(ids[:1, start:end]).logits[0])
    torch.testing.assert_close(packed.logits[1], model(ids[1:]).logits[0])
    assert not torch.allclose(packed.logits[0, 3:], model(ids[:1]).logits[0, 3:])


def test_labels_are_shifted_as_in_transformers():
    model, ids = build(), tokens()
    labels = ids.clone()
    labels[0, 4:] = -100
    found = model(ids, labels=labels)
    expected = cross_entropy(found.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=3).loss, expected * 15 / 3)


def test_it_begins_with_open_forget_gates_and_a_tied_softmax():
    model = build()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    width = model.config.hidden_size
    for layer in range(2):
        bias = getattr(model.model.lstm, f"bias_ih_l{layer}") + getattr(model.model.lstm, f"bias_hh_l{layer}")
        assert bias.view(4, width).sum(1).tolist() == [0, width, 0, 0]
        assert 0 < getattr(model.model.lstm, f"weight_hh_l{layer}").abs().max() <= width**-0.5


def test_a_saved_model_is_the_same_model(tmp_path):
    model, ids = build(), tokens()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(loaded) is LSTMForCausalLM and loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    backbone = AutoModel.from_pretrained(tmp_path).eval()
    assert type(backbone) is LSTMModel
    assert torch.equal(backbone(ids).last_hidden_state, model.model(ids).last_hidden_state)


def test_registering_twice_is_registering_once():
    again = importlib.reload(lstm)
    try:
        assert isinstance(AutoConfig.for_model("lstm", hidden_size=8), again.LSTMConfig)
    finally:
        for auto, model in ((AutoModel, LSTMModel), (AutoModelForCausalLM, LSTMForCausalLM)):
            auto.register(LSTMConfig, model, exist_ok=True)
        AutoConfig.register("lstm", LSTMConfig, exist_ok=True)
    assert type(AutoModelForCausalLM.from_config(LSTMConfig(vocab_size=9, hidden_size=4))) is LSTMForCausalLM


def test_embeddings_are_found_and_resized():
    model = build()
    model.resize_token_embeddings(45)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model(torch.tensor([[44]])).logits.shape == (1, 1, 45) and model.config.vocab_size == 45


def test_dropout_is_for_training_only_and_gradients_reach_everything():
    model, ids = build(dropout=0.5).train(), tokens()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    model(ids, labels=ids).loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert torch.equal(model.eval()(ids).logits, model(ids).logits)
