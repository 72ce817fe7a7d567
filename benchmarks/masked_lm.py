"""Masked-LM training against the stock pipeline: same texts, checkpoint, steps and learning rate, one process run.

    python benchmarks/masked_lm.py --steps 8 --rounds 3

The peer is what transformers' `run_mlm.py` does by default: texts concatenated and cut into blocks, the library's
collator, a stock `Trainer` that projects every position onto the vocabulary. `--line_by_line` is its other mode: a
text a row, padded to the longest of the batch. Ours is the pipeline of `pretrain`: rows by document, batches of like
length, the projection at masked positions only, bf16 where the hardware computes in it. Rounds are interleaved, and
the ratios printed are medians. Tokens are real ones, padding not counted. Memory is the peak of each pipeline's own
process above what it held before training.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

from hftransfer import data, models
from hftransfer.trainers.exact import training_arguments
from hftransfer.trainers.masked_lm import MaskedLMTrainer, MaskedPositions, masked_nats

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DOMAINS = ({"path": "demo/api_docs", "name": "scipy"}, {"path": "demo/api_docs", "name": "torch"})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--max_length", type=int, default=128)
    options.add_argument("--line_by_line", action="store_true")
    options.add_argument("--one", choices=["peer", "ours"], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given)))
        return
    found: dict[str, list[dict[str, float]]] = {"peer": [], "ours": []}
    for _ in range(given.rounds):
        for side in found:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", side]
            ran = subprocess.run(command, capture_output=True, text=True, check=True)
            found[side].append(json.loads(ran.stdout.splitlines()[-1]))
    Console(width=110).print(_table(found))


def measure(side: str, given: argparse.Namespace) -> dict[str, float]:
    """Trains one pipeline in this process: real tokens a second, peak memory, held-out loss."""
    set_seed(0)
    texts = [data.unlabelled(spec, key="data", seed=0) for spec in DOMAINS]
    train = [text for part in texts for text in part["train"]["text"]]
    tokenizer, model = models.tokenizer(MODEL), models.load(MODEL, "masked_lm")
    settings = {"max_steps": given.steps, "per_device_train_batch_size": given.batch, "learning_rate": 2e-4}
    with tempfile.TemporaryDirectory() as folder:
        trainer = {"peer": _peer, "ours": _ours}[side](model, tokenizer, train, settings, given, Path(folder))
        counted = _count_tokens(trainer)
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    loss = _held_out(model, tokenizer, [text for part in texts for text in part["test"]["text"]], given)
    return {"tokens_per_second": counted[0] / seconds, "peak_mib": peak / 1024, "held_out_loss": loss}


def _peer(model: Any, tokenizer: Any, texts: list[str], settings: Any, given: Any, folder: Path) -> Trainer:
    if given.line_by_line:
        encoded = tokenizer(texts, truncation=True, max_length=given.max_length, return_special_tokens_mask=True)
        rows = [{name: values[i] for name, values in encoded.items()} for i in range(len(texts))]
    else:
        encoded = tokenizer(texts, return_special_tokens_mask=True, verbose=False)
        joined = {name: [token for row in rows for token in row] for name, rows in encoded.items()}
        size, whole = given.max_length, len(joined["input_ids"]) // given.max_length * given.max_length
        rows = [{k: v[i : i + size] for k, v in joined.items()} for i in range(0, whole, size)]
    arguments = TrainingArguments(
        **settings, output_dir=str(folder), use_cpu=not torch.accelerator.is_available(), save_strategy="no",
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    return Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator)


def _ours(model: Any, tokenizer: Any, texts: list[str], settings: Any, given: Any, folder: Path) -> Trainer:
    rows = data.encode_documents(texts, tokenizer, max_length=given.max_length, pack=False)
    collator = data.MaskedTextCollator(tokenizer, mask_rate=0.15, whole_word=False, seed=0, fixed=False)
    return MaskedLMTrainer(
        positions=MaskedPositions(model),
        model=model,
        args=training_arguments({**settings, "save_strategy": "no"}, folder, 0),
        train_dataset=rows,
        data_collator=collator,
        lengths=rows["length"],
        epoch_aware=[collator],
        label="ours",
    )


def _count_tokens(trainer: Trainer) -> list[int]:
    """Counts the real tokens that go through the collator while training."""
    counted, collate = [0], trainer.data_collator

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        counted[0] += int(batch["attention_mask"].sum()) if batch["attention_mask"].dim() == 2 else 0
        return batch

    trainer.data_collator = counting
    return counted


def _held_out(model: Any, tokenizer: Any, texts: list[str], given: Any) -> float:
    """The same masks of the same held-out rows for both sides."""
    rows = data.encode_documents(texts, tokenizer, max_length=given.max_length, pack=False).select(range(128))
    collator = data.MaskedTextCollator(tokenizer, mask_rate=0.15, whole_word=False, seed=0, fixed=True)
    batches = (collator([rows[i] for i in range(start, start + 32)]) for start in range(0, 128, 32))
    found = masked_nats(MaskedPositions(model), batches)
    return float(found[:, 0].sum() / found[:, 1].sum())


def _table(found: dict[str, list[dict[str, float]]]) -> Table:
    table = Table(title="masked LM, ours against the stock pipeline (medians)", title_justify="left")
    for heading in ("", "peer", "ours", "ours : peer"):
        table.add_column(heading)
    for name in ("tokens_per_second", "peak_mib", "held_out_loss"):
        peer, ours = (statistics.median(run[name] for run in found[side]) for side in ("peer", "ours"))
        table.add_row(name.replace("_", " "), f"{peer:.4g}", f"{ours:.4g}", f"{ours / peer:.2f}")
    return table


if __name__ == "__main__":
    main()
