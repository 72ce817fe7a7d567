"""Masked-LM training against the stock pipeline: same texts, checkpoint, steps and hyperparameters, in one process.

    python benchmarks/masked_lm.py                  # against run_mlm.py's two ways of making rows
    python benchmarks/masked_lm.py --ablate         # what each ingredient gives, one after the other
    python benchmarks/masked_lm.py --steps 200 --rounds 1 --no_memory   # held-out loss after longer training

Peers do what transformers' `run_mlm.py` does by default (`blocks`: texts concatenated and cut) or with
`--line_by_line` (a text a row, the rest of a long one dropped, padded to the longest of the batch): the library's
collator, a stock `Trainer` that projects every position onto the vocabulary. Ours are the pipelines of `pretrain`
without and with `pack`, in bf16 where the hardware computes in it.

Every side begins with the same weights, the new head's included, and ends on the same masks of the same held-out
rows. Rounds are interleaved; a speed is the median over rounds, a ratio the median of the rounds' own ratios. Tokens
are real ones: padding is not counted. Memory is the peak of a fresh process, less what it held before training.
"""

import argparse
import copy
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from sides import in_fresh_process, machine, peak_mib, ratio
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

from hftransfer import data, inference, models
from hftransfer.objectives.masked_lm import MaskedLM
from hftransfer.processes import has_bf16
from hftransfer.trainers.exact import training_arguments
from hftransfer.trainers.pretraining import PretrainingTrainer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DOMAINS = ({"path": "demo/api_docs", "name": "scipy"}, {"path": "demo/api_docs", "name": "torch"})
HELD_OUT_ROWS = 128


class Setting(NamedTuple):
    """What the sides share."""

    model: Any
    tokenizer: Any
    train: list[str]
    test: list[str]
    fields: dict[str, Any]  # of TrainingArguments
    max_length: int


Maker = Callable[[Setting, Any, Path], Trainer]


