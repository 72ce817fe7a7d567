"""Embedding against sentence-transformers: the same checkpoint and texts of uneven length, in one process.

    python benchmarks/embed.py                                    # 1000 embedded texts, 3 rounds
    python benchmarks/embed.py --rows 300 --rounds 1 --data FILE_OR_JSON
    python benchmarks/embed.py --clusters                   # a million random vectors through `cluster`
    python benchmarks/embed.py --growth                           # the whole verb on 1 k, 10 k and 100 k rows

peer          `SentenceTransformer.encode` as it comes: fp32, batches of 32
peer, bf16    the same in autocast, where the hardware computes in bf16
ours          what `embed` embeds by, in fp32, and in bf16 where the hardware computes in it

Every side gets the same texts, each cut to a number of words of its own (log-uniform, 1 to `--longest`). The clock
includes tokenising, but not loading. Rounds are interleaved and each cuts anew: a speed is the median over rounds, a
ratio the median of the rounds' own ratios. A cosine is of a text's vector and the peer's in fp32; the smallest of all
texts is shown.

`--growth` streams so many rows from one file through the verb into its folder, each in a process of its own: seconds,
rows a second, and the most memory held beyond what was before; what is mapped from files does not count.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from sides import grown_mib, machine, owned, printed_by, ratio

import hftransfer
from hftransfer import data, models
from hftransfer.processes import has_bf16, state
from hftransfer.stages.embed import embed
from hftransfer.vectors import Writer
from hftransfer.vectors.embedder import Embedder, settled

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
GROWTH = (1_000, 10_000, 100_000)
Run = dict[str, Any]  # seconds, speed, vectors
Side = Callable[[Sequence[str]], np.ndarray]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default=MODEL)
    options.add_argument("--data", default="demo/docs", help="texts: a path, or a recipe's mapping as JSON")
    options.add_argument("--rows", type=int, default=1000)
    options.add_argument("--longest", type=int, default=200, help="words of a text, at most")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--growth", type=int, nargs="*", metavar="ROWS", help=f"by default {GROWTH}")
    options.add_argument("--clusters", type=int, nargs="?", const=1_000_000, metavar="ROWS")
    options.add_argument("--grown", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.grown is not None:
        print(json.dumps(grown(given)))
    elif given.clusters is not None:
        print(grouped(given.clusters))
    elif given.growth is not None:
        Console(width=120).print(_growth(given.growth or GROWTH, given))
    else:
        Console(width=120).print(_speeds(compared(given), given))


def uneven(given: argparse.Namespace, rows: int, seed: int) -> Iterator[str]:
    """So many texts, each cut anew; the data's are taken again when they end."""
    spec = json.loads(given.data) if given.data.startswith("{") else given.data
    texts = data.unlabelled(spec, key="data", seed=42)["train"]["text"][:]
    rng = np.random.default_rng(seed)
    for text in itertools.islice(itertools.cycle(texts), rows):
        yield " ".join(text.split()[: int(np.exp(rng.uniform(0, np.log(given.longest + 1))))])


def sides(given: argparse.Namespace) -> dict[str, Side]:
    from sentence_transformers import SentenceTransformer

    device = state().device.type
    peer = SentenceTransformer(str(models.resolve(given.model).folder), device=device)
    manner = settled(given.model)

    def encoded(texts: Sequence[str], bf16: bool = False) -> np.ndarray:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            return peer.encode(list(texts), show_progress_bar=False)

    found: dict[str, Side] = {"peer": encoded, "ours": Embedder(manner, bf16=False).texts}
    if has_bf16():
        found["peer, bf16"] = lambda texts: encoded(texts, bf16=True)
        found["ours, bf16"] = Embedder(manner, bf16=True).texts
    return found


def compared(given: argparse.Namespace) -> dict[str, list[Run]]:
    made = sides(given)
    found: dict[str, list[Run]] = {name: [] for name in made}
    for round_ in range(given.rounds):
        texts = list(uneven(given, given.rows, seed=round_))
        for name, side in made.items():
            if round_ == 0:
                side(texts[:32])  # what a process does once is no side's
            started = time.perf_counter()
            vectors = side(texts)
            seconds = time.perf_counter() - started
            found[name].append({"seconds": seconds, "speed": len(texts) / seconds, "vectors": vectors})
            print(f"{name}: {seconds:.2f} s", file=sys.stderr)
    return found


