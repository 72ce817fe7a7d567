"""How many processes run, which one speaks, and how they agree. The only place that asks Accelerate for its state."""

import logging
import os
from typing import Any, TypeVar

logger = logging.getLogger("hftransfer")
T = TypeVar("T")


def has_accelerator() -> bool:
    """Whether a device other than the CPU is there and wanted."""
    import torch

    wanted = os.environ.get("ACCELERATE_USE_CPU", "false").lower() not in ("1", "true", "yes")
    return wanted and torch.accelerator.is_available()


def has_bf16() -> bool:
    """Whether bf16 is computed by the hardware. A CPU without it is about 80 times slower in bf16 than in fp32."""
    import torch

    if has_accelerator():
        return bool(torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def state() -> Any:
    """Accelerate's `PartialState`. Without `cpu=True` two CPU processes would each believe they are alone."""
    from accelerate import PartialState

    return PartialState() if has_accelerator() else PartialState(cpu=True)


def is_main() -> bool:
    """True on the one process that prints and writes."""
    return bool(state().is_main_process)


def barrier() -> None:
    """Waits until every process is here."""
    state().wait_for_everyone()


def agree(value: T) -> T:
    """The main process's value, on every process: decisions that read the disk are taken once."""
    if state().num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def gather(items: list[T]) -> list[T]:
    """Concatenates every process's list, on every process, in process order."""
    if state().num_processes == 1:
        return items
    from accelerate.utils import gather_object

    return gather_object(items)


def use_all_cores() -> None:
    """Gives one process on a CPU its share of the cores.

    `accelerate launch` sets OMP_NUM_THREADS=1 when it is not told `--cpu`, which would leave all other cores idle.
    """
    import torch

    launched = "ACCELERATE_MIXED_PRECISION" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1"
    if launched and not has_accelerator():
        local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local if hasattr(os, "sched_getaffinity") else 1))
