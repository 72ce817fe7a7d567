"""The networks that play: saved, loaded, normalised, made of labels, sampled; and what does not fit them."""

import copy
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from hftransfer import gans
from hftransfer.errors import HFTransferError
from hftransfer.gans import latents
from hftransfer.gans.layers import LabelNorm, SpectralConv2d, SpectralLinear, fold
from hftransfer.models import quiet_transformers

SMALL = {
    "mlp": {"latent_size": 6, "generator": {"hidden_sizes": [16, 24]}, "discriminator": {"hidden_sizes": [24, 16]}},
    "conv": {"latent_size": 6, "base_channels": 4, "max_channels": 8},
}
KINDS = [("mlp", [2]), ("mlp", [1, 8, 8]), ("conv", [1, 8, 8]), ("conv", [3, 16, 16])]


def pair(kind="conv", shape=(1, 8, 8), classes=0, *, seed=0, **discriminator):
    torch.manual_seed(seed)
    config = copy.deepcopy(SMALL[kind])
    config["discriminator"] = {**config.get("discriminator", {}), **discriminator}
    return gans.new_pair(kind, shape, classes, config)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def given(rows, classes):
    return torch.arange(rows) % classes if classes else None


def moved(generator, discriminator, classes=0, steps=3):
    """A few steps of a game, so that running statistics and singular vectors are not those of new networks."""
    for number in range(steps):
        rows = given(6, classes)
        samples = generator(generator.latents(6, noise(number)), rows)
        (discriminator(samples, rows).mean() + samples.square().mean()).backward()
        with torch.no_grad():
            for parameter in [*generator.parameters(), *discriminator.parameters()]:
                parameter -= 0.05 * parameter.grad
                parameter.grad = None
    return generator, discriminator


@pytest.mark.parametrize(("kind", "shape"), KINDS)
@pytest.mark.parametrize("classes", [0, 3])
def test_every_weight_plays(kind, shape, classes):
    generator, discriminator = pair(kind, shape, classes)
    rows = given(5, classes)
    samples = generator(generator.latents(5, noise()), rows)
    assert list(samples.shape) == [5, *shape] and samples.abs().max() <= 1
    logits = discriminator(samples, rows)
    assert logits.shape == (5,)
    assert discriminator.features(samples).shape == (5, discriminator.config.hidden_size)
    logits.square().sum().backward()
    for network in (generator, discriminator):
        still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert [name for name in still if not name.startswith("layers") or "bias" not in name] == []


