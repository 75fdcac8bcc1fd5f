"""The Reporter: data on stdout, messages on stderr, bars on a terminal only."""

import io
import json
import logging
import math
import os
import re
import sys

import pytest

from restore_cli.cli import console
from restore_cli.cli.console import reporter
from restore_cli.errors import InputError, OutputError, UsageError

ODD_NAMES = ["[red]x.png", "[/]", "ü e.png", "日本.png", "100%.png"]


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


def sit_at_a_terminal(monkeypatch):
    """Make stderr a terminal; pytest would undo it between a fixture and its test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def draw_a_bar(stream, **options):
    """Return the text that a moving bar and a message leave on a stream."""
    with reporter("derain", **options) as report, report.progress(3, "derain") as bar:
        bar.update(1)
        report.say("a word")
        bar.advance()
    return stream.getvalue()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_go_to_stdout_as_they_are(name, capsys):
    with reporter("derain") as report:
        report.data(name)
    assert capsys.readouterr() == (f"{name}\n", "")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_are_no_markup_on_a_terminal(name, monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    with reporter("derain") as report, report.progress(None, name):
        report.warn(f"{name} is odd")
        report.table(["name"], [[name]])
    assert terminal.getvalue().count(name) >= 2  # a bar may be too narrow for its name


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_not_text_is_written_as_its_bytes(encoding, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    console.keep_odd_file_names()
    with reporter("derain") as report:
        report.data(os.fsdecode(b"\xff\xc3\xbc.png"))
    assert raw.getvalue() == b"\xff\xc3\xbc.png\n"


def test_json_is_one_line_without_infinity_or_nan(capsys):
    with reporter("eval", json=True) as report:
        report.data({"a": math.inf, "b": [1.5, math.nan], "c": {"d": "\udcff\n"}})
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out) == {"a": None, "b": [1.5, None], "c": {"d": "\udcff\n"}}


def test_messages_and_tables_go_to_stderr(capsys):
    with reporter("derain") as report:
        report.say("one restored")
        report.warn("it was dark")
        report.table(["name", "size"], [["a", None], ["b", 12]])
    out, said = capsys.readouterr()
    assert out == ""
    assert said.splitlines()[:2] == ["one restored", "restore derain: warning: it was dark"]
    assert [line.split() for line in said.splitlines()[2:]] == [
        ["name", "size"],
        ["a"],
        ["b", "12"],
    ]


def test_quiet_leaves_warnings_and_errors(capsys, monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    with reporter("derain", quiet=True) as report, report.progress(3, "derain") as bar:
        bar.update(2)
        report.say("one restored")
        report.table(["name"], [["a"]])
        report.warn("it was dark")
        report.error(InputError("a.png: broken", hint="get it again"))
    assert terminal.getvalue() == (
        "restore derain: warning: it was dark\nrestore: a.png: broken\nhint: get it again\n"
    )


def test_log_records_of_the_library_are_warnings_while_a_command_runs(capsys):
    logger = logging.getLogger("restore_cli.somewhere")
    with reporter("derain"):
        logger.warning("tiles of %d px", 64)
        logger.info("not for people")
    assert capsys.readouterr().err == "restore derain: warning: tiles of 64 px\n"


def test_an_error_names_its_file_once(capsys):
    with reporter("derain") as report:
        report.error(InputError("a.png: broken"), about="a.png")
        report.error(InputError("out of memory"), about="b.png")
    assert capsys.readouterr().err == "restore: a.png: broken\nrestore: b.png: out of memory\n"


def test_a_bar_is_drawn_on_a_terminal(monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    drawn = draw_a_bar(terminal)
    assert "1/3" in drawn
    assert "\x1b[" in drawn
    assert "a word\n" in drawn


def test_no_bar_is_drawn_elsewhere(capsys):
    draw_a_bar(io.StringIO())
    assert capsys.readouterr() == ("", "a word\n")


def test_no_bar_is_drawn_on_a_dumb_terminal(monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert draw_a_bar(terminal) == "a word\n"


@pytest.mark.parametrize(("value", "coloured"), [(None, True), ("1", False)], ids=["unset", "set"])
def test_no_color_is_obeyed(value, coloured, monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    colours = re.findall("\x1b" + r"\[[\d;]*3\d[\d;]*m", draw_a_bar(terminal))
    assert bool(colours) == coloured


def test_data_goes_out_above_the_bar(monkeypatch, capsys):
    terminal = sit_at_a_terminal(monkeypatch)
    with reporter("derain") as report, report.progress(3, "derain"):
        drawn = len(terminal.getvalue())
        report.data("a.png")
        assert "0/3" in terminal.getvalue()[drawn:]
    assert capsys.readouterr().out == "a.png\n"
    assert "a.png" not in terminal.getvalue()


def test_messages_are_dropped_where_stderr_is_closed(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with reporter("derain") as report:
        report.say("lost")
        report.warn("lost")
        report.progress(3, "derain").update(1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("stream", [None, Terminal()], ids=["closed", "terminal"])
def test_images_come_and_go_through_pipes_only(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdin", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(UsageError, match="stdin is a terminal or closed"):
        console.binary_stdin()
    with pytest.raises(UsageError, match="stdout is a terminal or closed"):
        console.binary_stdout()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_a_full_disk_behind_stdout_is_an_output_error(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with reporter("derain") as report, pytest.raises(OutputError, match="No space left"):
            report.data("a.png")


CODES = "a\x1b[31mred\x1b]0;title\x07\x9b\u202e\n.png"
VISIBLE = r"a\x1b[31mred\x1b]0;title\x07\x9b\u202e\n.png"


def test_people_see_escape_codes_and_no_terminal_obeys_them(capsys):
    with reporter("derain") as report:
        report.say(CODES)
        report.warn(CODES)
        report.error(InputError(CODES, hint=CODES))
        report.table(["name"], [[CODES]])
    said = capsys.readouterr().err
    assert said.count(VISIBLE) == 5
    assert not set(said) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_a_usage_error_shows_escape_codes(capsys):
    console.show_usage_error(f"No such option: {CODES}", "restore derain")
    assert VISIBLE in capsys.readouterr().err


def test_a_bar_shows_escape_codes(monkeypatch):
    terminal = sit_at_a_terminal(monkeypatch)
    with reporter("derain") as report, report.progress(None, "\x1b[31m"):
        pass
    assert r"\x1b[31m" in terminal.getvalue()


def test_a_pipe_gets_the_bytes_of_a_name_and_a_terminal_does_not(monkeypatch, capsys):
    with reporter("derain") as report:
        report.data("\x1b[31m.png")
    assert capsys.readouterr().out == "\x1b[31m.png\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with reporter("derain") as report:
        report.data("\x1b[31m.png")
    assert terminal.getvalue() == "\\x1b[31m.png\n"


def test_a_line_break_in_a_name_makes_no_line_and_is_said_once(capsys):
    with reporter("derain", quiet=True) as report:
        report.data("a\nb")
        report.data("c\nd")
    assert capsys.readouterr() == (
        "a\\nb\nc\\nd\n",
        "restore derain: warning: a name has a line break, shown as \\n; "
        "--json and --print0 keep it\n",
    )


def test_print0_ends_names_with_nul(capsys):
    with reporter("derain", print0=True) as report:
        report.data("a\nb")
        report.data("\x1b")
    assert capsys.readouterr() == ("a\nb\0\x1b\0", "")
