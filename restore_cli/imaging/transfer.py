"""Levels of images on their way to a CUDA device and back.

They travel as the 8 or 16 bits of the file, by page-locked memory, in streams beside that of the
computations: one image is copied while another is restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]

CPU = torch.device("cpu")
ROOM = 16  # times the size of an image that must be free where it is uploaded: several may wait


def home_of(device: torch.device) -> torch.device:
    """Return the device on which images lie for a network on `device`.

    MPS has no float64, which statistics take: its images stay in main memory.
    """
    return device if device.type == "cuda" else CPU


def free_cuda_memory(device: torch.device) -> int:
    """Return the bytes that are free on a CUDA device, those included that torch holds unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def can_upload(levels: Array, device: torch.device) -> bool:
    """Return True if levels of 8 or 16 bits may wait on a CUDA device, in float32."""
    if device.type != "cuda" or levels.dtype.kind != "u" or levels.dtype.itemsize > 2:
        return False
    return levels.size * 4 * ROOM <= free_cuda_memory(device)


def uploaded(levels: Array, largest: int, device: torch.device) -> Tensor:
    """Return levels (H, W, C) of 8 or 16 bits as (C, H, W), float32 in [0, 1], on a device."""
    wide = levels.dtype.itemsize == 2
    with beside(device, "upload"):
        # torch has few operations on unsigned 16 bits.
        host = _page_locked(levels.shape, torch.int16 if wide else torch.uint8)
        host.numpy().view(np.uint16 if wide else np.uint8)[...] = levels
        stored = host.to(device, non_blocking=True)
        values = stored.int().bitwise_and_(0xFFFF) if wide else stored
        pixels = values.permute(2, 0, 1).contiguous().float().div_(largest)
    # Otherwise its memory, once freed, would serve the next upload while computations read it.
    pixels.record_stream(torch.cuda.current_stream(device))
    return pixels


def downloaded(levels: Tensor, depth: int) -> Array:
    """Return levels of a depth of 8 or 16 bits, of any type, in main memory.

    From a CUDA device within `beside`, at whose end they are there.
    """
    if levels.device.type == "cpu":
        return np.ascontiguousarray(levels.numpy(), np.uint8 if depth == 8 else np.uint16)
    small = levels.to(torch.uint8) if depth == 8 else levels.int().to(torch.int16)
    host = _page_locked(levels.shape, small.dtype)
    host.copy_(small.contiguous(), non_blocking=True)
    return host.numpy().view(np.uint8 if depth == 8 else np.uint16)


@contextmanager
def beside(device: torch.device, name: Literal["upload", "download"]) -> Iterator[None]:
    """Work in a stream beside the computations, and wait for its end; on a CPU nothing changes.

    What is read within must be complete: see `complete`.
    """
    if device.type == "cpu":
        yield
        return
    stream = _stream(device, name)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


def complete(pixels: Tensor) -> None:
    """Wait until the computations of this thread are done, so that any stream may read them."""
    if pixels.device.type == "cuda":
        torch.cuda.current_stream(pixels.device).synchronize()


@lru_cache
def _stream(device: torch.device, name: str) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _page_locked(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)
