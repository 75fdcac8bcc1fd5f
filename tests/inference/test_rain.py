from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from restore_cli.data.degrade import LIGHT, SNOWY, add_rain, line_kernel, rain_streaks
from restore_cli.inference import rain
from restore_cli.inference.rain import RainMeter


def rain_in(rainy, dry):
    meter = RainMeter()
    meter.add(rainy, dry)
    return meter.rain()


def streaked(angle, height=120, width=150, strength=0.4):
    """(rainy, dry): streaks of one direction, 31 px long, over grey."""
    dry = torch.full((3, height, width), 0.3)
    seeds = (torch.rand(height, width, generator=torch.Generator().manual_seed(1)) > 0.997).float()
    kernel = line_kernel(31.0, angle)
    streaks = F.conv2d(seeds[None, None], kernel.flip(0, 1)[None, None], padding="same")[0, 0]
    return dry + strength * (streaks / streaks.max()), dry


@pytest.mark.parametrize("angle", [-35.0, -10.0, 0.0, 12.0, 40.0])
def test_the_direction_is_that_of_the_streaks(angle):
    found = rain_in(*streaked(angle))
    assert found.angle == pytest.approx(angle, abs=2)


def test_drawn_rain_is_found_with_the_share_that_it_wets():
    dry = torch.full((3, 100, 100), 0.4)
    rainy = add_rain(dry, LIGHT, torch.Generator().manual_seed(2))
    found = rain_in(rainy, dry)
    assert found.found
    assert found.share == pytest.approx(((rainy - dry)[0] > 4 / 255).float().mean().item())


def test_the_strength_is_the_mean_change_where_it_rains():
    dry = torch.full((3, 40, 40), 0.4)
    rainy = dry.clone()
    rainy[:, :, 10:14] += 0.2
    found = rain_in(rainy, dry)
    assert (found.share, found.strength) == pytest.approx((0.1, 0.2), abs=1e-5)


def test_what_hardly_changes_is_dry():
    dry = torch.rand(3, 50, 60)
    found = rain_in(dry + 3 / 255, dry)
    assert not found.found
    assert (found.share, found.strength, found.angle) == (0.0, 0.0, None)


def test_snow_has_no_direction():
    dry = torch.full((3, 160, 160), 0.3)
    look = replace(SNOWY, length=(1, 1))
    flakes = rain_streaks(160, 160, look, torch.Generator().manual_seed(0))
    assert rain_in(dry + 0.3 * flakes, dry).angle is None


def test_strips_change_nothing(monkeypatch):
    rainy, dry = streaked(12.0)
    whole = rain_in(rainy, dry)
    monkeypatch.setattr(rain, "strip_rows", lambda device, width: 50)
    in_strips = rain_in(rainy, dry)
    assert in_strips.share == whole.share
    assert in_strips.strength == pytest.approx(whole.strength, rel=1e-5)  # float32 sum order
    assert in_strips.angle == pytest.approx(whole.angle, abs=1)  # a row less at each border


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (7, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_smallest_images_have_no_direction(size, channels):
    found = rain_in(torch.ones(channels, *size), torch.zeros(channels, *size))
    assert (found.share, found.angle) == (1.0, None)
