"""What a run ran on, told so that it can be published: no host name, no user name, no path."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "hftransfer",
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "evaluate",
    "huggingface_hub",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Python, platform, processor, memory, accelerators, number of processes and package versions of this process.

    Keys whose value cannot be found are left out. Imports torch.
    """
    facts = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "cpu": _cpu_name(),
        "cpu_count": _usable_cpus(),
        "memory_gib": _memory_gib(),
        "accelerator": _accelerator(),
        "world_size": _world_size(),
        "packages": _package_versions(),
    }
    return {key: value for key, value in facts.items() if value is not None}


def _cpu_name() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # only Linux has the file
    return platform.processor() or None


def _usable_cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None  # Windows has no sysconf


def _accelerator() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "none" if device is None else device.type


def _world_size() -> int | None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    launched = os.environ.get("WORLD_SIZE", "")
    return int(launched) if launched.isdigit() else None


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
