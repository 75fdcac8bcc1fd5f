import pytest
import torch
import torch.nn.functional as F
from PIL import Image as Pillow

from restore_cli.imaging.codecs.jpeg import has_jpeg_traces, quality_of, through_jpeg
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import read


def test_lower_quality_is_further_from_the_image():
    image = torch.rand(3, 40, 56)
    errors = [(through_jpeg(image, quality) - image).std() for quality in (95, 75, 30)]
    assert errors[0] < errors[1] < errors[2]


def test_a_smooth_grey_image_comes_back_almost_as_it_was():
    coarse = torch.rand(1, 1, 3, 3)
    image = F.interpolate(coarse, (33, 47), mode="bilinear")[0].expand(3, -1, -1)
    assert (through_jpeg(image, 95) - image).abs().max() < 3 / 255


def test_colours_are_stored_at_half_the_size():
    stripes = torch.full((3, 16, 16), 0.5)
    stripes[0, :, ::2], stripes[2, :, 1::2] = 0.7, 0.7
    assert through_jpeg(stripes, 100)[0].std() < 0.6 * stripes[0].std()


@pytest.fixture
def scene():
    """Return soft shapes with fine grain, like a photograph, (3, 200, 216)."""
    coarse = torch.rand(1, 3, 9, 10)
    shapes = F.interpolate(coarse, (200, 216), mode="bicubic")[0].clamp(0.05, 0.95)
    return shapes + 0.01 * torch.randn(3, 200, 216)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 5), (7, 1)])
@pytest.mark.parametrize(("quality", "wanted"), [(20, True), (60, True), (95, False)])
def test_blocks_are_seen_wherever_they_begin(scene, quality, wanted, top, left):
    compressed = through_jpeg(scene, quality)[:, top:, left:]
    assert has_jpeg_traces(Image(compressed)) is wanted
    assert has_jpeg_traces(Image(compressed[:1])) is wanted  # grey


def test_an_image_that_was_never_compressed_has_no_traces(scene):
    assert not has_jpeg_traces(Image(scene))


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(3, 64, 64), torch.rand(3, 31, 200), torch.rand(1, 1, 1)],
    ids=["flat", "low", "one pixel"],
)
def test_what_shows_no_blocks_has_no_traces(pixels):
    assert not has_jpeg_traces(Image(pixels))


@pytest.mark.parametrize(("quality", "wanted"), [(40, True), (84, True), (85, False), (95, False)])
def test_a_file_of_low_quality_needs_no_blocks(quality, wanted):
    flat = Image(torch.full((3, 64, 64), 0.5), jpeg_quality=quality)
    assert has_jpeg_traces(flat) is wanted


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 95])
def test_the_quality_of_a_file_is_read_with_it(tmp_path, quality):
    path = tmp_path / "a.jpg"
    Pillow.new("RGB", (16, 16)).save(path, quality=quality)
    assert read(path).jpeg_quality == pytest.approx(quality, abs=5 if quality < 20 else 1)


def test_other_files_have_no_such_quality(tmp_path):
    Pillow.new("RGB", (16, 16)).save(tmp_path / "a.png")
    Pillow.new("RGB", (16, 16)).save(tmp_path / "a.webp")
    assert [read(path).jpeg_quality for path in tmp_path.glob("a.*")] == [None, None]


def test_tables_of_another_length_tell_no_quality():
    assert quality_of({0: [1] * 16}) is None
    assert quality_of({}) is None
