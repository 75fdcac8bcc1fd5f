"""The pipeline with small random networks of every kind of size: no weight file, no paper."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from restore_cli.imaging.image import Image
from tests.toys import restorer_of, toy_facts


class Local(nn.Module):
    """Sees `multiple` pixels around each on its coarse grid; the result is `scale` times larger."""

    def __init__(self, multiple: int, scale: int):
        super().__init__()
        self.down = nn.Conv2d(3, 6, multiple, stride=multiple)
        self.look = nn.Conv2d(6, 3 * (multiple * scale) ** 2, 3, padding=1)
        self.factor = multiple * scale

    def forward(self, x):
        return F.pixel_shuffle(self.look(self.down(x).relu()), self.factor)


def restorer(network, *, multiple=1, scale=1, radius, **options):
    return restorer_of(network, toy_facts(radius, multiple=multiple, scale=scale), **options)


@settings(max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(1, 48),
    multiple=st.sampled_from([1, 2, 4]),
    scale=st.integers(1, 3),
)
def test_tiles_equal_the_whole_image_when_the_overlap_covers_the_radius(
    height, width, tile, multiple, scale
):
    network = Local(multiple, scale)
    sees = {"multiple": multiple, "scale": scale, "radius": 2 * multiple - 1}
    pixels = torch.rand(3, height, width)
    whole = restorer(network, **sees, tile="off").run(pixels)
    tiled = restorer(network, **sees, tile=tile, overlap="exact").run(pixels)
    assert whole.shape == (3, scale * height, scale * width)
    assert_close(tiled, whole, atol=1e-5, rtol=0)  # float32 sum order


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 48), st.integers(0, 12))
def test_a_network_that_changes_nothing_returns_the_image_from_any_tiles(
    height, width, tile, overlap
):
    pixels = torch.rand(3, height, width)
    result = restorer(nn.Identity(), radius=12, tile=tile, overlap=overlap).run(pixels)
    assert_close(result, pixels, atol=1e-6, rtol=0)


def test_a_image_is_padded_for_the_network_by_reflection():
    seen = []

    class Watched(nn.Identity):
        def forward(self, x):
            seen.append(x.clone())
            return x

    pixels = torch.rand(3, 17, 18)
    assert restorer(Watched(), multiple=4, radius=8).run(pixels).shape == (3, 17, 18)
    assert torch.equal(seen[0], F.pad(pixels[None], (0, 2, 0, 3), mode="reflect"))


def test_a_network_without_a_multiple_sees_no_padding_but_of_tiny_images():
    seen = []

    class Watched(nn.Identity):
        def forward(self, x):
            seen.append(x.shape[-2:])
            return x

    restorer(Watched(), radius=8, tile=10, overlap="exact").run(torch.rand(3, 16, 20))
    assert seen == [(16, 18)] * 4
    seen.clear()
    restorer(Watched(), radius=8).run(torch.rand(3, 1, 20))
    assert seen == [(16, 20)]


def test_transparency_is_enlarged_with_the_image():
    image = Image(torch.rand(3, 6, 5), alpha=torch.full((1, 6, 5), 0.5))
    enlarged = restorer(Local(1, 2), scale=2, radius=1)(image).image
    assert enlarged.pixels.shape == (3, 12, 10)
    assert_close(enlarged.alpha, torch.full((1, 12, 10), 0.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_is_float32_in_the_range_of_a_image(channels):
    class Bright(nn.Module):
        def forward(self, x):
            return 3 * x.double() - 1

    result = restorer(Bright(), radius=0).run(torch.rand(channels, 8, 8))
    assert result.dtype == torch.float32
    assert result.shape == (channels, 8, 8)
    assert result.min() == 0
    assert result.max() == 1