def test_a_fresh_process_loads_what_was_saved(tmp_path):
    """With plain Auto classes: weights, running statistics and singular vectors to the last bit."""
    cases = [("mlp", [2], 0), ("mlp", [1, 8, 8], 3), ("conv", [1, 8, 8], 0), ("conv", [3, 16, 16], 3)]
    for number, (kind, shape, classes) in enumerate(cases):
        players = moved(*pair(kind, shape, classes, spectral_norm=True), classes)
        rows = given(4, classes)
        with torch.no_grad():
            inputs = torch.randn(4, 6, generator=noise(1)), torch.rand(4, *shape, generator=noise(2))
            found = [player.eval()(given_, rows).numpy() for player, given_ in zip(players, inputs, strict=True)]
        for name, player in zip("gd", players, strict=True):
            with quiet_transformers():
                player.save_pretrained(tmp_path / f"{name}{number}", save_original_format=False)
        arrays = {"g": found[0], "d": found[1], "latents": inputs[0].numpy(), "samples": inputs[1].numpy()}
        for name, player in zip("gd", players, strict=True):
            values = [value.double().flatten().numpy() for value in player.state_dict().values()]
            arrays[f"{name}_weights"] = np.concatenate(values)
        np.savez(tmp_path / f"{number}.npz", **arrays, classes=classes)
    code = f"""
import numpy as np, torch
from transformers import AutoModel
import hftransfer.gans
for number in range({len(cases)}):
    told = np.load(f"{{number}}.npz")
    labels = torch.arange(4) % int(told["classes"]) if told["classes"] else None
    for name, inputs in (("g", "latents"), ("d", "samples")):
        network = AutoModel.from_pretrained(f"{{name}}{{number}}")
        assert not network.training and all(p.requires_grad for p in network.parameters())
        with torch.no_grad():
            made = network(torch.from_numpy(told[inputs]), labels).numpy()
        assert np.allclose(made, told[name], rtol=1e-4, atol=1e-5), (name, number)
        kept = np.concatenate([value.double().flatten().numpy() for value in network.state_dict().values()])
        assert np.array_equal(kept, told[name + "_weights"]), (name, number)
print("the same", number + 1)
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "the same 4" in ran.stdout, ran.stderr


def test_the_first_weights_come_of_the_seed_alone():
    for kind, shape in KINDS:
        one, other, third = (pair(kind, shape, 3, seed=seed, spectral_norm=True) for seed in (0, 0, 1))
        for player in range(2):
            same = [
                torch.equal(a, b) for a, b in zip(one[player].parameters(), other[player].parameters(), strict=True)
            ]
            assert all(same)
        assert not torch.equal(one[0].generate(2, labels=0), third[0].generate(2, labels=0))


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_new_networks_of_any_depth_keep_the_size_of_their_states(size, batch_norm):
    torch.manual_seed(0)
    config = {"base_channels": 8, "generator": {"batch_norm": batch_norm}}
    generator, discriminator = gans.new_pair("conv", [1, size, size], 0, config)
    assert len(generator.blocks) == len(discriminator.blocks) == math.log2(size // 4)
    with torch.no_grad():
        samples = generator(generator.latents(16, noise()))
        assert 0.1 < samples.std() < 0.8 and (samples.abs() > 0.99).float().mean() < 0.02
        assert 0.1 < discriminator.features(torch.randn(16, 1, size, size, generator=noise())).std() < 2


# spectral normalisation


@pytest.mark.parametrize("ours", [SpectralLinear(5, 7), SpectralConv2d(3, 6, 3, padding=1)])
def test_a_normalised_layer_is_torch_s_own(ours):
    torch.manual_seed(1)
    plain = nn.Linear(5, 7) if isinstance(ours, nn.Linear) else nn.Conv2d(3, 6, 3, padding=1)
    theirs = spectral_norm(plain)
    inputs = torch.randn(4, 5) if isinstance(ours, nn.Linear) else torch.randn(4, 3, 6, 6)
    theirs(inputs)  # in training: its second vector follows from the first
    theirs.eval()
    with torch.no_grad():
        ours.weight.copy_(theirs.parametrizations.weight.original)
        ours.bias.copy_(theirs.bias)
        ours.u.copy_(theirs.parametrizations.weight[0]._u)
    ours.eval()
    torch.testing.assert_close(ours(inputs), theirs(inputs))
    (one,) = torch.autograd.grad(ours(inputs).square().sum(), ours.weight)
    (other,) = torch.autograd.grad(theirs(inputs).square().sum(), theirs.parametrizations.weight.original)
    torch.testing.assert_close(one, other)


def test_training_finds_the_largest_singular_value_and_evaluation_leaves_it():
    _, discriminator = pair(spectral_norm=True)
    layers = [layer for layer in discriminator.modules() if hasattr(layer, "u")]
    assert len(layers) == 1 + 3 * len(discriminator.blocks) + 2
    with torch.no_grad():
        for layer in layers:
            layer.weight += 0.3 * torch.randn_like(layer.weight)
    samples = torch.rand(4, 1, 8, 8)
    before = [layer.u.clone() for layer in layers]
    discriminator.eval()(samples)
    assert all(torch.equal(layer.u, u) for layer, u in zip(layers, before, strict=True))
    discriminator.train()
    for _ in range(60):
        discriminator(samples)
    largest = [torch.linalg.matrix_norm(layer.weight.flatten(1), 2) for layer in layers]
    fold(discriminator)
    for layer, norm in zip(layers, largest, strict=True):
        assert norm > 1.1 or norm < 0.9
        torch.testing.assert_close(torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item(), 1.0, atol=1e-3, rtol=0)


def test_real_fake_and_penalty_go_through_one_normalised_network():
    """Each forward moves the singular vectors, before the gradient of the one before is taken."""
    _, discriminator = pair(spectral_norm=True)
    real, fake = (torch.rand(4, 1, 8, 8, generator=noise(seed)).requires_grad_() for seed in (1, 2))
    logits = discriminator(real), discriminator(fake)
    (slope,) = torch.autograd.grad(logits[0].sum(), real, create_graph=True)
    (logits[0].mean() - logits[1].mean() + slope.square().sum()).backward()
    assert all(parameter.grad is not None for name, parameter in discriminator.named_parameters() if "weight" in name)


def test_what_was_folded_is_plain_and_says_the_same(tmp_path):
    _, discriminator = moved(*pair(spectral_norm=True, classes=3), 3)
    samples, rows = torch.rand(4, 1, 8, 8, generator=noise()), given(4, 3)
    before = discriminator.eval()(samples, rows)
    fold(discriminator)
    torch.testing.assert_close(discriminator(samples, rows), before)
    assert type(discriminator.head) is nn.Linear and type(discriminator.from_image) is nn.Conv2d
    with torch.no_grad():
        discriminator.head.weight *= 3  # is not undone by another normalisation
    again = type(discriminator)(discriminator.config)
    again.load_state_dict(discriminator.state_dict())
    for mode in (True, False):
        torch.testing.assert_close(again.train(mode)(samples, rows), discriminator(samples, rows))


# labels


def test_a_norm_without_labels_is_batch_norm_and_with_labels_has_a_gain_for_each():
    states = torch.randn(6, 4, 3, 3, generator=noise())
    plain, ours, theirs = LabelNorm(4), LabelNorm(4, 3), nn.BatchNorm2d(4)
    with torch.no_grad():
        theirs.weight.copy_(torch.rand(4))
        theirs.bias.copy_(torch.rand(4))
        plain.gain[0], plain.shift[0] = theirs.weight, theirs.bias
        ours.gain[:] = torch.arange(1.0, 4)[:, None] * theirs.weight
        ours.shift[:] = theirs.bias
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    for training in (True, False):
        for norm in (plain, ours, theirs):
            norm.train(training)
        expected = theirs(states)
        torch.testing.assert_close(plain(states), expected)
        bias = theirs.bias[:, None, None]
        scaled = (expected - bias) * (labels + 1)[:, None, None, None] + bias
        torch.testing.assert_close(ours(states, labels), scaled)


@pytest.mark.parametrize(("kind", "shape"), [("mlp", [1, 8, 8]), ("conv", [1, 8, 8])])
def test_a_label_is_judged_by_a_direction_of_its_own(kind, shape):
    """Miyato and Koyama 2018, arXiv:1802.05637, equation 3: an inner product with the features."""
    _, discriminator = pair(kind, shape, 3)
    samples = torch.rand(4, *shape, generator=noise())
    found = discriminator.features(samples)
    for label in range(3):
        rows = torch.full((4,), label)
        expected = discriminator.head(found)[:, 0] + found @ discriminator.projection.weight[label]
        torch.testing.assert_close(discriminator(samples, rows), expected)


@pytest.mark.parametrize(("kind", "config"), [("mlp", {}), ("conv", {}), ("conv", {"batch_norm": False})])
def test_a_label_changes_the_sample_of_a_latent(kind, config):
    torch.manual_seed(0)
    generator, _ = gans.new_pair(kind, [1, 8, 8], 3, {**SMALL[kind], "generator": config})
    with torch.no_grad():  # a new norm treats all classes alike
        for norm in generator.modules():
            if isinstance(norm, LabelNorm):
                norm.gain += torch.rand_like(norm.gain)
    one, other, mixed = (generator.generate(3, labels=labels) for labels in (0, 2, [0, 2, 0]))
    assert (one - other).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(mixed, torch.stack([one[0], other[1], one[2]]))
    rows = generator.generate(90, labels=None)
    found = [torch.isclose(rows, generator.generate(90, labels=k), atol=1e-6).all((1, 2, 3)) for k in range(3)]
    assert torch.equal(torch.stack(found).sum(0), torch.ones(90, dtype=torch.long))
    assert all(15 < int(of.sum()) < 45 for of in found)  # evenly drawn


# samples


@pytest.mark.parametrize(("kind", "shape"), KINDS)
@pytest.mark.parametrize("classes", [0, 3])
def test_generate_depends_on_its_seed_alone(kind, shape, classes):
    generator, _ = moved(*pair(kind, shape, classes), classes)
    whole = generator.generate(10, seed=3)
    for batch_size in (1, 4, 10, 64):
        torch.testing.assert_close(generator.generate(10, seed=3, batch_size=batch_size), whole, atol=1e-5, rtol=0)
    torch.manual_seed(7)  # the process's own random numbers are neither used nor moved
    expected = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(generator.generate(10, seed=3), whole)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.allclose(generator.generate(10, seed=4), whole, atol=1e-2)
    if classes:
        labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
        asked = generator.generate(10, seed=3, labels=labels)
        torch.testing.assert_close(generator.generate(10, seed=3, labels=labels.tolist(), batch_size=3), asked)
        assert all(torch.equal(generator.generate(10, seed=3, labels=0)[k], asked[k]) for k in (0, 3, 6, 9))


def test_generate_runs_in_evaluation_mode_and_leaves_the_network_as_it_was():
    generator, _ = moved(*pair())
    generator.train()
    generator.blocks[0].first_norm.eval()
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    one = generator.generate(1)
    assert not one.requires_grad
    assert generator.training and not generator.blocks[0].first_norm.training
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    torch.testing.assert_close(generator.eval().generate(1), one)


def test_samples_are_in_the_units_of_the_data():
    generator, _ = pair("conv", [3, 16, 16])
    raw = generator.eval()(generator.latents(4, noise(5))).detach()
    pt, array, pil = (generator.generate(4, seed=5, output_type=kind) for kind in ("pt", "np", "pil"))
    torch.testing.assert_close(pt, (raw + 1) / 2)
    assert pt.dtype == torch.float32 and np.array_equal(array.transpose(0, 3, 1, 2), pt.numpy())
    assert [(image.mode, image.size) for image in pil] == [("RGB", (16, 16))] * 4
    assert np.abs(np.asarray(pil[1]) / 255 - array[1]).max() <= 0.5 / 255 + 1e-6
    grey, _ = pair("mlp", [1, 8, 8])
    assert grey.generate(1, output_type="pil")[0].mode == "L"
    flat, _ = pair("mlp", [2])
    raw = flat.eval()(flat.latents(4, noise(5))).detach()
    flat.config.offset, flat.config.scale = [1.0, -1.0], [10.0, 2.0]
    torch.testing.assert_close(flat.generate(4, seed=5), raw * torch.tensor([10.0, 2.0]) + torch.tensor([1.0, -1.0]))
    assert isinstance(flat.generate(4, seed=5, output_type="np"), np.ndarray)


def test_latents_are_the_same_wherever_they_are_used():
    generator, _ = pair()
    found = generator.latents(4, noise(9))
    assert torch.equal(found, torch.randn(4, 6, generator=noise(9)))
    assert generator.to(torch.bfloat16).latents(4, noise(9)).dtype == torch.bfloat16


@pytest.mark.parametrize("threshold", [0.3, 1.0, 2.5])
def test_truncated_latents_are_those_of_the_cut_normal_distribution(threshold):
    drawn = torch.randn(200_000, generator=noise())
    cut = latents.truncated(drawn, threshold)
    assert cut.abs().max() <= threshold and cut[drawn.argsort()].diff().min() >= 0
    density = math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    within = math.erf(threshold / math.sqrt(2))
    variance = 1 - 2 * threshold * density / within
    assert abs(float(cut.var()) / variance - 1) < 0.02 and abs(float(cut.mean())) < 0.01
    torch.testing.assert_close(latents.truncated(-drawn, threshold), -cut, atol=1e-6, rtol=0)


def test_truncation_brings_samples_together_and_a_far_one_changes_nothing():
    generator, _ = moved(*pair())
    spread = [generator.generate(32, truncation=t).var(0).mean() for t in (0.1, 0.5, 1.0, None)]
    assert spread == sorted(spread)
    torch.testing.assert_close(generator.generate(4, truncation=9.0), generator.generate(4), atol=1e-5, rtol=0)


# mistakes


def told(call):
    with pytest.raises(HFTransferError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "asked, says",
    [
        ({"n": 2.0}, "n: expected a whole number from 1 on, found 2.0"),
        ({"n": True}, "n: expected a whole number from 1 on, found True"),
        ({"batch_size": None}, "batch_size: expected a whole number from 1 on, found None"),
        ({"seed": None}, "seed: expected a whole number from 0 on, found None"),
        ({"seed": -1}, "seed: expected a whole number from 0 on, found -1"),
        ({"seed": 2**70}, "seed: expected a whole number from 0 on, found"),
        ({"truncation": "a"}, "truncation: expected a number above 0, found 'a'; None truncates nothing"),
        ({"labels": [None, 1]}, "labels: expected a whole number or a name, or a list of them, found None"),
        ({"labels": 1.5}, "labels: expected a whole number or a name, or a list of them, found 1.5"),
        ({"labels": [True, False]}, "labels: expected a whole number or a name, or a list of them"),
    ],
)
def test_things_of_another_type_are_told(asked, says):
    generator = pair(classes=3)[0]
    assert told(lambda: generator.generate(**{"n": 2, **asked})).startswith(says)


def test_numbers_of_numpy_are_numbers():
    generator = pair(classes=3)[0]
    made = generator.generate(np.int64(2), seed=np.int64(3), labels=np.array([2, 0]), truncation=np.float32(0.5))
    torch.testing.assert_close(made, generator.generate(2, seed=3, labels=[2, 0], truncation=0.5))


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_samples_of_another_shape_are_told(kind, shape):
    _, discriminator = pair(kind, shape)
    other = [shape[0] + 1, *shape[1:]]
    says = f"pixel_values: this network judges samples of {list(shape)}, and these are {other}"
    assert told(lambda: discriminator(torch.rand(2, *other))) == says


def test_mistakes_in_what_is_asked_of_a_generator_are_told():
    plain, conditional, flat = pair()[0], pair(classes=3)[0], pair("mlp", [2])[0]
    assert told(lambda: plain.generate(2, labels=1)).startswith("labels: this network was made without classes")
    assert (
        told(lambda: conditional.generate(2, labels=3)) == "labels: 3 is out of range; the classes are numbered 0 to 2"
    )
    assert plain.config.num_classes == 0
    assert told(lambda: plain.generate(2, labels="a")).startswith("labels: this network was made without classes")
    conditional.config.id2label = {0: "cat", 1: "dog", 2: "owl"}
    conditional.config.label2id = {"cat": 0, "dog": 1, "owl": 2}
    named = conditional.generate(2, labels=["owl", "cat"])
    torch.testing.assert_close(named, conditional.generate(2, labels=[2, 0]))
    torch.testing.assert_close(conditional.generate(2, labels="dog"), conditional.generate(2, labels=1))
    assert told(lambda: conditional.generate(2, labels="dgo")).startswith("labels: there is no class 'dgo'; did you")
    assert "-1 is out of range" in told(lambda: conditional.generate(2, labels=[0, -1]))
    assert "3 labels for 2 samples" in told(lambda: conditional.generate(2, labels=[0, 1, 2]))
    assert "whole number" in told(lambda: conditional.generate(2, labels=torch.tensor([0.5, 1])))
    for truncation in (0, -1.0, float("nan")):
        assert told(lambda t=truncation: plain.generate(2, truncation=t)).startswith("truncation: expected a number")
    assert told(lambda: plain.generate(0)).startswith("n: ")
    assert told(lambda: plain.generate(1, batch_size=0)).startswith("batch_size: ")
    assert told(lambda: plain.generate(1, output_type="png")).startswith("output_type: expected one of pt, np, pil")
    assert "vectors of 2 numbers" in told(lambda: flat.generate(1, output_type="pil"))


def test_mistakes_in_a_game_are_told():
    generator, discriminator = pair(classes=3)
    samples = torch.rand(2, 1, 8, 8)
    assert "give a label for each row" in told(lambda: generator(torch.rand(2, 6)))
    assert "give a label for each row" in told(lambda: discriminator(samples))
    assert "7 is out of range" in told(lambda: discriminator(samples, torch.tensor([0, 7])))
    assert "takes no labels" in told(lambda: pair()[1](samples, torch.tensor([0, 1])))
    for kind, shape in KINDS:
        generator, discriminator = pair(kind, shape, batch_norm=True)
        for call in (lambda g=generator: g(torch.rand(1, 6)), lambda d=discriminator, s=shape: d(torch.rand(1, *s))):
            assert told(call).startswith("batch_norm: a batch of one row")
        generator.eval()(torch.rand(1, 6))
        discriminator.eval()(torch.rand(1, *shape))
    pair()[1](samples[:1])  # without batch norm one row is a batch


@pytest.mark.parametrize(
    ("kind", "shape", "config", "message"),
    [
        ("conv", [1, 28, 28], {}, "image_size: 28 fits no convolutional network, which doubles 4 x 4 again and again; "
         "use a power of two from 8 on, such as 16 or 32"),
        ("conv", [1, 4, 4], {}, "such as 8 or 16"),
        ("conv", [1, 8, 16], {}, "image_size: 8 x 16 is no square"),
        ("conv", [2], {}, "kind: conv makes square images of [channels, size, size], and a sample is [2]; use "
         "kind: mlp"),
        ("conv", [2, 8, 8], {}, "num_channels: expected 1 (grey) or 3 (colour), found 2"),
        ("mlp", [1, 8, 9], {}, "sample_shape: [1, 8, 9] is neither"),
        ("mlp", [], {}, "sample_shape: [] is neither"),
        ("cnv", [2], {}, "kind: there is no pair of networks 'cnv'; did you mean 'conv'?"),
        ("conv", [1, 8, 8], {"base_chanels": 8}, "config.base_chanels: the networks have no such field; did you mean "
         "'base_channels'?"),
        ("conv", [1, 8, 8], {"hidden_sizes": [8]}, "config.hidden_sizes: the networks have no such field"),
        ("conv", [1, 8, 8], {"batch_norm": False}, "config.batch_norm: both networks have one; write "
         "config.generator.batch_norm or config.discriminator.batch_norm"),
        ("mlp", [2], {"discriminator": {"latent_size": 3}}, "config.discriminator.latent_size: the networks have no"),
        ("mlp", [2], {"discriminator": 3}, "config.discriminator: expected fields"),
        ("conv", [1, 8, 8], {"image_size": 16}, "config.image_size: the data tell it; remove it"),
        ("conv", [1, 8, 8], {"base_channels": 0}, "config.base_channels: expected a whole number above 0, found 0"),
        ("conv", [1, 8, 8], {"base_channels": "many"}, "config: gan_conv_generator refuses it (TypeError: Field "
         "'base_channels' expected int, got str"),
        ("mlp", [2], {"generator": {"hidden_sizes": []}}, "config.hidden_sizes: expected widths"),
        ("mlp", [2], {"latent_size": 0}, "config.latent_size: expected a whole number above 0, found 0"),
    ],
)  # fmt: skip
def test_what_fits_no_network_is_told(kind, shape, config, message):
    assert message in told(lambda: gans.new_pair(kind, shape, 0, config))


def test_fields_reach_the_networks_that_have_them():
    config = {"base_channels": 4, "latent_size": 5, "spectral_norm": True, "discriminator": {"base_channels": 8}}
    generator, discriminator = gans.new_pair("conv", [3, 16, 16], 4, config)
    assert (generator.config.base_channels, generator.config.latent_size, generator.config.batch_norm) == (4, 5, True)
    own = discriminator.config
    assert (own.base_channels, own.spectral_norm, own.batch_norm) == (8, True, False)
    assert generator.config.num_classes == own.num_classes == 4
    assert generator.config.widths() == [4, 8, 16] and list(generator.config.sample_shape) == [3, 16, 16]
    assert gans.GanConvGeneratorConfig(image_size=64, base_channels=32, max_channels=64).widths() == [
        32,
        64,
        64,
        64,
        64,
    ]


def test_the_pair_of_perceptrons_is_the_published_one():
    """100 -> 128 -> 256 -> 512 -> 1024 and back to one logit."""
    generator, discriminator = gans.new_pair("mlp", [1, 32, 32])
    for network, widths in ((generator, [100, 128, 256, 512, 1024]), (discriminator, [1024, 512, 256, 128, 1])):
        linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
        assert [linear[0].in_features, *(layer.out_features for layer in linear)] == widths
        assert {layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)} == {0.2}


def test_only_players_of_one_game_are_a_pair():
    generator, discriminator = pair()
    gans.check_pair(generator, discriminator)
    assert told(lambda: gans.check_pair(discriminator, discriminator)).startswith(
        "generator: GanConvDiscriminator is no"
    )
    assert told(lambda: gans.check_pair(generator, generator)).startswith("discriminator: GanConvGenerator is no")
    assert "samples of [1, 16, 16]" in told(lambda: gans.check_pair(generator, pair(shape=[1, 16, 16])[1]))
    assert "it knows 3 classes" in told(lambda: gans.check_pair(generator, pair(classes=3)[1]))
    gans.check_pair(generator, pair("mlp")[1])  # of another kind, but of the same samples


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_stages_are_all_of_the_features_from_the_image_up(kind, shape):
    _, discriminator = pair(kind, shape, 3)
    stages = discriminator.stages()
    own = [id(p) for stage in stages for p in stage.parameters()]
    heads = {id(p) for part in (discriminator.head, discriminator.projection) for p in part.parameters()}
    assert len(own) == len(set(own)) and {*own, *heads} == {id(p) for p in discriminator.parameters()}
    ran = []
    for number, stage in enumerate(stages):
        stage.register_forward_hook(lambda *_, number=number: ran.append(number))
    discriminator.features(torch.rand(2, *shape))
    assert ran == list(range(len(stages)))


def test_copies_are_of_their_own():
    """As the trainer's average is: nothing of it moves with the network."""
    generator, _ = pair()
    kept = copy.deepcopy(generator)
    before = kept.generate(2)
    with torch.no_grad(), warnings.catch_warnings():
        for value in generator.parameters():
            value.add_(1)
    assert torch.equal(kept.generate(2), before)


def test_a_larger_input_is_what_the_scale_makes():
    torch.manual_seed(0)
    _, plain = gans.new_pair("mlp", [2], 0, {})
    _, scaled = gans.new_pair("mlp", [2], 0, {"discriminator": {"input_scale": 5}})
    scaled.load_state_dict(plain.state_dict())
    samples = torch.randn(4, 2)
    assert torch.allclose(scaled(samples), plain(5 * samples))
    with pytest.raises(HFTransferError, match="input_scale: expected a number above 0"):
        gans.new_pair("mlp", [2], 0, {"discriminator": {"input_scale": 0}})
