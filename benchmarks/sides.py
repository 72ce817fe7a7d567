"""What the benchmarks share: peak memory in a process of its own, ratios round by round, the machine in a title."""

import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch


def peak_mib(make: Callable[[Any, Any, Path], Any], setting: Any) -> float:
    """The most resident memory while training 3 steps, less what was held before."""
    setting.fields["max_steps"] = min(3, setting.fields["max_steps"])
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, setting.model, Path(folder))
        return grown_mib(trainer.train, resident)


def grown_mib(work: Callable[[], Any], held: Callable[[], int]) -> float:
    """The most memory held while working, less what was held before; seen every 5 ms.

    The kernel's own high-water mark will not do: a child process begins with its parent's.
    """
    before, seen, finished = held(), [0], threading.Event()

    def watch() -> None:
        while not finished.wait(0.005):
            seen[0] = max(seen[0], held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        finished.set()
        watcher.join()
    return (seen[0] - before) / 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return psutil.Process().memory_info().rss


def owned() -> int:
    """The same without what is mapped from files, where the system (Linux) tells."""
    own = psutil.Process().memory_info()
    return own.rss - getattr(own, "shared", 0)


def in_fresh_process(side: str) -> float:
    """What this same benchmark prints for `--memory_of SIDE`."""
    return float(printed_by("--memory_of", side))


def printed_by(*options: str) -> str:
    """The last line that this same benchmark prints with further options, in a process of its own."""
    ran = subprocess.run([sys.executable, *sys.argv, *options], capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return ran.stdout.splitlines()[-1]


def ratio(these: Sequence[dict[str, float]], those: Sequence[dict[str, float]], key: str) -> float:
    """The median of the rounds' ratios: what slows the machine slows both sides of a round."""
    return statistics.median(one[key] / other[key] for one, other in zip(these, those, strict=True))


def machine() -> str:
    """Threads, and the load that others put on the machine."""
    load = f", load {os.getloadavg()[2]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{torch.get_num_threads()} threads{load}"
