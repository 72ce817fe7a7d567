"""Causal-LM training against the stock pipeline: same documents, weights, steps and hyperparameters, in one process.

    python benchmarks/causal_lm.py                    # documents of uneven length, a small vocabulary
    python benchmarks/causal_lm.py --vocabulary 50257 # peak memory where the logits are what is large
    python benchmarks/causal_lm.py --steps 200 --rounds 1 --no_memory   # held-out loss after longer training

Peers: `blocks` is what transformers' `run_clm.py` does (documents concatenated without an end between them and cut,
the remainder dropped, attention across documents); `lines` is a document a row, its rest dropped, padded to the
longest of the batch. Both have the library's collator and a stock `Trainer` with `labels`, which makes all logits.
Ours is the objective `causal_lm` of `pretrain`, packed and with the loss in chunks, and not packed. All sides train in
bf16 where the hardware computes in it, so that a ratio is the pipeline's.

Every side begins with the same weights and ends on the same held-out documents, each predicted from its own past
only. Rounds are interleaved; a speed is the median over rounds, a ratio the median of the rounds' own ratios. Tokens
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
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from sides import in_fresh_process, machine, peak_mib, ratio
from transformers import (
    DataCollatorForLanguageModeling,
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hftransfer import scratch
from hftransfer.data.demo_docs import docs
from hftransfer.data.divide import random_division
from hftransfer.objectives.causal_lm import CausalLM
from hftransfer.processes import has_bf16
from hftransfer.trainers.exact import training_arguments
from hftransfer.trainers.pretraining import PretrainingTrainer

LEARNT = 4096  # tokens of the tokenizer; a larger --vocabulary is the network's alone
HELD_OUT = 128  # documents


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
    """`run_clm.py`'s rows: the documents one after the other, cut every `max_length` tokens."""
    joined = [token for ids in setting.tokenizer(setting.train, verbose=False)["input_ids"] for token in ids]
    size = setting.max_length
    return [{"input_ids": joined[start : start + size]} for start in range(0, len(joined) // size * size, size)]


def lines(setting: Setting) -> list[dict[str, list[int]]]:
    """Each document's first `max_length` tokens."""
    encoded = setting.tokenizer(setting.train, truncation=True, max_length=setting.max_length)
    return [{"input_ids": ids} for ids in encoded["input_ids"]]


def stock(setting: Setting, model: Any, folder: Path, rows: Callable[[Setting], Any]) -> Trainer:
    arguments = TrainingArguments(
        **setting.fields,
        bf16=has_bf16(),
        output_dir=str(folder),
        use_cpu=not torch.accelerator.is_available(),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    collator = DataCollatorForLanguageModeling(setting.tokenizer, mlm=False)
    return Trainer(model=model, args=arguments, train_dataset=rows(setting), data_collator=collator)


def ours(setting: Setting, model: Any, folder: Path, pack: bool) -> Trainer:
    objective = _objective(setting, model, pack)
    return PretrainingTrainer(
        objective=objective,
        rows=objective.rows(Dataset.from_dict({"text": setting.train}), key="data"),
        args=training_arguments(setting.fields, folder, 0),
        label="ours",
    )


def _objective(setting: Setting, model: Any, pack: bool) -> CausalLM:
    return CausalLM(model, setting.tokenizer, {"max_length": setting.max_length, "pack": pack}, seed=0)


SIDES: dict[str, Maker] = {
    "peer, blocks": functools.partial(stock, rows=blocks),
    "peer, lines": functools.partial(stock, rows=lines),
    "ours, not packed": functools.partial(ours, pack=False),
    "ours, packed": functools.partial(ours, pack=True),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--max_length", type=int, default=128)
    options.add_argument("--vocabulary", type=int, default=LEARNT, help="rows of the output matrix")
    options.add_argument("--no_memory", action="store_true", help="spare the fresh processes that measure memory")
    options.add_argument("--memory_of", help=argparse.SUPPRESS)
    given = options.parse_args()
    setting = load(given)
    if given.memory_of:
        print(json.dumps(peak_mib(SIDES[given.memory_of], setting)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(given.rounds):
        for name, make in SIDES.items():
            found[name].append(measure(make, setting))
            print(name, {key: round(value, 3) for key, value in found[name][-1].items()}, file=sys.stderr)
    memory = {} if given.no_memory else {name: in_fresh_process(name) for name in SIDES}
    Console(width=130).print(_table(found, memory, given))


def load(given: argparse.Namespace) -> Setting:
    """Python's documentation, half of it shorter than 60 tokens and some longer than a row."""
    set_seed(0)
    texts = docs("python")["text"][:]
    train, test = ([texts[i] for i in part] for part in random_division(len(texts), 0.2, 0))
    tokenizer = scratch.learn_tokenizer(train, LEARNT, masked=False, max_length=given.max_length)
    config = GPT2Config(
        vocab_size=max(given.vocabulary, len(tokenizer)),
        n_positions=given.max_length,
        n_embd=128,
        n_layer=4,
        n_head=4,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id),
    )
    fields = {
        "max_steps": given.steps,
        "per_device_train_batch_size": given.batch,
        "learning_rate": 1e-3,
        "save_strategy": "no",
    }
    return Setting(GPT2LMHeadModel(config), tokenizer, train, test, fields, given.max_length)


def measure(make: Maker, setting: Setting) -> dict[str, float]:
    """Trains a copy of the model: real tokens a second and a step, held-out loss in nats."""
    set_seed(0)
    model = copy.deepcopy(setting.model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, model, Path(folder))
        counted = _count_tokens(trainer)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    tokens = sum(counted[: setting.fields["max_steps"]])  # the loader is a batch ahead
    return {
        "tokens_per_second": tokens / seconds,
        "tokens_per_step": tokens / setting.fields["max_steps"],
        "held_out_loss": held_out_loss(model, setting),
    }


def _count_tokens(trainer: Trainer) -> list[int]:
    """The real tokens of each batch that goes through the collator: its rows, before they are padded."""
    counted: list[int] = []
    collate = trainer.data_collator

    def counting(rows: Any) -> Any:
        counted.append(sum(len(row["input_ids"]) for row in rows))
        return collate(rows)

    trainer.data_collator = counting
    return counted


@torch.no_grad()
def held_out_loss(model: Any, setting: Setting) -> float:
    """Nats a token of the same held-out documents for every side, each from its own past, in fp32."""
    objective = _objective(setting, model.eval(), pack=False)
    rows = objective.rows(Dataset.from_dict({"text": setting.test}), key="data")
    rows = rows.shuffle(seed=0).select(range(min(HELD_OUT, len(rows))))
    collator = objective.collator(fixed=True)
    device, sums, counts = next(model.parameters()).device, 0.0, 0
    for start in range(0, len(rows), 32):
        batch = collator(list(rows.select(range(start, min(start + 32, len(rows))))))
        found = objective.losses(model, {name: value.to(device) for name, value in batch.items()})
        sums, counts = sums + float(found.sums.sum()), counts + int(found.counts.sum())
    return sums / counts


def _table(found: dict[str, list[dict[str, float]]], memory: dict[str, float], given: argparse.Namespace) -> Table:
    title = f"causal LM, {given.steps} steps of {given.batch} x {given.max_length}, vocabulary {given.vocabulary}, "
    title += f"{given.rounds} rounds, {machine()}, "
    title += f"{'bf16' if has_bf16() else 'fp32'} on both sides"
    table = Table(title=title, title_justify="left")
    peers = list(found)[:2]
    speeds, memories = ([f": {name}" for name in peers] for _ in range(2))
    for heading in ("", "tokens/s", *speeds, "tokens/step", "memory MiB", *memories, "held-out loss"):
        table.add_column(heading)
    for side in found:
        speed, tokens, loss = (
            statistics.median(run[key] for run in found[side])
            for key in ("tokens_per_second", "tokens_per_step", "held_out_loss")
        )
        faster = [f"{ratio(found[side], found[other], 'tokens_per_second'):.2f}" for other in peers]
        peak = [""] * 3
        if memory:
            peak = [f"{memory[side]:.0f}", *(f"{memory[side] / memory[other]:.2f}" for other in peers)]
        table.add_row(side, f"{speed:.0f}", *faster, f"{tokens:.0f}", *peak, f"{loss:.3f}")
    return table


if __name__ == "__main__":
    main()
