import pytest
import torch
from torch.testing import assert_close

from restore_cli.networks.mirnet.model import SKFF, Blur, MIRNet, MIRNetConfig, resize

TINY = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"n_feat": 7}, "n_feat is 7, at least 8"),
        ({"height": 1}, "is 1 x 2, at least 2 x 2"),
        ({"width": 1}, "is 3 x 1, at least 2 x 2"),
    ],
)
def test_a_config_that_leaves_a_part_empty_is_refused(config, reason):
    with pytest.raises(ValueError, match=reason):
        MIRNet(MIRNetConfig(**config))


def test_images_of_a_batch_do_not_see_each_other():
    network = MIRNet(MIRNetConfig(**TINY))
    images = torch.rand(2, 3, 12, 16) * torch.tensor([1.0, 0.2]).view(2, 1, 1, 1)
    with torch.inference_mode():
        together, alone = network(images), [network(image[None]) for image in images]
    assert_close(together, torch.cat(alone))


def test_every_pixel_feels_the_mean_of_the_whole_image():
    network = MIRNet(MIRNetConfig(**TINY)).double()
    far = torch.rand(1, 3, 8, 1600, dtype=torch.float64).requires_grad_()
    network(far)[..., 0].sum().backward()
    assert far.grad[..., 1000:].abs().max() > 0  # the convolutions alone reach 340 px


def test_fusion_of_the_same_features_gives_them_back():
    features = torch.rand(1, 8, 4, 4)
    assert_close(SKFF(8, 3)([features] * 3), features)


def test_blur_keeps_what_is_constant_and_removes_what_alternates():
    flat, stripes = torch.full((8, 8), 0.3), torch.tensor([0.0, 1.0]).repeat(8, 4)
    blurred = Blur(2)(torch.stack([flat, stripes])[None])
    assert_close(blurred, torch.stack([flat, torch.full((8, 8), 0.5)])[None, :, ::2, ::2])


@pytest.mark.parametrize(
    ("source", "target", "shape"),
    [(0, 2, (32, 2, 3)), (2, 0, (8, 32, 48)), (1, 1, (16, 8, 12))],
    ids=["down", "up", "stay"],
)
def test_each_step_between_streams_doubles_or_halves(source, target, shape):
    x = torch.rand(1, 8 * 2**source, 8, 12)
    assert resize(8, source, target)(x).shape[1:] == shape
