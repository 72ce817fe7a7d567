"""`gan` from data to a folder: what it leaves, what it refuses, transfer between runs, and going on after a kill."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import hftransfer
from hftransfer import gans, models
from hftransfer.errors import HFTransferError
from hftransfer.functional.gan_losses import LOSSES
from hftransfer.stages import gan as signature
from hftransfer.stages import gan_playing
from hftransfer.trainers.gan import GANTrainer

TINY = {"base_channels": 4, "latent_size": 8}
QUICK = {"max_steps": 6, "per_device_train_batch_size": 4, "bf16": False}
GRID = {"path": "demo/mixture", "name": "ring8"}
SMALL = {"generator": {"hidden_sizes": [16]}, "discriminator": {"hidden_sizes": [16]}, "latent_size": 4}


def play(model, data, folder, **options):
    given = {"training": QUICK, "seed": 1, "looks": 2, "quality_rows": 40, **options}
    return hftransfer.gan(str(model), data, output_dir=str(folder), **given)


@pytest.fixture
def faces(painted):
    """A folder of bright and one of dark images, 8 x 8."""
    return painted(30, (8, 8))


def points(folder, count=200, **options):
    return play("scratch/gan_mlp", GRID, folder, config=SMALL, max_train_samples=count, **options)


def test_what_a_game_leaves(faces, tmp_path):
    result = play("scratch/gan_conv", faces, tmp_path / "out", config=TINY, judge=None, conditional=True)
    for part in ("", "discriminator", "raw"):
        assert (result.path / part / "model.safetensors").is_file()
    code = (
        "import sys, hftransfer.gans; from transformers import AutoModel; "
        "network = AutoModel.from_pretrained(sys.argv[1]); "
        "print(network.generate(3, seed=5, labels=1).sum().item())"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(result.path)], capture_output=True, text=True, check=True)
    made = models.load(str(result.path), "encoder").generate(3, seed=5, labels=1)
    assert made.shape == (3, 1, 8, 8)
    assert float(ran.stdout.split()[-1]) == pytest.approx(made.sum().item(), rel=1e-5)
    numbers = result.metrics
    for name in ("frechet", "kernel", "precision", "recall", "density", "coverage", "label_divergence"):
        assert {name, f"raw.{name}", f"floor.{name}"} <= set(numbers)
    evidence = result.evidence
    assert evidence["outcome"]["outcome"] in ("converged", "collapsed", "diverged", "undecided")
    files = [picture["file"] for picture in evidence["pictures"]]
    assert files == ["samples.png", "real.png", "over_time.png", "training.gif", "interpolation.png"]
    for file in files:
        with Image.open(result.path / file) as picture:
            assert min(picture.size) > 100
    assert any("classifier of the data's labels" in note for note in evidence["notes"])
    assert {"asked_accuracy", "raw.asked_accuracy", "floor.asked_accuracy"} <= set(numbers)
    classes = evidence["tables"][1]
    assert [row[0] for row in classes["rows"]] == ["bright", "dark"] and "held out" in classes["columns"]
    assert all(sum(float(row[column]) for row in classes["rows"]) == pytest.approx(1, abs=0.01) for column in (1, 2))
    config = json.loads((result.path / "config.json").read_text())
    assert config["id2label"] == {"0": "bright", "1": "dark"}


def test_points_are_made_in_their_own_units(tmp_path):
    result = points(tmp_path / "out")
    assert {"modes", "good_share", "floor.modes"} <= set(result.metrics)
    assert result.metrics["floor.modes"] == 8
    made = models.load(str(result.path), "encoder").generate(500, output_type="np")
    assert made.shape == (500, 2) and 0.5 < np.abs(made).max() < 3.5


def test_every_loss_is_an_option_and_a_formula():
    assert set(signature.LOSSES) == set(LOSSES) == {name for name, loss in LOSSES.items() if "arXiv:" in loss.paper}


def test_both_players_go_on_and_lower_stages_stay(faces, tmp_path):
    first = play("scratch/gan_conv", faces, tmp_path / "first", config=TINY, keep_best=False)
    second = play(first.path, faces, tmp_path / "second", freeze=1, baseline=str(first.path), keep_best=False)
    before, after = (load_file(run.path / "discriminator" / "model.safetensors") for run in (first, second))
    network = models.load(str(first.path / "discriminator"), "encoder")
    still = {id(value) for value in network.stages()[0].parameters()}
    for name, value in network.named_parameters():
        assert torch.equal(before[name], after[name]) == (id(value) in still), name
    start = load_file(first.path / "model.safetensors")
    new, _ = gans.new_pair("conv", [1, 8, 8], 0, TINY)
    moved = load_file(second.path / "raw" / "model.safetensors")
    name = next(name for name in start if name.endswith("weight"))
    assert (moved[name] - start[name]).norm() < (new.state_dict()[name] - start[name]).norm()
    assert second.metrics["baseline.frechet"] == pytest.approx(first.metrics["frechet"], rel=1e-3)
    (line,) = second.evidence["comparison"]
    assert line["difference"] == pytest.approx(line["after"] - line["before"]) and line["rows"] == 12
    assert line["before"] == pytest.approx(second.metrics["baseline.kernel"], rel=1e-3)
    assert second.evidence["verdict"]["text"].startswith("Transfer ")


def test_the_step_that_is_kept_is_the_best_look(tmp_path):
    result = points(tmp_path / "out", by="kernel", looks=3)
    curve = next(one for one in result.evidence["curves"] if one["y"] == "kernel" and one["name"] == "averaged")
    best = min(curve["points"], key=lambda point: point[1])
    assert result.metrics["step"] == best[0]


def test_an_interrupted_game_goes_on_to_the_same_end(tmp_path, monkeypatch):
    whole = points(tmp_path / "whole")
    step = GANTrainer.training_step
    calls = []

    def dies(self, *given, **options):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(self, *given, **options)

    monkeypatch.setattr(GANTrainer, "training_step", dies)
    with pytest.raises(KeyboardInterrupt):
        points(tmp_path / "cut")
    monkeypatch.setattr(GANTrainer, "training_step", step)
    again = points(tmp_path / "cut")
    assert len(calls) == 5
    for part in ("", "discriminator", "raw"):
        one, other = (load_file(run.path / part / "model.safetensors") for run in (whole, again))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.metrics == again.metrics
    assert (whole.path / "training.gif").read_bytes() == (again.path / "training.gif").read_bytes()


def test_a_discriminator_is_fine_tuned_in_the_same_recipe(faces, tmp_path):
    recipe = {
        "name": "two", "model": "scratch/gan_conv", "unlabelled": faces, "labelled": faces,
        "stages": [
            {"gan": {"data": "$unlabelled", "config": TINY, "training": QUICK, "looks": 1}},
            {"finetune": {"model": "$gan/discriminator", "data": "$labelled", "method": "frozen"}},
        ],
    }  # fmt: skip
    ran = hftransfer.run(recipe, output_dir=str(tmp_path / "out"))
    assert ran.metrics["finetune"]["accuracy"] > 0.9


def plan(model, data, **options):
    from hftransfer.signatures import validate

    given = {"training": QUICK, **options}
    return signature.plan(**validate(signature.gan, {"model": str(model), "data": data, **given}))


def test_a_plan_counts_steps(faces):
    found = plan(
        "scratch/gan_conv",
        faces,
        training={"num_train_epochs": 2, "max_steps": -1, **{k: v for k, v in QUICK.items() if k != "max_steps"}},
    )
    assert found["rows"] == {"train": 48, "held out": 12} and found["steps"] == 24


@pytest.mark.parametrize(
    "model, options, says",
    [
        ("scratch/gan_con", {}, "model: scratch/gan_con is no pair of players; did you mean 'gan_conv'"),
        ("scratch/gan_conv", {"image_size": 20}, "16 or 32"),
        ("scratch/gan_conv", {"training": {**QUICK, "per_device_train_batch_size": 64}}, "fewer than the 64"),
        ("scratch/gan_conv", {"training": {**QUICK, "per_device_train_batch_size": 1}}, "batch normalisation"),
        ("scratch/gan_conv", {"training": {**QUICK, "learning_rate": 1e-3}}, "training.learning_rate: each player"),
        ("scratch/gan_conv", {"training": {**QUICK, "fp16": True}}, "fp16"),
        ("scratch/gan_conv", {"by": "modes"}, "by: modes counts the modes of labelled vectors"),
        ("scratch/gan_conv", {"config": {"base_chanels": 4}}, "did you mean 'base_channels'"),
        ("scratch/gan_conv", {"freeze": 1}, "freeze: the discriminator is new"),
        ("scratch/gan_conv", {"loss": "hing"}, "did you mean 'hinge'"),
    ],
)
def test_what_cannot_be_played(model, options, says, faces, tmp_path):
    for attempt in (plan, lambda *given, **rest: play(*given, tmp_path / "out", **rest)):
        with pytest.raises(HFTransferError) as caught:
            attempt(model, faces, **options)
        assert says in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_vectors_are_no_images(tmp_path):
    with pytest.raises(HFTransferError, match=r"model: scratch/gan_conv makes images.*use scratch/gan_mlp"):
        play("scratch/gan_conv", GRID, tmp_path / "out")


def test_folders_that_are_no_start(faces, tmp_path, tiny_bert):
    first = play("scratch/gan_conv", faces, tmp_path / "first", config=TINY)
    for options, says in [
        ({"discriminator_model": str(first.path)}, "discriminator_model: it is the same folder as model"),
        ({"conditional": True}, "conditional: the checkpoint's generator knows no labels"),
        ({"config": TINY}, "config: is of new networks"),
    ]:
        with pytest.raises(HFTransferError, match=says):
            play(first.path, faces, tmp_path / "second", **options)
    with pytest.raises(HFTransferError, match="model: bert is no generator"):
        play(tiny_bert, faces, tmp_path / "second")
    with pytest.raises(HFTransferError, match="no discriminator/ lies beside"):
        play(first.path / "raw", faces, tmp_path / "second")
    assert gan_playing.RAW == "raw"


def refused(says, model, data, folder, **options):
    """By the plan and by the run, before the run's folder is begun."""
    for attempt in (plan, lambda *given, **rest: play(*given, folder, **rest)):
        with pytest.raises(HFTransferError, match=says) as caught:
            attempt(model, data, **options)
        assert "\n" not in str(caught.value)
    assert not folder.exists() and not folder.with_name(f".{folder.name}.partial").exists()


