"""Ctrl-C and SIGTERM, from the first import to the last line.

While a command works, the first signal is raised in the main thread, which ends the work in order;
the second one ends the process. Elsewhere the first one does, and also inside an import: there an
exception may be lost or changed in the C code of a library. This module imports little, since no
signal is handled until it has been imported.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from restore_cli.interrupts import handled

SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"  # a progress bar hides it
IMPORTS = "<frozen importlib._bootstrap>"


class Terminated(KeyboardInterrupt):
    """SIGTERM from a scheduler or from `kill`, with the same cleanup as Ctrl-C."""


EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


def end_at_once() -> None:
    """End the process at the next signal, except one that it was started to ignore."""
    for number in EXCEPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def ignore() -> None:
    """Ignore further signals: the exit code is settled, and Python shuts down."""
    for number in EXCEPTIONS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def raised() -> Iterator[None]:
    """Raise the first signal of a block in the main thread."""
    with handled(_raise):
        yield


def _raise(number: int, frame: FrameType | None) -> None:
    end_at_once()
    if _is_importing(frame):
        _end(number, frame)
    raise EXCEPTIONS[signal.Signals(number)]


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != IMPORTS:
        frame = frame.f_back
    return frame is not None


def _end(number: int, _frame: FrameType | None) -> None:
    """End the process without Python's own cleanup, which may wait for a thread."""
    try:
        _call("restore_cli.files", "remove_open_parts")
        for child in _call("multiprocessing", "active_children") or []:
            child.kill()
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"restore: interrupted\n")
    finally:
        os._exit(128 + number)


def _call(module: str, name: str) -> Any:
    """Call a function of a module, if that has been imported as far as the function."""
    function = getattr(sys.modules.get(module), name, None)
    return None if function is None else function()
