"""`restore export` and --backend."""

import numpy as np
import pytest
from PIL import Image

from tests.cli.invoke import restore, rows


@pytest.fixture
def photo(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(levels).save(path)
    return path


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_backends_differ_by_one_level_at_most(photo, tmp_path):
    for backend in ("torch", "onnx", "auto"):
        target = tmp_path / f"{backend}.png"
        options = ("--backend", backend, "--precision", "fp32", "--json", "--device", "cpu")
        (row,) = rows(restore("upscale", photo, "-o", target, *options))
        assert row["backend"] == ("torch" if backend == "torch" else "onnx")
    differences = abs(pixels(tmp_path / "torch.png") - pixels(tmp_path / "onnx.png"))
    assert differences.max() <= 1
    assert (pixels(tmp_path / "auto.png") == pixels(tmp_path / "onnx.png")).all()


@pytest.mark.parametrize("options", [(), ("--tile", "16"), ("--backend", "torch")], ids=str)
def test_a_result_is_replayed_by_its_backend(photo, tmp_path, options):
    target = tmp_path / "big.png"
    assert restore("upscale", photo, "-o", target, *options, "--device", "cpu").exit_code == 0
    replayed = restore("replay", target, "--json")
    assert rows(replayed)[0]["identical"], replayed.output


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_weights_without_an_onnx_file_are_exported_once(photo, tmp_path, backend):
    options = ("--json", "--device", "cpu", "--weights", "cbsn.fast", "--precision", "fp32")
    target = tmp_path / "out.png"
    made = restore("denoise", photo, "-o", target, *options, "--backend", backend)
    assert rows(made)[0]["backend"] == backend
    assert rows(restore("replay", target, "--json"))[0]["identical"]
    again = restore("denoise", photo, "-o", tmp_path / "2.png", *options, "--backend", backend)
    assert "cbsn.fast: exported once" in made.stderr and "exported" not in again.stderr
    restore("denoise", photo, "-o", tmp_path / "torch.png", *options, "--backend", "torch")
    assert abs(pixels(target) - pixels(tmp_path / "torch.png")).max() <= 1


def test_openvino_computes_in_bfloat16(photo, tmp_path):
    options = ("--backend", "openvino", "--precision", "bf16", "--json", "--device", "cpu")
    (row,) = rows(restore("upscale", photo, "-o", tmp_path / "big.png", *options))
    assert (row["backend"], row["precision"]) == ("openvino", "bf16")
    restore("upscale", photo, "-o", tmp_path / "torch.png", "--backend", "torch")
    assert 0 < abs(pixels(tmp_path / "big.png") - pixels(tmp_path / "torch.png")).max() <= 8


def test_an_exported_file_restores_as_its_weights(photo, random_weights, tmp_path):
    exported = tmp_path / "rain.onnx"
    assert restore("export", random_weights, "-o", exported).stdout == f"{exported}\n"
    options = ("--precision", "fp32", "--tile", "16", "--json", "--device", "cpu")
    for name, weights in (("torch", random_weights), ("onnx", exported)):
        target = tmp_path / f"{name}.png"
        result = restore("derain", photo, "-o", target, "--weights", weights, *options)
        (row,) = rows(result)
        assert (row["backend"], row["tile"]) == (name, 16)
    assert abs(pixels(tmp_path / "torch.png") - pixels(tmp_path / "onnx.png")).max() <= 1
    replayed = restore("replay", tmp_path / "onnx.png", "--weights", exported, "--json")
    assert rows(replayed)[0]["identical"], replayed.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("derain", "--backend", "onnx", "--weights", "a.pth"), "a.pth is not an ONNX file"),
        (("derain", "--backend", "torch", "--weights", "a.onnx"), "a.onnx is not a PyTorch file"),
        (("derain", "--weights", "none.onnx"), "none.onnx: cannot be read"),
        (("upscale", "--backend", "onnx", "--precision", "bf16"), "does not work in bf16"),
        (("denoise", "--backend", "onnx", "--adapt"), "--adapt needs the backend torch"),
    ],
    ids=str,
)
def test_what_onnxruntime_cannot_do_is_refused(photo, arguments, message):
    command, *options = arguments
    result = restore(command, photo, *options, "--device", "cpu")
    assert result.exit_code in (2, 4)
    assert message in result.stderr


@pytest.mark.parametrize(
    ("name", "message"), [("a.png", "not an ONNX file"), ("there.onnx", "already exists")]
)
def test_a_target_that_cannot_be_written_is_refused_before_any_work(tmp_path, name, message):
    (tmp_path / "there.onnx").touch()
    result = restore("export", "espcn.x2", "-o", tmp_path / name)
    assert result.exit_code in (2, 3)
    assert message in result.stderr