def saved(folder, kind, shape, classes=0, names=None, config=None):
    """The folder of a pair that has never played."""
    players = gans.new_pair(kind, shape, classes, config or (TINY if kind == "conv" else SMALL))
    for player, place in zip(players, (folder, folder / "discriminator"), strict=True):
        if names:
            player.config.id2label = dict(enumerate(names))
        models.save(player, place)
    return folder


def test_the_judge_that_is_made_first_is_bounded(tmp_path):
    from hftransfer.stages import gan_judge

    for classes, level in enumerate((0, 200)):
        (tmp_path / "pictures" / f"{classes}").mkdir(parents=True)
        for number in range(30):
            values = np.random.default_rng(number).integers(level, level + 50, (64, 64))
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "pictures" / f"{classes}" / f"{number}.png")
    given = {"data": str(tmp_path / "pictures"), "seed": 1, "max_train_samples": None}
    rows = gan_judge.Sampled(torch.zeros(48, 1, 64, 64), *[None] * 3, ["0", "1"], [], [], [])
    network, _, told = gan_judge.own_judge(given, rows, tmp_path / "out")
    assert network.config.image_size == 32 and "20 steps on images of 32 x 32" in told
    assert gan_judge.steps(64 * 10) == 200 and gan_judge.steps(10**6) == 1000


