"""Sources and outputs behind URLs: of an S3 server, a web server, and of fsspec in memory."""

import io
import socket
import sqlite3
import sys
import tempfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from restore_cli import storage
from restore_cli.batch import giants
from restore_cli.imaging.io import read, write
from tests.cli.invoke import restore, rows
from tests.imaging.clips import make_clip

derain = partial(restore, "derain", "--quiet")
SECRETS = ("hunter2", "alice", "SIGNATURE")


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """A folder of temporary files that must be empty at the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    storage._system_of.cache_clear()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def server():
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def s3(server, monkeypatch):
    """A client of the S3 server with an empty bucket `photos`; it has credentials, as `restore`."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "alice",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="photos")
    yield client
    for item in client.list_objects_v2(Bucket="photos").get("Contents", ()):
        client.delete_object(Bucket="photos", Key=item["Key"])
    client.delete_bucket(Bucket="photos")


@pytest.fixture
def memory():
    """The store of fsspec in memory, empty."""
    import fsspec

    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def photograph(format="PNG", size=(12, 9)):
    file = io.BytesIO()
    Image.effect_noise(size, 50).convert("RGB").save(file, format)
    return file.getvalue()


def put(s3, *keys, body=None):
    for key in keys:
        s3.put_object(Bucket="photos", Key=key, Body=photograph() if body is None else body)


def keys_in(s3, prefix=""):
    listed = s3.list_objects_v2(Bucket="photos", Prefix=prefix).get("Contents", ())
    return {item["Key"] for item in listed}


def body_of(s3, key):
    return s3.get_object(Bucket="photos", Key=key)["Body"].read()


