import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from restore_cli.training.losses import LOSSES, edge, laplacian

TARGET = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_loses_least(name):
    perfect = LOSSES[name]([TARGET], TARGET)
    assert LOSSES[name]([TARGET + 0.05 * torch.rand_like(TARGET)], TARGET) > perfect


@pytest.mark.parametrize("name", LOSSES)
def test_every_output_counts(name):
    bad = TARGET.flip(-1)
    assert_close(
        LOSSES[name]([TARGET, bad], TARGET),
        LOSSES[name]([TARGET], TARGET) + LOSSES[name]([bad], TARGET),
    )


def test_the_laplacian_is_the_published_formula():
    """lap(z) = z - G(4 * zero-interleave(G(z)[::2, ::2])), dpenet's training script."""
    taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05])

    def blur(x):
        rows = F.conv2d(F.pad(x, (0, 0, 2, 2), mode="replicate"), taps.view(1, 1, 5, 1))
        return F.conv2d(F.pad(rows, (2, 2, 0, 0), mode="replicate"), taps.view(1, 1, 1, 5))

    x = TARGET[:, :1]
    interleaved = torch.zeros_like(x)
    interleaved[..., ::2, ::2] = blur(x)[..., ::2, ::2]
    assert_close(laplacian(x), x - blur(4 * interleaved))


def test_the_edge_loss_of_equal_pictures_is_its_epsilon():
    assert edge(TARGET, TARGET).item() == pytest.approx(1e-3)