def test_a_baseline_is_a_generator_of_such_samples(faces, tmp_path):
    other = saved(tmp_path / "other", "conv", [1, 16, 16])
    vectors = saved(tmp_path / "vectors", "mlp", [2])
    out = tmp_path / "out"
    no_generator = r"^baseline: gan_conv_discriminator is no generator; give a gan's folder$"
    refused(no_generator, "scratch/gan_conv", faces, out, baseline=str(other / "discriminator"))
    for folder, shape in ((other, r"\[1, 16, 16\]"), (vectors, r"\[2\]")):
        says = rf"^baseline: it makes samples of {shape}, and the data are \[1, 8, 8\]"
        refused(says, "scratch/gan_conv", faces, out, baseline=str(folder))


def test_a_checkpoint_s_classes_are_compared_by_name(faces, tmp_path):
    turned = saved(tmp_path / "turned", "conv", [1, 8, 8], 2, ["dark", "bright"])
    says = r"^data: the classes are numbered bright, dark, and the checkpoint's generator knows them as dark, bright"
    refused(says, turned, faces, tmp_path / "out")
    others = saved(tmp_path / "others", "conv", [1, 8, 8], 2, ["day", "dark"])
    result = play(others, faces, tmp_path / "out", looks=1)
    assert any("other classes under the same numbers: day as bright" in note for note in result.evidence["notes"])
    for part in ("", "raw", "discriminator"):
        config = json.loads((result.path / part / "config.json").read_text())
        assert config["id2label"] == {"0": "bright", "1": "dark"} and config["label2id"] == {"bright": 0, "dark": 1}


def test_a_checkpoint_s_sizes_are_not_overridden(faces, tmp_path):
    first = saved(tmp_path / "first", "conv", [1, 8, 8])
    refused(r"^image_size: the checkpoint's generator has 8, not 16", first, faces, tmp_path / "out", image_size=16)
    refused(r"^num_channels: the checkpoint's generator has 1, not 3", first, faces, tmp_path / "out", num_channels=3)
    assert plan(first, faces, image_size=8, num_channels=1)["steps"] == 6


