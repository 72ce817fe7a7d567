"""Next pixel: every pixel counts, the palette is the processor's, completion follows the network, all is saved."""

import io
import math

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ImageGPTConfig,
    ImageGPTForCausalImageModeling,
    ViTImageProcessorPil,
)

from hftransfer.data import palette
from hftransfer.data.images import readable
from hftransfer.errors import HFTransferError
from hftransfer.objectives.next_pixel import NextPixel


def config_of(**changes):
    drops = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return ImageGPTConfig(
        **{"vocab_size": 9, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, **drops, **changes}
    )


def objective_of(content, **changes):
    torch.manual_seed(0)
    network = ImageGPTForCausalImageModeling(config_of(**changes)).eval()
    return NextPixel(network, NextPixel.new_reader(network.config, content), {}, seed=0)


def content(count=6, size=5, seed=0, grey=False):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        written = io.BytesIO()
        shape = (size, size) if grey else (size, size, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(written, "PNG")
        rows.append({"bytes": written.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(decode=False)})
    return datasets.Dataset.from_dict({"image": rows}, features=features)


def prepared(count=6, **changes):
    objective = objective_of(content(count), **changes)
    rows = objective.rows(content(count), key="data")
    return objective, rows, objective.collator(fixed=False)([rows[i] for i in range(count)])


def test_the_loss_is_over_every_pixel_and_transformers_leaves_the_last_one_out():
    objective, _, batch = prepared()
    tokens = batch["input_ids"]
    sums, counts = objective.losses(objective.network, batch)
    assert counts.tolist() == [16] * 6 and objective.count(batch) == 96
    first = torch.full((6, 1), 8)
    logits = objective.network(input_ids=torch.cat([first, tokens], dim=1)[:, :16]).logits
    by_hand = torch.stack([cross_entropy(logits[i], tokens[i], reduction="sum") for i in range(6)])
    assert torch.allclose(sums, by_hand, rtol=1e-5)
    stock_input = torch.cat([first, tokens[:, :-1]], dim=1)
    stock = objective.network(input_ids=stock_input, labels=stock_input).loss  # 15 pixels: x1 to x15
    without_last = sum(cross_entropy(logits[i, :15], tokens[i, :15], reduction="sum") for i in range(6)) / 90
    assert torch.allclose(stock, without_last, rtol=1e-5)
    assert objective.measures(math.log(2), None) == {"bits_per_pixel": 1.0}


def test_a_pixel_is_told_from_those_before_it_only():
    objective, _, batch = prepared()
    other = batch["input_ids"].clone()
    other[:, 10:] = (other[:, 10:] + 1) % 8
    given = {}
    for name, tokens in (("this", batch["input_ids"]), ("other", other)):
        shifted = torch.cat([torch.full((6, 1), 8), tokens[:, :-1]], dim=1)
        given[name] = objective.network(input_ids=shifted).logits
    assert torch.allclose(given["this"][:, :11], given["other"][:, :11], atol=1e-6)
    assert not torch.allclose(given["this"][:, 11:], given["other"][:, 11:], atol=1e-3)


def test_the_gradient_reaches_all_that_is_used():
    objective, _, batch = prepared()
    objective.losses(objective.network, batch).sums.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in objective.network.parameters())
    assert (objective.network.transformer.wpe.weight.grad.abs().sum(1) > 0).all()  # every position is trained


def test_rows_are_the_processors_tokens(tmp_path):
    objective, rows, _ = prepared()
    images = [np.asarray(image) for image in content().cast_column("image", datasets.Image())["image"]]
    stock = objective.reader(images, return_tensors="np")["input_ids"]
    assert np.array_equal(np.stack([row["input_ids"] for row in rows]), stock)
    assert objective.palette.shape == (8, 3) and np.abs(objective.palette).max() <= 1


def test_what_is_saved_reads_and_loads_alone(tmp_path):
    objective, rows, _ = prepared()
    objective.save(tmp_path)
    reader = AutoImageProcessor.from_pretrained(tmp_path)
    images = [np.asarray(image) for image in content().cast_column("image", datasets.Image())["image"]]
    assert np.array_equal(reader(images, return_tensors="np")["input_ids"], [row["input_ids"] for row in rows])
    model, report = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert set(report["missing_keys"]) == {"score.weight"}
    assert model(torch.from_numpy(rows.tokens[:2].astype(np.int64))).logits.shape == (2, 3)
    again = NextPixel(objective.network, reader, {}, seed=1)  # a checkpoint's own palette is kept
    other = again.rows(content(seed=5), key="data")
    assert np.allclose(again.palette, objective.palette) and again.reader is reader
    assert not np.array_equal(other.tokens, rows.tokens)


def test_a_new_networks_palette_is_learnt_from_its_images():
    config, one = config_of(), prepared()[0]
    assert np.array_equal(NextPixel.new_reader(config, content()).clusters, one.reader.clusters)
    assert not np.array_equal(NextPixel.new_reader(config, content(seed=9)).clusters, one.reader.clusters)
    assert one.reader.size == {"height": 4, "width": 4} and one.reader.clusters.shape == (8, 3)