def cosine(these: Sequence[Run], those: Sequence[Run]) -> float:
    """The smallest of all pairs."""
    found = []
    for one, other in zip(these, those, strict=True):
        a, b = one["vectors"].astype(np.float64), other["vectors"].astype(np.float64)
        found.append(float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()))
    return min(found)


def grown(given: argparse.Namespace) -> dict[str, float]:
    """The verb on so many rows, which lie in a file and are read as a stream."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        with file.open("w", encoding="utf-8") as written:
            written.writelines(json.dumps({"text": text}) + "\n" for text in uneven(given, given.grown, seed=0))
        models.load(given.model, "encoder")  # the libraries that are imported for it are no row's
        spec, started = {"path": str(file), "streaming": True}, time.perf_counter()
        mib = grown_mib(lambda: embed(given.model, spec, output_dir=str(Path(folder) / "out")), owned)
        return {"seconds": time.perf_counter() - started, "mib": mib}


def grouped(rows: int, width: int = 384, k: int = 100) -> str:
    """Random vectors as `embed` leaves them, through `cluster` with mini-batches, page and pictures included."""
    shard = 100_000
    with tempfile.TemporaryDirectory() as name:
        folder, noise = Path(name) / "vectors", np.random.default_rng(0)
        folder.mkdir()
        writer = Writer(folder)
        for start in range(0, rows, shard):
            count = min(shard, rows - start)
            made = Dataset.from_dict({"row": range(start, start + count)})
            vectors = noise.standard_normal((count, width), dtype=np.float32)
            writer.add(vectors, made, read=start + count, facts={})
        writer.finish({"width": width, "kind": "vector", "content": None, "label": None, "data": "noise"})
        given = {"method": "minibatch_kmeans", "k": k, "output_dir": str(Path(name) / "out")}
        started = time.perf_counter()
        mib = grown_mib(lambda: hftransfer.cluster(str(folder), **given), owned)
        seconds = time.perf_counter() - started
    held = rows * width * 4 / 2**20
    return (
        f"{rows:,} x {width} vectors into {k} groups: {seconds / 60:.1f} minutes, {mib / held:.1f} times the vectors' "
        f"own {held:,.0f} MiB of memory, {machine()}"
    )


def _speeds(found: dict[str, list[Run]], given: argparse.Namespace) -> Table:
    name = models.public_name(given.model)
    title = f"{name}: {given.rows} texts of 1 to {given.longest} words, {given.rounds} rounds, {machine()}"
    title += f", bf16 {'on' if has_bf16() else 'not in this hardware'}"
    peers = [side for side in found if side.startswith("peer")]
    table = Table("", "seconds", "texts/s", *(f": {side}" for side in peers), "smallest cosine", title=title)
    table.title_justify = "left"
    for side, runs in found.items():
        seconds, speed = (statistics.median(run[key] for run in runs) for key in ("seconds", "speed"))
        faster = [f"{ratio(runs, found[peer], 'speed'):.2f}" for peer in peers]
        table.add_row(side, f"{seconds:.2f}", f"{speed:.1f}", *faster, f"{cosine(runs, found['peer']):.6f}")
    return table


def _growth(sizes: Sequence[int], given: argparse.Namespace) -> Table:
    title = f"{models.public_name(given.model)}: embed, a stream of texts of 1 to {given.longest} words, {machine()}"
    table = Table("rows", "seconds", "rows/s", "MiB", title=title, title_justify="left", min_width=len(title) + 2)
    for rows in sizes:
        run = json.loads(printed_by("--grown", str(rows)))
        table.add_row(f"{rows}", f"{run['seconds']:.1f}", f"{rows / run['seconds']:.1f}", f"{run['mib']:.0f}")
    return table


if __name__ == "__main__":
    main()
