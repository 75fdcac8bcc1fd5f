"""No output names a password, a login of a URL or a signature."""

import sys

import pytest

from restore_cli.errors import UsageError, without_secrets
from restore_cli.report.page import circumstances
from tests.cli.invoke import restore

SECRET = "TOP5ECRET"
URLS = (
    f"https://user:{SECRET}@127.0.0.1:9/x.png",
    f"https://user:pa/{SECRET}@127.0.0.1:9/x.png",
    f"https://127.0.0.1:9/x.png?sig={SECRET}",
    f"s3://key:{SECRET}@bucket/x.png",
    f"s3://bucket/x.png?X-Amz-Signature={SECRET}",
    f"ftp://user:{SECRET}@host/x.png",
    f"hf://user:{SECRET}@host/x.png",
)
each_url = pytest.mark.parametrize("url", URLS, ids=lambda url: url.replace(SECRET, "X"))


def is_silent(*arguments, **options):
    result = restore(*arguments, **options)
    return SECRET not in result.stdout and SECRET not in result.stderr


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["texts", "json"])
def test_settings_are_shown_without_secrets(monkeypatch, more):
    monkeypatch.setenv("RESTORE_UI_PASSWORD", SECRET)
    monkeypatch.setenv("RESTORE_OUTPUT", URLS[0])
    monkeypatch.setenv("RESTORE_RUN_WEIGHTS", f"derain={URLS[2]}")
    assert is_silent("config", "show", *more)
    assert is_silent("config", "show", "ui", *more)
    assert "***" in restore("config", "show", "ui", *more).stdout


@pytest.mark.parametrize("url", [URLS[0], URLS[2], URLS[4]], ids=["login", "query", "s3 query"])
@pytest.mark.parametrize(
    "command",
    [
        "derain URL",
        "derain URL --json",
        "derain PHOTO -o URL",
        "derain PHOTO -o URL --json",
        "derain PHOTO -o a.png --report URL",
        "derain PHOTO --ledger URL",
        "derain PHOTO --weights URL",
        "denoise PHOTO --adapt --save URL",
        "run PHOTO --steps URL",
        "derain PHOTO --engine ray --address URL --device URL",
        "derain PHOTO --tile URL",
        "weights fetch URL",
        "weights fetch URL --sha256 00",
        "weights import URL",
        "weights inspect URL",
        "eval URL URL",
        "compare URL URL -o a.html",
        "compare PHOTO PHOTO -o URL",
        "replay URL",
        "replay PHOTO --source URL",
        "export URL -o a.onnx",
        "export espcn.x2 -o URL",
        "train espcn --data URL --out run",
        "train espcn --data . --out URL",
        "bench quality --set URL",
        "bench diff URL URL",
        "ledger show URL",
        "samples URL",
        "ui URL",
    ],
)
def test_no_command_writes_the_secrets_of_a_url(photo, url, command):
    words = command.replace("URL", url).replace("PHOTO", str(photo)).split()
    assert is_silent(*words)


@each_url
def test_a_report_shows_its_command_without_secrets(monkeypatch, url):
    monkeypatch.setattr(sys, "argv", ["restore", "derain", url, "-o", f"out of {url}"])
    assert SECRET not in circumstances("1", {})["command"]


@each_url
def test_errors_have_no_secrets_whatever_shows_them(url):
    error = UsageError(f"{url}: refused", hint=f"try {url}")
    assert SECRET not in f"{error} {error.message} {error.hint} {error.args}"


@pytest.mark.parametrize(
    "text",
    [
        "photo@2x.png",
        "/home/me@work/a b.png",
        "restore: a.png: no image (hint: get it again)",
        "https://example.org/photo@2x.png",
        "C:/a@b.png",
        "what? see: docs/ui.md",
        "a: b@c",
    ],
)
def test_other_texts_are_left_as_they_are(text):
    assert without_secrets(text) == text


def test_what_is_hidden_is_marked():
    assert without_secrets(f"'{URLS[0]}'") == "'https://***@127.0.0.1:9/x.png'"
    assert without_secrets(f"'{URLS[2]}'") == "'https://127.0.0.1:9/x.png?***'"