def test_a_classifiers_batch_is_the_rows_tokens():
    objective, _, batch = prepared()
    made = palette.classifier_batch(objective.reader, objective.network.config)(
        list(readable(content(), key="data", channels=3))
    )
    assert made.keys() == {"input_ids"} and torch.equal(made["input_ids"], batch["input_ids"])


def test_a_classifier_needs_a_palette_and_room_for_its_pixels():
    made = palette.processor(5, np.zeros((8, 3), dtype=np.float32))
    for reader, told in ((ViTImageProcessorPil(), "has no palette"), (made, "5 x 5 pixels are more than its 16 pos")):
        with pytest.raises(HFTransferError, match=rf"^model: .*{told}"):
            palette.classifier_batch(reader, config_of())


def test_completion_keeps_what_is_given_and_draws_what_the_network_says():
    objective, _, batch = prepared()
    tokens = batch["input_ids"].numpy()
    done = objective.completed(tokens, 8)
    assert np.array_equal(done[:, :8], tokens[:, :8]) and done.shape == tokens.shape
    assert np.array_equal(done, objective.completed(tokens, 8))
    state = torch.get_rng_state()
    objective.completed(tokens, 8)
    assert torch.equal(state, torch.get_rng_state())  # training's own chance is left alone
    with torch.no_grad():  # a network that is sure of the colour after this one
        network, calls = objective.network, []
        network.lm_head.register_forward_hook(lambda m, given, out: calls.append(out.shape[1]) or 1e4 * sure(network))
        follows = objective.completed(tokens, 8)
    assert calls == [9] + [1] * 7  # the cache is used
    assert (follows[:, 8:] == 3).all()


def sure(network):
    logits = torch.zeros(6, 1, 8)
    logits[:, :, 3] = 1
    return logits


def test_the_cache_gives_the_logits_of_the_whole():
    objective, _, batch = prepared()
    network, tokens = objective.network, batch["input_ids"]
    whole = network(input_ids=tokens).logits
    start = network(input_ids=tokens[:, :8], use_cache=True)
    step = network(input_ids=tokens[:, 8:9], past_key_values=start.past_key_values, use_cache=True)
    assert torch.allclose(step.logits[:, 0], whole[:, 8], atol=1e-5)


def test_pictures_show_halves_completed():
    objective, rows, _ = prepared(8)
    shown = objective.show(rows)
    assert {value.shape for value in shown.values()} == {(6, 4, 4, 3)}
    assert np.array_equal(shown["completed"][:, :2], shown["original"][:, :2])
    assert (shown["seen"][:, 2:] == 127).all()
    for given, told in ((shown, 4), (None, 3)):
        (picture,) = objective.picture(given, shown)["pictures"]
        assert Image.open(io.BytesIO(picture["png"])).height == told * 96 + (told - 1) * 6


def test_few_colours_are_the_palette_and_many_are_clustered():
    few = np.repeat(np.array([[200, 0, 0], [0, 0, 0], [255, 255, 255]], dtype=np.uint8), 5, axis=0)
    found = palette.learn(few, 5, seed=0)
    assert palette.coloured(np.arange(5), found).tolist() == [[0, 0, 0], [200, 0, 0]] + [[255, 255, 255]] * 3
    assert palette.nearest(palette.scaled(few), found).tolist() == [1] * 5 + [0] * 5 + [2] * 5
    many = np.random.default_rng(0).integers(0, 256, (5000, 3), dtype=np.uint8)
    errors = []
    for colours in (4, 64):
        found = palette.learn(many, colours, seed=0)
        assert found.shape == (colours, 3) and (np.diff(found.sum(1)) >= 0).all()
        assert np.array_equal(found, palette.learn(many, colours, seed=0))
        back = palette.coloured(palette.nearest(palette.scaled(many), found), found)
        errors.append(np.abs(back.astype(int) - many).mean())
    assert errors[1] < errors[0] / 2 and errors[1] < 25


@pytest.mark.parametrize(
    ("reader", "changes", "told"),
    [
        (ViTImageProcessorPil(size={"height": 4, "width": 4}), {}, r"^model: its image processor has no palette"),
        (
            palette.processor(5, np.zeros((8, 3), dtype=np.float32)),
            {},
            r"^model: 5 x 5 pixels are more than its 16 pos",
        ),
        (
            palette.processor(4, np.zeros((9, 3), dtype=np.float32)),
            {},
            r"^model: its palette has 9 colours .* room for 8",
        ),
    ],
)
def test_what_cannot_work_is_told_at_once(reader, changes, told):
    with pytest.raises(HFTransferError, match=told):
        NextPixel.check(config_of(**changes), reader, {})
    NextPixel.check(config_of(), None, {})


def test_only_an_image_gpt_is_taken():
    from transformers import GPT2Config

    with pytest.raises(HFTransferError, match=r"^model: next_pixel trains an Image GPT, and this is gpt2"):
        NextPixel.check(GPT2Config(), None, {})
