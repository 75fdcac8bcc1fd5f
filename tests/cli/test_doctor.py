import json
from functools import partial

import pytest

from restore_cli import assets
from tests.cli.invoke import restore

doctor = partial(restore, "doctor")


def findings(result):
    return {row["name"]: row for row in json.loads(result.stdout)["findings"]}


def test_a_sound_installation_is_healthy():
    result = doctor("--json")
    found = findings(result)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["healthy"] is True
    assert {"restore", "python", "cpu", "dpenet.default", "cache", "derain"} <= {*found}
    assert found["dpenet.default"]["value"] == "ok"
    assert found["derain"]["value"].startswith("ok, ")


def test_each_check_is_a_line():
    result = doctor()
    assert result.exit_code == 0
    assert any(
        line.split() == ["weights", "dpenet.default", "ok"] for line in result.stdout.splitlines()
    )
    assert result.stderr == "no problems found\n"


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_broken_weights_are_exit_4(damage, tmp_path, monkeypatch):
    for path in assets.weights_dir().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "dpenet.default.safetensors"
    if damage == "changed":
        broken.write_bytes(broken.read_bytes()[:-1] + b"x")
    else:
        broken.unlink()
    monkeypatch.setattr(assets, "weights_dir", lambda: tmp_path)
    result = doctor("--json")
    assert result.exit_code == 4
    assert findings(result)["dpenet.default"]["problem"] == 4
    assert findings(result)["derain"]["problem"] == 4
    assert "broken: dpenet.default, derain" in result.stderr


def test_a_cache_that_is_not_writable_is_reported_but_no_problem(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESTORE_CACHE", str(tmp_path / "file" / "cache"))
    result = doctor("--json")
    assert result.exit_code == 0
    assert findings(result)["cache"]["value"].endswith("not writable")


def test_a_generator_without_weights_is_no_problem():
    result = doctor("--json")
    found = findings(result)["fitv1.default"]
    assert (result.exit_code, found["problem"]) == (0, None)
    assert found["value"].endswith("restore weights import FILE --as fitv1.default")
