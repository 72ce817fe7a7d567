"""`Trainer` made exact: whatever is killed, the next run ends with bit-identical weights.

`ExactTrainer` overrides four methods of `Trainer`: `_get_train_sampler` (an order that depends on seed and epoch only,
batches of like length), `_save` (weights that it can load again), `evaluate` (measures what is watched) and
`create_optimizer` (a learning rate for each layer). The rest is two callbacks: checkpoints get a manifest, and a loss
that is not finite stops.
"""

import contextlib
import importlib.util
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.trainer_callback import PrinterCallback, ProgressCallback, TrainerState

from hftransfer import processes, runs
from hftransfer.errors import HFTransferError
from hftransfer.models import quiet_transformers
from hftransfer.trainers import watching
from hftransfer.trainers.watching import Watch
from hftransfer.tuning import decayed_rates

logger = logging.getLogger("hftransfer")


def training_arguments(training: Mapping[str, Any], folder: Path, seed: int) -> TrainingArguments:
    """Builds `TrainingArguments` from the fields of a recipe; what the house decides is set here and nowhere else.

    Raises:
        HFTransferError: when the fields contradict each other or the launcher.
    """
    given = dict(training)
    _refuse_what_cannot_run(given)
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if "bf16" not in given and "fp16" not in given and precision == "no":
        given["bf16"] = processes.has_bf16()
    house: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "use_cpu": not processes.has_accelerator(),
        "report_to": "none",
        "logging_nan_inf_filter": False,  # it hides a diverged run behind a loss of 0.0
        "disable_tqdm": True,  # our own bar, below
        "remove_unused_columns": False,
    }
    defaults = {"save_strategy": "epoch", "save_total_limit": 2, "logging_steps": 10, "dataloader_pin_memory": False}
    try:
        arguments = TrainingArguments(**{**defaults, **given, **house})
    except Exception as error:  # of any of the libraries that the fields are handed to
        raise HFTransferError(_about(given, error)) from error
    _check_optimizer(arguments)
    _check_schedule(arguments)
    if precision not in ("no", "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "no"):
        raise HFTransferError(
            f"training: the launcher asks for mixed_precision={precision}, the recipe for "
            f"bf16={arguments.bf16}, fp16={arguments.fp16}; set one of them"
        )
    if arguments.save_total_limit == 1:
        arguments.save_total_limit = 2  # Trainer deletes the old checkpoint before the new one is sealed
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one device a process; several go through accelerate launch
    return arguments


def _refuse_what_cannot_run(given: Mapping[str, Any]) -> None:
    """What `Trainer` itself would find out with a traceback, after other stages have trained."""
    for field in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        if given.get(field, 1) < 1:
            raise HFTransferError(f"training.{field}: expected a whole number above 0, found {given[field]}")
    for field, package in (("deepspeed", "deepspeed"), ("use_liger_kernel", "liger_kernel")):
        if given.get(field) and importlib.util.find_spec(package) is None:
            raise HFTransferError(
                f"training.{field}: needs the package {package}, which is not installed; type: pip install {package}"
            )
    if given.get("fsdp") and (processes.state().num_processes == 1 or not processes.has_accelerator()):
        raise HFTransferError(
            "training.fsdp: shards a model over several accelerators, one a process; launch with --multi_gpu "
            "--num_processes N, or remove it"
        )


def _check_optimizer(arguments: TrainingArguments) -> None:
    """Looks for the optimizer's package now, not when the stage's turn has come."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments)
    except Exception as error:
        reason = _first_line(error)
        if "need to pass a" in reason:  # its package is there, and it wants the model, which only training has
            return
        options = f" with optim_args '{arguments.optim_args}'" if arguments.optim_args else ""
        raise HFTransferError(f"training.optim: {arguments.optim.value}{options}: {reason}") from error


def _check_schedule(arguments: TrainingArguments) -> None:
    """Makes the learning rate's schedule once, on nothing: some need options of their own, and refuse others."""
    anything = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    options = {"scheduler_specific_kwargs": arguments.lr_scheduler_kwargs}
    try:
        get_scheduler(arguments.lr_scheduler_type, anything, num_warmup_steps=1, num_training_steps=2, **options)
    except Exception as error:
        kind = arguments.lr_scheduler_type.value
        raise HFTransferError(
            f"training.lr_scheduler_type: {kind} with lr_scheduler_kwargs {arguments.lr_scheduler_kwargs}: "
            f"{_first_line(error)}"
        ) from error


def _about(given: Mapping[str, Any], error: Exception) -> str:
    """An error of `TrainingArguments` in one line, under the key whose name or value it tells."""
    reason = _first_line(error)
    told = [key for key, value in given.items() if key in reason or (isinstance(value, str) and value in reason)]
    return f"training.{told[0]}: {reason}" if len(told) == 1 else f"training: {reason}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def estimated_steps(training: Mapping[str, Any], num_rows: int) -> int:
    """Optimizer steps that a training would take on one process.

    Raises:
        HFTransferError: when the fields contradict each other or the launcher.
    """
    arguments = training_arguments(training, Path("unused"), 0)
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    batches = math.ceil(num_rows / arguments.train_batch_size)
    return math.ceil(math.ceil(batches / arguments.gradient_accumulation_steps) * arguments.num_train_epochs)


class EpochSampler(Sampler[int]):
    """A shuffled order that is a function of (seed, epoch); with `lengths`, batches of like length.

    Like length means little padding: the order is cut into groups of 50 batches, each sorted by length, and the
    batches are shuffled again. With `weights`, probabilities that sum to 1, rows are drawn with replacement.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        seed: int,
        lengths: Sequence[int] | None = None,
        batch_size: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.num_rows, self.seed, self.batch_size, self.epoch = num_rows, seed, batch_size, 0
        self.weights = weights
        self.lengths = None if lengths is None else np.asarray(lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self.seed, self.epoch))
        weighted = self.weights is not None
        order = (
            rng.choice(self.num_rows, self.num_rows, p=self.weights) if weighted else rng.permutation(self.num_rows)
        )
        if self.lengths is not None:
            order = self._grouped(order, rng)
        return iter(order.tolist())

    def _grouped(self, order: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        assert self.lengths is not None
        window = self.batch_size * 50
        windows = [order[start : start + window] for start in range(0, len(order), window)]
        rows = np.concatenate([w[np.argsort(-self.lengths[w], kind="stable")] for w in windows])
        whole = len(rows) // self.batch_size * self.batch_size  # a short last batch stays last
        batches = rows[:whole].reshape(-1, self.batch_size)
        return np.concatenate([batches[rng.permutation(len(batches))].reshape(-1), rows[whole:]])


class ExactTrainer(Trainer):
    """A `Trainer` for map-style data whose order, checkpoints and resumption are exact.

    `epoch_aware` are further objects whose `set_epoch` is called at each epoch (a masking collator, a sampler);
    `weights` are the rows' chances to be drawn, where they are not drawn evenly; `watch` is what evaluations measure;
    `layer_decay` is the factor of the learning rate from a layer to the one below.
    """

    must_be_finite: Sequence[str] = ("loss", "grad_norm")  # of what is logged
    remedy = "lower training.learning_rate or set training.max_grad_norm"  # for what is not

    def __init__(
        self,
        *,
        label: str,
        lengths: Sequence[int] | None = None,
        weights: np.ndarray | None = None,
        epoch_aware: Sequence[Any] = (),
        watch: Watch | None = None,
        layer_decay: float | None = None,
        **rest: Any,
    ):
        super().__init__(**rest)
        self.lengths, self.weights, self.label = lengths, weights, label
        self.watch, self.layer_decay = watch, layer_decay
        self.resumed: Path | None = None  # the checkpoint that training goes on from
        self.epoch_aware = list(epoch_aware)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(EpochSetter(self.epoch_aware))
        self.add_callback(SoundCheckpoints(label, self.must_be_finite, self.remedy))
        self.bar = Bar(label)
        if processes.is_main():
            self.add_callback(self.bar)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        rows = len(self.train_dataset if train_dataset is None else train_dataset)
        # groups of what one update sees, so that neither processes nor accumulation change it
        batch = self.args.train_batch_size * self.args.world_size * self.args.gradient_accumulation_steps
        sampler = EpochSampler(rows, seed=self.args.seed, lengths=self.lengths, batch_size=batch, weights=self.weights)
        self.epoch_aware.append(sampler)
        return sampler

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Writes the weights under the names that the network has.

        transformers 5.23 writes a ViT's under the names of older releases, and loads a checkpoint without turning them
        back: the weights would silently stay what they were.
        """
        if isinstance(self.model, PreTrainedModel) and self.args.should_save:
            folder = Path(output_dir or str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)
            self.model.save_pretrained(folder, state_dict=state_dict, save_original_format=False)
        else:
            super()._save(output_dir, state_dict)

    def train_or_resume(self) -> list[dict[str, float]]:
        """Trains to the end from the newest sound checkpoint, if any. Returns the log history.

        Raises:
            HFTransferError: when the loss or a weight is no longer finite, or training was told to stop early.
        """
        newest = sound_checkpoint(Path(str(self.args.output_dir)))
        with quiet_transformers(), contextlib.closing(self.bar):
            self.resumed = newest
            if newest is None or not self._ended_at(newest):
                if newest is not None:
                    logger.info("%s: resuming from %s", self.label, newest.name)
                self.train(resume_from_checkpoint=str(newest) if newest else None)
        # without the automatic precision of training, so that before and after are measured alike; accelerate's own
        # way back (1.15) would take the model's decorators off as well
        for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
            self.model.__dict__.pop(name, None)
        if self.state.global_step < self.state.max_steps and not self.stopped_early():
            raise HFTransferError(
                f"{self.label}: stopped at step {self.state.global_step} of {self.state.max_steps}; the same command "
                "goes on from there"
            )
        best = self.watch.best(self.state.log_history) if self.watch is not None else None
        if self.watch is not None and self.watch.keep_best and best is not None:
            processes.barrier()
            watching.restore(self.model, Path(str(self.args.output_dir)), best)
        return [entry for entry in self.state.log_history if "loss" in entry]

    def _ended_at(self, checkpoint: Path) -> bool:
        """Loads a training's last checkpoint. Trainer itself would go on for one more step when it ends mid-epoch."""
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        self.state, before = state, self.state
        if state.global_step < state.max_steps and not self.stopped_early():
            self.state = before
            return False
        self._load_from_checkpoint(str(checkpoint))
        return True

    def stopped_early(self) -> bool:
        """Whether what is watched, as far as it is logged, asks to stop; so a resumed run knows it too."""
        return self.watch is not None and self.watch.is_over(self.state.log_history)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        assert self.watch is not None
        metrics = self.watch.measure()
        self.log(metrics)
        if self.watch.keep_best and self.watch.best(self.state.log_history) == self.state.global_step:
            watching.keep(self.model, self.kept(), Path(str(self.args.output_dir)), self.state.global_step)
        control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.stopped_early():
            control.should_training_stop = control.should_save = True
        self.control: Any = control
        return metrics

    def kept(self) -> list[torch.Tensor]:
        """The weights that training changes: with the buffers, what the best evaluation keeps."""
        return [value for group in self.optimizer.param_groups for value in group["params"]]

    def create_optimizer(self, model: Any = None) -> Any:
        """Splits each of Trainer's groups by learning rate, where a layer's depends on its depth."""
        optimizer = super().create_optimizer(model)
        if self.layer_decay is None or getattr(optimizer, "layered", False):
            return optimizer
        names = {id(value): name for name, value in self.model.named_parameters()}
        rates = decayed_rates(self.model, self.args.learning_rate, self.layer_decay)
        groups: list[dict[str, Any]] = []
        for group in optimizer.param_groups:
            by_rate: dict[float, list[Any]] = {}
            for value in group["params"]:
                by_rate.setdefault(rates[names[id(value)]], []).append(value)
            groups += [{**group, "params": values, "lr": rate} for rate, values in sorted(by_rate.items())]
        optimizer.param_groups, optimizer.layered = groups, True
        return optimizer


def checkpoints(folder: Path) -> list[Path]:
    """Trainer's checkpoints in the order of their steps."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def sound_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose manifest verifies and whose world is this one; broken ones are removed."""
    chosen: Path | None = None
    if processes.is_main():
        for path in reversed(checkpoints(folder)):
            manifest = runs.verified(path)
            if manifest and manifest.get("processes") == processes.state().num_processes:
                chosen = path
                break
            reason = "was written by another number of processes" if manifest else "is incomplete"
            logger.warning("%s %s; it is not used", path.name, reason)
            shutil.rmtree(path)
    chosen = processes.agree(chosen)
    if chosen is not None:
        torch.set_num_threads(runs.read_json(chosen / runs.MANIFEST)["threads"])  # sums depend on it to the last bit
    return chosen


class EpochSetter(TrainerCallback):
    """Tells collators and samplers which epoch begins, also after a resumption."""

    def __init__(self, receivers: list[Any]) -> None:
        self.receivers = receivers

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        for receiver in self.receivers:
            receiver.set_epoch(int(state.epoch or 0))


class SoundCheckpoints(TrainerCallback):
    """Stops on a loss, gradient or weight that is not finite before it can be saved, and seals each checkpoint."""

    def __init__(
        self,
        label: str,
        must_be_finite: Sequence[str] = ExactTrainer.must_be_finite,
        remedy: str = ExactTrainer.remedy,
    ) -> None:
        self.label, self.must_be_finite, self.remedy = label, must_be_finite, remedy

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        # fp16's loss scale is found by overflows, whose steps are skipped
        for name in ("loss",) if args.fp16 else self.must_be_finite:
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise self._diverged(args, state, f"{name} is {value}")

    def _check_weights(self, args: Any, state: Any, model: Any) -> None:
        """A gradient that is not finite, with clipping off, spoils the weights while the loss still looks well."""
        sound = torch.stack([parameter.detach().isfinite().all() for parameter in model.parameters()]).all()
        if not sound:
            raise self._diverged(args, state, "a weight is not finite")

    def _diverged(self, args: Any, state: Any, what: str) -> HFTransferError:
        kept = [path.name for path in checkpoints(Path(args.output_dir)) if (path / runs.MANIFEST).exists()]
        return HFTransferError(
            f"{self.label}: {what} at step {state.global_step}; stopped, the last good checkpoint "
            f"({kept[-1] if kept else 'none yet'}) is kept; {self.remedy}"
        )

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._check_weights(args, state, model)

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._check_weights(args, state, model)  # without its manifest this checkpoint is never used
        processes.barrier()  # every process has written its random state
        if processes.is_main():
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (folder / "training_args.bin").unlink(missing_ok=True)  # pickled, unused here, may hold a token
            runs.write_manifest(folder, processes=processes.state().num_processes, threads=torch.get_num_threads())
        processes.barrier()


class Bar(TrainerCallback):
    """One progress bar a training, with the loss beside it."""

    bar: Any = None  # none on other processes than the main one

    def __init__(self, label: str) -> None:
        self.label = label

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        from tqdm.auto import tqdm

        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc=self.label, unit="step", leave=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}")

    def close(self) -> None:
        """Ends the line, also of a training that failed."""
        if self.bar is not None:
            self.bar.close()
