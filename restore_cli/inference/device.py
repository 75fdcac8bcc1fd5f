"""Choice of the device, its free memory, and its precisions.

On CUDA, PyTorch computes convolutions of float32 in TF32 unless told otherwise: 10 significant bits
instead of 23. Here that is a precision of its own, and float32 is float32.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from types import MappingProxyType

import torch

from restore_cli.errors import DeviceMissing, UsageError
from restore_cli.imaging.transfer import free_cuda_memory
from restore_cli.memory import free_host_memory

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(  # by precision
    {
        "fp32": torch.float32,
        "tf32": torch.float32,
        "bf16": torch.bfloat16,
        "fp16": torch.float16,
    }
)
SMALLEST_TILE = 64  # pixels; below this the context around a tile costs more than the tile


def pick_device(name: str) -> torch.device:
    """Return a device by name; `auto`: CUDA, else MPS, else the CPU. Raises DeviceMissing."""
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
    available = {
        "cpu": True,
        "cuda": (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise DeviceMissing(f"no {name.upper()} device found", hint="use --device auto")
    return device


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU, or of main memory for this process."""
    if device.type == "cuda":
        return free_cuda_memory(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return free_host_memory()


def low_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the precisions below float32 that the device computes natively, lowest first."""
    if device.type == "cuda":  # TF32 came with bfloat16
        return ("bf16", "tf32") if torch.cuda.is_bf16_supported(False) else ("fp16",)
    return ("bf16",) if device.type == "cpu" and _cpu_multiplies_bfloat16() else ()


def refuse_precision(precision: str, device: torch.device) -> None:
    """Refuse TF32 where there is none: its results would be those of float32. Raises UsageError."""
    if precision == "tf32" and "tf32" not in low_precisions(device):
        raise UsageError(
            f"{device} has no TF32, which takes a CUDA device of the Ampere generation or later",
            hint="use --precision fp32",
        )


_switches = RLock()  # those of CUDA are of the whole process


@contextmanager
def compute_in(
    precision: str, device: torch.device, *, autocast: bool = True, benchmark: bool = False
) -> Iterator[None]:
    """Compute in a precision within this block: "fp32" is without TF32.

    autocast: for 16 bit. benchmark: let cuDNN time its convolutions and use the fastest.
    On CUDA only one thread at a time is in such a block. It only starts what the device computes.
    """
    low = DTYPES[precision] is not torch.float32
    with torch.autocast(device.type, DTYPES[precision], enabled=autocast and low):
        if device.type != "cuda":
            yield
            return
        with _switches:
            matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
            before = matmul, cudnn.allow_tf32, cudnn.benchmark
            _switch("highest" if precision == "fp32" else "high", precision != "fp32", benchmark)
            try:
                yield
            finally:
                _switch(*before)


def _switch(matmul: str, convolution: bool, benchmark: bool) -> None:
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolution
    torch.backends.cudnn.benchmark = benchmark


def _cpu_multiplies_bfloat16() -> bool:
    if platform.machine().lower() in ("x86_64", "amd64"):
        # oneDNN calls bfloat16 supported on any AVX-512, where it is emulated and slow.
        return torch.cpu._is_avx512_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def release_unused(device: torch.device) -> None:
    """Free the memory that torch caches on a GPU, so that a retry can use all of it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