def test_what_quality_cannot_be_measured_on_is_told_before(faces, tmp_path):
    says = r"^data: 16 rows to train on and 12 held-out ones are too few to measure quality; it takes 20 and 10"
    refused(says, "scratch/gan_conv", faces, tmp_path / "out", max_train_samples=16)
    refused(r"^augment: is of images", "scratch/gan_mlp", GRID, tmp_path / "out", augment=["color"], config=SMALL)
    refused(r"^image_size: is of images", "scratch/gan_mlp", GRID, tmp_path / "out", image_size=8, config=SMALL)
    eyes = saved(tmp_path / "eyes", "conv", [1, 8, 8])
    judged = {"by": "label_divergence", "judge": str(eyes / "discriminator")}
    says = r"^by: label_divergence needs a judge that tells the data's classes, and .*discriminator was not trained to"
    refused(says, "scratch/gan_conv", faces, tmp_path / "out", **judged)
    refused(r"^judge: eyes makes samples and sees none", "scratch/gan_conv", faces, tmp_path / "out", judge=str(eyes))


def test_a_changed_baseline_does_not_undo_the_training(tmp_path, monkeypatch, caplog):
    other = saved(tmp_path / "other", "mlp", [2])
    finish = gan_playing.gan_record.finish

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gan_playing.gan_record, "finish", dies)
    with pytest.raises(KeyboardInterrupt):
        points(tmp_path / "out")
    monkeypatch.setattr(gan_playing.gan_record, "finish", finish)
    monkeypatch.setattr(GANTrainer, "training_step", dies)
    assert "baseline.frechet" in points(tmp_path / "out", baseline=str(other)).metrics
    assert not [record for record in caplog.records if "deleted" in record.getMessage()]


@pytest.mark.parametrize("deep", [True, False])
def test_more_bits_than_eight_are_said_to_be_lost(deep, tmp_path):
    from hftransfer.data.samples import read_samples

    (tmp_path / "pictures").mkdir()
    for number in range(20):
        values = np.random.default_rng(number).integers(0, 65536 if deep else 256, (8, 8))
        image = Image.fromarray(values.astype(np.uint16 if deep else np.uint8))
        image.save(tmp_path / "pictures" / f"{number}.png")
    notes = read_samples(str(tmp_path / "pictures"), key="data", seed=1).notes
    assert ("images of more than 8 bits a channel are reduced to 8" in notes) == deep


def test_a_game_ends_when_looks_are_no_better(tmp_path, monkeypatch):
    monkeypatch.setattr(gan_playing.Quality, "__call__", lambda self, generator: dict.fromkeys(self.floor, 1.0))
    result = points(tmp_path / "out", looks=6, early_stopping_patience=2)
    assert result.metrics["step"] == 1
    assert any(note.startswith("stopped at step 3 of 6: the last 2 looks") for note in result.evidence["notes"])


@pytest.mark.parametrize(
    "field, value, says",
    [("load_best_model_at_end", True, "`keep_best` does that"), ("eval_strategy", "no", "`looks` says how often")],
)
def test_what_looks_decide_is_told_as_such(field, value, says, faces, tmp_path):
    refused(f"training.{field}: cannot be set here: {says}", "scratch/gan_conv", faces, tmp_path / "out",
            training={**QUICK, field: value})  # fmt: skip


@pytest.mark.parametrize("raw, better", [(1.0, True), (3.0, False)])
def test_it_is_said_where_the_average_is_worse(raw, better, tmp_path, monkeypatch):
    measure = gan_playing.gan_record._measured
    side = {"frechet": raw}
    monkeypatch.setattr(
        gan_playing.gan_record, "_measured",
        lambda found: {**(sides := measure(found)), "raw": {**sides["raw"], **side},
                       "shipped": {**sides["shipped"], "frechet": 2.0}},
    )  # fmt: skip
    text = points(tmp_path / "out").evidence["outcome"]["text"]
    assert ("not averaged, in raw/, is better by that number: 1;" in text) == better


def test_any_network_that_reads_images_judges(faces, tmp_path):
    from transformers import ViTImageProcessorPil, ViTMAEConfig, ViTMAEModel

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTMAEConfig(image_size=8, patch_size=4, num_channels=3, mask_ratio=0.0, **size)
    ViTMAEModel(config).save_pretrained(tmp_path / "eyes")
    ViTImageProcessorPil(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "eyes")
    result = play("scratch/gan_conv", faces, tmp_path / "out", config=TINY, judge=str(tmp_path / "eyes"))
    assert "eyes" in result.evidence["features"]
    with pytest.raises(
        HFTransferError, match=r"judge: .*MiniLM-L6-v2 reads texts; give a checkpoint that reads images"
    ):
        play("scratch/gan_conv", faces, tmp_path / "no", judge="sentence-transformers/all-MiniLM-L6-v2", config=TINY)
