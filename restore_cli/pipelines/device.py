"""Which device, how much memory, which precision."""

from __future__ import annotations

import os

import torch

from restore_cli.errors import DeviceMissing

SMALLEST_TILE = 64  # pixels; below this the context around a tile costs more than the tile


def pick_device(name: str) -> torch.device:
    """`auto` is CUDA, then MPS, then the CPU. Raises DeviceMissing."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceMissing(
            f"no device is called {name!r}", hint="one of: auto, cpu, cuda, cuda:N, mps"
        ) from error
    there = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise DeviceMissing(f"this machine has no {name}", hint="use --device auto")
    return device


def free_memory(device: torch.device) -> int:
    """Bytes that a run may take: all that is free on a GPU, else the available main memory."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return 4 << 30


def fastest_low_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type for which the device has instructions, if any."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.bfloat16
    return None


# What backends say that raise a bare RuntimeError; the CPU's own words differ by system.
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "could not create a memory object",  # oneDNN
    "MPS backend out of memory",
    "CUDA error: out of memory",
    "_STATUS_ALLOC_FAILED",  # cuDNN, cuBLAS
)


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def release_unused(device: torch.device) -> None:
    """Give back what torch keeps of a GPU's memory for later, so that a retry finds it whole."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