def test_an_object_becomes_a_local_file(s3, random_weights, tmp_path):
    put(s3, "in/a.png")
    result = derain("s3://photos/in/a.png", "-o", tmp_path / "out/", "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out' / 'a.png'}\n"
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (12, 9)


def test_a_local_file_becomes_an_object(s3, photo, random_weights):
    result = derain(photo, "-o", "s3://photos/out/b.png", "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "s3://photos/out/b.png\n"
    with Image.open(io.BytesIO(body_of(s3, "out/b.png"))) as image:
        assert image.size == (12, 9)
    assert s3.head_object(Bucket="photos", Key="out/b.png")["ContentType"] == "image/png"


def test_without_o_the_output_is_beside_the_object(s3, random_weights):
    put(s3, "in/a.png")
    result = derain("s3://photos/in/a.png", "--weights", random_weights)
    assert result.stdout == "s3://photos/in/a_derained.png\n"
    assert keys_in(s3) == {"in/a.png", "in/a_derained.png"}
    again = derain("s3://photos/in", "--weights", random_weights, "--overwrite", "--dry-run")
    assert again.stdout == "s3://photos/in/a.png -> s3://photos/in/a_derained.png\n"


@pytest.mark.parametrize(
    ("source", "options", "written"),
    [
        ("s3://photos/in", (), {"a.png", "b.JPG"}),
        ("s3://photos/in/", ("-r",), {"a.png", "b.JPG", "deep/ü c.png", "out/old.png"}),
        ("s3://photos/in/*.png", (), {"a.png"}),
        ("s3://photos/in/**/*.png", (), {"a.png", "deep/ü c.png", "out/old.png"}),
        ("s3://photos/in/d??p/*", (), {"deep/ü c.png"}),
        (
            "s3://photos",
            ("-r",),
            {f"in/{name}" for name in ("a.png", "b.JPG", "deep/ü c.png")} | {"in/out/old.png"},
        ),
    ],
)
def test_folders_and_globs_are_mirrored(source, options, written, s3, random_weights, tmp_path):
    put(s3, "in/a.png", "in/deep/ü c.png", "in/out/old.png", "in/.hidden.png", "in/../x.png")
    put(s3, "in/b.JPG", body=photograph("JPEG"))
    put(s3, "in/", "in/note.txt", body=b"")
    result = derain(source, *options, "-o", "s3://photos/out/", "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert {key.removeprefix("out/") for key in keys_in(s3, "out/")} == written


def test_an_output_folder_inside_the_source_is_no_source(s3, random_weights):
    put(s3, "in/a.png", "in/out/old.png")
    result = derain(
        "s3://photos/in", "-r", "-o", "s3://photos/in/out/", "--weights", random_weights
    )
    assert result.stdout == "s3://photos/in/out/a.png\n"


def test_a_template_names_objects(s3, random_weights):
    put(s3, "in/deep/a.jpg", body=photograph("JPEG"))
    template = "s3://photos/{parent}/{rel}/{stem}-{suffix}{ext}"
    result = derain("s3://photos/in", "-r", "-o", template, "--weights", random_weights)
    assert result.stdout == "s3://photos/deep/deep/a-jpg.jpg\n"


def test_a_template_can_name_objects_beside_their_sources(s3, random_weights):
    put(s3, "in/deep/a.png")
    template = "{folder}/{stem}_{task}{ext}"
    run = partial(derain, "s3://photos/in", "-r", "-o", template, "--weights", random_weights)
    assert run().stdout == "s3://photos/in/deep/a_derained.png\n"
    again = run("--overwrite", "--dry-run")
    assert again.stdout == "s3://photos/in/deep/a.png -> s3://photos/in/deep/a_derained.png\n"


@pytest.mark.parametrize("output", [[], ["-o", "{folder}/{stem}_new{ext}"]], ids=["beside", "set"])
def test_nothing_is_written_beside_the_file_of_a_web_server(output, web, random_weights):
    result = derain(f"http://{web}/a.png", *output, "--weights", random_weights)
    assert result.exit_code == 2
    assert "outputs cannot be written to a web server" in result.stderr


def test_sources_of_one_output_are_refused_with_a_template_that_works(s3, random_weights):
    put(s3, "in/a.png", "in/a.bmp")
    result = derain("s3://photos/in", "-o", "s3://photos/out", "--weights", random_weights)
    assert result.exit_code == 3
    assert "would both become s3://photos/out/a.png" in result.stderr
    assert "s3://photos/out/{stem}_{suffix}{ext}" in result.stderr


def test_an_output_that_is_a_source_is_refused(s3, random_weights):
    put(s3, "in/a.png", "in/b.png")
    result = derain(
        "s3://photos/in", "-o", "s3://photos/in/", "--overwrite", "--weights", random_weights
    )
    assert result.exit_code == 3
    assert "s3://photos/in/a.png is a source" in result.stderr


def test_existing_objects_are_refused_skipped_or_replaced(s3, random_weights):
    put(s3, "in/a.png", "in/b.png")
    put(s3, "out/a.png", body=b"old")
    run = partial(
        derain, "s3://photos/in", "-o", "s3://photos/out/", "--json", "--weights", random_weights
    )
    refused = run()
    assert refused.exit_code == 3
    assert "already exists: s3://photos/out/a.png" in refused.stderr
    assert keys_in(s3, "out/") == {"out/a.png"}
    skipped = rows(run("--skip-existing"))
    assert {row["source"]: row["status"] for row in skipped} == {
        "s3://photos/in/a.png": "skipped",
        "s3://photos/in/b.png": "ok",
    }
    assert body_of(s3, "out/a.png") == b"old"
    assert {row["status"] for row in rows(run("--overwrite"))} == {"ok"}
    assert body_of(s3, "out/a.png") != b"old"


def test_an_object_that_appears_meanwhile_is_not_replaced(s3, tmp_path):
    (tmp_path / "part").write_bytes(b"new")
    put(s3, "a.png", body=b"old")
    with pytest.raises(storage.OutputExists, match=r"already exists: s3://photos/a\.png"):
        storage.upload(tmp_path / "part", storage.Url("s3://photos/a.png"), overwrite=False)
    assert body_of(s3, "a.png") == b"old"


def test_a_dry_run_lists_and_reads_nothing(s3, random_weights, monkeypatch):
    put(s3, "in/a.png", body=b"no image")
    monkeypatch.setattr(storage, "download", None)
    result = derain("s3://photos/in", "-o", "out/", "--dry-run", "--weights", random_weights)
    assert result.stdout == f"s3://photos/in/a.png -> {Path('out/a.png')}\n"


def test_a_broken_object_fails_alone(s3, random_weights):
    put(s3, "in/a.png")
    put(s3, "in/b.png", body=b"no image")
    result = derain(
        "s3://photos/in", "-o", "s3://photos/out/", "--json", "--weights", random_weights
    )
    assert result.exit_code == 6
    failed = next(row for row in rows(result) if row["status"] == "failed")
    assert failed["source"] == "s3://photos/in/b.png"
    assert failed["error"]["message"].startswith("s3://photos/in/b.png: not an image")
    assert keys_in(s3, "out/") == {"out/a.png"}


@pytest.mark.parametrize("source", ["s3://photos/nothing.png", "memory://nothing/"])
def test_an_object_that_is_missing_is_exit_3(source, s3, memory, random_weights):
    result = derain(source, "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 3
    said = f"restore: {source}: no such object or folder\nhint: check the name\n"
    assert result.stderr == said


@pytest.mark.parametrize("source", ["s3://nowhere/a.png", "s3://nowhere/in/", "s3://nowhere/*"])
def test_a_bucket_that_is_missing_is_exit_3(source, s3, random_weights):
    result = derain(source, "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 3
    assert "no such object or bucket" in result.stderr
    assert source.rpartition("/")[0] in result.stderr


def test_a_bucket_of_outputs_that_is_missing_is_refused_before_any_work(s3, random_weights):
    put(s3, "in/a.png", "in/b.png")
    result = derain("s3://photos/in", "-o", "s3://nowhere/", "--weights", random_weights)
    assert result.exit_code == 3
    assert "s3://nowhere: no such object or bucket" in result.stderr


def test_an_upload_that_fails_is_a_failure_of_its_image(s3, photo, random_weights):
    result = derain(photo, "-o", "s3://nowhere/a.png", "--weights", random_weights)
    assert result.exit_code == 3
    assert "s3://nowhere/a.png: no such object or bucket" in result.stderr


def test_a_store_that_is_down_is_exit_4(s3, photo, random_weights, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = derain("s3://photos/a.png", "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 4
    assert result.stderr.startswith("restore: s3://photos/a.png: cannot be reached (")
    assert result.stderr.count("\n") == 1


def test_without_the_extra_the_message_names_it(s3, random_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    result = derain("s3://photos/a.png", "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 2
    assert result.stderr == (
        "restore: s3:// needs the package s3fs\nhint: pip install 'restore-cli[storage]'\n"
    )


def test_the_network_can_be_disabled(s3, random_weights, monkeypatch):
    monkeypatch.setenv("RESTORE_OFFLINE", "1")
    result = derain("s3://photos/a.png", "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 4
    assert "the network is disabled" in result.stderr


class Denying(BaseHTTPRequestHandler):
    """A server of S3 that denies everything, and names a secret in its message."""

    def answer(self):
        body = b"<Error><Code>AccessDenied</Code><Message>no https://x/?SIGNATURE</Message></Error>"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = answer

    def log_message(self, *_):
        pass


class Photos(Denying):
    """A web server of photographs; some of them fail."""

    body = photograph()

    def answer(self):
        name = self.path.rpartition("/")[2].partition("?")[0]
        if name in ("denied.png", "gone.png", "broken.png"):
            self.send_error({"denied.png": 403, "gone.png": 404, "broken.png": 500}[name])
            return
        self.send_response(200)
        length = len(self.body) + (100 if name == "cut.png" else 0)
        if name != "chunked.png":
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command == "GET" and name != "silent.png":
            self.wfile.write(self.body)
        elif self.command == "GET":
            self.server.ended.wait(10)

    do_GET = do_HEAD = answer


@pytest.fixture
def web(request):
    """The address of a web server."""
    handler = getattr(request, "param", Photos)
    pytest.importorskip("aiohttp")
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.ended = threading.Event()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{running.server_port}"
    running.ended.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.mark.parametrize("web", [Denying], indirect=True)
def test_a_store_that_denies_access_is_exit_3(web, s3, photo, random_weights, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{web}")
    for arguments in (["s3://photos/in/", "-o", "out/"], [photo, "-o", "s3://photos/out/x.png"]):
        result = derain(*arguments, "--weights", random_weights)
        assert result.exit_code == 3
        assert "access denied" in result.stderr
        assert not any(secret in result.stderr for secret in SECRETS)


@pytest.mark.parametrize("name", ["a.png", "chunked.png", "my%20photo.png"])
def test_an_image_of_a_web_server_is_read(name, web, random_weights, tmp_path):
    out = tmp_path / "out"
    result = derain(f"http://{web}/in/{name}", "-o", f"{out}/", "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in out.iterdir()] == [name.replace("%20", " ")]


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [
        ("gone.png", "no such file", 3),
        ("denied.png", "access denied (the server responds 403)", 3),
        ("broken.png", "the server responds 500", 3),
        ("cut.png", "not completed", 3),
        ("silent.png", "cannot be reached", 4),
        ("", "no such file", 3),
    ],
)
def test_failures_of_a_web_server_are_one_line(name, said, code, web, random_weights, monkeypatch):
    monkeypatch.setattr(storage, "TIMEOUT", 0.3)
    result = derain(f"http://{web}/{name}", "-o", "out/", "--weights", random_weights)
    assert result.exit_code == code
    assert result.stderr.startswith(f"restore: http://{web}/{name}: ")
    assert said in result.stderr.splitlines()[0]


def test_a_download_without_end_is_given_up(web, tmp_path):
    url = storage.Url(f"http://{web}/chunked.png")
    with pytest.raises(storage.ImageTooLarge, match="more than 100 bytes"):
        storage.download(url, tmp_path / "copy", limit=100)


def test_secrets_of_a_url_are_written_nowhere(web, random_weights, tmp_path):
    """In messages, JSON, names, records and ledgers; of a success and of failures."""
    url = f"http://alice:hunter2@{web}/%s.png?X-Amz-Signature=SIGNATURE"
    names = ["a", "gone", "denied", "cut"]
    ledger = tmp_path / "run.sqlite"
    out = tmp_path / "out"
    run = partial(
        derain, *(url % name for name in names), "--weights", random_weights, "--ledger", ledger
    )
    results = [run("-o", out, "--json"), run("-o", out), run("-o", out, "--dry-run"), run()]
    results.append(run("-o", out / "{stem}-{hash}{ext}"))
    shown = "".join(result.stdout + result.stderr for result in results)
    assert f"http://***@{web}/a.png?***" in shown
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert f"http://***@{web}/a.png?***".encode() in kept
    assert not [secret for secret in SECRETS if secret in shown or secret.encode() in kept]
    assert [result.exit_code for result in results] == [6, 6, 6, 2, 6]


@pytest.mark.parametrize(
    "login",
    [
        "s3://alice:hunter2@",
        "s3://alice:hun/ter2@",
        "s3://hunter2@",
        "https://alice:hun/ter2@",
        "https://alice:hun?ter2@",
    ],
)
def test_a_login_that_cannot_be_used_is_refused_unseen(login, random_weights):
    result = derain(f"{login}photos/a.png", "-o", "out/", "--weights", random_weights)
    assert result.exit_code == 2
    assert not any(secret in result.stderr for secret in (*SECRETS, "hun", "ter2"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ftp://host/a.png", "-o", "out/"], "ftp:// is not a known kind of storage"),
        (["photo.png", "-o", "https://host/out/"], "outputs cannot be written to a web server"),
        (["photo.png", "-o", "out/", "--ledger", "s3://photos/x"], "a ledger takes a local path"),
        (["photo.png", "-o", "out/", "--report", "s3://photos/x.html"], "--report takes a local"),
    ],
    ids=["scheme", "web", "ledger", "report"],
)
def test_urls_that_cannot_be_used_are_exit_2(arguments, said, photo, random_weights, monkeypatch):
    monkeypatch.chdir(photo.parent)
    result = derain(*arguments, "--weights", random_weights)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not [path for path in photo.parent.iterdir() if ":" in path.name]


def test_generate_refuses_a_url():
    result = restore("generate", "ball", "-o", "s3://photos/", "--dry-run")
    assert result.exit_code == 2
    assert "local files" in result.stderr


def test_a_run_goes_on_by_its_ledger(s3, random_weights, tmp_path):
    put(s3, "in/a.png", "in/b.png")
    ledger = tmp_path / "run.sqlite"
    run = partial(
        derain,
        *("s3://photos/in", "-o", "s3://photos/out/", "--json", "--ledger", ledger),
        *("--weights", random_weights),
    )
    assert {row["status"] for row in rows(run())} == {"ok"}
    with sqlite3.connect(ledger) as connection:
        kept = connection.execute("SELECT source, target, output_sha256 FROM items").fetchall()
    connection.close()
    assert [row[:2] for row in kept] == [
        (f"s3://photos/in/{name}", f"s3://photos/out/{name}") for name in ("a.png", "b.png")
    ]
    assert kept[0][2] == storage_sha256(s3, "out/a.png")
    assert {row["status"] for row in rows(run())} == {"skipped"}
    put(s3, "in/a.png", body=photograph(size=(13, 9)))
    s3.delete_object(Bucket="photos", Key="out/b.png")
    assert {row["status"] for row in rows(run())} == {"ok"}


def test_objects_whose_names_look_like_queries_have_rows_of_their_own(s3, random_weights, tmp_path):
    put(s3, "in/a?v=1.png", "in/a?v=2.png")
    book = ("--ledger", tmp_path / "run.sqlite", "--weights", random_weights)
    run = partial(derain, "s3://photos/in", "-o", "s3://photos/out/", "--json", *book)
    assert [row["status"] for row in rows(run())] == ["ok", "ok"]
    assert keys_in(s3, "out/") == {"out/a?v=1.png", "out/a?v=2.png"}
    assert [row["status"] for row in rows(run())] == ["skipped", "skipped"]
    assert len(rows(restore("ledger", "export", tmp_path / "run.sqlite"))) == 2


def storage_sha256(s3, key):
    import hashlib

    return hashlib.sha256(body_of(s3, key)).hexdigest()


def test_a_ledger_compares_objects_by_their_contents(s3, random_weights, tmp_path):
    put(s3, "in/a.png", body=(first := photograph()))
    run = partial(
        derain,
        *("s3://photos/in", "-o", tmp_path / "out", "--json", "--fingerprint", "sha256"),
        *("--ledger", tmp_path / "run.sqlite", "--weights", random_weights),
    )
    assert [row["status"] for row in rows(run())] == ["ok"]
    put(s3, "in/a.png", body=first)
    assert [row["status"] for row in rows(run())] == ["skipped"]


def test_shards_of_a_bucket_are_those_of_the_same_local_folder(s3, random_weights, tmp_path):
    names = [f"{number}.png" for number in range(12)]
    put(s3, *(f"in/{name}" for name in names), body=b"")
    for name in names:
        (tmp_path / name).write_bytes(b"")

    def sources(folder):
        shard = ("--shard", "2/3", "--ledger", tmp_path / "x.sqlite", "--dry-run")
        result = derain(folder, "-o", "out/", *shard, "--weights", random_weights)
        return {line.partition(" ->")[0].rpartition("/")[2] for line in result.stdout.splitlines()}

    assert sources("s3://photos/in") == sources(f"{tmp_path}/")
    assert 0 < len(sources("s3://photos/in")) < 12


def test_a_folder_of_many_pages_is_listed_page_by_page(s3, random_weights, monkeypatch):
    put(s3, *(f"in/{number}.png" for number in range(5)), body=b"")
    system = storage._system(storage.Url("s3://photos"))
    calls = []
    actual = system.call_s3

    def small(method, **options):
        calls.append(method)
        return actual(method, **options, MaxKeys=2)

    monkeypatch.setattr(system, "call_s3", small)
    listed = storage.entries(storage.Url("s3://photos/in"))
    assert next(listed).url.name == "0.png"
    assert len(calls) == 1
    assert [entry.url.name for entry in listed] == [f"{number}.png" for number in range(1, 5)]
    assert len(calls) == 3


def test_the_store_in_memory_works_as_any_other(memory, random_weights, tmp_path):
    memory.pipe("/in/deep/a.png", photograph())
    run = partial(derain, "memory://in", "-r", "-o", tmp_path, "--json", "--weights")
    (row,) = rows(run(random_weights))
    assert (row["status"], row["target"]) == ("ok", f"{tmp_path}/deep/a.png")
    write(read(tmp_path / "deep/a.png"), storage.Url("memory://out/b.png"))
    assert memory.exists("/out/b.png")


@pytest.mark.parametrize("options", [("-o", "memory://out/"), ()], ids=["named", "beside"])
def test_outputs_in_memory_are_refused(options, memory, random_weights):
    memory.pipe("/in/a.png", photograph())
    result = derain("memory://in/a.png", *options, "--weights", random_weights)
    assert result.exit_code == 2
    assert "outputs in memory are lost at the end" in result.stderr


def test_the_record_of_an_output_names_the_object(s3, random_weights, tmp_path):
    put(s3, "in/a.png")
    derain("s3://photos/in/a.png", "-o", tmp_path / "a.png", "--weights", random_weights)
    with Image.open(tmp_path / "a.png") as image:
        assert b'"source":"a.png"' in image.info["xmp"].replace(b" ", b"")


def test_a_large_image_goes_through_files(s3, random_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(giants, "LARGE", 100)
    put(s3, "in/a.png")
    result = derain(
        "s3://photos/in/a.png",
        *("-o", "s3://photos/out/", "--ledger", tmp_path / "run.sqlite"),
        *("--weights", random_weights),
    )
    assert result.exit_code == 0, result.stderr
    assert "s3://photos/in/a.png: a large image" in result.stderr
    with Image.open(io.BytesIO(body_of(s3, "out/a.png"))) as image:
        assert image.size == (12, 9)


def test_a_video_goes_through_files(s3, random_weights, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", frames=2, sound=None)
    s3.upload_file(str(clip), "photos", "in/clip.mp4")
    result = derain(
        "s3://photos/in", "-o", "s3://photos/out", "--json", "--weights", random_weights
    )
    assert [row["target"] for row in rows(result)] == ["s3://photos/out/clip.mp4"]
    assert result.exit_code == 0, result.stderr
    assert s3.head_object(Bucket="photos", Key="out/clip.mp4")["ContentLength"] > 100


def test_an_upload_that_breaks_off_leaves_no_object_and_no_parts(s3, photo, monkeypatch):
    def fail(*_, **__):
        raise OSError("the connection broke")

    system = storage._system(storage.Url("s3://photos"))
    monkeypatch.setattr(type(system), "_upload_file_part_concurrent", fail)
    large = photo.with_name("large.png")
    with large.open("wb") as file:
        file.truncate(101 << 20)
    with pytest.raises(storage.OutputError, match=r"s3://photos/x\.png: the connection broke"):
        storage.upload(large, storage.Url("s3://photos/x.png"), overwrite=True)
    assert keys_in(s3) == set()
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="photos")


def test_images_of_stores_are_evaluated(s3, tmp_path):
    put(s3, "in/deep/a.png", "in/alone.png", body=(body := photograph()))
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a_derained.png").write_bytes(body)
    result = restore("eval", tmp_path, "s3://photos/in", "--json")
    assert result.exit_code == 0, result.stderr
    assert rows(result)[0]["reference"] == "s3://photos/in/deep/a.png"
    assert "s3://photos/in/alone.png: no counterpart to compare with" in result.stderr
    single = restore("eval", "s3://photos/in/alone.png", "s3://photos/in/deep/a.png")
    assert single.exit_code == 0, single.stderr
    missing = restore("eval", "s3://photos/nothing", tmp_path)
    assert (missing.exit_code, "no such file or folder" in missing.stderr) == (3, True)


def test_images_of_stores_are_compared(s3, tmp_path):
    put(s3, "before/a.png", "after/a.png")
    page = tmp_path / "page.html"
    result = restore("compare", "s3://photos/before", "s3://photos/after", "-o", page)
    assert result.exit_code == 0, result.stderr
    assert page.exists()


@pytest.mark.parametrize("text", [r"C:\x.png", "C:/x.png", "s3:/x", "a:b", "x.png", "./s3//x"])
def test_a_path_is_no_url(text):
    assert storage.location(text) == Path(text)


@pytest.mark.parametrize(
    ("address", "shown", "name"),
    [
        ("s3://photos/a b.png", "s3://photos/a b.png", "a b.png"),
        ("S3://photos", "s3://photos", ""),
        ("s3://photos/what?.png", "s3://photos/what?.png", "what?.png"),
        ("az://box/x.png?sig=abc", "az://box/x.png?***", "x.png?sig=abc"),
        ("https://h/a/x.png", "https://h/a/x.png", "x.png"),
        ("https://token@h/x.png", "https://***@h/x.png", "x.png"),
        ("https://h/x.png?key#part", "https://h/x.png?***", "x.png"),
        ("https://h?key=/y.png", "https://h?***", ""),
        ("https://a:b@h:80/x.png", "https://***@h:80/x.png", "x.png"),
        ("https://[::1]:80/x.png", "https://[::1]:80/x.png", "x.png"),
        ("https://h/..%2F..%2Fx.png", "https://h/..%2F..%2Fx.png", "x.png"),
    ],
)
def test_a_url_as_text_hides_its_secrets(address, shown, name):
    url = storage.location(address)
    assert (str(url), repr(url), url.name) == (shown, f"Url({shown})", name)
