import pytest
import torch

from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.errors import BrokenOutput, UsageError
from restore_cli.imaging.image import Image
from restore_cli.inference import blockwise as pieces
from restore_cli.inference.options import RunOptions
from restore_cli.inference.restorer import Restorer, load_restorer


def restorer(weights, **options):
    return load_restorer(
        "derain", RunOptions(weights=str(weights), device="cpu", precision="fp32", **options)
    )


def test_tiles_with_the_whole_receptive_radius_equal_the_whole_image(random_weights):
    pixels = torch.rand(3, 9, 430)
    whole = restorer(random_weights, tile="off").run(pixels)
    tiled = restorer(random_weights, tile=64, overlap="exact").run(pixels)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)  # float32 sum order


def test_exact_tiles_of_a_network_that_sees_so_far_have_that_overlap(random_weights):
    exact = restorer(random_weights, exact=True)
    assert (exact.runner._overlap, exact.runner._blend) == (exact.facts.receptive_radius, 0)


def test_exact_tiles_with_a_smaller_overlap_are_refused():
    with pytest.raises(UsageError, match="--tile exact and --overlap 8 contradict"):
        RunOptions(exact=True, overlap=8)


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (33, 64)])
def test_any_size_comes_back_in_its_size(random_weights, size):
    assert restorer(random_weights).run(torch.rand(3, *size)).shape == (3, *size)


@pytest.mark.parametrize("size", [(1, 1), (40, 1), (1, 40), (90, 3)], ids=str)
@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.88, 0.67, 0.55)], ids=["white", "skin"])
def test_a_flat_image_of_few_pixels_keeps_its_colour(size, colour):
    flat = torch.tensor(colour).view(3, 1, 1).expand(3, *size)
    derained = restorer("dpenet.default").run(flat)
    torch.testing.assert_close(derained, flat, atol=3 / 255, rtol=0)  # at the border


def test_a_grey_image_stays_grey(random_weights):
    assert restorer(random_weights).run(torch.rand(1, 12, 10)).shape == (1, 12, 10)


def test_nan_is_an_error(random_weights):
    checkpoint = load_checkpoint(str(random_weights))
    torch.nn.init.constant_(checkpoint.module.detail.weight, float("nan"))
    with pytest.raises(BrokenOutput, match="NaN"):
        Restorer(checkpoint, RunOptions(device="cpu", precision="fp32")).run(torch.rand(3, 8, 8))


def test_colours_under_full_transparency_neither_change_nor_bleed(random_weights):
    alpha = torch.ones(1, 16, 16)
    alpha[..., 8:] = 0
    pixels = torch.rand(3, 16, 16)
    other = pixels.clone()
    other[..., 8:] = 1 - other[..., 8:]
    run = restorer(random_weights)
    first, second = (run(Image(p, alpha)).image.pixels for p in (pixels, other))
    assert torch.equal(first[..., 8:], pixels[..., 8:])
    assert torch.equal(first[..., :8], second[..., :8])


def test_progress_is_told_block_by_block_and_tile_by_tile(random_weights):
    seen = []
    run = restorer(random_weights, tile=80, overlap=0)
    run.runner.network = pieces.blockwise(run.checkpoint.module, side=64)
    run.run(torch.rand(3, 8, 160), on_progress=lambda done, total: seen.append((done, total)))
    blocks = 13
    assert [done for done, _ in seen] == [*range(1, 14), 13, *range(14, 27), 26]
    assert {total for _, total in seen} == {2 * blocks}
