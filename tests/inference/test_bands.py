"""Images restored band by band, from and into files, as if they were whole."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from restore_cli import registry
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.imaging import image as images
from restore_cli.imaging.canvas import Canvas
from restore_cli.imaging.image import Image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference import noise, preprocessing, restorer, runner
from restore_cli.inference.chain import Chain
from restore_cli.inference.device import SMALLEST_TILE
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer
from restore_cli.inference.upscaler import resized, run_stages
from restore_cli.networks.facts import BicubicFirst, Rgb, Standardized
from tests.toys import restorer_of, toy_facts

HEIGHT, WIDTH = 3 * SMALLEST_TILE + 11, 37


def local(**options):
    changes = {key: options.pop(key) for key in ("preprocessing", "multiple") if key in options}
    network = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
    return restorer_of(network, toy_facts(3, **changes), overlap="exact", tile=64, **options)


def enlarging(way):
    network = nn.Conv2d(3, 3, 3, padding=1)
    facts = toy_facts(1, preprocessing=way, scale=2, multiple=4)
    return restorer_of(network, facts, overlap="exact", tile=64)


def own(arch, task="upscale", **config):
    spec = registry.configured(registry.MODELS[arch], config)
    network = registry.build(arch, **config).eval()
    checkpoint = Checkpoint("x", "x", "", spec, network)
    options = RunOptions(device="cpu", precision="fp32", tile=64)
    return Restorer(checkpoint, options, limited=task == "denoise")


def denoising(limit="auto"):
    facts = toy_facts(3, preprocessing=Standardized(reflect=5))
    smooth = nn.Conv2d(3, 3, 7, padding=3, groups=3, bias=False)
    nn.init.constant_(smooth.weight, 1 / 49)
    found = restorer_of(smooth, facts, overlap="exact", tile=64, noise_limit=limit)
    found.limited = True
    return found


RESTORERS = {
    "rgb": lambda: local(),
    "strength": lambda: local(strength=0.4),
    "grid": lambda: local(multiple=4),
    "bicubic": lambda: enlarging(BicubicFirst(2)),
    "luma": lambda: own("espcn", scale=2),
    "ycbcr": lambda: own("espcn", scale=3, in_channels=3),
    "denoise": lambda: denoising(),
    "denoise to a sigma": lambda: denoising(4.0),
    "enhance": lambda: own("ugdc", nominal_size=(80, 96), stem_channels=2),
}


@pytest.fixture(params=RESTORERS)
def network(request):
    return RESTORERS[request.param]()


def as_one_band(network, image):
    """The result of a network that takes the image whole."""
    network.options = replace(network.options, tile="off")
    whole = network(image)
    network.options = replace(network.options, tile=64)
    return whole


def photo(channels=3, alpha=False):
    """A dark, noisy image; alpha: with a fully transparent area."""
    coarse = torch.rand(channels, HEIGHT // 8, WIDTH // 8)[None]
    pixels = F.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic")[0].clamp(0, 1) * 0.3 + 0.02
    pixels = (pixels + 0.02 * torch.randn_like(pixels)).clamp(0, 1)
    if not alpha:
        return Image(pixels)
    visible = torch.rand(1, HEIGHT, WIDTH)
    visible[:, 50:120, 5:30] = 0
    return Image(pixels, visible)


def banded(image):
    def read(top, bottom):
        assert bottom - top < HEIGHT  # never the whole
        return Image.rows(image, top, bottom)

    return image.banded(read, lambda: None)


def streamed(network, image, folder):
    with Canvas(folder) as canvas:
        restoring = network.stream(banded(image), storage=canvas)
        bands = list(restoring.bands)
        assert all(band.height < restoring.image.height for band in bands)
        pixels = torch.cat([band.pixels.clone() for band in bands], dim=1)
        alpha = None
        if image.alpha is not None:
            alpha = torch.cat([band.alpha.clone() for band in bands], dim=1)
        return Image(pixels, alpha), restoring.report()


@pytest.mark.parametrize(
    "image", [photo(), photo(1), photo(alpha=True)], ids=["colour", "grey", "transparent"]
)
def test_bands_equal_the_whole_image(network, image, tmp_path, monkeypatch):
    whole = as_one_band(network, image)
    monkeypatch.setattr(preprocessing, "BAND", 1000)
    monkeypatch.setattr(restorer, "BAND", 1000)
    monkeypatch.setattr(runner, "BAND", 1000)
    monkeypatch.setattr(noise, "STRIP", 48)
    monkeypatch.setattr(images, "IN_MEMORY", 600)
    found, report = streamed(network, image, tmp_path)
    assert_close(found.pixels, whole.image.pixels, atol=1e-6, rtol=0)
    if image.alpha is not None:
        assert_close(found.alpha, whole.image.alpha, atol=1e-6, rtol=0)
    step, known = report.steps[0], whole.report.steps[0]
    for name in ("noise_sigma", "brightness", "grain"):
        assert getattr(step, name) == pytest.approx(getattr(known, name), abs=1e-6)


def test_no_file_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "BAND", 1000)
    monkeypatch.setattr(restorer, "BAND", 1000)
    monkeypatch.setattr(runner, "BAND", 1000)
    monkeypatch.setattr(noise, "STRIP", 48)
    streamed(denoising(), photo(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_chain_in_bands_equals_the_chain(tmp_path, monkeypatch):
    chain = Chain([local(), own("espcn", scale=2), local()], RunOptions())
    image = photo(alpha=True)
    whole = chain(image).image
    monkeypatch.setattr(restorer, "BAND", 1000)
    monkeypatch.setattr(runner, "BAND", 1000)
    monkeypatch.setattr(images, "IN_MEMORY", 600)
    found, report = streamed(chain, image, tmp_path)
    assert_close(found.pixels, whole.pixels, atol=1e-6, rtol=0)
    assert [step.height for step in report.steps] == [HEIGHT, 2 * HEIGHT, 2 * HEIGHT]


@pytest.mark.parametrize("size", [(300, 61), (HEIGHT, 70), (900, 20)], ids=str)
def test_resizing_in_bands_equals_that_of_the_whole(size, tmp_path):
    image = photo(alpha=True)
    with Canvas(tmp_path) as canvas:
        step = run_stages([local(strength=0.0)], image, None, canvas)
        found = resized(step, *size, canvas).whole()
        for plane, wanted in ((found.image.pixels, image.pixels), (found.image.alpha, image.alpha)):
            assert_close(plane, resize_matlab(wanted, *size).clamp(0, 1), atol=1e-6, rtol=0)
        assert (found.report.height, found.report.width) == size


class SmallMemory(nn.Module):
    """Has room for rows of 64 pixels, once `count` larger ones have fitted."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        if x.shape[-2] > 70:
            self.count -= 1
            if self.count < 0:
                raise MemoryError
        return x * 0.5


def test_where_memory_runs_out_late_the_rows_before_stay(tmp_path):
    network = restorer_of(SmallMemory(2), toy_facts(0, overlap=4), tile=128, overlap=4)
    image = Image(torch.rand(3, 600, 20))
    found = list(network.stream(image).bands)
    assert_close(torch.cat([band.pixels for band in found], dim=1), image.pixels * 0.5)
    assert [band.height for band in found][:2] == pytest.approx([120, 120], abs=8)


def test_rgb_is_not_read_twice_beyond_its_context(monkeypatch):
    monkeypatch.setattr(restorer, "BAND", 1000)
    monkeypatch.setattr(runner, "BAND", 1000)
    image, rows = photo(), []

    def read(top, bottom):
        rows.append((top, bottom))
        return Image.rows(image, top, bottom)

    feed = preprocessing.feed(
        toy_facts(3, preprocessing=Rgb()), image.banded(read, lambda: None).planes
    )
    feed.rows(61, 131)
    assert rows == [(61, 131)]
