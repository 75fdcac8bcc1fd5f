"""The bundled ONNX files stay in step with the weights."""

import os
import subprocess
import sys

import pytest
import torch

from restore_cli import assets
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import load, spec_of
from restore_cli.checkpoints.onnx import new_session, open_named, usable_cores
from restore_cli.errors import MissingExtra

NAMES = sorted(path.stem for path in assets.weights_dir().glob("*.onnx"))


def test_espcn_is_bundled_as_onnx():
    assert NAMES == ["espcn.x2", "espcn.x3", "espcn.x4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_file_holds_the_weights_of_the_manifest(name):
    assert open_named(name).weights_sha256 == manifest.find(name).sha256
    assert open_named(name).spec == spec_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_file_gives_the_output_of_torch(name):
    x = torch.rand(2, 1, 19, 26)
    with torch.inference_mode():
        wanted = load(name)(x)
    torch.testing.assert_close(torch.from_numpy(open_named(name).run(x.numpy())), wanted)


def test_threads_are_the_cores_of_this_process():
    options = open_named("espcn.x2").session.get_session_options()
    assert options.intra_op_num_threads == usable_cores()


def test_without_onnxruntime_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra) as raised:
        new_session(b"", "a.onnx")
    assert raised.value.hint == "pip install 'restore-cli[onnx]'"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_runtime_keeps_no_usage_data(backend, tmp_path):
    """It would write an identifier of the machine below HOME, and send it with what is run."""
    code = "from restore_cli.checkpoints.onnx_network import load_named_onnx as load; "
    code += f"load('espcn.x2', {backend!r})"
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "", "RESTORE_CACHE": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | home, capture_output=True, check=True
    )
    assert done.stderr == b""
    assert list(tmp_path.rglob("*")) == []
