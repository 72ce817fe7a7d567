"""What a piece of work costs: seconds, and the most memory it held.

Work that an earlier piece has done and stored counts as if it had been done again (`found_again`): a cost is then that
of the work alone, whatever ran before it.
"""

import contextlib
import ctypes
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hftransfer import processes

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(eq=False)
class Spent:
    """Filled in when the work is done."""

    seconds: float = 0.0
    saved: float = 0.0  # seconds that what was found again had cost
    peak: int | None = None  # bytes beyond what was held before; None where the system does not tell


_open: list[Spent] = []  # what is being measured, the innermost last


def found_again(seconds: float) -> None:
    """Tells every measurement that is going on what something stored had cost."""
    for spent in _open:
        spent.saved += seconds


@contextlib.contextmanager
def spending() -> Iterator[Spent]:
    """Measures what is done within it: memory of the accelerator where there is one, else of this process."""
    spent, on_device = Spent(), processes.has_accelerator() and torch.cuda.is_available()
    gc.collect()
    if on_device:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = _begin_again()
    started = time.monotonic()
    _open.append(spent)
    try:
        yield spent
    finally:
        _open.remove(spent)
        spent.seconds = time.monotonic() - started
        if on_device:
            spent.peak = torch.cuda.max_memory_allocated() - before
        elif before is not None:
            spent.peak = max(0, (_told("VmHWM") or before) - before)


def _begin_again() -> int | None:
    """Lets the kernel's high-water mark begin anew. Returns what is held now; None where there is no such mark."""
    try:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what is freed would hide what is used next
        RESET.write_text("5")
        return _told("VmRSS")
    except OSError:
        return None


def _told(name: str) -> int | None:
    """A line of the process's status, in bytes."""
    lines = STATUS.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
