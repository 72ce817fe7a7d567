"""Whatever is killed, the next run ends with bit-identical weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import Trainer, TrainerCallback

import hftransfer
import hftransfer.recipe
from hftransfer import runs
from hftransfer.errors import HFTransferError
from hftransfer.trainers.exact import EpochSampler, EpochSetter, SoundCheckpoints, sound_checkpoint
from hftransfer.trainers.finetuning import FinetuningTrainer

QUICK = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "bf16": False}
STEADY = {**QUICK, "save_strategy": "steps", "save_steps": 3}
PRETRAININGS = {
    "pretrain": {},
    # what a row becomes depends on when it is drawn
    "pretrain_scheduled": {"mask_rate": [0.6, 0.1], "max_length": [8, 16]},
    "pretrain_lora": {"lora": {"r": 2, "target_modules": ["query", "dense"]}},
    "pretrain_decayed": {"layer_decay": 0.5, "freeze": "embeddings"},
    # the head's training must leave no automatic precision behind, nor keep the next one from setting it up
    "pretrain_bf16": {"training": {**STEADY, "bf16": True}},
}
FINETUNINGS = {
    "finetune": {},
    "finetune_partial": {"method": "partial", "trainable": 1},
    "finetune_lora": {"method": "lora", "lora": {"r": 2}},
    "finetune_lp_ft": {"method": "linear_then_full"},
    "finetune_few_shot": {"method": "few_shot"},
    "finetune_torch_head": {"method": "frozen", "head": "torch"},
    "finetune_ema": {"near": {"ema": 0.7}, "gradual": True},
    "finetune_soup": {"method": "lora", "lora": {"r": 2}, "near": {"soup": 2}},
    "finetune_early": {"early_stopping_patience": 1, "gradual": True, "near": {"l2_sp": 0.1}},
    "finetune_folds": {"folds": 2, "calibrate": True},
}
LAST = {  # how the last training is called, which is interrupted twice
    **dict.fromkeys(PRETRAININGS, "pretrain"),
    **dict.fromkeys(FINETUNINGS, "fine-tune"),
    "finetune_lp_ft": "fine-tune: weights",
    "finetune_few_shot": "fine-tune: pairs",
    "finetune_soup": "seed 2",
}


class Stopped(Exception):
    """Stands for a kill between two steps."""


class StopAt(TrainerCallback):
    """Raises at the given step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Stopped


def finish_interrupted(*_):
    raise Stopped


def train_again(self, *arguments, **keywords):
    raise AssertionError(f"{self.label} was done already")


def stage(name, tiny_bert, reviews, folder):
    common = {"training": STEADY, "max_length": 16, "seed": 5, "output_dir": str(folder)}
    if name in FINETUNINGS:
        return hftransfer.finetune(str(tiny_bert), reviews("source"), **{**common, **FINETUNINGS[name]})
    if name.startswith("pretrain"):
        data = [reviews("source"), reviews("target")]
        return hftransfer.pretrain(str(tiny_bert), data, head_steps=5, **{**common, **PRETRAININGS[name]})
    return hftransfer.adapt(str(tiny_bert), reviews("source"), reviews("target", 60), method=name, **common)


def test_weighted_rows_come_as_often_as_they_should():
    weights = np.array([0.5, *[0.5 / 99] * 99])
    sampler = EpochSampler(100, seed=0, weights=weights, lengths=range(100), batch_size=10)
    counts = np.zeros(100)
    for epoch in range(200):
        sampler.set_epoch(epoch)
        np.add.at(counts, list(sampler), 1)
    assert counts.sum() == 20_000 and counts[0] / counts.sum() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", [*FINETUNINGS, *PRETRAININGS, "mcc", "cdan", "udalm"])
