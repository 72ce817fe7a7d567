"""Fine-tuning against the stock pipelines: same texts, first weights, epochs and hyperparameters, in one process.

    python benchmarks/finetuning.py                   # all weights, LoRA, frozen features; then the memory of each way
    python benchmarks/finetuning.py --only full --rows 2000 --rounds 3 --no_memory --data FILE_OR_JSON

Peers, in the stock `Trainer`: rows in a random order, fp32 by default, and bf16 where the hardware computes in it.

full    what transformers' `run_glue.py` does: every row padded to `--max_length`, the library's default collator
lora    PEFT's LoRA on the same linear layers, rows padded to the longest of the batch
frozen  as full, but the backbone does not train

Ours is what `finetune` does with that method, then without an ingredient of it: bf16, batches of like length. Frozen
features are made once into an empty cache and a logistic regression is fitted, then again with the features found;
the examples a second are the peer's examples over our time. Not padding to the maximum gives what the texts leave
free: their mean length is in the title, and the embedded ones leave nothing at 128 tokens.

Every side begins with the same weights, the new head's included, and is scored in fp32 on the same held-out rows. The
clock includes making the trainer, but neither tokenising nor loading. Rounds are interleaved, each with its own seed:
a speed is the median over rounds, a ratio the median of the rounds' own ratios, a score their mean. Memory is the peak
of a fresh process, less what it held before training; features and stored states are made within.
"""

import argparse
import copy
import functools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import torch
from rich.console import Console
from rich.table import Table
from sides import in_fresh_process, machine, peak_mib, ratio
from torch import nn
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, default_data_collator, set_seed
from transformers.trainer_callback import PrinterCallback

import hftransfer
from hftransfer import tasks
from hftransfer.adapters.parts import targets
from hftransfer.cache import Cache
from hftransfer.methods import DEFAULTS
from hftransfer.processes import has_bf16
from hftransfer.signatures import validate
from hftransfer.stages import choosing, finetuning

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEMO = '{"path": "demo/api_docs", "name": "scipy"}'
QUIET = {"report_to": "none", "disable_tqdm": True, "dataloader_pin_memory": False}


class Setting(NamedTuple):
    """What the sides of a way share."""

    given: dict[str, Any]  # finetune's options
    fields: dict[str, Any]  # of TrainingArguments
    task: Any
    start: finetuning.Start
    model: nn.Module  # the start's network, copied for each side
    train: Any  # labelled inputs
    test: Any
    padded: Any  # the peers' training rows, to the maximum
    ragged: Any  # and as long as they are
    examples: int  # seen in a training


Maker = Callable[[Setting, Any, Path], Any]


def stock(
    setting: Setting, model: Any, folder: Path, *, padded: bool, prepared: Any = None, bf16: bool = False
) -> Trainer:
    arguments = TrainingArguments(
        **{**setting.fields, **QUIET, "bf16": bf16, "seed": setting.given["seed"]},
        output_dir=str(folder),
        use_cpu=not torch.accelerator.is_available(),
    )
    trainer = Trainer(
        model=prepared(model) if prepared else model,
        args=arguments,
        train_dataset=setting.padded if padded else setting.ragged,
        data_collator=default_data_collator if padded else DataCollatorWithPadding(setting.start.reader),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def tokenised(texts: Any, reader: Any, **options: Any) -> Any:
    """`run_glue.py`'s rows."""
    names = [name for name in ("text", "text_pair") if name in texts.column_names]

    def encode(batch: dict[str, list[Any]]) -> Any:
        return reader(*(batch[name] for name in names), truncation=True, **options)

    return texts.map(encode, batched=True, remove_columns=names)


def still(model: Any) -> Any:
    """The backbone frozen as everybody does it."""
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
    return model


def adapted(model: Any) -> Any:
    """PEFT's defaults, as ours, on the layers that ours adapts."""
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=targets(model, {}, "LORA", []))
    return peft.get_peft_model(model, config)


class Ours:
    """The fitting that `finetune` does, without its folder and report."""

    def __init__(self, setting: Setting, model: Any, folder: Path, grouped: bool = True, **fields: Any) -> None:
        given = {**setting.given, "training": {**setting.fields, **fields}}
        start, cache = setting.start._replace(network=model), Cache(folder.parent / "features")
        self.fit = finetuning.made_fit(given, setting.task, start, setting.train, folder, cache, given["seed"])
        if not grouped:
            self.fit.train = replace(self.fit.train, lengths=None)

    @property
    def model(self) -> Any:
        return self.fit.model

    def train(self) -> None:
        choosing.fit_whole(self.fit)


def peers(**options: Any) -> dict[str, Maker]:
    return {"peer": functools.partial(stock, **options), "peer, bf16": functools.partial(stock, bf16=True, **options)}


OURS: dict[str, Maker] = {"ours": Ours, "ours, no bf16": functools.partial(Ours, bf16=False)}
UNGROUPED: dict[str, Maker] = {
    "ours, any order": functools.partial(Ours, grouped=False),
    "ours, any order, no bf16": functools.partial(Ours, grouped=False, bf16=False),
}
WAYS: dict[str, dict[str, Maker]] = {
    "full": peers(padded=True) | OURS | UNGROUPED,
    "lora": peers(prepared=adapted, padded=False) | OURS,
    "frozen": peers(prepared=still, padded=True) | OURS | {"ours, features found": Ours},
}
if not has_bf16():
    WAYS = {way: {side: make for side, make in sides.items() if "bf16" not in side} for way, sides in WAYS.items()}
