"""A discriminator as the backbone of an image classifier: its folder is a checkpoint like any other."""

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageClassification

import hftransfer
from hftransfer import gans, inputs, models, tasks
from hftransfer.errors import HFTransferError
from hftransfer.models import quiet_transformers
from hftransfer.report import snippets

CONV = {"base_channels": 4, "latent_size": 6}
MLP = {"generator": {"hidden_sizes": [8, 12]}, "discriminator": {"hidden_sizes": [24, 16]}}


def saved(folder, kind="conv", shape=(1, 8, 8), classes=3, **options):
    """The folders of a generator and of a discriminator whose singular vectors have moved."""
    torch.manual_seed(0)
    config = dict(CONV if kind == "conv" else MLP)
    config["discriminator"] = {**config.get("discriminator", {}), "spectral_norm": True, **options}
    players = gans.new_pair(kind, shape, classes, config)
    for _ in range(3):
        players[1].features(torch.randn(4, *shape))
    with quiet_transformers():
        for name, player in zip(("generator", "discriminator"), players, strict=True):
            player.eval().save_pretrained(folder / name)
    return players


def digits(model):
    """The task and the test rows, as the stage has them."""
    task, parts = tasks.read("demo/digits", str(model), key="data", seed=1, max_samples=40)
    return task, task.inputs(parts["test"], str(model), key="data", max_length=16)


def opened(folder):
    with quiet_transformers():
        return AutoModelForImageClassification.from_pretrained(folder).eval()


def logits(network, rows):
    with torch.no_grad():
        return network(**rows.batch([rows.rows[place] for place in range(50)])).logits


METHODS = {
    "full": {},
    "frozen": {},
    "partial": {"trainable": 1},
    "lora": {"lora": {"r": 2, "target_modules": ["first", "second", "to_vector"]}},
    "lora alone": {"lora": {"r": 2, "target_modules": ["first", "second", "to_vector"]}, "merge": False},
    "scratch": {},
}


@pytest.mark.parametrize("way", METHODS)
def test_finetune_leaves_an_ordinary_classifier(way, tmp_path):
    _, discriminator = saved(tmp_path)
    model = tmp_path / "discriminator"
    training = {"max_steps": 12, "learning_rate": 3e-3, "per_device_train_batch_size": 8}
    options = {**METHODS[way], **({} if way == "frozen" else {"training": training})}
    given = {"method": way.split()[0], "max_train_samples": 40, "seed": 1, "output_dir": str(tmp_path / "out")}
    result = hftransfer.finetune(str(model), "demo/digits", **given, **options)
    task, rows = digits(model)
    reopened = result.model().eval()
    network = reopened if way == "lora alone" else opened(result.path)
    assert result.metrics["accuracy"] == task.score(task.predict(network, rows), rows.labels)["accuracy"]
    torch.testing.assert_close(logits(network, rows), logits(reopened, rows))
    assert [network.config.id2label[k] for k in range(10)] == list("0123456789")
    samples = torch.rand(5, 1, 8, 8) * 2 - 1
    same = torch.allclose(network.discriminator.features(samples), discriminator.features(samples), atol=1e-5)
    assert same == (way == "frozen")
    if way == "lora":
        base = models.load(str(result.path / "adapter"), "image_classification")
        torch.testing.assert_close(logits(base.eval(), rows), logits(network, rows), atol=1e-4, rtol=1e-4)


def test_a_perceptron_is_adapted_without_being_told_where(tmp_path):
    saved(tmp_path, "mlp", classes=0)
    model = tmp_path / "discriminator"
    given = {"max_train_samples": 40, "training": {"max_steps": 4}, "output_dir": str(tmp_path / "out")}
    result = hftransfer.finetune(str(model), "demo/digits", method="lora", **given)
    rows = digits(model)[1]
    adapted = models.load(str(result.path / "adapter"), "image_classification").eval()
    torch.testing.assert_close(logits(opened(result.path), rows), logits(adapted, rows), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "shape"), [("conv", [3, 16, 16]), ("mlp", [1, 8, 8])])
def test_features_are_what_the_discriminator_sees(kind, shape, tmp_path):
    _, discriminator = saved(tmp_path, kind, shape)
    model = str(tmp_path / "discriminator")
    assert inputs.reads(model) == "image" and inputs.job(model) == "image_classification"
    reader = models.reader(model, "image")
    made = reader(Image.new("RGB" if shape[0] == 3 else "L", (30, 20), 0), return_tensors="pt")["pixel_values"]
    assert list(made.shape[1:]) == shape and torch.equal(made, -torch.ones_like(made))
    samples = torch.rand(5, *shape) * 2 - 1
    backbone = models.load(model, "encoder").eval()
    found = models.features(backbone, {"pixel_values": samples})
    assert found.shape == (5, backbone.config.hidden_size) and torch.equal(found, discriminator.features(samples))
    classifier, new = models.load_reported(model, "image_classification", num_labels=4)
    assert new == ["classifier.bias", "classifier.weight"]
    seen, told = models.classify(classifier.eval(), {"pixel_values": samples})
    torch.testing.assert_close(seen, found)
    torch.testing.assert_close(told, classifier.classifier(seen))
    again = models.load(classifier, "image_classification", num_labels=2).eval()  # from an object
    torch.testing.assert_close(again.discriminator.features(samples), found)
    assert type(models.reopen(tmp_path / "generator")) is type(gans.new_pair(kind, shape)[0])


