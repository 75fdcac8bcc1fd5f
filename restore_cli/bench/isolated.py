"""Work in a process of its own: it begins with clean memory, and may die alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from restore_cli.errors import DeviceError, RestoreError

KILLED = -9  # as Python tells SIGKILL, which the kernel sends where memory runs out

Answer = TypeVar("Answer")
Tell = Callable[[int, int], None]


def apart(work: Callable[..., Answer], *arguments: Any, tell: Tell) -> Answer:
    """What `work(*arguments, tell)` returns in another process; `tell` is called in this one.

    work: a function of a module. Raises its RestoreError, and DeviceError where it died.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sending, work, arguments), daemon=True)
    process.start()
    sending.close()
    try:
        while True:
            kind, value = receiving.recv()
            if kind == "told":
                tell(*value)
            elif kind == "failed":
                raise value
            else:
                answer: Answer = value
                return answer
    except EOFError:
        process.join()
        raise DeviceError(
            f"the process ended with {process.exitcode}",
            hint="perhaps memory ran out" if process.exitcode == KILLED else None,
        ) from None
    finally:
        process.terminate()
        process.join()
        receiving.close()


def _work(sending: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    try:
        value = work(*arguments, lambda done, total: sending.send(("told", (done, total))))
    except RestoreError as error:
        sending.send(("failed", error))
    else:
        sending.send(("done", value))
