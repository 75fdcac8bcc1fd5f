"""Downloads from a real server on this machine that misbehaves on demand."""

import hashlib
import io
import re
import socket
import threading
from contextlib import suppress
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from restore_cli.downloads import CHUNK, _SafeRedirects, fetch
from restore_cli.errors import FetchError, WeightsCorrupt

CONTENTS = bytes(range(256)) * 1000  # several reads long
SHA256 = hashlib.sha256(CONTENTS).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.contents, after the misbehaviour set by the test."""

    def do_GET(self):
        server = self.server
        server.ranges.append(self.headers["Range"])
        if server.endless is not None:
            return self._endless()
        if server.answers:
            return self._answer(server.answers.pop(0))
        server.may_answer.wait()
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(match[1]) if match and server.knows_ranges else 0
        if match and server.knows_ranges and start >= len(server.contents):
            return self._answer(416)
        self._send(server.contents[start:], partial=bool(match) and server.knows_ranges)

    def _endless(self):
        self.send_response(200)
        self.send_header("Content-Length", self.server.endless)
        self.end_headers()
        with suppress(ConnectionError):
            while True:
                self.wfile.write(bytes(CHUNK))

    def _answer(self, answer):
        code, location, *reason = answer if isinstance(answer, tuple) else (answer, None)
        self.send_response(code, *reason)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, body, partial):
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        with suppress(ConnectionError):  # the client may have given up
            self.wfile.write(body[:cut])

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents = CONTENTS
        self.knows_ranges = True
        self.cuts = []  # bytes after which to drop the connection, one for each request
        self.answers = []  # status codes, or (code, location), before any contents
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.ranges = []  # what was asked for
        self.endless = None  # the length that it claims for a body without an end
        self.url = f"http://127.0.0.1:{self.server_port}/weights.bin"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("RESTORE_OFFLINE", raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights.bin"


def part_of(target):
    return target.with_name(f".restore-{target.name}.{SHA256[:8]}.part")


def leave_part(target, contents):
    target.parent.mkdir()
    part_of(target).write_bytes(contents)


def test_a_file_is_fetched_into_a_new_folder(server, target):
    assert fetch(server.url, SHA256, target) == target
    assert target.read_bytes() == CONTENTS


def test_nothing_else_is_left_in_the_folder(server, target):
    fetch(server.url, SHA256, target)
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_is_there_is_not_asked_for(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENTS)
    fetch(server.url, SHA256, target)
    assert server.ranges == []


def test_a_damaged_file_is_replaced(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENTS[:-1])
    fetch(server.url, SHA256, target)
    assert target.read_bytes() == CONTENTS


@pytest.mark.parametrize("cut", [1, 65_536, 100_000, len(CONTENTS) - 1])
def test_a_cut_connection_goes_on_where_it_stopped(server, target, cut):
    server.cuts = [cut]
    fetch(server.url, SHA256, target, pause=0)
    assert target.read_bytes() == CONTENTS
    assert len(server.ranges) == 2


def test_what_came_before_the_cut_is_not_asked_for_again(server, target):
    server.cuts = [150_000]
    fetch(server.url, SHA256, target, pause=0)
    asked = int(server.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert 150_000 - CHUNK <= asked <= 150_000  # newer Pythons lose the read that is cut


def test_a_later_call_goes_on_where_an_earlier_one_was_cut(server, target):
    server.cuts = [150_000]
    with pytest.raises(FetchError, match="connection broke"):
        fetch(server.url, SHA256, target, attempts=1)
    have = part_of(target).stat().st_size
    fetch(server.url, SHA256, target)
    assert server.ranges == [None, f"bytes={have}-"]
    assert target.read_bytes() == CONTENTS


def test_a_server_without_ranges_sends_all_again(server, target):
    server.knows_ranges = False
    leave_part(target, CONTENTS[:1000])
    fetch(server.url, SHA256, target)
    assert target.read_bytes() == CONTENTS


@pytest.mark.parametrize(
    "part",
    [b"another beginning", CONTENTS + b"too much", b"x" * len(CONTENTS)],
    ids=["other bytes", "too long", "as long but other"],
)
def test_a_useless_part_is_thrown_away(server, target, part):
    leave_part(target, part)
    fetch(server.url, SHA256, target, pause=0)
    assert target.read_bytes() == CONTENTS
    assert server.ranges == [f"bytes={len(part)}-", None]


def test_a_complete_part_becomes_the_file(server, target):
    leave_part(target, CONTENTS)
    fetch(server.url, SHA256, target)
    assert server.ranges == [f"bytes={len(CONTENTS)}-"]
    assert list(target.parent.iterdir()) == [target]


def test_other_contents_are_refused_and_not_kept(server, target):
    server.contents = b"not the weights"
    with pytest.raises(WeightsCorrupt, match=f"differs from {SHA256[:12]}"):
        fetch(server.url, SHA256, target)
    assert list(target.parent.iterdir()) == []
    assert len(server.ranges) == 1


def test_other_contents_do_not_replace_what_is_there(server, target):
    target.parent.mkdir()
    target.write_bytes(b"an older version")
    server.contents = b"not the weights"
    with pytest.raises(WeightsCorrupt):
        fetch(server.url, SHA256, target)
    assert target.read_bytes() == b"an older version"


def test_a_busy_server_is_asked_again(server, target):
    server.answers = [503, 429]
    fetch(server.url, SHA256, target, pause=0)
    assert len(server.ranges) == 3


def test_a_server_that_stays_busy_is_given_up(server, target):
    server.answers = [503] * 9
    with pytest.raises(FetchError, match="503"):
        fetch(server.url, SHA256, target, attempts=3, pause=0)
    assert len(server.ranges) == 3


def test_a_missing_file_is_not_asked_for_again(server, target):
    server.answers = [404] * 9
    with pytest.raises(FetchError, match="404") as caught:
        fetch(server.url, SHA256, target)
    assert len(server.ranges) == 1
    assert server.url in caught.value.hint
    assert str(target) in caught.value.hint


def test_a_silent_server_is_given_up(server, target):
    server.may_answer.clear()
    with pytest.raises(FetchError, match="timed out"):
        fetch(server.url, SHA256, target, timeout=0.1, attempts=1)
    server.may_answer.set()


def test_a_closed_port_is_said_at_once(target, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as closed:  # bound but not listening
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(FetchError, match="cannot be reached"):
            fetch(f"http://127.0.0.1:{closed.getsockname()[1]}/x", SHA256, target, pause=60)


def test_offline_says_what_to_place_where(server, target):
    with pytest.raises(FetchError, match="network is disabled") as caught:
        fetch(server.url, SHA256, target, offline=True)
    assert caught.value.hint == f"download {server.url} on another machine and copy it to {target}"
    assert server.ranges == []


def test_restore_offline_means_the_same(server, target, monkeypatch):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    with pytest.raises(FetchError, match="network is disabled"):
        fetch(server.url, SHA256, target)
    assert server.ranges == []


def test_offline_a_file_that_is_there_is_enough(target):
    target.parent.mkdir()
    target.write_bytes(CONTENTS)
    assert fetch("https://example.invalid/x", SHA256, target, offline=True) == target


@pytest.mark.parametrize(
    "url",
    [
        "http://example.invalid/x",
        "ftp://example.invalid/x",
        "weights.bin",
        "data:,x",
        "http://[::1",
    ],
)
def test_only_safe_addresses_are_asked(url, target):
    with pytest.raises(FetchError, match="downloads from there are refused"):
        fetch(url, SHA256, target)


def test_a_redirect_is_followed(server, target):
    server.answers = [(302, server.url)]
    fetch(server.url, SHA256, target)
    assert target.read_bytes() == CONTENTS


def test_a_redirect_out_of_https_is_refused(server, target):
    server.answers = [(302, "http://example.invalid/x")]
    with pytest.raises(FetchError, match=re.escape("http://example.invalid/x")):
        fetch(server.url, SHA256, target)


@pytest.mark.parametrize(
    "location", ["http://[::1", "file:///etc/passwd", "ftp://127.0.0.1/x", "//"]
)
def test_a_redirect_to_nonsense_or_another_scheme_is_refused(server, target, location):
    server.answers = [(302, location)] * 9
    with pytest.raises(FetchError):
        fetch(server.url, SHA256, target, pause=0)
    assert not target.exists()


def test_a_redirect_from_https_to_this_machine_is_refused():
    request = Request("https://example.invalid/x")
    with pytest.raises(FetchError, match="a redirect to http://127"):
        _SafeRedirects().redirect_request(
            request, io.BytesIO(), 302, "Found", HTTPMessage(), "http://127.0.0.1/x"
        )


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 30, "1e3"])
def test_an_endless_body_ends_beyond_the_size(server, target, length):
    server.endless = length
    seen = []
    with pytest.raises(WeightsCorrupt, match="the download was deleted"):
        fetch(
            server.url,
            SHA256,
            target,
            size=len(CONTENTS),
            on_progress=lambda done, total: seen.append((done, total)),
        )
    assert seen[-1][0] <= len(CONTENTS) + CHUNK
    assert list(target.parent.iterdir()) == []


def test_the_words_of_a_server_are_quoted(server, target):
    server.answers = [(404, None, "no \x1b[31msuch\x07 file" + "!" * 999)]
    with pytest.raises(FetchError) as caught:
        fetch(server.url, SHA256, target)
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 200


def test_a_file_address_is_copied(tmp_path, target):
    source = tmp_path / "source ü.bin"
    source.write_bytes(CONTENTS)
    fetch(source.as_uri(), SHA256, target)
    assert target.read_bytes() == CONTENTS


def test_a_file_address_without_a_file_fails(tmp_path, target):
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch((tmp_path / "absent").as_uri(), SHA256, target, pause=60)


def test_progress_counts_up_to_the_size(server, target):
    seen = []
    fetch(server.url, SHA256, target, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENTS), len(CONTENTS))
    assert seen == sorted(seen)


def test_progress_of_a_resumed_file_counts_what_was_there(server, target):
    seen = []
    leave_part(target, CONTENTS[:200_000])
    fetch(server.url, SHA256, target, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] > 200_000
    assert seen[-1] == (len(CONTENTS), len(CONTENTS))


def test_a_target_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where a folder should be")
    with pytest.raises(FetchError, match="cannot be written") as caught:
        fetch(server.url, SHA256, tmp_path / "cache" / "weights.bin")
    assert "RESTORE_CACHE" in caught.value.hint
