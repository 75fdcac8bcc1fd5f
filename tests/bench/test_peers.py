"""Networks of other projects (--peer)."""

import importlib.util
import sys

import pytest
import torch
from torch.testing import assert_close

from restore_cli.bench.peers import Blobs, peer_of, read_blobs
from restore_cli.bench.quality import run_quality
from restore_cli.data.sets import Pair, PairSet, folder_pairs
from restore_cli.errors import (
    BrokenOutput,
    MissingExtra,
    UsageError,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsMissing,
)
from restore_cli.inference.options import RunOptions

needs_ncnn = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="the extra peers is not installed"
)


def peer(doubler, scale=2):
    param, weights = doubler
    return peer_of(f"ncnn:{param},{weights},{scale}")


def test_a_peer_is_called_by_its_param_file(doubler):
    assert (peer(doubler).name, peer(doubler).scale) == ("doubler", 2)


def test_blobs_are_those_of_the_input_and_of_the_last_layer(doubler):
    assert read_blobs(doubler[0]) == Blobs("rgb", "enlarged", channels=3)


@pytest.mark.parametrize(
    ("task", "scale", "supports"),
    [("upscale", 2, True), ("upscale", 3, False), ("denoise", 1, False)],
)
def test_a_peer_enlarges_by_its_own_factor_only(doubler, task, scale, supports):
    pairs = PairSet("set", task, (Pair(None, None),), scale)
    assert peer(doubler).supports(pairs) is supports


@pytest.mark.parametrize(
    "text", ["onnx:a,b,2", "ncnn:a,b", "ncnn:a,b,two", "ncnn:a,b,1", "ncnn:,b,2", "a.param"]
)
def test_another_form_is_refused(text):
    with pytest.raises(UsageError, match="expected ncnn:PARAM,BIN,SCALE"):
        peer_of(text)


@pytest.mark.parametrize("gone", [0, 1], ids=["param", "bin"])
def test_a_file_that_is_not_there_is_named(doubler, gone):
    doubler[gone].unlink()
    with pytest.raises(WeightsMissing, match=doubler[gone].name):
        peer(doubler)


@pytest.mark.parametrize(
    "text", ["", "7767517\n", "7767517\n1 1\nInput in zero 1 rgb\n", "7767517\n1 1\nInput in 0 1\n"]
)
def test_a_file_that_is_no_param_file_is_refused(doubler, text):
    doubler[0].write_text(text)
    with pytest.raises(WeightsCorrupt, match=r"doubler\.param"):
        peer(doubler)


def test_the_two_files_in_the_wrong_order_are_refused(doubler):
    param, weights = doubler
    with pytest.raises(WeightsCorrupt):
        peer_of(f"ncnn:{weights},{param},2")


def test_a_network_of_two_inputs_is_refused(doubler):
    text = doubler[0].read_text() + "Input more 0 1 noise\n"
    doubler[0].write_text(text)
    with pytest.raises(WeightsMismatch, match="2 inputs and 1 outputs"):
        peer(doubler)


def test_a_network_that_takes_degradation_maps_is_refused(doubler):
    doubler[0].write_text(doubler[0].read_text().replace("6=36", "6=228"))
    with pytest.raises(WeightsMismatch, match="takes 19 channels, not 3"):
        peer(doubler)


def test_without_ncnn_the_extra_is_named(doubler, monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)  # importing it fails
    with pytest.raises(MissingExtra) as raised:
        peer(doubler).load()
    assert "restore-cli[peers]" in raised.value.hint


@needs_ncnn
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (7, 13)], ids=str)
def test_the_network_runs_on_rgb_in_0_to_1(doubler, channels, size):
    pixels = torch.rand(channels, *size)
    nearest = pixels.expand(3, -1, -1).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert_close(peer(doubler).load()(pixels), nearest, atol=1e-6, rtol=0)


@needs_ncnn
def test_a_wrong_factor_is_refused_with_the_size_that_came_out(doubler):
    with pytest.raises(WeightsMismatch, match="3x16x24 became 3x32x48, which is not x4"):
        peer(doubler, scale=4).load()


@needs_ncnn
def test_weights_of_another_network_are_refused(doubler):
    weights = doubler[1]
    weights.write_bytes(bytes(4) + torch.rand(36).numpy().tobytes() + bytes(100))
    with pytest.raises(WeightsMismatch, match=r"doubler\.bin: mid-grey changes by 0\.\d+"):
        peer(doubler).load()


@needs_ncnn
def test_an_output_that_is_not_finite_is_an_error(doubler):
    doubler[1].write_bytes(bytes(4) + torch.full((36,), float("nan")).numpy().tobytes())
    with pytest.raises(BrokenOutput, match="NaN"):
        peer(doubler).load()


@needs_ncnn
def test_a_peer_has_a_row_as_ours_has(doubled, doubler, together):
    options = RunOptions(device="cpu", precision="fp32")
    (result,) = run_quality(
        folder_pairs(doubled), [peer(doubler)], options, on_case=lambda *_: None
    )
    (row,) = result.rows
    assert (row["model"], row["weights"], row["images"]) == ("doubler", "doubler", 1)
    assert (row["device"], row["precision"], row["error"]) == ("cpu", "fp32", None)
    assert row["psnr"] > 0 and row["cpu_seconds_per_megapixel"] > 0
    assert set(row["baseline"]) == {"bicubic", "lanczos"}
