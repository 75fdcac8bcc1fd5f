"""`restore weights`: what is there, and how more gets there."""

import hashlib
import json
import os
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from restore_cli import assets
from restore_cli.checkpoints import manifest
from tests.cli.invoke import restore, rows

weights = partial(restore, "weights")


@pytest.fixture
def published(tmp_path, monkeypatch, random_weights):
    """The folder of a server on this machine, and a manifest that sends there for dpenet.far."""
    folder, bundled = tmp_path / "server", tmp_path / "weights"
    folder.mkdir()
    bundled.mkdir()
    data = random_weights.read_bytes()
    (folder / "far.safetensors").write_bytes(data)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        row = {
            "name": "dpenet.far",
            "file": "dpenet.far.safetensors",
            "arch": "dpenet",
            "tasks": None,
            "config": {},
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "url": f"http://127.0.0.1:{server.server_port}/far.safetensors",
            "importer": None,
            "origin": "a test",
            "licence": "Apache-2.0",
            "trained_on": "nothing",
            "scores": {"rain100l": {"psnr_y": 38.8}},
            "card": None,
        }
        (bundled / "manifest.json").write_text(json.dumps([row]))
        monkeypatch.setattr(assets, "weights_dir", lambda: bundled)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.delenv("RESTORE_OFFLINE", raising=False)
        yield folder
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class HubHandler(SimpleHTTPRequestHandler):
    """Serves owner/repo as the Hugging Face Hub does."""

    def do_GET(self, body=True):
        folder, _, name = self.path.rpartition("/")
        path = os.path.join(self.directory, name)
        found = folder == "/owner/repo/resolve/main" and os.path.exists(path)
        data = Path(path).read_bytes() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"' + hashlib.sha256(data).hexdigest() + '"')
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if body:
            self.wfile.write(data)

    def do_HEAD(self):
        self.do_GET(body=False)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch, random_weights):
    """The folder of a hub on this machine, with the repository owner/repo."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "rainy.safetensors").write_bytes(random_weights.read_bytes())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("RESTORE_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        address = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        yield folder
        server.shutdown()


ON_HUB = "hf://owner/repo/rainy.safetensors"


def test_a_file_of_the_hub_is_imported(hub):
    result = weights("fetch", ON_HUB, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = rows(result)
    assert (row["name"], row["tasks"]) == ("dpenet.rainy", ["derain"])
    assert os.path.exists(row["path"])


def test_a_file_of_the_hub_is_fetched_once(hub):
    weights("fetch", ON_HUB)
    assert weights("fetch", ON_HUB, "--offline", "--as", "dpenet.again").exit_code == 0


@pytest.mark.parametrize(
    ("address", "options", "text"),
    [
        (ON_HUB, ["--offline"], "the network is disabled"),
        (ON_HUB, ["--sha256", "0" * 64], "differs from the given"),
        ("hf://owner/repo/absent.pth", [], "404"),
        ("hf://owner/rainy", [], "not a file on the Hugging Face Hub"),
        ("https://example.invalid/x.pth", [], "by its checksum only"),
        ("http://example.invalid/x.pth", ["--sha256", "0" * 64], "downloads from there are"),
    ],
)
def test_a_file_that_cannot_be_fetched_is_named_in_one_line(hub, address, options, text):
    result = weights("fetch", address, *options)
    assert result.exit_code in (2, 4)
    error, *hints = result.stderr.splitlines()
    assert error.startswith(f"restore: {address}") and text in error
    assert all(hint.startswith("hint: ") for hint in hints)


def test_a_file_at_a_url_is_imported_by_its_checksum(published):
    data = (published / "far.safetensors").read_bytes()
    url, digest = manifest.find("dpenet.far").url, hashlib.sha256(data).hexdigest()
    result = weights("fetch", url, "--sha256", digest, "--as", "dpenet.near")
    assert (result.exit_code, result.stdout) == (0, "dpenet.near\n"), result.stderr
    assert manifest.is_cached("dpenet.near")


def test_removed_weights_are_gone(hub):
    weights("fetch", ON_HUB)
    assert weights("remove", "dpenet.rainy").exit_code == 0
    assert not manifest.is_cached("dpenet.rainy")
    assert weights("remove", "dpenet.rainy").exit_code == 4


def test_weights_with_a_damaged_entry_can_be_removed(hub):
    weights("fetch", ON_HUB)
    (manifest.weights_cache() / "dpenet.rainy.json").write_text("{")
    assert weights("remove", "dpenet.rainy").exit_code == 0


def test_bundled_weights_are_not_removed():
    result = weights("remove", "dpenet.default")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "restore: dpenet.default is bundled and cannot be removed",
    )
    assert os.path.exists(manifest.locate(manifest.find("dpenet.default"))[1])


def test_list_shows_what_is_bundled():
    result = weights("list")
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines()}
    assert lines["dpenet.default"][1] == "derain"
    assert lines["dpenet.default"][4] == "bundled"


def test_list_as_json_has_a_line_each(published):
    assert rows(weights("list", "--json")) == [
        {
            "name": "dpenet.far",
            "tasks": ["derain"],
            "size": (published / "far.safetensors").stat().st_size,
            "where": "fetchable",
            "path": str(manifest.weights_cache() / "dpenet.far.safetensors"),
            "licence": "Apache-2.0",
            "purpose": None,
            "scores": {"rain100l": {"psnr_y": 38.8}},
        }
    ]


def test_info_shows_all_facts():
    text, facts = weights("info", "dpenet.default"), weights("info", "dpenet.default", "--json")
    known = rows(facts)[0]
    assert known["where"] == "bundled"
    assert f"licence     {known['licence']}" in text.stdout
    assert os.path.exists(known["path"])


@pytest.mark.parametrize("command", ["info", "verify", "fetch"])
def test_an_unknown_name_is_exit_4_with_the_known_ones(command):
    result = weights(command, "dpenet.nowhere")
    assert (result.exit_code, result.stdout) == (4, "")
    said, hint = result.stderr.splitlines()
    assert said == "restore: no weights are called 'dpenet.nowhere'"
    assert hint.startswith("hint: there are: ") and "dpenet.default" in hint


def test_a_file_without_a_known_suffix_is_named_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").write_bytes(b"")
    result = weights("info", "model")
    assert result.stderr.splitlines()[1] == "hint: for the file of that name: ./model"
    assert "model: not a weight file" in weights("info", "./model").stderr


def test_fetched_weights_can_be_used(published, photo, tmp_path):
    result = weights("fetch", "dpenet.far")
    path = manifest.weights_cache() / "dpenet.far.safetensors"
    assert (result.exit_code, result.stdout) == (0, f"{path}\n"), result.stderr
    dry = tmp_path / "dry.png"
    assert restore("derain", photo, "-o", dry, "--weights", "dpenet.far").exit_code == 0
    assert dry.exists()


def test_all_that_is_published_can_be_fetched_at_once(published):
    assert [row["name"] for row in rows(weights("fetch", "--all", "--json"))] == ["dpenet.far"]


def test_weights_already_fetched_need_no_network(published):
    weights("fetch", "dpenet.far")
    (published / "far.safetensors").unlink()
    assert weights("fetch", "dpenet.far", "--offline").exit_code == 0


def test_offline_says_where_to_put_the_file(published):
    result = weights("fetch", "dpenet.far", "--offline")
    assert result.exit_code == 4
    assert "the network is disabled" in result.stderr
    assert str(manifest.weights_cache()) in result.stderr
    assert not manifest.weights_cache().exists()


def test_another_file_at_the_address_is_refused_and_not_kept(published):
    (published / "far.safetensors").write_bytes(b"something else")
    result = weights("fetch", "dpenet.far")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "sha256" in result.stderr
    assert list(manifest.weights_cache().iterdir()) == []


def test_weights_that_are_not_fetched_say_how(published, photo):
    result = restore("derain", photo, "--weights", "dpenet.far")
    assert result.exit_code == 4
    assert "hint: run: restore weights fetch dpenet.far\n" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["dpenet.default", "--all"]], ids=["none", "both"])
def test_fetch_takes_names_or_all(arguments):
    result = weights("fetch", *arguments)
    assert result.exit_code == 2
    assert "hint: give names, or --all" in result.stderr


def test_an_imported_file_works_by_name_as_by_path(random_weights, photo, tmp_path):
    result = weights("import", random_weights, "--as", "dpenet.mine")
    assert (result.exit_code, result.stdout) == (0, "dpenet.mine\n"), result.stderr
    for name in ("dpenet.mine", random_weights):
        target = tmp_path / f"by_{getattr(name, 'stem', 'name')}.png"
        same = restore("derain", photo, "-o", target, "--weights", name, "--no-record")
        assert same.exit_code == 0
    assert (tmp_path / "by_name.png").read_bytes() == (tmp_path / "by_random.png").read_bytes()


def test_an_imported_name_is_not_replaced_without_overwrite(random_weights):
    weights("import", random_weights, "--as", "dpenet.mine")
    again = weights("import", random_weights, "--as", "dpenet.mine")
    assert (again.exit_code, again.stdout) == (3, "")
    assert weights("import", random_weights, "--as", "dpenet.mine", "--overwrite").exit_code == 0


class Malicious:
    """Unpickled without care, it would leave a file behind."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.mark.parametrize("form", ["zip", "bare"])
