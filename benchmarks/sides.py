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
    """The most resident memory while training 3 steps, less what was held before; seen every 5 ms.

    The kernel's own high-water mark will not do: a child process begins with its parent's.
    """
    setting.fields["max_steps"] = min(3, setting.fields["max_steps"])
    process, seen, finished = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not finished.wait(0.005):
            seen[0] = max(seen[0], process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder:
        trainer = make(setting, setting.model, Path(folder))
        held, watcher = process.memory_info().rss, threading.Thread(target=watch)
        watcher.start()
        try:
            trainer.train()
        finally:
            finished.set()
            watcher.join()
    return (seen[0] - held) / 2**20


def in_fresh_process(side: str) -> float:
    """What this same benchmark prints for `--memory_of SIDE`."""
    command = [sys.executable, *sys.argv, "--memory_of", side]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(ran.stdout.splitlines()[-1])


def ratio(these: Sequence[dict[str, float]], those: Sequence[dict[str, float]], key: str) -> float:
    """The median of the rounds' ratios: what slows the machine slows both sides of a round."""
    return statistics.median(one[key] / other[key] for one, other in zip(these, those, strict=True))


def machine() -> str:
    """Threads, and the load that others put on the machine."""
    load = f", load {os.getloadavg()[2]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{torch.get_num_threads()} threads{load}"
