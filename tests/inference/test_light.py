"""ESPCN without torch gives what the pipeline of torch gives."""

import numpy as np
import pytest
import torch

from restore_cli.checkpoints import onnx
from restore_cli.imaging.image import Image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference import light
from restore_cli.inference.light import LightUpscaler, bicubic, load_light
from restore_cli.inference.options import RunOptions
from restore_cli.inference.upscaler import Target, load_upscaler

CPU = RunOptions(device="cpu")
TORCH = RunOptions(device="cpu", backend="torch", precision="fp32")


def refused():
    raise AssertionError("torch is not needed")


def image_of(channels, height, width):
    return Image(np.random.default_rng(0).random((channels, height, width), np.float32))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (33, 64)], ids=str)
def test_pixels_are_those_of_torch(scale, channels, size):
    image = image_of(channels, *size)
    found = load_light(CPU, scale, "clean", refused)(image).image
    wanted = load_upscaler(TORCH, Target(scale))(image.as_tensors()).image
    np.testing.assert_allclose(found.pixels, wanted.pixels.numpy(), atol=1e-5)  # sum order


def test_bands_give_the_same_pixels(monkeypatch):
    image = image_of(3, 50, 31)
    upscaler = load_light(CPU, 2, "clean", refused)
    whole = upscaler(image).image.pixels
    steps = []
    monkeypatch.setattr(light, "BAND", 31 * 8)
    banded = upscaler(image, on_progress=lambda done, total: steps.append((done, total)))
    np.testing.assert_allclose(banded.image.pixels, whole, atol=1e-6)  # sum order
    assert steps[0] == (8, 50) and steps[-1] == (50, 50)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (17, 5)], ids=str)
def test_bicubic_is_that_of_imresize(scale, size):
    x = np.random.default_rng(0).random((2, *size), np.float32)
    wanted = resize_matlab(torch.from_numpy(x), size[0] * scale, size[1] * scale)
    np.testing.assert_allclose(bicubic(x, scale), wanted.numpy(), atol=1e-6)  # sum order


def test_the_report_names_the_backend_and_the_weights():
    (step,) = load_light(CPU, 3, "auto", refused)(image_of(3, 8, 9)).report.steps
    assert (step.network, step.weights, step.backend) == ("espcn", "espcn.x3", "onnx")
    assert (step.height, step.width, step.without_torch) == (24, 27, True)


@pytest.mark.parametrize(
    ("options", "factor", "purpose"),
    [
        ({"backend": "torch"}, 2, "clean"),
        ({"device": "cuda"}, 2, "clean"),
        ({"precision": "bf16"}, 2, "clean"),
        ({"tile": 64}, 2, "clean"),
        ({"exact": True}, 2, "clean"),
        ({"overlap": 8}, 2, "clean"),
        ({"model": "mirnet"}, 2, "clean"),
        ({"weights": "espcn.x3"}, 2, "clean"),
        ({"weights": "some.safetensors"}, 2, "clean"),
        ({}, 2.5, "clean"),
        ({}, 5, "clean"),
        ({}, None, "clean"),
        ({}, 2, "photo"),
    ],
    ids=str,
)
def test_all_else_is_left_to_torch(options, factor, purpose):
    assert load_light(RunOptions(**{"device": "cpu"} | options), factor, purpose, refused) is None


def test_without_onnxruntime_it_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(light, "is_installed", lambda: False)
    assert load_light(CPU, 2, "clean", refused) is None


def test_an_image_with_alpha_is_left_to_the_other_restorer():
    image = image_of(3, 6, 8)
    alpha = Image(image.pixels, alpha=image_of(1, 6, 8).pixels)
    restored = load_light(CPU, 2, "clean", lambda: load_upscaler(TORCH, Target(2)))(alpha)
    wanted = load_upscaler(TORCH, Target(2))(alpha.as_tensors())
    torch.testing.assert_close(restored.image.alpha, wanted.image.alpha)
    assert restored.report.steps[0].backend == "torch"


def test_a_file_of_other_weights_is_refused(monkeypatch, tmp_path):
    other = onnx.bundled_onnx("espcn.x3")
    monkeypatch.setattr(onnx, "bundled_onnx", lambda name: other)
    with pytest.raises(onnx.WeightsCorrupt, match=r"espcn\.x3\.onnx: exported from other weights"):
        onnx.open_named("espcn.x2")


def test_the_device_is_named_as_by_torch():
    device = LightUpscaler(onnx.open_named("espcn.x2"), CPU).device
    assert (str(device), device.type) == (str(torch.device("cpu")), torch.device("cpu").type)
