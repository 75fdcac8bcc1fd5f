"""Threads that take calls in their order and survive an interrupt of their caller."""

from __future__ import annotations

from _thread import start_new_thread
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Pending(Generic[T]):
    """The result of a call that a Worker has accepted."""

    def __init__(self, call: Callable[[], T]):
        self._call: Callable[[], T] | None = call
        self._outcome: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def run(self) -> None:
        assert self._call is not None
        try:
            self._outcome.put((self._call(), None))
        except BaseException as error:
            self._outcome.put((None, error))
        self._call = None  # with its arguments, which may be large

    def done(self) -> bool:
        return not self._outcome.empty()

    def peek(self) -> T:
        """Wait for the call and return its value, which `result` returns again."""
        outcome = self._outcome.get()
        self._outcome.put(outcome)
        return self._value(*outcome)

    def result(self) -> T:
        """Wait for the call and return its value or raise its exception. Call it once."""
        return self._value(*self._outcome.get())

    @staticmethod
    def _value(value: T | None, error: BaseException | None) -> T:
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # None only where T is None


class Worker:
    """One or more threads for one kind of work beside the main thread, such as decoding.

    Calls begin in their order.

    Where a signal handler raises in the main thread while that holds a lock of `threading` or
    `concurrent.futures`, the lock is never released, and a thread of an executor would wait for
    it forever. SimpleQueue and start_new_thread are written in C and leave no lock behind.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._calls: SimpleQueue[Pending[Any] | None] = SimpleQueue()
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._cancelled = False
        for _ in range(threads):
            start_new_thread(self._run, ())

    def submit(self, call: Callable[P, T], *args: P.args, **options: P.kwargs) -> Pending[T]:
        pending = Pending(lambda: call(*args, **options))
        self._calls.put(pending)
        return pending

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop the calls that have not begun, and wait for those that have."""
        self._cancelled = True
        for _ in range(self._threads):
            self._calls.put(None)
        for _ in range(self._threads):
            self._ended.get()

    def _run(self) -> None:
        while (pending := self._calls.get()) is not None:
            if not self._cancelled:
                pending.run()
            del pending  # its result may be large
        self._ended.put(None)