@pytest.mark.parametrize("command", ["import", "derain"])
def test_a_pickle_with_code_is_refused_in_one_line(form, command, tmp_path, photo):
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    if form == "zip":
        torch.save({"state_dict": {"a": Malicious(trace)}}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    if command == "import":
        result = weights("import", path)
    else:
        result = restore("derain", photo, "--weights", path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("restore: evil.pth: refused, it holds Python code")
    assert result.stderr.count("\n") == 2  # and the hint
    assert not trace.exists()
    assert not manifest.weights_cache().exists()


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (None, "there is no weight file"),
        (b"", "not a weight file"),
        (b"\x89PNG\r\n\x1a\n", "not a weight file"),
        (b"PK\x03\x04 cut", "damaged or not a PyTorch weight file"),
    ],
    ids=["missing", "empty", "image", "cut"],
)
def test_a_file_without_weights_is_one_line_and_exit_4(contents, said, tmp_path):
    path = tmp_path / "x.pth"
    if contents is not None:
        path.write_bytes(contents)
    result = weights("import", path)
    assert (result.exit_code, result.stdout) == (4, "")
    assert said in result.stderr
    assert result.stderr.count("\n") <= 2


def test_verify_checks_all_files(random_weights):
    weights("import", random_weights, "--as", "dpenet.mine")
    result = weights("verify")
    assert result.exit_code == 0
    assert {"ok  dpenet.default", "ok  dpenet.mine"} <= {*result.stdout.splitlines()}


def test_verify_finds_a_changed_file(random_weights):
    weights("import", random_weights, "--as", "dpenet.mine")
    path = manifest.weights_cache() / "dpenet.mine.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    result = weights("verify", "--json")
    assert result.exit_code == 4
    statuses = {row["name"]: row["status"] for row in rows(result)}
    assert (statuses["dpenet.default"], statuses["dpenet.mine"]) == ("ok", "corrupt")
    assert "dpenet.mine (corrupt)" in result.stderr
    assert str(path) in result.stderr


def test_weights_not_fetched_fail_verification_only_by_name(published):
    assert weights("verify").exit_code == 0
    assert weights("verify", "dpenet.far").exit_code == 4


def test_info_on_weights_that_are_not_there_says_how_to_get_them():
    result = weights("info", "fitv1.default")
    assert result.exit_code == 4
    assert "no weights are bundled for fitv1" in result.stderr
    assert "restore weights import FILE --as fitv1.default" in result.stderr
