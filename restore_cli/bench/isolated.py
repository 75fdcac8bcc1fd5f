"""Work in a subprocess, which starts with clean memory and may fail alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from restore_cli.errors import DeviceError, RestoreError
from restore_cli.inference.options import OnProgress

KILLED = -9  # exit code after SIGKILL, which the kernel sends where memory runs out

T = TypeVar("T")


def run_in_subprocess(work: Callable[..., T], *arguments: Any, on_progress: OnProgress) -> T:
    """Return `work(*arguments, on_progress)` of a new process; progress is reported in this one.

    work: a function of a module. Raises its RestoreError, and DeviceError where the process died.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, work, arguments), daemon=True)
    with _sigint_blocked():  # the process inherits it
        process.start()
    sending.close()
    try:
        while True:
            kind, value = receiving.recv()
            if kind == "progress":
                on_progress(*value)
            elif kind == "error":
                raise value
            else:
                result: T = value
                return result
    except EOFError:
        process.join()
        raise DeviceError(
            f"the process ended with {process.exitcode}",
            hint="the memory may have run out" if process.exitcode == KILLED else None,
        ) from None
    finally:
        process.terminate()
        process.join()
        receiving.close()


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _work(sending: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the waiting process
    try:
        value = work(*arguments, lambda done, total: sending.send(("progress", (done, total))))
    except RestoreError as error:
        sending.send(("error", error))
    else:
        sending.send(("result", value))
