"""Recognition of memory that has run out, whatever library noticed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from restore_cli.errors import OutOfMemory, RestoreError

ADVICE = "close other programs, or split the image into parts"

LEAST_ADDRESS_SPACE = 660 << 20  # bytes, of the build for CPUs; one for GPUs takes more

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
            said = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if any(words in said.lower() for words in WORDS):
                return True
        error = error.__cause__ or error.__context__
    return False


def refuse_small_address_space() -> None:
    """Check a limit such as `ulimit -v`, below which PyTorch aborts the process while it loads.

    Raises OutOfMemory.
    """
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise OutOfMemory(
            f"an address space of {limit >> 20} MiB is too small for PyTorch",
            hint="raise the limit: ulimit -v",
        )


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
