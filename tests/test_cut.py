"""What does not train runs once: a cut network is the whole one, and features are found again."""

import contextlib
import copy
import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForTokenClassification,
    Qwen2Config,
    Qwen2ForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from hftransfer import models, tuning
from hftransfer.cache import Cache
from hftransfer.cut import Cut, features
from hftransfer.errors import HFTransferError
from hftransfer.inputs import Inputs
from hftransfer.lstm import LSTMConfig, LSTMForCausalLM
from hftransfer.spending import spending
from hftransfer.tasks.classification import SingleLabel

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = {**SIZES, "vocab_size": 50, "pad_token_id": 0, "num_labels": 3}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 2, "vocab_size": 50, "n_positions": 32, "num_labels": 3}
GPT2 |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
SPECIAL = {"eos_token_id": 1, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 1}
WAVES = {**SIZES, "conv_dim": (16, 16), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
WAVES |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}
MASKED = {**WAVES, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_labels": 3}
MASKED |= {"mask_time_prob": 0.0, "layerdrop": 0.0}
LENGTHS = (4, 9, 2, 7, 7, 3, 8)


def texts(left=False):
    """Rows of tokens, padded on the right or on the left."""
    rng = np.random.default_rng(0)
    rows = [{"input_ids": rng.integers(5, 50, length).tolist()} for length in LENGTHS]

    def batch(chosen):
        longest = max(len(row["input_ids"]) for row in chosen)
        made = {name: torch.zeros(len(chosen), longest, dtype=torch.long) for name in ("input_ids", "attention_mask")}
        for number, row in enumerate(chosen):
            length = len(row["input_ids"])
            place = slice(longest - length, longest) if left else slice(0, length)
            made["input_ids"][number, place] = torch.tensor(row["input_ids"])
            made["attention_mask"][number, place] = 1
        return made

    return Inputs(rows, np.arange(len(rows)) % 3, batch, LENGTHS)


def images():
    rows = [{"pixels": one} for one in np.random.default_rng(0).normal(size=(7, 3, 16, 16)).astype(np.float32)]

    def batch(chosen):
        return {"pixel_values": torch.as_tensor(np.stack([row["pixels"] for row in chosen]))}

    return Inputs(rows, np.arange(7) % 3, batch)


def sounds(mask=True):
    rng = np.random.default_rng(0)
    rows = [{"waveform": rng.normal(size=100 * length).astype(np.float32)} for length in LENGTHS]

    def batch(chosen):
        waves = [torch.as_tensor(row["waveform"]) for row in chosen]
        ones = [torch.ones(len(wave), dtype=torch.long) for wave in waves]
        made = {"input_values": nn.utils.rnn.pad_sequence(waves, batch_first=True)}
        return {**made, **({"attention_mask": nn.utils.rnn.pad_sequence(ones, batch_first=True)} if mask else {})}

    return Inputs(rows, np.arange(7) % 3, batch, [100 * length for length in LENGTHS])


def still(config):
    """Without dropout, so that training is the same twice."""
    for name, value in vars(config).items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(config, name, 0.0)
    return config


CASES = {
    "bert": (BertForSequenceClassification, lambda: BertConfig(**WORDS), texts),
    "gpt2": (GPT2ForSequenceClassification, lambda: GPT2Config(**GPT2), texts),
    "gpt2 as a language model": (GPT2LMHeadModel, lambda: GPT2Config(**GPT2), texts),
    "vit": (ViTForImageClassification, lambda: ViTConfig(**SIZES, image_size=16, patch_size=4, num_labels=3), images),
    "modernbert": (  # its blocks say which mask they want
        ModernBertForTokenClassification,
        lambda: ModernBertConfig(**WORDS, **SPECIAL, global_attn_every_n_layers=2, local_attention=4),
        texts,
    ),
    "qwen2 padded on the left": (  # masks are given by a block's number
        Qwen2ForSequenceClassification,
        lambda: Qwen2Config(
            **WORDS, num_key_value_heads=2, use_sliding_window=True, sliding_window=4, max_window_layers=1
        ),
        lambda: texts(left=True),
    ),
    "wav2vec2": (Wav2Vec2ForSequenceClassification, lambda: Wav2Vec2Config(**MASKED), sounds),
}


@pytest.fixture(params=CASES)
def case(request):
    """A network in evaluation mode, and its inputs."""
    cls, config, inputs = CASES[request.param]
    torch.manual_seed(0)
    return cls(still(config())).eval(), inputs()


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(still(BertConfig(**WORDS))).eval()


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path)


