import pytest
import torch

from restore_cli.data.downsample import batch_to_space, draw_choice, space_to_batch, subsample


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_space_comes_back_from_the_batch(stride):
    x = torch.rand(2, 3, 30, 60)
    assert torch.equal(batch_to_space(space_to_batch(x, stride), stride), x)


def test_each_image_of_the_batch_starts_at_its_own_pixel():
    x = torch.rand(2, 3, 6, 9)
    assert torch.equal(space_to_batch(x, 3)[(1 * 3 + 2) * 2 + 1], x[1, :, 1::3, 2::3])


def test_a_subsample_takes_each_pixel_whole_from_the_cell_that_it_stands_for():
    x = torch.rand(2, 3, 6, 9)
    choice = draw_choice(x, 3, torch.Generator().manual_seed(0))
    index = choice[1, 1, 2].item()
    taken = subsample(x, choice, 3)[1, :, 1, 2]
    assert torch.equal(taken, x[1, :, 3 + index // 3, 6 + index % 3])


def test_each_pixel_of_a_cell_is_drawn_equally_often():
    choice = draw_choice(torch.empty(4, 1, 200, 200), 2, torch.Generator().manual_seed(0))
    shares = torch.bincount(choice.flatten()) / choice.numel()
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.01, rtol=0)  # 40000 draws