def test_an_interrupted_stage_ends_with_the_same_bits(name, tiny_bert, reviews, tmp_path, monkeypatch):
    whole = stage(name, tiny_bert, reviews, tmp_path / "whole")
    train = Trainer.train
    last = LAST.get(name, f"adapt ({name})")
    stops = [("", 4), (last, 5), (last, 13)]  # in the first phase; in the last one, and there in a later epoch
    for label, step in stops:

        def interrupted(self, *arguments, label=label, step=step, **keywords):
            if self.label.startswith(label):
                self.add_callback(StopAt(step))
            return train(self, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train", interrupted)
            with pytest.raises(Stopped):
                stage(name, tiny_bert, reviews, tmp_path / "again")
        assert not (tmp_path / "again").exists()
    with monkeypatch.context() as patch:  # everything is trained, nothing is recorded
        patch.setattr(runs.StageFolder, "finish", finish_interrupted)
        with pytest.raises(Stopped):
            stage(name, tiny_bert, reviews, tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", train_again)
        resumed = stage(name, tiny_bert, reviews, tmp_path / "again")
    assert (whole.path / "model.safetensors").read_bytes() == (resumed.path / "model.safetensors").read_bytes()
    assert whole.metrics == resumed.metrics


KILLED = """
import os, signal, sys
from transformers import Trainer, TrainerCallback
import hftransfer

where, folder, model, data = sys.argv[1:]

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if where == "step" and state.global_step == 7:
            os.kill(os.getpid(), signal.SIGKILL)

train, save = Trainer.train, Trainer._save_rng_state
Trainer.train = lambda self, *a, **k: (self.add_callback(Kill()), train(self, *a, **k))[1]

def dying(self, output_dir):
    if where == "checkpoint" and self.state.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)  # model and optimizer are written, the random state is not
    return save(self, output_dir)

Trainer._save_rng_state = dying
training = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "bf16": False}
training |= {"save_strategy": "steps", "save_steps": 3}
hftransfer.finetune(model, data, training=training, max_length=16, seed=5, output_dir=folder)
"""


def test_a_training_that_ended_within_an_epoch_is_not_trained_on(tiny_bert, reviews, tmp_path, monkeypatch):
    """Trainer, resumed at its own last step, would take one step more; a constant rate shows it."""
    training = {**STEADY, "max_steps": 4, "lr_scheduler_type": "constant", "warmup_steps": 0}

    def trained(folder):
        return hftransfer.finetune(
            str(tiny_bert), reviews("source"), training=training, max_length=16, output_dir=str(folder)
        )

    whole = trained(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(runs.StageFolder, "finish", finish_interrupted)
        with pytest.raises(Stopped):
            trained(tmp_path / "again")
    resumed = trained(tmp_path / "again")
    assert (whole.path / "model.safetensors").read_bytes() == (resumed.path / "model.safetensors").read_bytes()
    assert whole.evidence["curves"] == resumed.evidence["curves"]


@pytest.mark.parametrize("name", ["finetune", "pretrain", "coral"])
def test_eight_accumulated_batches_of_two_are_one_of_sixteen(name, tiny_bert, reviews, tmp_path, monkeypatch):
    """In loss and in the norm of the gradient; a formula of both domains' statistics is left out by its weight."""
    logs = {}
    for batch, accumulated in ((16, 1), (2, 8)):
        folder = tmp_path / str(batch)
        training = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated, "max_steps": 1}
        training |= {"logging_steps": 1, "bf16": False, "max_grad_norm": 0.0}
        found = []
        with monkeypatch.context() as patch:
            patch.setattr(SoundCheckpoints, "on_log", lambda self, a, s, c, logs, found=found, **_: found.append(logs))
            common = {"training": training, "max_length": 16, "seed": 5, "output_dir": str(folder)}
            model = without_dropout(tiny_bert, tmp_path / "still")
            if name == "finetune":
                hftransfer.finetune(model, reviews("source"), **common)
            elif name == "pretrain":
                hftransfer.pretrain(model, reviews("source"), head_steps=1, **common)
            else:
                hftransfer.adapt(model, reviews("source"), reviews("target"), method=name, weight=0.0, **common)
        logs[batch] = [(entry["loss"], entry["grad_norm"]) for entry in found if "grad_norm" in entry]
    assert len(logs[16]) == (1 if name == "finetune" else 2)
    assert logs[2] == pytest.approx(np.array(logs[16]), rel=1e-4)


def without_dropout(tiny_bert, folder):
    if not folder.exists():
        shutil.copytree(tiny_bert, folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("where", ["step", "checkpoint"])
def test_kill_9_loses_nothing(where, tiny_bert, reviews, tmp_path):
    """-9 in the middle of an epoch, and in the middle of writing a checkpoint."""
    import torch

    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", KILLED, where, str(tmp_path / "again"), str(tiny_bert), reviews("source")]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "again").exists()
    whole = stage("finetune", tiny_bert, reviews, tmp_path / "whole")
    resumed = stage("finetune", tiny_bert, reviews, tmp_path / "again")
    assert (whole.path / "model.safetensors").read_bytes() == (resumed.path / "model.safetensors").read_bytes()


def test_a_broken_checkpoint_gives_way_to_the_one_before(tmp_path):
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"x" * 100)
        runs.write_manifest(folder, processes=1, threads=1)
    (tmp_path / "checkpoint-6" / "optimizer.pt").write_bytes(b"x" * 50)
    (tmp_path / "checkpoint-9").mkdir()  # killed before its manifest
    found = sound_checkpoint(tmp_path)
    assert found is not None and found.name == "checkpoint-3"


def test_a_checkpoint_of_another_number_of_processes_is_not_used(tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    (folder / "optimizer.pt").write_bytes(b"x")
    runs.write_manifest(folder, processes=2, threads=1)
    assert sound_checkpoint(tmp_path) is None


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tiny_bert, reviews, tmp_path, monkeypatch):
    computed = FinetuningTrainer.compute_loss

    def diverging(self, *arguments, **keywords):
        loss = computed(self, *arguments, **keywords)
        return loss * float("nan") if self.state.global_step >= 4 else loss

    monkeypatch.setattr(FinetuningTrainer, "compute_loss", diverging)
    with pytest.raises(HFTransferError, match=r"loss is nan at step [5-9].*checkpoint-3"):
        stage("finetune", tiny_bert, reviews, tmp_path / "out")
    kept = sound_checkpoint(tmp_path / ".out.partial" / "checkpoints" / "whole" / "weights")
    assert kept is not None and kept.name == "checkpoint-3"


def test_weights_spoiled_while_the_loss_looks_well_are_never_sealed(tiny_bert, reviews, tmp_path, monkeypatch):
    def spoiled(self, args, state, control, model=None, **_):
        if state.global_step == 5:  # of the sixth step
            next(model.parameters()).data[0, 0] = float("nan")

    monkeypatch.setattr(EpochSetter, "on_optimizer_step", spoiled)
    monkeypatch.setattr(SoundCheckpoints, "on_log", lambda self, args, state, control, **_: None)
    with pytest.raises(HFTransferError, match=r"a weight is not finite at step 6; .*checkpoint-3"):
        stage("finetune", tiny_bert, reviews, tmp_path / "out")
    kept = sound_checkpoint(tmp_path / ".out.partial" / "checkpoints" / "whole" / "weights")
    assert kept is not None and kept.name == "checkpoint-3"


def test_a_training_that_was_told_to_stop_is_not_done(tiny_bert, reviews, tmp_path, monkeypatch):
    def stop(self, args, state, control, **_):
        control.should_training_stop = state.global_step == 4

    monkeypatch.setattr(EpochSetter, "on_step_end", stop)
    with pytest.raises(HFTransferError, match="stopped at step 4 of 16"):
        stage("finetune", tiny_bert, reviews, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_order_is_a_function_of_seed_and_epoch_and_batches_are_of_like_length():
    lengths = np.random.default_rng(0).integers(4, 128, size=1003)
    sampler = EpochSampler(1003, seed=1, lengths=lengths, batch_size=8)
    order = list(sampler)
    assert sorted(order) == list(range(1003))
    assert order == list(sampler)
    sampler.set_epoch(1)
    assert order != list(sampler)
    batches = [lengths[order[i : i + 8]] for i in range(0, 1000, 8)]
    padding = 1 - sum(b.sum() for b in batches) / sum(8 * b.max() for b in batches)
    assert padding < 0.1


def test_a_stage_runs_again_only_when_its_settings_or_inputs_change(tiny_bert, reviews, tmp_path):
    first = stage("finetune", tiny_bert, reviews, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    second = stage("finetune", tiny_bert, reviews, tmp_path / "out")
    assert second.reused and not first.reused
    assert times == {path: path.stat().st_mtime_ns for path in second.path.iterdir()}
    reviews("source", seed=9)  # the same file name, other content
    assert not stage("finetune", tiny_bert, reviews, tmp_path / "other").reused
    (first.path / "model.safetensors").write_bytes(b"damaged")
    assert not stage("finetune", tiny_bert, reviews, tmp_path / "out").reused


def test_a_run_killed_before_it_published_publishes_the_next_time(tiny_bert, reviews, tmp_path, monkeypatch):
    """Its stages are done, and `final/` is sound, but of other settings."""

    def run(seed):
        options = {"data": "$source", "training": QUICK, "max_length": 16}
        recipe = {"name": "small", "model": str(tiny_bert), "source": reviews("source")}
        recipe["stages"] = [{"finetune": options}]
        return hftransfer.run(recipe, seed=seed, output_dir=str(tmp_path / "out"))

    final = run(1).path / "model.safetensors"
    stage_weights = tmp_path / "out" / "1-finetune" / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(hftransfer.recipe, "_publish", finish_interrupted)
        with pytest.raises(Stopped):
            run(2)
    assert final.read_bytes() != stage_weights.read_bytes()
    run(2)
    assert final.read_bytes() == stage_weights.read_bytes()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    run(2)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert before == after


def test_two_runs_in_one_folder_the_second_is_refused(tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from hftransfer import runs\n"
            "with runs.lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)",
            str(tmp_path / ".lock"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(HFTransferError, match="another run is working"), runs.lock(tmp_path / ".lock"):
        pass
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with runs.lock(tmp_path / ".lock"):  # a killed run leaves no lock behind
        pass


def test_a_folder_is_verified_by_size_and_hash(tmp_path):
    (tmp_path / "weights").write_bytes(b"abc")
    assert runs.verified(tmp_path) is None
    runs.write_manifest(tmp_path)
    assert runs.verified(tmp_path) is not None
    (tmp_path / "weights").write_bytes(b"abd")
    assert runs.verified(tmp_path) is None
    (tmp_path / "weights").unlink()
    assert runs.verified(tmp_path) is None


def test_nothing_is_left_of_a_stage_but_its_folder(tiny_bert, reviews, tmp_path):
    folder = stage("finetune", tiny_bert, reviews, tmp_path / "run" / "out").path
    assert [path.name for path in Path(folder).parent.iterdir()] == ["out"]
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))
    assert oct((folder / "model.safetensors").stat().st_mode)[-3:] == "644"


def test_records_are_strict_json(tmp_path):
    runs.write_json(tmp_path / "a.json", {"low": float("-inf"), "nan": [float("nan"), 1.5], "model": object()})
    assert runs.read_json(tmp_path / "a.json") == {"low": None, "nan": [None, 1.5], "model": "<object in memory>"}
