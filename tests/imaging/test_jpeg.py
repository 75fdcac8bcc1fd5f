import torch
import torch.nn.functional as F

from restore_cli.imaging.jpeg import through_jpeg


def test_lower_quality_is_further_from_the_picture():
    picture = torch.rand(3, 40, 56)
    errors = [(through_jpeg(picture, quality) - picture).std() for quality in (95, 75, 30)]
    assert errors[0] < errors[1] < errors[2]


def test_a_smooth_grey_picture_comes_back_almost_as_it_was():
    coarse = torch.rand(1, 1, 3, 3)
    picture = F.interpolate(coarse, (33, 47), mode="bilinear")[0].expand(3, -1, -1)
    assert (through_jpeg(picture, 95) - picture).abs().max() < 3 / 255


def test_colours_are_stored_at_half_the_size():
    stripes = torch.full((3, 16, 16), 0.5)
    stripes[0, :, ::2], stripes[2, :, 1::2] = 0.7, 0.7
    assert through_jpeg(stripes, 100)[0].std() < 0.6 * stripes[0].std()