class Counted:
    """Counts the rows that go through modules."""

    def __init__(self, *modules):
        self.rows = 0
        for module in modules:
            module.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, _, args, options):
        self.rows += len(args[0] if args else options["hidden_states"])


def logits(network, inputs, order=(6, 1, 3, 0)):
    """Of some rows in one batch, at their real positions."""
    batch = inputs.batch([inputs.rows[row] for row in order])
    mask = batch.get("attention_mask")
    with torch.no_grad():
        found = network(**batch).logits
    return found[mask.bool()] if found.dim() == 3 and mask is not None else found


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_cut_network_is_the_whole_one(case, cache, count):
    network, inputs = case
    whole = logits(network, inputs)
    cut = Cut(network, count)
    stored = cut.stored(inputs, cache)
    with cut:
        torch.testing.assert_close(logits(network, stored), whole, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(logits(network, stored.select([6, 1, 3, 0]), range(4)), whole, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(logits(network, inputs), whole)  # without states all blocks run
    assert torch.equal(logits(network, inputs), whole)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_lower_blocks_run_once_a_row_and_upper_ones_see_what_they_made(case, cache, count):
    network, inputs = case
    cut = Cut(network, count)
    stack = tuning.blocks(network)
    assert cut.possible and cut.bytes(inputs) > 0  # which tries it
    lower = Counted(*stack[: 3 - count])
    stored = cut.stored(inputs, cache)
    tried = 2 * 2 + 1  # alone and together, and once to see what is above
    assert lower.rows == (3 - count) * (len(LENGTHS) + tried)
    upper = Counted(*stack[3 - count :])
    with cut:
        logits(network, stored)
        assert lower.rows == (3 - count) * (len(LENGTHS) + tried) and upper.rows == 4 * count
        batch = stored.batch([stored.rows[0], stored.rows[1]])
        assert "cut_states" in batch
        changed = {**batch, "cut_states": batch["cut_states"].flip(2)}
        with torch.no_grad():
            assert not torch.allclose(network(**changed).logits, network(**batch).logits)


def test_its_size_is_told_before(case, cache):
    network, inputs = case
    cut = Cut(network, 1)
    told = cut.bytes(inputs)
    cut.stored(inputs, cache)
    (entry,) = cache.folder.iterdir()
    assert told == pytest.approx((entry / "values.npy").stat().st_size - 128, rel=0.05)
    assert Cut(network, 3).bytes(inputs) == 0


def upper(network, count):
    """The names of what trains with the last blocks; a speech network has a part of its encoder before them."""
    return {
        name for name in tuning.reach(network, count).names if "pos_conv" not in name and "masked_spec" not in name
    }


@pytest.mark.parametrize("count", [0, 1, 2])
def test_gradients_are_the_frozen_whole_networks(case, cache, count):
    network, inputs = case
    cut, found = Cut(network, count), []
    stored = cut.stored(inputs, cache)
    with tuning.only(network, upper(network, count)):
        for rows, context in ((inputs, contextlib.nullcontext()), (stored, cut)):
            with context:
                squares(network, rows).backward()
                found.append({name: value.grad for name, value in network.named_parameters() if value.requires_grad})
                network.zero_grad()
    assert max(value.abs().max() for value in found[0].values() if value is not None) > 0
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-6, msg=name)


def squares(network, inputs):
    """A number that every real position's logits matter to."""
    batch = inputs.batch([inputs.rows[row] for row in range(7)])
    found = network(**batch).logits
    return (found[batch["attention_mask"].bool()] if found.dim() == 3 else found).square().sum()


def test_training_gives_the_same_weights(case, cache):
    network, inputs = case
    twin = copy.deepcopy(network)
    train(twin, inputs, upper(twin, 1))
    cut = Cut(network, 1)
    stored = cut.stored(inputs, cache)
    with cut:
        trained = set(network.state_dict())
        train(network, stored, upper(network, 1))
    before = set(twin.state_dict())
    stack = next(name for name, module in twin.named_modules() if module is tuning.blocks(twin))
    hidden = {name for name in before if name.startswith((f"{stack}.0.", f"{stack}.1."))}
    front = {name for name in before if ".feature_extractor." in name}
    assert hidden and trained == before - hidden - front  # the others under their own names
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name)


def train(network, inputs, names):
    """A few steps of plain gradient descent, in training mode."""
    with tuning.only(network, names):
        network.train()
        optimizer = torch.optim.SGD([value for value in network.parameters() if value.requires_grad], lr=0.1)
        for step in range(4):
            rows = [inputs.rows[(3 * step + one) % 7] for one in range(3)]
            batch = inputs.batch(rows)
            output = network(**batch).logits
            if output.dim() == 3:
                output = output[batch["attention_mask"].bool()]
            optimizer.zero_grad()
            output.log_softmax(-1)[:, 1].sum().neg().backward()
            optimizer.step()
        network.eval()


