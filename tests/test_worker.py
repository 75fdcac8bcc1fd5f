import _thread
import gc
import sys
import threading
import time
from collections import deque
from threading import Barrier

import pytest

from restore_cli.worker import Worker


def test_calls_run_in_order_and_return_their_values():
    with Worker() as worker:
        pending = [worker.submit(divmod, number, 3) for number in range(5)]
        assert [each.result() for each in pending] == [divmod(number, 3) for number in range(5)]


def test_an_exception_is_raised_where_the_result_is_asked_for():
    with Worker() as worker:
        pending = worker.submit(int, "x")
        following = worker.submit(int, "7")
        with pytest.raises(ValueError, match="'x'"):
            pending.result()
        assert following.result() == 7


def test_leaving_waits_for_the_current_call_and_drops_the_following_ones():
    begun, may_end, ran = threading.Event(), threading.Event(), []

    def wait():
        begun.set()
        may_end.wait()
        ran.append("first")

    with Worker() as worker:
        worker.submit(wait)
        worker.submit(ran.append, "second")
        begun.wait()
        threading.Timer(0.05, may_end.set).start()
    assert ran == ["first"]


def run_batch():
    """The way in which a batch uses two workers."""
    waiting = deque()
    with Worker() as reader, Worker() as writer:
        for number in range(3):
            read = reader.submit(abs, number).result()
            waiting.append(writer.submit(abs, read))
            if waiting[0].done():
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()


def interrupted_at(line):
    """Raise KeyboardInterrupt before the given line of the calling thread, in any module."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        if lines == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        run_batch()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)


def lines_of_a_batch():
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)
    run_batch()
    sys.settrace(None)
    return lines


@pytest.fixture
def without_garbage_collection():
    """Python ignores an exception in a callback of the collector."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_at_any_line_leaves_no_lock_behind(without_garbage_collection):
    for line in range(1, lines_of_a_batch() + 1):
        caller = threading.Thread(target=interrupted_at, args=[line], daemon=True)
        caller.start()
        caller.join(20)
        assert not caller.is_alive(), f"waits forever after an interrupt at line {line}"


def test_several_threads_work_at_the_same_time():
    meeting = Barrier(3, timeout=60)
    with Worker(threads=3) as worker:
        calls = [worker.submit(meeting.wait) for _ in range(3)]
        assert sorted(call.result() for call in calls) == [0, 1, 2]


def test_several_threads_end_with_the_worker():
    before = _thread._count()
    with Worker(threads=3) as worker:
        worker.submit(int).result()
    deadline = time.monotonic() + 60
    while _thread._count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _thread._count() == before
