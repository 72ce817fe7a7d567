"""Adaptation methods against source-only and target-supervised, over seeds and pairs of domains.

    python benchmarks/adaptation.py --seeds 1 2 3
    python benchmarks/adaptation.py --pair books.csv kitchen.csv --pair kitchen.csv books.csv --methods mcc udalm

A pair is two data sets with text and label columns; without one it is the embedded `demo/api_docs`. Every number is
accuracy on target texts whose labels no training saw: all of them for the methods (training saw their texts), a
held-out fifth for target-supervised, which trains on the labels of the rest. Methods go on from the source-only
classifier, as in the recipe `bert_domain_adapt` but without its pretraining. `gap closed` is the share of the way
from source-only to target-supervised. Finished runs are reused, so an interrupted benchmark goes on.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import hftransfer

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ALIGNED = {"per_device_train_batch_size": 16, "learning_rate": 1e-4, "num_train_epochs": 2}  # as the recipe does
DEMO = ({"path": "demo/api_docs", "name": "scipy"}, {"path": "demo/api_docs", "name": "torch"})


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default=MODEL)
    options.add_argument("--pair", nargs=2, action="append", metavar=("SOURCE", "TARGET"))
    options.add_argument("--methods", nargs="+", default=["mcc"])
    options.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options.add_argument("--max_length", type=int, default=64)
    options.add_argument("--max_train_samples", type=int, help="of each domain; all by default")
    options.add_argument("--plain", action="store_true", help="without class-balanced sampling")
    options.add_argument("--output_dir", type=Path, default=Path("outputs/benchmark_adaptation"))
    given = options.parse_args()
    for source, target in given.pair or [DEMO]:
        Console(width=120).print(_table(given, source, target))


def _table(given: argparse.Namespace, source: Any, target: Any) -> Table:
    before, supervised = [], []
    scores: dict[str, list[float]] = {method: [] for method in given.methods}
    for seed in given.seeds:
        folder = given.output_dir / f"{_short(source)}-{_short(target)}" / str(seed)
        common = {"max_length": given.max_length, "seed": seed, "max_train_samples": given.max_train_samples}
        common |= {"balanced": not given.plain, "training": {"per_device_train_batch_size": 16}}
        kind = "_plain" if given.plain else ""
        plain = hftransfer.finetune(given.model, source, output_dir=str(folder / f"source_only{kind}"), **common)
        best = hftransfer.finetune(given.model, target, output_dir=str(folder / f"target_supervised{kind}"), **common)
        supervised.append(best.metrics["accuracy"])
        for method in given.methods:
            adapted = hftransfer.adapt(
                str(plain.path),
                source,
                target,
                method=method,
                output_dir=str(folder / f"{method}{kind}"),
                **{**common, "training": ALIGNED},
            )
            scores[method].append(adapted.metrics["target.accuracy.adapted"])
        before.append(adapted.metrics["target.accuracy.source_only"])
    return _printed(f"{_short(source)} -> {_short(target)}, seeds {given.seeds}", before, supervised, scores)


def _printed(title: str, before: list[float], supervised: list[float], scores: dict[str, list[float]]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("Method", "Each seed", "Mean", "Above source-only", "Gap closed"):
        table.add_column(heading)
    low, high = statistics.mean(before), statistics.mean(supervised)
    for name, values in {"source-only": before, **scores, "target-supervised": supervised}.items():
        mean = statistics.mean(values)
        closed = f"{(mean - low) / (high - low):.0%}" if high > low and name in scores else ""
        table.add_row(name, " ".join(f"{v:.3f}" for v in values), f"{mean:.3f}", f"{mean - low:+.3f}", closed)
    return table


def _short(data: Any) -> str:
    return data["name"] if isinstance(data, dict) else Path(data).stem


if __name__ == "__main__":
    main()