def test_all_is_put_back_also_after_an_error(cache):
    torch.manual_seed(0)
    network, inputs = GPT2ForSequenceClassification(GPT2Config(**GPT2)), texts()
    before = [(name, id(module)) for name, module in network.named_modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    config = network.config.to_dict()
    cut = Cut(network, 1)
    stored = cut.stored(inputs, cache)
    network.train()

    def fail():
        with cut:
            assert network.config.use_cache is False
            logits(network, stored)
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        fail()
    assert [(name, id(module)) for name, module in network.named_modules()] == before
    assert all(module.training for module in network.modules())
    assert network.config.to_dict() == config and config["use_cache"] is True
    assert not network._forward_pre_hooks and not network.base_model._forward_hooks
    assert all(torch.equal(network.state_dict()[name], value) for name, value in state.items())
    with cut:  # and again
        logits(network, stored)


def test_gates_are_never_dropped(cache):
    torch.manual_seed(0)
    network = Wav2Vec2ForSequenceClassification(still(Wav2Vec2Config(**MASKED)))
    network.config.layerdrop = 0.99
    cut, inputs = Cut(network, 0), sounds()
    stored = cut.stored(inputs, cache)
    expected = logits(network.eval(), inputs)
    with cut:
        torch.testing.assert_close(logits(network.train(), stored), expected, rtol=1e-4, atol=1e-6)
    assert network.config.layerdrop == 0.99


def test_states_are_found_again_unless_what_made_them_changed(bert, cache):
    inputs = texts()
    Cut(bert, 1).stored(inputs, cache)
    runs = Counted(bert.bert.encoder.layer[1])
    tried = 2 * 2 + 1
    with torch.no_grad():
        for above in (
            bert.classifier.weight,
            bert.bert.pooler.dense.weight,
            bert.bert.encoder.layer[2].output.dense.bias,
        ):
            above += 1
    Cut(bert, 1).stored(inputs.select([5, 2, 2]), cache)
    assert runs.rows == tried
    with torch.no_grad():
        bert.bert.embeddings.word_embeddings.weight[9] += 1
    Cut(bert, 1).stored(inputs.select([5, 2, 2]), cache)
    assert runs.rows == 2 * tried + 2  # a row that is there twice is one


def test_labels_in_a_batch_make_no_states(bert, cache):
    inputs = texts()

    def labelled(rows):
        made = inputs.batch(rows)
        return {**made, "labels": torch.tensor([1] * len(rows))}

    cut = Cut(bert, 1)
    stored = cut.stored(dataclasses.replace(inputs, batch=labelled), cache)
    runs = Counted(bert.bert.encoder.layer[1])
    Cut(bert, 1).stored(inputs, cache)
    assert runs.rows == 5  # none but to try it
    with cut:
        assert stored.batch([stored.rows[1]])["labels"].tolist() == [1]


def test_rows_reach_training_with_labels(bert, cache):
    inputs = texts()
    cut = Cut(bert, 1)
    rows, collate = SingleLabel("text", ["a", "b", "c"]).training(cut.stored(inputs, cache))
    whole = bert(**inputs.batch([inputs.rows[1], inputs.rows[4]]), labels=torch.tensor([1, 1])).loss
    with cut:
        batch = collate([rows[1], rows[4]])
        assert batch["labels"].tolist() == [1, 1]
        torch.testing.assert_close(bert(**batch).loss, whole)


@pytest.mark.parametrize(
    "network, inputs, count",
    [
        (lambda: LSTMForCausalLM(LSTMConfig(vocab_size=50, hidden_size=8)), texts, 0),  # no blocks
        (lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2)), lambda: texts(left=True), 1),  # positions move
        (lambda: Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**WAVES)), lambda: sounds(mask=False), 1),
        (lambda: BertForSequenceClassification(BertConfig(**WORDS)), texts, 4),
    ],
)
def test_what_cannot_be_cut_says_so(network, inputs, count, cache):
    cut = Cut(network(), count)
    assert cut.bytes(inputs()) == 0 and not cut.possible
    with pytest.raises(HFTransferError, match=r"trainable: .* cannot be cut"):
        cut.stored(inputs(), cache)
    assert list(cache.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit", "qwen2 padded on the left", "wav2vec2"])
def test_features_are_what_the_last_layer_sees(name, cache):
    cls, config, make = CASES[name]
    torch.manual_seed(0)
    network, inputs = cls(config()), make()
    runs = Counted(tuning.blocks(network)[0])
    found = features(network, inputs, cache)
    assert runs.rows == len(LENGTHS)
    assert found.shape[0] == 7 and found.dtype == np.float32
    with torch.no_grad():
        for row in range(7):
            seen, _ = models.classify(network.eval(), inputs.batch([inputs.rows[row]]))
            np.testing.assert_allclose(found[row], seen[0], rtol=1e-3, atol=1e-5)


def test_features_are_found_again_row_by_row(bert, cache):
    inputs = texts()
    first = features(bert, inputs.select([0, 1, 2]), cache)
    assert isinstance(first, np.memmap)
    runs = Counted(bert.bert.encoder.layer[0])
    with torch.no_grad():
        bert.classifier.weight += 1  # another head
    wider = copy.deepcopy(bert)
    wider.classifier, wider.config.num_labels = nn.Linear(32, 5), 5
    with spending() as spent:
        np.testing.assert_array_equal(features(wider, inputs.select([2, 0, 0]), cache), first[[2, 0, 0]])
    assert runs.rows == 0 < spent.saved
    everything = features(bert, dataclasses.replace(inputs, labels=inputs.labels + 1), cache)
    assert runs.rows == 4  # rows 3 to 6
    np.testing.assert_array_equal(everything[:3], first)
    np.testing.assert_allclose(everything, features(bert, inputs, Cache(cache.folder / "new")), atol=1e-6)
    runs.rows = 0
    np.testing.assert_array_equal(features(bert, inputs.select([6, 1]), cache), everything[[6, 1]])
    assert runs.rows == 0


def change_weight(network, inputs):
    with torch.no_grad():
        network.bert.pooler.dense.bias[0] += 0.1
    return inputs


def change_config(network, inputs):
    network.config.layer_norm_eps *= 2
    return inputs


def change_batch(network, inputs):
    def batch(rows):
        made = inputs.batch(rows)
        return {**made, "token_type_ids": torch.ones_like(made["input_ids"])}

    return dataclasses.replace(inputs, batch=batch)


def change_rows(network, inputs):
    rows = [{**row, "input_ids": [token + 1 for token in row["input_ids"]]} for row in inputs.rows]
    return dataclasses.replace(inputs, rows=rows)


@pytest.mark.parametrize("change", [change_weight, change_config, change_batch, change_rows])
def test_features_are_made_again_when_anything_below_changed(bert, cache, change):
    inputs = texts()
    features(bert, inputs, cache)
    inputs = change(bert, inputs)
    runs = Counted(bert.bert.encoder.layer[0])
    features(bert, inputs, cache)
    assert runs.rows == len(LENGTHS)


def test_half_precision_is_kept_apart(bert, cache):
    inputs = texts()
    exact = features(bert, inputs, cache)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = features(bert, inputs, cache)
        cut = Cut(bert, 1)
        assert cut.bytes(inputs) > 0 and cut.possible
    assert np.abs(coarse - exact).max() > 0
    np.testing.assert_allclose(coarse, exact, atol=0.05)
    np.testing.assert_array_equal(features(bert, inputs, cache), exact)


WORKER = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
from test_cut import *
from hftransfer import inference, processes
inference.ROWS_PER_BATCH = 2
cls, config, make = CASES["vit"]
torch.manual_seed(0)
network, inputs = cls(still(config())), make()
runs = Counted(network.vit.layers[0])
found = np.array(features(network, inputs, Cache(sys.argv[2])))
mine = runs.rows
cut = Cut(network, 1)
stored = cut.stored(inputs, Cache(sys.argv[2]))
with cut:
    made = logits(network, stored).numpy()
rows = processes.gather([mine])
if processes.is_main():
    np.savez(sys.argv[3], features=found, logits=made, rows=rows)
processes.state().destroy_process_group()
"""


def test_two_processes_share_the_work(tmp_path, cache):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    paths = [os.path.dirname(__file__), str(tmp_path / "two"), str(tmp_path / "found.npz")]
    ran = subprocess.run([*command, *paths], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = np.load(tmp_path / "found.npz")
    assert len(found["rows"]) == 2 and found["rows"].sum() == 7 and found["rows"].min() > 0
    cls, config, make = CASES["vit"]
    torch.manual_seed(0)
    network, inputs = cls(still(config())), make()
    np.testing.assert_allclose(found["features"], features(network, inputs, cache), atol=1e-5)
    np.testing.assert_allclose(found["logits"], logits(network.eval(), inputs), atol=1e-5)
