import pytest
import torch

from restore_cli.imaging.tiling import fade_window, plan_axis, plan_tiles


@pytest.mark.parametrize("size", [1, 7, 64, 65, 500])
@pytest.mark.parametrize(("tile", "overlap", "blend"), [(64, 16, 8), (20, 50, 50), (None, 8, 8)])
def test_windows_sum_to_one_everywhere(size, tile, overlap, blend):
    total = torch.zeros(size)
    for span in plan_axis(size, tile, overlap, blend):
        total[span.keep_start : span.keep_stop] += fade_window(span)
    torch.testing.assert_close(total, torch.ones(size), atol=1e-6, rtol=0)


def test_what_is_kept_has_context_on_each_interior_side():
    first, second = plan_axis(200, 100, 30, 0)
    assert (first.start, first.stop, first.keep_stop) == (0, 130, 100)
    assert (second.start, second.keep_start, second.stop) == (70, 100, 200)


def test_no_tile_size_means_one_tile():
    assert len(plan_tiles(33, 91, tile=None, overlap=64, blend=32)) == 1
