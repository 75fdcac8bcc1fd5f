"""Documents name files, options and versions that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import restore_cli

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
    assert cards == set(LINK.findall(text_of(CHECKOUT / "weights" / "README.md")))


@each_document
def test_each_command_that_a_document_names_exists(path):
    from restore_cli.cli.main import app

    known = {each.name or each.callback.__name__ for each in app.registered_commands}
    known |= {each.name for each in app.registered_groups}
    code = re.findall(r"^ *(?:\$ )?restore ([a-z]+)\b|`restore ([a-z]+)\b", text_of(path), re.M)
    assert {one or other for one, other in code} <= known


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
