"""Description of the machine, and peak memory."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import torch

MB = 1e6


def describe(device: torch.device) -> dict[str, object]:
    """Return the facts about the machine that explain its figures."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> float | None:
    """Return the peak memory in MB: of tensors on a GPU, otherwise of this process.

    The latter includes Python and torch, about 300 MB. None where the system does not report it.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MB, 1)
    if sys.platform == "linux":
        # Not getrusage, which starts with the peak of the parent process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / MB, 1)
    if sys.platform == "darwin":
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB, 1)
    return None
