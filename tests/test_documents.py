"""Documents name files, options and versions that exist."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import restore_cli
from restore_cli.cli.main import app

ROOT = typer.main.get_command(app)
CHECKOUT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for folder in (".", "docs", "weights", "samples")
    for path in (CHECKOUT / folder).glob("*.md")
)
each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
OWN_PATH = re.compile(
    r"\b(?:docs|weights|benchmarks|samples|restore_cli|tests)/[\w./-]*\.(?:md|py|jpg|json)\b"
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@each_document
def test_each_link_of_a_document_leads_to_a_file(path):
    assert not [link for link in LINK.findall(text_of(path)) if not (path.parent / link).exists()]


@each_document
def test_each_path_that_a_document_names_exists(path):
    assert not {name for name in OWN_PATH.findall(text_of(path)) if not (CHECKOUT / name).exists()}


def test_each_card_is_listed_in_the_readme_of_the_weights():
    cards = {path.name for path in (CHECKOUT / "weights").glob("*.md")} - {"README.md"}
    assert cards <= set(LINK.findall(text_of(CHECKOUT / "weights" / "README.md")))


@each_document
def test_each_command_that_a_document_names_exists(path):
    known = {each.name or each.callback.__name__ for each in app.registered_commands}
    known |= {each.name for each in app.registered_groups}
    code = re.findall(r"^ *(?:\$ )?restore ([a-z]+)\b|`restore ([a-z]+)\b", text_of(path), re.M)
    assert {one or other for one, other in code} <= known


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words after `restore` in blocks and in code within lines, up to a pipe."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`\n]*\brestore [^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for line in lines:
        found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S* )*(?:[a-z]+ [^|]*[|&] *)?restore (.*)", line)
        if found and not re.search(r"\.\.\.(?: |$)|\[", found[1]):
            words = re.split(r"\s(?:[|>&;]|\d>|#|->)", f" {found[1]} ")[0]
            yield shlex.split(words.rstrip(","))


def refusal(words: list[str]) -> str | None:
    """Return what is wrong with a command line; a value in capitals, or 0..2, stands for any."""
    command, rest = ROOT, [*words]
    if any("|" in word for word in words):  # several commands or values in one line
        return None
    if rest[-1].startswith("-"):
        rest.append("X")
    while isinstance(command, TyperGroup) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        if name not in command.commands:
            return None if name.isupper() else f"no command {name}"
        command = command.commands[name]
    context = typer.Context(command)
    try:
        given, _, _ = command.make_parser(context).parse_args(rest)
        for option in command.params:
            value = given.get(option.name)
            texts = value if isinstance(value, list) else [value]
            if option.callback or value is None:
                continue
            if not any(re.search(r"[A-Z]|\.\.", str(each)) for each in texts):
                option.process_value(context, value)
    except Exception as error:  # Typer does not export their class
        return str(error) or type(error).__name__
    return None


@each_document
def test_each_command_line_of_a_document_is_understood(path):
    lines = [*command_lines(text_of(path))]
    assert not [(" ".join(words), said) for words in lines if (said := refusal(words))]


@pytest.mark.parametrize(
    "line", ["upscale a.png --skale 2", "eval a b --protocol z", "bench qality", "run a --tiles 4"]
)
def test_a_wrong_command_line_is_found(line):
    assert [refusal(words) for words in command_lines(f"```\nrestore {line}\n```")] != [None]


def test_the_citation_has_the_version_of_the_package():
    version = re.search(r"^version: (.+)$", text_of(CHECKOUT / "CITATION.cff"), re.M)
    assert version and version[1] == restore_cli.__version__


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)]
    subprocess.run(command, cwd=CHECKOUT, check=True)
    pages = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "upscaling.html", "weights/dpenet.html", "CHANGELOG.html"} <= pages
    outside = re.compile(r'<(?:script|img|link rel="stylesheet")[^>]*"https?:')
    assert not [page for page in pages if outside.search(text_of(tmp_path / page))]
