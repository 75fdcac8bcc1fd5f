import errno
import zlib

import numpy as np
import pytest
import torch

from restore_cli import memory
from restore_cli.errors import InputError, OutOfMemory, UnreadableImage
from restore_cli.memory import (
    LEAST_ADDRESS_SPACE,
    LEAST_MEMORY,
    enough_memory,
    is_out_of_memory,
    refuse_small_address_space,
    room,
)

ERRORS = {
    "python": MemoryError(),
    "numpy": np._core._exceptions._ArrayMemoryError((9, 9), np.dtype("u1")),
    "torch on a GPU": torch.OutOfMemoryError("injected"),
    "torch on a CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    "torch on Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
    "oneDNN": RuntimeError("could not create a memory object"),
    "C++": RuntimeError("std::bad_alloc"),
    "Pillow": OSError("out of memory error when reading image file"),
    "the system": OSError(errno.ENOMEM, "Cannot allocate memory"),
    "TurboJPEG": ValueError("Insufficient memory (case 4)"),
    "zlib": zlib.error("Error -4 while compressing data: insufficient memory"),
    "threads": RuntimeError("can't start new thread"),
    "libraries": ImportError("libtorch_cpu.so: failed to map segment from shared object"),
}
OTHERS = {
    "file": FileNotFoundError(errno.ENOENT, "No such file or directory", "out of memory.png"),
    "own": UnreadableImage("out of memory.png: not an image"),
    "torch": RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_each_library_says_in_its_way_that_memory_has_run_out(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHERS.values(), ids=OTHERS)
def test_other_errors_are_not_about_memory(error):
    assert not is_out_of_memory(error)


def failing():
    try:
        raise MemoryError
    except MemoryError as error:
        raise InputError("damaged") from error


def test_an_error_caused_by_a_lack_of_memory_is_called_so():
    words = "photo: not enough memory"
    with pytest.raises(OutOfMemory, match=words) as caught, enough_memory("photo"):
        failing()
    assert caught.value.hint


def test_other_errors_pass():
    with pytest.raises(KeyError), enough_memory("photo"):
        raise KeyError


def test_a_limit_of_the_address_space_that_pytorch_cannot_be_loaded_in_is_refused(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (400 << 20, resource.RLIM_INFINITY))
    with pytest.raises(OutOfMemory, match="400 MiB is too small"):
        refuse_small_address_space()


def test_without_a_limit_of_the_address_space_nothing_is_refused(monkeypatch):
    resource = pytest.importorskip("resource")
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: unlimited)
    refuse_small_address_space()


def test_what_pytorch_takes_is_no_room_for_images(monkeypatch):
    resource = pytest.importorskip("resource")
    limits = (LEAST_ADDRESS_SPACE + 500, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr(memory, "free_host_memory", lambda: LEAST_MEMORY + 300)
    monkeypatch.setattr(memory, "_stated", lambda name, root: 40)  # swap
    assert room() == (340, 500)


def test_room_is_never_negative(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, 1))
    monkeypatch.setattr(memory, "free_host_memory", lambda: 1)
    monkeypatch.setattr(memory, "_stated", lambda name, root: 0)
    assert room() == (0, 0)
