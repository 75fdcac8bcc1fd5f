"""Work in a subprocess."""

import os
import signal

import pytest

from restore_cli.bench.isolated import run_in_subprocess
from restore_cli.errors import DeviceError, InputError


def work(what, on_progress):
    """Top-level function, so that another process can import it."""
    on_progress(1, 2)
    if what == "refuse":
        raise InputError("no", hint="another way")
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_work_runs_in_another_process_and_reports_progress_here():
    reports = []
    assert (
        run_in_subprocess(work, "return", on_progress=lambda *progress: reports.append(progress))
        != os.getpid()
    )
    assert reports == [(1, 2)]


def test_an_error_keeps_its_hint():
    with pytest.raises(InputError, match="no") as caught:
        run_in_subprocess(work, "refuse", on_progress=lambda *_: None)
    assert caught.value.hint == "another way"


def test_a_process_that_dies_is_an_error_of_its_work_only():
    with pytest.raises(DeviceError, match="-9") as caught:
        run_in_subprocess(work, "die", on_progress=lambda *_: None)
    assert "memory" in caught.value.hint
