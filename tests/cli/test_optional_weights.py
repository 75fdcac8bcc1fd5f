"""A network that comes without weights is no fault of the installation."""

import json

from typer.testing import CliRunner

from restore_cli.cli.main import app


def test_doctor_is_content_without_the_weights_of_a_generator():
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = {f["name"]: f for f in json.loads(done.stdout)["findings"]}["fitv1.default"]
    assert done.exit_code == 0
    assert found["problem"] is None
    assert found["value"].endswith("restore weights import FILE --as fitv1.default")


def test_info_of_weights_that_are_not_there_says_how_to_get_them():
    done = CliRunner().invoke(app, ["weights", "info", "fitv1.default"])
    assert done.exit_code == 4
    assert "restore comes without weights for fitv1" in done.stderr
    assert "restore weights import FILE --as fitv1.default" in done.stderr


def test_weights_that_are_not_there_are_not_verified():
    assert CliRunner().invoke(app, ["weights", "verify"]).exit_code == 0