def blocks(setting: Setting) -> list[dict[str, list[int]]]:
    """`run_mlm.py`'s default rows: the documents one after the other, cut every `max_length` tokens."""
    encoded = setting.tokenizer(setting.train, return_special_tokens_mask=True, verbose=False)
    joined = {name: [token for row in rows for token in row] for name, rows in encoded.items()}
    size, total = setting.max_length, len(joined["input_ids"])
    starts = range(0, total // size * size, size)
    return [{name: tokens[start : start + size] for name, tokens in joined.items()} for start in starts]


def lines(setting: Setting) -> list[dict[str, list[int]]]:
    """The rows of `run_mlm.py --line_by_line`: each document's first `max_length` tokens."""
    options = {"truncation": True, "max_length": setting.max_length, "return_special_tokens_mask": True}
    encoded = setting.tokenizer(setting.train, **options)
    return [{name: tokens[i] for name, tokens in encoded.items()} for i in range(len(setting.train))]


def stock(setting: Setting, model: Any, folder: Path, rows: Callable[[Setting], Any]) -> Trainer:
    arguments = TrainingArguments(
        **setting.fields,
        output_dir=str(folder),
        use_cpu=not torch.accelerator.is_available(),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForLanguageModeling(setting.tokenizer, mlm_probability=0.15)
    return Trainer(model=model, args=arguments, train_dataset=rows(setting), data_collator=collator)


class StockRows(MaskedLM):
    """Our loss on the stock rows and collator."""

    def lengths(self, rows: Any) -> None:
        return None

    def collator(self, *, fixed: bool) -> Any:
        collator = DataCollatorForLanguageModeling(self.reader, mlm_probability=0.15)
        collator.set_epoch = lambda epoch: None
        return collator


def stock_rows(setting: Setting, model: Any, folder: Path, early: bool) -> Trainer:
    """Ours on the stock rows and collator, in fp32: the projection at masked positions only."""
    objective = StockRows(model, setting.tokenizer, StockRows.settings, seed=0)
    objective.positions.early = objective.positions.early and early
    arguments = training_arguments({**setting.fields, "bf16": False}, folder, 0)
    return PretrainingTrainer(objective=objective, rows=blocks(setting), args=arguments, label="stock rows")


def ours(setting: Setting, model: Any, folder: Path, pack: bool, **fields: Any) -> Trainer:
    settings = {**MaskedLM.settings, "max_length": setting.max_length, "pack": pack}
    objective = MaskedLM(model, setting.tokenizer, settings, seed=0)
    rows = objective.rows({"text": setting.train}, key="data")
    arguments = training_arguments({**setting.fields, **fields}, folder, 0)
    return PretrainingTrainer(objective=objective, rows=rows, args=arguments, label="ours")


COMPARED: dict[str, Maker] = {
    "peer, blocks": functools.partial(stock, rows=blocks),
    "peer, line by line": functools.partial(stock, rows=lines),
    "ours": functools.partial(ours, pack=False),
    "ours, packed": functools.partial(ours, pack=True),
}
INGREDIENTS: dict[str, Maker] = {
    "peer, blocks": functools.partial(stock, rows=blocks),
    "+ head at masked positions": functools.partial(stock_rows, early=False),
    "+ last block's too": functools.partial(stock_rows, early=True),
    "+ rows of like length": functools.partial(ours, pack=False, bf16=False),
}
if has_bf16():
    INGREDIENTS["+ bf16"] = functools.partial(ours, pack=False)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--max_length", type=int, default=128)
    options.add_argument("--ablate", action="store_true", help="ingredient by ingredient")
    options.add_argument("--no_memory", action="store_true", help="spare the fresh processes that measure memory")
    options.add_argument("--memory_of", help=argparse.SUPPRESS)
    given = options.parse_args()
    sides = INGREDIENTS if given.ablate else COMPARED
    setting = load(given)
    if given.memory_of:
        print(json.dumps(peak_mib(sides[given.memory_of], setting)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, make in sides.items():
            found[name].append(measure(make, setting))
            print(name, {key: round(value, 3) for key, value in found[name][-1].items()}, file=sys.stderr)
    memory = {} if given.no_memory else {name: in_fresh_process(name) for name in sides}
    Console(width=110).print(_table(found, memory, given))


def load(given: argparse.Namespace) -> Setting:
    set_seed(0)
    texts = [data.unlabelled(spec, key="data", seed=0) for spec in DOMAINS]
    train, test = ([text for part in texts for text in part[split]["text"]] for split in ("train", "test"))
    fields = {
        "max_steps": given.steps,
        "per_device_train_batch_size": given.batch,
        "learning_rate": 2e-4,
        "save_strategy": "no",
    }
    return Setting(models.load(MODEL, "masked_lm"), models.tokenizer(MODEL), train, test, fields, given.max_length)


def measure(make: Maker, setting: Setting) -> dict[str, float]:
    """Trains a copy of the model: real tokens a second and a step, held-out loss in nats."""
    set_seed(0)
    model = copy.deepcopy(setting.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, model, Path(folder))
        counted = _count_tokens(trainer, setting.tokenizer.pad_token_id)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    tokens = sum(counted[: setting.fields["max_steps"]])  # the loader is a batch ahead
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_step": tokens / setting.fields["max_steps"],
        "held_out_loss": held_out_loss(model, setting),
    }


def _count_tokens(trainer: Trainer, pad: int) -> list[int]:
    """The real tokens of each batch that goes through the collator."""
    counted: list[int] = []
    collate = trainer.data_collator

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        counted.append(int((batch["input_ids"] != pad).sum()))
        return batch

    trainer.data_collator = counting
    return counted


def held_out_loss(model: Any, setting: Setting) -> float:
    """The same masks of the same held-out rows for every side, in fp32."""
    settings = {**MaskedLM.settings, "max_length": setting.max_length}
    objective = MaskedLM(model, setting.tokenizer, settings, seed=0)
    rows = objective.rows({"text": setting.test}, key="data").shuffle(seed=0)
    found = inference.costs(objective, rows.select(range(min(HELD_OUT_ROWS, len(rows)))))
    return float(found[:, 0].sum() / found[:, 1].sum())


def _table(found: dict[str, list[dict[str, float]]], memory: dict[str, float], given: argparse.Namespace) -> Table:
    title = f"masked LM, {given.steps} steps of {given.batch} x {given.max_length}, {given.rounds} rounds, "
    title += f"{machine()}, bf16 {'on' if has_bf16() else 'not in this hardware'}"
    table = Table(title=title, title_justify="left")
    sides = list(found)
    peers = sides[:1] if given.ablate else sides[:2]
    ratios = [f": {name}" for name in peers] + ([": row above"] if given.ablate else [])
    for heading in ("", "tokens/s", *ratios, "tokens/step", "memory MiB", f": {peers[0]}", "held-out loss"):
        table.add_column(heading)
    for place, side in enumerate(sides):
        others = [*peers, *([sides[max(place - 1, 0)]] if given.ablate else [])]
        speed, tokens, loss = (
            statistics.median(run[key] for run in found[side])
            for key in ("tokens_per_second", "tokens_per_step", "held_out_loss")
        )
        faster = [f"{ratio(found[side], found[other], 'tokens_per_second'):.2f}" for other in others]
        peak = [f"{memory[side]:.0f}", f"{memory[side] / memory[peers[0]]:.2f}"] if memory else ["", ""]
        table.add_row(side, f"{speed:.0f}", *faster, f"{tokens:.0f}", *peak, f"{loss:.3f}")
    return table


if __name__ == "__main__":
    main()
