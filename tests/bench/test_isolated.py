"""A process of its own for a piece of work."""

import os
import signal

import pytest

from restore_cli.bench.isolated import apart
from restore_cli.errors import DeviceError, InputError


def work(what, tell):
    """Top-level, so that another process can find it."""
    tell(1, 2)
    if what == "refuse":
        raise InputError("no", hint="another way")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_work_is_done_elsewhere_and_tells_of_it_here():
    told = []
    assert apart(work, "answer", tell=lambda *progress: told.append(progress)) != os.getpid()
    assert told == [(1, 2)]


def test_an_error_comes_over_with_its_hint():
    with pytest.raises(InputError, match="no") as caught:
        apart(work, "refuse", tell=lambda *_: None)
    assert caught.value.hint == "another way"


def test_a_process_that_dies_is_an_error_of_its_work_only():
    with pytest.raises(DeviceError, match="-9") as caught:
        apart(work, "die", tell=lambda *_: None)
    assert "memory" in caught.value.hint