def test_each_kind_of_label_has_its_loss():
    config = gans.GanConvDiscriminatorConfig(image_size=8, base_channels=4, num_labels=3)
    network = gans.GanConvForImageClassification(config).eval()
    samples = torch.rand(4, 1, 8, 8)
    for problem, labels, loss in (
        ("single_label_classification", torch.tensor([0, 1, 2, 0]), nn.CrossEntropyLoss()),
        ("multi_label_classification", torch.ones(4, 3), nn.BCEWithLogitsLoss()),
        ("regression", torch.rand(4, 3), nn.MSELoss()),
    ):
        network.config.problem_type = problem
        found = network(samples, labels=labels)
        torch.testing.assert_close(found.loss, loss(found.logits, labels))


def test_a_discriminator_of_vectors_classifies_no_images(tmp_path):
    saved(tmp_path, "mlp", [2], 0)
    assert not (tmp_path / "discriminator" / "preprocessor_config.json").exists()
    with pytest.raises(HFTransferError, match="this discriminator judges vectors") as error:
        models.load(str(tmp_path / "discriminator"), "image_classification", num_labels=2)
    assert "\n" not in str(error.value)
    with pytest.raises(HFTransferError) as error:
        hftransfer.finetune(str(tmp_path / "discriminator"), "demo/digits", output_dir=str(tmp_path / "out"))
    assert str(error.value).startswith("model: gan_mlp_discriminator is of vectors, and reads no texts, images or")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_an_epoch_may_end_with_a_batch_of_one_row(kind, tmp_path):
    saved(tmp_path, kind, batch_norm=True)
    training = {"num_train_epochs": 2, "per_device_train_batch_size": 8}
    given = {"max_train_samples": 41, "training": training, "seed": 1, "output_dir": str(tmp_path / "out")}
    assert hftransfer.finetune(str(tmp_path / "discriminator"), "demo/digits", **given).metrics["accuracy"] > 0


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_one_row_is_normalised_as_in_use_and_teaches(kind):
    _, discriminator = gans.new_pair(kind, [1, 8, 8], 0, {**(CONV if kind == "conv" else MLP),
                                     "discriminator": {"batch_norm": True}})  # fmt: skip
    classifier = {"conv": gans.GanConvForImageClassification, "mlp": gans.GanMLPForImageClassification}[kind]
    network = classifier(discriminator.config).train()
    network(torch.rand(8, 1, 8, 8))
    before = {name: value.clone() for name, value in network.named_buffers()}
    row = torch.rand(1, 1, 8, 8)
    found = network(row, labels=torch.tensor([1]))
    found.loss.backward()
    assert all(module.training for module in network.modules())
    torch.testing.assert_close(found.logits, network.eval()(row).logits)
    assert all(torch.equal(before[name], value) for name, value in network.named_buffers())
    assert all(value.grad is not None for value in network.discriminator.stages()[0].parameters())
    with pytest.raises(HFTransferError, match="batches of two rows at least, or make a new network"):
        discriminator.train()(row)


# what the model card says of them


CARDS = [
    ("generator", "conv", [1, 8, 8], 0, "unconditional-image-generation", "(8, 8)"),
    ("generator", "mlp", [3, 8, 8], 2, "unconditional-image-generation", "(8, 8)"),
    ("generator", "mlp", [2], 2, "other", "tensor(["),
    ("discriminator", "conv", [3, 16, 16], 2, "image-feature-extraction", "torch.Size([1, 16])"),
    ("discriminator", "mlp", [1, 8, 8], 0, "image-feature-extraction", "torch.Size([1, 16])"),
    ("classifier", "conv", [3, 16, 16], 0, "image-classification", "LABEL_"),
    ("classifier", "mlp", [1, 8, 8], 0, "image-classification", "LABEL_"),
]


@pytest.mark.parametrize(("role", "kind", "shape", "classes", "task", "shown"), CARDS)
def test_the_lines_of_the_card_run(role, kind, shape, classes, task, shown, tmp_path, monkeypatch, capsys):
    use = card_of(role, kind, shape, classes, tmp_path)
    assert (use.task, use.library) == (task, "hftransfer")
    monkeypatch.chdir(tmp_path / role)
    with quiet_transformers():
        exec(use.snippet, {})
    assert shown in capsys.readouterr().out


def card_of(role, kind, shape, classes, folder):
    saved(folder, kind, shape, classes)
    if role == "classifier":
        network = models.load(str(folder / "discriminator"), "image_classification", num_labels=2)
        models.save(network, folder / role, models.reader(str(folder / "discriminator"), "image"))
    return snippets.use_of(folder / role)


def test_the_lines_of_the_card_run_in_a_process_of_their_own(tmp_path):
    """Here `transformers` has long been made to know the architectures."""
    lines = [card_of("classifier", "conv", [1, 8, 8], 0, tmp_path).snippet]
    lines += ["import os", "os.chdir('../generator')", snippets.use_of(tmp_path / "generator").snippet]
    code = "\n".join(lines)
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "classifier", capture_output=True, text=True)
    assert ran.returncode == 0 and "LABEL_" in ran.stdout and "(8, 8)" in ran.stdout, ran.stderr


def test_a_discriminator_of_vectors_has_no_use_of_its_own(tmp_path):
    assert card_of("discriminator", "mlp", [2], 0, tmp_path) is None


def test_an_adapter_s_lines_make_the_architecture_known(tmp_path):
    saved(tmp_path)
    config = json.loads((tmp_path / "discriminator" / "config.json").read_text())
    config |= {"architectures": ["GanConvForImageClassification"]}
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "base_config.json").write_text(json.dumps(config))
    (tmp_path / "alone" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b"}))
    assert "import hftransfer.gans" in snippets.use_of(tmp_path / "alone").snippet
