"""Storage of whole images: in memory, or in files for images that are larger."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Storage(Protocol):
    """A place for arrays of the size of an image."""

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an array that is to be filled. Raises OSError."""

    def release(self) -> None:
        """Take the arrays out of memory, if they are elsewhere too; what they hold stays."""


class Memory:
    """Arrays in memory."""

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return np.empty(shape, dtype)

    def release(self) -> None:
        pass


class Canvas:
    """Arrays in files of one folder.

    The files have no name, so that the system removes them with the process, however it ends.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._maps: list[mmap.mmap] = []

    def __enter__(self) -> Canvas:
        return self

    def __exit__(self, *error: object) -> None:
        self._maps.clear()  # each is closed once no array refers to it

    def new(self, shape: tuple[int, ...], dtype: Any) -> Array:
        kind = np.dtype(dtype)
        with tempfile.TemporaryFile(prefix=".restore-", suffix=".part", dir=self.folder) as file:
            size = math.prod(shape) * kind.itemsize
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # a full disk is found here, not at a later write
                os.posix_fallocate(file.fileno(), 0, size)
            mapped = mmap.mmap(file.fileno(), 0)
        self._maps.append(mapped)
        return np.frombuffer(mapped, kind).reshape(shape)

    def contents(self, path: Path) -> bytes:
        """Return the contents of a file, which are read as they are needed. Raises OSError."""
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return cast("bytes", mapped)  # it can be sliced, searched and unpacked as bytes can

    def release(self) -> None:
        for mapped in self._maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


MEMORY = Memory()
