"""Where numbers were measured, and how much memory it took."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import torch

MB = 1e6


def describe(device: torch.device) -> dict[str, object]:
    """The machine, as far as it explains numbers."""
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
    """Megabytes: of the GPU what tensors took at most, else the most that this process ever held.

    The latter has Python and torch in it, about 300 MB. None: the system does not say.
    """
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / MB, 1)
    if sys.platform == "linux":
        # Not getrusage, which begins with the peak of whoever started this process.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / MB, 1)
    if sys.platform == "darwin":
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MB, 1)
    return None