MEMORY = ("full: peer", "full: ours", "partial: ours", "lora: peer", "lora: ours", "frozen: peer", "frozen: ours")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", choices=list(WAYS))
    options.add_argument("--data", default=DEMO, help="labelled texts: a path, or a recipe's mapping as JSON")
    options.add_argument("--rows", type=int, default=256, help="training rows, at most")
    options.add_argument("--epochs", type=int, default=2, help="of full and lora")
    options.add_argument("--frozen_epochs", type=int, default=10)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--max_length", type=int, default=128)
    options.add_argument("--no_memory", action="store_true", help="spare the processes that measure memory")
    options.add_argument("--memory_of", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.memory_of:
        way, _, side = given.memory_of.partition(": ")
        print(json.dumps(peak_mib(WAYS[way][side] if way in WAYS else Ours, load(given, way, seed=42))))
        return
    for way in [given.only] if given.only else WAYS:
        Console(width=120).print(_speeds(way, *compared(given, way), given))
    if not given.no_memory:
        Console(width=120).print(_memory(side for side in MEMORY if side.startswith(given.only or "")))


def load(given: argparse.Namespace, way: str, seed: int) -> Setting:
    spec = json.loads(given.data) if given.data.startswith("{") else given.data
    called = {"method": way, "max_length": given.max_length, "max_train_samples": given.rows, "seed": seed}
    found = validate(hftransfer.finetune, {"model": MODEL, "data": spec, **called})
    task, parts = tasks.read(found["data"], MODEL, key="data", seed=42, max_samples=given.rows)
    rows, epochs = len(parts["train"]), given.frozen_epochs if way == "frozen" else given.epochs
    start = finetuning.begin(found, task, seed)
    read = functools.partial(finetuning.read_inputs, task=task, start=start, given=found, key="data")
    fields = {**DEFAULTS[way], "per_device_train_batch_size": given.batch, "save_strategy": "no"}
    fields |= {"num_train_epochs": epochs, "max_steps": math.ceil(rows / given.batch) * epochs}
    mapped = functools.partial(tokenised, parts["train"], start.reader, max_length=given.max_length)
    padded, ragged = mapped(padding="max_length"), mapped(padding=False)
    inputs = (read(parts["train"]), read(parts["test"]))
    return Setting(found, fields, task, start, start.network, *inputs, padded, ragged, rows * epochs)


def compared(given: argparse.Namespace, way: str) -> tuple[dict[str, list[dict[str, float]]], Setting]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS[way]}
    for seed in range(42, 42 + given.rounds):
        setting = load(given, way, seed)
        with tempfile.TemporaryDirectory() as folder:
            for name in ("peer", "ours") if seed == 42 else ():  # what a process does once is no side's
                once = setting._replace(fields={**setting.fields, "max_steps": 1})
                measure(WAYS[way][name], once, Path(folder) / "once" / name)
            for name, make in WAYS[way].items():
                found[name].append(measure(make, setting, Path(folder) / name))
                print(way, name, {key: round(value, 3) for key, value in found[name][-1].items()}, file=sys.stderr)
    return found, setting


def measure(make: Maker, setting: Setting, folder: Path) -> dict[str, float]:
    """Trains a copy of the model: seconds, examples a second, and the score on held-out rows."""
    set_seed(setting.given["seed"])
    model = copy.deepcopy(setting.model)
    started = time.perf_counter()
    side = make(setting, model, folder)
    side.train()
    seconds = time.perf_counter() - started
    vars(side.model).pop("forward", None)  # accelerate's, in bf16
    scores = setting.task.score(setting.task.predict(side.model, setting.test), setting.test.labels)
    return {"seconds": seconds, "speed": setting.examples / seconds, "score": scores[setting.task.metric]}


def _speeds(way: str, found: dict[str, list[dict[str, float]]], setting: Setting, given: argparse.Namespace) -> Table:
    fields, length = setting.fields, np.mean(setting.train.lengths)
    title = f"{way}: {fields['num_train_epochs']} epochs of {len(setting.padded)} rows, batches of {given.batch} x "
    title += f"{given.max_length} (mean length {length:.0f}), {given.rounds} rounds, {machine()}, "
    title += f"bf16 {'on' if has_bf16() else 'not in this hardware'}"
    table = Table(title=title, title_justify="left")
    against = [name for name in found if name.startswith("peer")]
    for heading in ("", "seconds", "examples/s", *(f": {name}" for name in against), setting.task.metric):
        table.add_column(heading)
    for side, runs in found.items():
        seconds, speed = (statistics.median(run[key] for run in runs) for key in ("seconds", "speed"))
        faster = [f"{ratio(runs, found[name], 'speed'):.2f}" for name in against]
        score = statistics.mean(run["score"] for run in runs)
        table.add_row(side, f"{seconds:.1f}", f"{speed:.1f}", *faster, f"{score:.3f}")
    return table


def _memory(sides: Iterable[str]) -> Table:
    title = f"memory beside the first weights, 3 steps, {machine()}"
    table = Table("", "MiB", title=title, title_justify="left", min_width=len(title) + 2)
    for side in sides:
        table.add_row(side, f"{in_fresh_process(side):.0f}")
    return table


if __name__ == "__main__":
    main()
