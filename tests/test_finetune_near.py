"""`finetune`: staying near the start, schedules of what trains, and what helps on small and skewed data."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, TrainerCallback

import hftransfer
from hftransfer import models, tasks, tuning
from hftransfer.functional.calibration import expected_calibration_error
from hftransfer.functional.weight_space import averaged, interpolated
from hftransfer.stages import choosing, fitting, ways
from hftransfer.trainers.exact import EpochSampler, ExactTrainer
from hftransfer.trainers.finetuning import FinetuningTrainer

QUICK = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "bf16": False}


def finetune(model, data, folder, **options):
    given = {"training": QUICK, "max_length": 16, "seed": 1, "output_dir": str(folder), **options}
    return hftransfer.finetune(str(model), data, **given)


def weights(result):
    return load_file(result.path / "model.safetensors")


def held_out(model, data, part="test"):
    task, parts = tasks.read(data, str(model), key="data", seed=1)
    return task, task.inputs(parts[part], str(model), key="data", max_length=16)


def opened(result):
    return AutoModelForSequenceClassification.from_pretrained(result.path).eval()


@pytest.fixture
def watched(monkeypatch):
    """What trains at each step, and the weights after it, of every training."""
    seen = []

    class Spy(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **_):
            names = frozenset(name for name, value in model.named_parameters() if value.requires_grad)
            seen.append({"step": state.global_step, "names": names})

        def on_step_end(self, args, state, control, model=None, **_):
            seen[-1]["after"] = {name: value.detach().clone() for name, value in model.named_parameters()}

    train = ExactTrainer.train_or_resume

    def spied(self):
        seen.append({"label": self.label, "before": {n: p.detach().clone() for n, p in self.model.named_parameters()}})
        self.add_callback(Spy())
        return train(self)

    monkeypatch.setattr(ExactTrainer, "train_or_resume", spied)
    return seen


def test_a_strong_pull_keeps_the_pretrained_weights(tiny_bert, reviews, tmp_path):
    start = models.load(str(tiny_bert), "text_classification", num_labels=2).state_dict()
    away = {}
    for alpha in (0.0, 10.0):
        near = {"l2_sp": alpha, "l2_sp_head": 0.0} if alpha else None
        found = weights(finetune(tiny_bert, reviews("source"), tmp_path / str(alpha), near=near))
        away[alpha] = sum(
            float((value - start[name]).square().sum()) for name, value in found.items() if "classifier" not in name
        )
    assert away[10.0] < away[0.0] / 10


def test_the_pull_is_added_once_an_update_and_replaces_weight_decay(tiny_bert, reviews, tmp_path, monkeypatch):
    asked, decays = [], []
    compute = FinetuningTrainer.compute_loss

    def spied(self, *arguments, **options):
        asked.append(self.current_gradient_accumulation_steps)
        decays.append(self.args.weight_decay)
        return compute(self, *arguments, **options)

    monkeypatch.setattr(FinetuningTrainer, "compute_loss", spied)
    losses = []
    for batch, accumulated in ((16, 1), (4, 4)):
        training = {**QUICK, "max_steps": 2, "per_device_train_batch_size": batch, "logging_steps": 1}
        training |= {"gradient_accumulation_steps": accumulated, "lr_scheduler_type": "constant", "warmup_steps": 0}
        near = {"l2_sp": 5.0, "l2_sp_head": 5.0}
        result = finetune(tiny_bert, reviews("source"), tmp_path / str(batch), near=near, training=training)
        losses.append([loss for _, loss in result.evidence["curves"][0]["points"]])
    assert set(asked) == {1, 4} and set(decays) == {0.0}
    assert losses[0][0] > 0.75  # the head's own size is pulled
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.05)  # dropout differs


@pytest.mark.parametrize("gradual", [False, True])
def test_the_average_is_that_of_the_steps(gradual, tiny_bert, reviews, tmp_path, watched):
    result = finetune(tiny_bert, reviews("source"), tmp_path / "out", near={"ema": 0.8}, gradual=gradual)
    begun, *steps = watched
    average = begun["before"]
    assert len(steps) == 8
    for step in steps:
        average = {name: 0.8 * value + 0.2 * step["after"][name] for name, value in average.items()}
    found = weights(result)
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
    assert not torch.equal(found["classifier.weight"], steps[-1]["after"]["classifier.weight"])


def test_layers_begin_to_train_from_the_head_down(tiny_bert, reviews, tmp_path, watched):
    finetune(tiny_bert, reviews("source"), tmp_path / "out", gradual=True)
    _, *steps = watched
    tops = [list(step["names"]) for step in steps]
    sizes = [len(names) for names in tops]
    assert sizes == sorted(sizes) and len(set(sizes)) == 4
    assert {name.split(".")[0] for name in tops[0] if not name.startswith("bert.pooler")} == {"classifier"}
    for before, after in pairwise(steps):
        still = set(before["after"]) - after["names"]
        assert all(torch.equal(before["after"][name], after["after"][name]) for name in still)
    assert any("embeddings" in name for name in tops[-1]) and not any("embeddings" in name for name in tops[-3])


def test_a_layer_s_rate_falls_with_its_depth(tiny_bert, reviews, tmp_path, monkeypatch):
    rates = {}
    create = ExactTrainer.create_optimizer

    def spied(self, *arguments):
        optimizer = create(self, *arguments)
        names = {id(value): name for name, value in self.model.named_parameters()}
        rates.update({names[id(v)]: group["lr"] for group in optimizer.param_groups for v in group["params"]})
        return optimizer

    monkeypatch.setattr(ExactTrainer, "create_optimizer", spied)
    training = {**QUICK, "max_steps": 1}
    finetune(tiny_bert, reviews("source"), tmp_path / "out", layer_decay=0.5, training=training)
    assert rates["classifier.weight"] == 1e-3
    assert rates["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(5e-4)
    assert rates["bert.encoder.layer.0.output.dense.weight"] == pytest.approx(2.5e-4)
    assert rates["bert.embeddings.word_embeddings.weight"] == pytest.approx(1.25e-4)
    rates.clear()
    options = {"layer_decay": 0.5, "training": training, "method": "partial", "trainable": 1}
    finetune(tiny_bert, reviews("source"), tmp_path / "cut", **options)
    assert rates["bert.encoder.layer.1.output.dense.weight"] == pytest.approx(5e-4)
    assert rates["classifier.weight"] == 1e-3 and not [name for name in rates if "layer.0" in name]


@pytest.mark.parametrize("options", [{}, {"gradual": True}, {"method": "lora", "lora": {"r": 2}}])
def test_early_stopping_keeps_the_best_epoch(options, tiny_bert, reviews, tmp_path, monkeypatch):
    """By the metric that validation rows give: here, made up."""
    scores = iter([0.3, 0.9, 0.5, 0.4, 0.6])
    kept = []
    watch = fitting.watch_of

    def scripted(fit, predict):
        found = watch(fit, predict)
        measure = found.measure

        def made_up():
            assert set(measure()) == {"eval_accuracy"}
            kept.append({name: value.detach().clone() for name, value in fit.network.state_dict().items()})
            return {"eval_accuracy": next(scores)}

        return type(found)(made_up, found.by, found.higher_is_better, found.patience, found.keep_best)

    monkeypatch.setattr(fitting, "watch_of", scripted)
    monkeypatch.setattr(ways, "watch_of", scripted)
    training = {**QUICK, "num_train_epochs": 8}
    settle, restored = fitting.settle_adapter, []

    def settled(fit):
        restored.append({name: value.detach().clone() for name, value in fit.network.state_dict().items()})
        settle(fit)

    monkeypatch.setattr("hftransfer.stages.choosing.settle_adapter", settled)
    result = finetune(
        tiny_bert, reviews("source"), tmp_path / "out", early_stopping_patience=2, training=training, **options
    )
    assert len(kept) == 4  # two epochs without a better one
    assert all(torch.equal(value, kept[1][name]) for name, value in restored[0].items())
    assert not all(torch.equal(value, kept[3][name]) for name, value in restored[0].items())
    curve = next(curve for curve in result.evidence["curves"] if curve["name"] == "validation")
    assert [score for _, score in curve["points"]] == [0.3, 0.9, 0.5, 0.4]
    assert (
        result.metrics["validation_rows"] == 9 and result.metrics["train_rows"] == 55
    )  # of 64, classes in proportion
    assert result.metrics["test_rows"] == 16


def test_a_torch_head_stops_early_too(tiny_bert, reviews, tmp_path):
    training = {**QUICK, "num_train_epochs": 50}
    options = {"method": "frozen", "head": "torch", "early_stopping_patience": 2, "training": training}
    result = finetune(tiny_bert, reviews("source"), tmp_path / "out", **options)
    curve = next(curve for curve in result.evidence["curves"] if curve["name"] == "validation")
    scores = [score for _, score in curve["points"]]
    assert len(scores) < 50 and len(scores) - 1 - scores.index(max(scores)) == 2


def test_the_way_back(tiny_bert, reviews, tmp_path):
    """Share 1 is the fine-tuned network, 0 the one with a probed head, and the curve is measured in between."""
    data, found = reviews("source", 40), {}
    common = {"method": "linear_then_full", "training": {**QUICK, "max_steps": 2}}
    for share in (None, 0, 1, 0.5, "best"):
        near = None if share is None else {"wise_ft": share}
        general = {"general": reviews("target", 20)} if share == 0.5 else {}
        found[share] = finetune(tiny_bert, data, tmp_path / str(share), near=near, **general, **common)
    whole, start, end = (weights(found[share]) for share in (None, 0, 1))
    assert all(torch.equal(value, whole[name]) for name, value in end.items())
    frozen = weights(finetune(tiny_bert, data, tmp_path / "frozen", method="frozen"))
    assert all(torch.equal(value, frozen[name]) for name, value in start.items())
    half = weights(found[0.5])
    assert all(torch.equal(value, half[name]) for name, value in interpolated(start, end, 0.5).items())
    curves = {curve["name"]: curve["points"] for curve in found[0.5].evidence["curves"]}
    assert [share for share, _ in curves["held out"]] == [round(0.1 * n, 1) for n in range(11)]
    assert curves["held out"][0][1] == found[0].metrics["accuracy"]
    assert curves["held out"][10][1] == found[1].metrics["accuracy"]
    assert curves["general"][5][1] == found[0.5].metrics["general.accuracy"]
    best, numbers = found["best"], found["best"].metrics
    points = next(curve["points"] for curve in best.evidence["curves"] if curve["name"] == "validation")
    assert dict(points)[numbers["wise_ft.share"]] == max(score for _, score in points)
    assert numbers["validation_rows"] + numbers["train_rows"] == found[0].metrics["train_rows"]


def test_a_soup_averages_what_does_not_make_it_worse(tiny_bert, reviews, tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(choosing, "averaged", lambda states: taken.append(states) or averaged(states))
    result = finetune(tiny_bert, reviews("source"), tmp_path / "out", near={"soup": 3})
    ingredients = [states[0] for states in taken[:3]]
    assert not torch.equal(ingredients[0]["classifier.weight"], ingredients[1]["classifier.weight"])
    (note,) = [note for note in result.evidence["notes"] if note.startswith("soup: ")]
    assert f"soup: {len(taken[-1])} of 3 trainings averaged" in note
    found = weights(result)
    assert all(torch.equal(value, found[name]) for name, value in averaged(taken[-1]).items() if name in found)
    assert [curve["name"] for curve in result.evidence["curves"]] == [f"weights, seed {n}: loss" for n in (1, 2, 3)]


def test_a_soup_of_adapters_is_one_checkpoint(tiny_bert, reviews, tmp_path):
    options = {"method": "lora", "lora": {"r": 2}, "near": {"soup": 2}}
    result = finetune(tiny_bert, reviews("source"), tmp_path / "out", **options)
    assert not (result.path / "adapter").exists()
    task, rows = held_out(tiny_bert, reviews("source"))
    assert task.score(task.predict(opened(result), rows), rows.labels)["accuracy"] == result.metrics["accuracy"]


@pytest.mark.parametrize("options", [{}, {"method": "lora", "lora": {"r": 2}}, {"method": "frozen"}])
def test_a_calibrated_network_gives_the_same_classes_and_says_its_temperature(options, tiny_bert, reviews, tmp_path):
    data = reviews("source")
    common = {"early_stopping_patience": 9, "validation_size": 0.3} if options.get("method") != "frozen" else {}
    common |= {"general": reviews("target")}
    result = finetune(tiny_bert, data, tmp_path / "out", calibrate=True, **common, **options)
    network, numbers = opened(result), result.metrics
    task, rows = held_out(tiny_bert, data)
    logits = task.predict(network, rows)
    assert network.config.temperature_applied == pytest.approx(numbers["temperature"], abs=1e-5)
    assert {f"general.calibration_error.{when}" for when in ("before", "after")} <= set(numbers)
    if "early_stopping_patience" in common:
        plain = finetune(tiny_bert, data, tmp_path / "plain", **common, **options)
        raw = task.predict(opened(plain), rows)
        np.testing.assert_allclose(raw, logits * numbers["temperature"], atol=1e-4)
        assert (raw.argmax(1) == logits.argmax(1)).all()
    for when, scale in (("after", 1.0), ("before", numbers["temperature"])):
        probabilities = torch.tensor(logits * scale).softmax(1).numpy()
        expected = expected_calibration_error(probabilities, rows.labels)
        assert numbers[f"calibration_error.{when}"] == pytest.approx(expected, abs=1e-4)
    stored = json.loads((result.path / "config.json").read_text())
    assert stored["temperature_applied"] == network.config.temperature_applied


def test_the_loss_is_the_one_asked_for(tiny_bert, reviews, tmp_path, monkeypatch):
    """The first logged loss, computed by hand on the batch that the trainer saw."""
    seen = []
    compute = FinetuningTrainer.compute_loss

    def spied(self, model, batch, **options):
        loss = compute(self, model, batch, **options)
        with torch.no_grad():
            model.eval()
            logits = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
        seen.append((float(loss.detach()), logits, batch["labels"]))
        return loss

    monkeypatch.setattr(FinetuningTrainer, "compute_loss", spied)
    path = tmp_path / "skewed.csv"
    path.write_text("text,label\n" + "the pan is quiet,calm\n" * 30 + "a noisy pan,loud\n" * 10)
    training = {**QUICK, "max_steps": 1, "per_device_train_batch_size": 32}
    still = tmp_path / "still"
    network = models.load(str(tiny_bert), "encoder")
    network.config.hidden_dropout_prob = network.config.attention_probs_dropout_prob = 0.0
    models.save(network, still, models.tokenizer(str(tiny_bert)))
    for number, (options, factor) in enumerate(
        [
            ({"loss": {"class_weights": True}}, {}),
            ({"loss": {"focal": 2.0}}, {}),
            ({"training": {**training, "label_smoothing_factor": 0.2}}, {"label_smoothing": 0.2}),
        ]
    ):
        seen.clear()
        finetune(still, str(path), tmp_path / str(number), **{"training": training, **options})
        (found, logits, labels) = seen[0]
        rows = cross_entropy(logits, labels, reduction="none", **factor)
        if "focal" in str(options):
            rows = rows * (1 - logits.softmax(1).gather(1, labels[:, None])[:, 0]) ** 2
        if "class_weights" in str(options):
            rows = rows * torch.tensor([32 / 48, 32 / 16])[labels]
        assert found == pytest.approx(float(rows.mean()), rel=1e-4)


def test_rare_classes_are_drawn_as_often(tiny_bert, tmp_path, monkeypatch):
    drawn = []
    collect = EpochSampler.__iter__
    monkeypatch.setattr(EpochSampler, "__iter__", lambda self: iter(drawn.extend(collect(self)) or drawn))
    path = tmp_path / "skewed.csv"
    path.write_text("text,label\n" + "the pan is quiet,calm\n" * 90 + "a noisy pan,loud\n" * 10)
    finetune(tiny_bert, str(path), tmp_path / "out", balanced=True, training={**QUICK, "num_train_epochs": 1})
    _, rows = held_out(tiny_bert, str(path), "train")
    assert 0.3 < np.mean(rows.labels[drawn]) < 0.7


def test_folds_score_every_training_row_once(tiny_bert, reviews, tmp_path, monkeypatch):
    judged = []
    score = tasks.find("single_label_classification").score

    def spied(self, outputs, labels):
        judged.append(labels)
        return score(self, outputs, labels)

    monkeypatch.setattr(tasks.find("single_label_classification"), "score", spied)
    result = finetune(tiny_bert, reviews("source"), tmp_path / "out", folds=3, method="frozen", training={})
    *folds, test = judged
    assert sorted(len(fold) for fold in folds) == [21, 21, 22] and len(test) == 16
    assert max(fold.mean() for fold in folds) - min(fold.mean() for fold in folds) < 0.1  # classes in proportion
    numbers = result.metrics
    assert 0 <= numbers["folds.accuracy"] <= 1 and numbers["folds.accuracy.spread"] >= 0
    plain = finetune(tiny_bert, reviews("source"), tmp_path / "plain", method="frozen", training={})
    assert numbers["accuracy"] == plain.metrics["accuracy"]


def lively(model, folder):
    """The same network with larger weights: as it begins, all texts are nearly one point."""
    network = models.load(str(model), "encoder")
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight *= 8
    models.save(network, folder, models.tokenizer(str(model)))
    return folder


def test_pairs_bring_rows_of_a_class_together(tiny_bert, reviews, tmp_path):
    data, model = reviews("source"), lively(tiny_bert, tmp_path / "lively")
    training = {**QUICK, "num_train_epochs": 10}
    result = finetune(model, data, tmp_path / "out", method="few_shot", training=training)
    _, rows = held_out(tiny_bert, data, "train")

    def apart(network):
        with torch.no_grad():
            seen, _ = models.classify(network.eval(), rows.batch(list(rows.rows)))
        unit = torch.nn.functional.normalize(seen, dim=1)
        alike = torch.tensor(rows.labels)[:, None] == torch.tensor(rows.labels)
        cosines = unit @ unit.T
        return float(cosines[alike].mean() - cosines[~alike].mean())

    before = models.load(str(model), "text_classification", num_labels=2)
    assert apart(opened(result)) > apart(before) + 0.1
    assert result.metrics["trainable"] == 2 * 32 + 2
    assert [curve["name"] for curve in result.evidence["curves"]] == ["fine-tuning loss"]
    assert tuning.trainable(before.parameters()) > 1000
