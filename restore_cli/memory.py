"""Memory: how much there is, that it has run out whatever library noticed it, and the heap."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from restore_cli.errors import OutOfMemory, RestoreError

ADVICE = "close other programs, or split the image into parts"

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h

LEAST_ADDRESS_SPACE = 660 << 20  # bytes, of the build for CPUs; one for GPUs takes more
UNLIMITED = 1 << 62  # bytes; cgroup version 1 says no limit by the largest number of pages
LEAST_MEMORY = 128 << 20  # bytes that PyTorch and a network take in any case

# Words of allocators in errors of other classes than MemoryError, in lower case.
WORDS = (
    "not enough memory",  # PyTorch on Windows
    "out of memory",  # CUDA, MPS, Pillow, libpng
    "can't allocate memory",  # PyTorch on the CPU
    "cannot allocate memory",  # the C library, FFmpeg
    "could not create a memory object",  # oneDNN
    "could not create a primitive",
    "insufficient memory",  # libjpeg, zlib
    "memory allocation fail",  # TurboJPEG
    "bad_alloc",  # C++
    "bad allocation",  # C++ on Windows
    "_status_alloc_failed",  # cuDNN, cuBLAS
    "can't start new thread",  # no room for its stack
    "failed to map segment",  # the loader of shared libraries
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return True if an error, or one that led to it, says that memory has run out."""
    seen = set()  # libraries may chain an error to itself
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if not isinstance(error, RestoreError):  # ours name files, which may be called anything
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if any(words in reason.lower() for words in WORDS):
                return True
        error = error.__cause__ or error.__context__
    return False


class Room(NamedTuple):
    """Bytes that an image may take at most, beside PyTorch and the network."""

    memory: int
    addresses: int | None  # None: unlimited


def room() -> Room:
    """Return the memory that is free, with that for swapping, and the free address space."""
    limit = _address_limit()
    free = free_host_memory() + _stated("SwapFree", Path("/"))
    addresses = None if limit is None else max(0, limit - LEAST_ADDRESS_SPACE)
    return Room(max(0, free - LEAST_MEMORY), addresses)


def free_host_memory() -> int:
    """Return the bytes of main memory that this process may take."""
    rooms = (available_memory(), cgroup_room())
    return min(room for room in rooms if room is not None)


def available_memory(root: Path = Path("/")) -> int:
    """Main memory that can be had without swapping; half of all where the system does not say."""
    if stated := _stated("MemAvailable", root):
        return stated
    if sys.platform == "win32":
        return _windows_available()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _stated(name: str, root: Path) -> int:
    """Return a number of bytes that the Linux kernel states; 0 elsewhere."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def cgroup_room(root: Path = Path("/")) -> int | None:
    """Return the bytes that the control groups of this process (container, service) allow."""
    try:
        entries = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None  # not Linux
    rooms = [_v1_room(root / "sys/fs/cgroup/memory")]
    for entry in entries:
        if entry.startswith("0::"):  # version 2; a limit holds for all groups below it
            group = PurePosixPath(entry.removeprefix("0::").lstrip("/"))
            rooms += [_v2_room(root / "sys/fs/cgroup" / g) for g in (group, *group.parents)]
    return min((room for room in rooms if room is not None), default=None)


def _v2_room(group: Path) -> int | None:
    return _room(group / "memory.max", group / "memory.current", group / "memory.stat")


def _v1_room(group: Path) -> int | None:
    return _room(
        group / "memory.limit_in_bytes", group / "memory.usage_in_bytes", group / "memory.stat"
    )


def _room(limit: Path, usage: Path, stat: Path) -> int | None:
    """Limit - usage, where files that the kernel may drop from its cache count as free."""
    try:
        allowed = limit.read_text().strip()
        if allowed == "max" or int(allowed) >= UNLIMITED:
            return None
        used = int(usage.read_text())
        fields = dict(line.split(maxsplit=1) for line in stat.read_text().splitlines())
    except (OSError, ValueError):
        return None  # the root group has no limit
    return max(0, int(allowed) - used + int(fields.get("inactive_file", 0)))


def _windows_available() -> int:
    class MemoryStatus(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in (
                    "total",
                    "available",
                    "total_page_file",
                    "available_page_file",
                    "total_virtual",
                    "available_virtual",
                    "available_extended_virtual",
                )
            ),
        ]

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.available)


def refuse_small_address_space() -> None:
    """Check a limit such as `ulimit -v`, below which PyTorch aborts the process while it loads.

    Raises OutOfMemory.
    """
    limit = _address_limit()
    if limit is not None and limit < LEAST_ADDRESS_SPACE:
        raise OutOfMemory(
            f"an address space of {limit >> 20} MiB is too small for PyTorch",
            hint="raise the limit: ulimit -v",
        )


def _address_limit() -> int | None:
    try:
        import resource
    except ImportError:
        return None  # Windows has no such limit
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


@contextmanager
def enough_memory(name: str = "") -> Iterator[None]:
    """Raise OutOfMemory, about `name`, for any error of memory within."""
    try:
        yield
    except OutOfMemory:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"{name}: not enough memory" if name else "not enough memory", hint=ADVICE
        ) from error


def keep_freed_memory() -> None:
    """Have glibc keep freed memory: new pages for each result cost a seventh of the time.

    For a process of our own, such as the command line: it holds for all that runs there.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library, which has no such switch
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
