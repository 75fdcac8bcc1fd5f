"""Images on a GPU: they stay there from decoding to encoding, and the CPU hardly waits."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli.batch.video import frame_converter
from restore_cli.imaging.canvas import Canvas
from restore_cli.imaging.quantize import Decoded, banded_image, quantize, to_image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.imaging.video.yuv import Layout, Planes
from restore_cli.inference.chain import Step, load_chain
from restore_cli.inference.options import ImageSize, RunOptions
from restore_cli.inference.restorer import load_restorer
from restore_cli.inference.runner import NetworkRunner
from restore_cli.inference.together import together
from restore_cli.inference.upscaler import Target, load_upscaler
from tests.inference.pretended import CUDA, pretended_cuda
from tests.inference.test_precision import Overflowing

FP32 = RunOptions(precision="fp32")
TASKS = {  # weights, and how often the CPU waits for the GPU: for decisions about the whole image
    "derain": ("dpenet.default", 1),
    "denoise": ("mirnet.denoise", 24),
    "enhance": ("tml.default", 24),
    "upscale": ("espcn.x2", 1),
}


@pytest.fixture
def cuda(monkeypatch):
    with pretended_cuda(monkeypatch) as counts:
        yield counts


def levels_of(height=32, width=40, channels=3, depth=8):
    kind = np.uint8 if depth == 8 else np.uint16
    values = np.random.default_rng(0).integers(0, 2**depth, (height, width, channels))
    return Decoded((values // 3).astype(kind), 2**depth - 1)


def one(task, **options):
    def load(device):
        return load_restorer(task, replace(FP32, device=device, weights=TASKS[task][0], **options))

    return load


def check(load, image):
    """Compare the result on the device with that on the CPU."""
    result, wanted = load("cuda")(image.to(CUDA)).image, load("cpu")(image).image
    assert result.device == CUDA
    for here, there in ((result.pixels, wanted.pixels), (result.alpha, wanted.alpha)):
        if there is not None:
            assert_close(here.cpu(), there, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_gives_the_same_result_on_the_device(task, channels):
    check(one(task), to_image(levels_of(channels=channels)).as_tensors())


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(
    "load",
    [
        one("derain", tile=32),
        one("derain", tile=32, overlap=4),
        one("denoise", tile=32, exact=True),
        one("denoise", noise_limit=3.0),
        one("denoise", noise_limit="off", strength=0.5),
        one("enhance", strength=0.5),
        one("enhance", resize="fit"),
        one("enhance", resize="native"),
        lambda device: load_upscaler(replace(FP32, device=device, model="espcn"), Target(2.5)),
        lambda device: load_upscaler(
            replace(FP32, device=device, model="espcn"), Target(size=ImageSize(100, 90)), "auto"
        ),
        lambda device: load_chain(
            [Step("derain"), Step("denoise"), Step("upscale", 2)], replace(FP32, device=device)
        ),
    ],
    ids=[
        *("tiles", "blended tiles", "exact tiles", "sigma", "half", "half of a whole", "fit"),
        *("native", "x2.5", "a size", "chain"),
    ],
)
def test_options_and_chains_work_on_the_device(load):
    check(load, to_image(levels_of(channels=4)).as_tensors())


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("task", TASKS)
def test_an_image_on_disk_passes_through_the_device_by_rows(task, tmp_path):
    with Canvas(tmp_path) as canvas:
        image = banded_image(levels_of(channels=4), canvas)
        bands = list(one(task)("cuda").stream(image, storage=canvas).completed())
    wanted = one(task)("cpu")(to_image(levels_of(channels=4)).as_tensors()).image
    assert_close(torch.cat([b.pixels.cpu() for b in bands], 1), wanted.pixels, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("cuda")
def test_a_tile_that_overflows_is_found_on_the_device(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: seen.pop() if seen else False)
    seen = [False, True, True, True]  # the first tile in float32 is the last
    restorer = one("derain", tile=32, overlap=0)("cuda")
    restorer.runner.network = Overflowing()
    pixels = torch.full((3, 32, 64), 0.95)
    assert_close(restorer.run(pixels), pixels)
    assert seen == []


def test_a_result_lies_where_the_image_does(cuda):
    image = to_image(levels_of()).as_tensors()
    assert one("derain")("cuda")(image).image.device == torch.device("cpu")
    assert one("derain")("cuda")(image.to(CUDA)).image.device == CUDA
    assert one("derain")("cpu")(image.to(CUDA)).image.device == CUDA


@pytest.mark.parametrize(("depth", "side"), [(8, 80), (16, 40)])
@pytest.mark.parametrize("task", TASKS)
def test_an_image_is_copied_once_each_way_in_the_bits_of_the_file(task, depth, side, cuda):
    restorer = one(task, tile=64 if side == 80 else "off")("cuda")
    restorer(to_image(levels_of(side, 48), CUDA))  # constants and weights of this size
    cuda.clear()
    result = restorer(to_image(levels_of(side, 48, depth=depth), CUDA)).image
    levels = quantize(result, depth)
    each = depth // 8
    assert (cuda["up"], cuda["up bytes"]) == (1, side * 48 * 3 * each)
    small = cuda["down bytes"] - levels.nbytes
    assert 0 <= small <= 100  # numbers of the report
    rows_of_tiles = 2 if side == 80 else 1
    assert cuda["wait"] <= TASKS[task][1] + rows_of_tiles - 1


@pytest.mark.usefixtures("cuda")
def test_tiles_of_one_size_run_as_a_batch(monkeypatch):
    run, batches = NetworkRunner._computed, []

    def counted(self, inputs, precision):
        batches.append((str(inputs.device), len(inputs)))
        return run(self, inputs, precision)

    monkeypatch.setattr(NetworkRunner, "_computed", counted)
    check(one("derain", tile=32, overlap=4), to_image(levels_of(32, 160)).as_tensors())
    on_device = [size for device, size in batches if device == "cuda:0"]
    assert sorted(on_device) == [1, 1, 3]  # the first and the last are narrower
    assert {size for device, size in batches if device == "cpu"} == {1}


def test_more_columns_of_tiles_are_no_more_waiting(cuda):
    waits = []
    for width in (64, 256):
        restorer = one("derain", tile=64, overlap=8)("cuda")
        cuda.clear()
        restorer(to_image(levels_of(48, width), CUDA))
        waits.append(cuda["wait"])
    assert waits[0] == waits[1]


def test_exact_tiles_wait_once_a_pass(cuda):
    waits = []
    for width in (64, 256):
        restorer = one("denoise", tile=32, exact=True, noise_limit="off")("cuda")
        cuda.clear()
        restorer(to_image(levels_of(64, width), CUDA))
        waits.append(cuda["wait"])
    assert waits[1] <= waits[0] + 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.usefixtures("cuda")
def test_levels_arrive_on_the_device_as_on_the_cpu(orientation, depth):
    stored = replace(levels_of(5, 7, 4, depth), orientation=orientation, premultiplied=True)
    here, there = to_image(stored, CUDA), to_image(stored).as_tensors()
    assert here.device == CUDA
    assert_close(here.all_planes().cpu(), there.all_planes())
    np.testing.assert_array_equal(quantize(here, depth), quantize(there, depth))
    np.testing.assert_array_equal(
        quantize(here, depth, on_white=True), quantize(there, depth, on_white=True)
    )


def test_an_image_that_leaves_too_little_room_stays_in_main_memory(cuda, monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.transfer.free_cuda_memory", lambda device: 100_000)
    monkeypatch.setattr("restore_cli.inference.restorer.free_memory", lambda device: 100_000)
    image = to_image(levels_of(), CUDA).as_tensors()
    assert image.device == torch.device("cpu")
    one("denoise", tile=32)("cuda")(image)
    assert cuda["up bytes"] >= image.pixels.nbytes


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("size", [(90, 100), (23, 31), (60, 11)])
def test_bicubic_on_the_device_is_that_of_the_cpu(size):
    x = torch.rand(3, 45, 50)
    assert_close(resize_matlab(x.to(CUDA), *size).cpu(), resize_matlab(x, *size))


@pytest.mark.parametrize("task", ["upscale", "derain"])
def test_frames_of_a_video_travel_in_their_levels(task, cuda):
    planes = Planes(
        torch.randint(16, 235, (32, 48), dtype=torch.uint8),
        torch.randint(16, 240, (2, 16, 24), dtype=torch.uint8),
        Layout(),
    )
    results = []
    for device in ("cpu", "cuda", "cuda"):
        converter = frame_converter(one(task)(device))
        cuda.clear()
        here = planes.to(converter.device)
        prepared = converter.prepare(here)
        restored, _ = converter.restore(prepared)
        results.append(converter.finish(here, prepared, restored).to(torch.device("cpu")))
    assert cuda["up bytes"] == planes.luma.nbytes + planes.chroma.nbytes
    assert cuda["down bytes"] <= results[0].luma.nbytes + results[0].chroma.nbytes + 100
    for result in results:
        assert_close(result.luma, results[0].luma, atol=1, rtol=0)
        assert_close(result.chroma, results[0].chroma, atol=1, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("task", TASKS)
def test_a_real_device_gives_the_result_of_the_cpu(task):
    image = to_image(levels_of(200, 240, 4)).as_tensors()
    device = torch.device("cuda:0")
    here = one(task)("cuda")(to_image(levels_of(200, 240, 4), device).as_tensors()).image
    there = one(task)("cpu")(image).image
    assert here.device == device
    error = (here.to(torch.device("cpu")).pixels - there.pixels).square().mean()
    assert -10 * error.clamp(min=1e-14).log10() >= 100  # dB


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("task", TASKS)
def test_a_batch_on_a_real_device_gives_the_results_of_the_cpu(task):
    device, restorer = torch.device("cuda:0"), one(task)("cuda")
    decoded = [levels_of(96, 64 + 32 * (number == 3)) for number in range(5)]
    calls = [partial(restorer, to_image(each, device).as_tensors()) for each in decoded]
    for pending, each in zip(together(calls), decoded, strict=True):
        here = pending.result().image.to(torch.device("cpu")).pixels
        wanted = one(task)("cpu")(to_image(each).as_tensors()).image.pixels
        error = (here - wanted).square().mean().clamp(min=1e-14)
        assert -10 * error.log10() >= 100  # dB
