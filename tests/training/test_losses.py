import pytest
import pytorch_msssim
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


def test_the_edge_loss_of_equal_images_is_its_epsilon():
    assert edge(TARGET, TARGET).item() == pytest.approx(1e-3)


def test_ms_ssim_is_one_minus_the_score():
    y = F.interpolate(torch.rand(2, 1, 22, 22), size=(176, 176), mode="bicubic")
    x = y + 0.1 * torch.rand_like(y)
    expected = 1 - pytorch_msssim.ms_ssim(x, y, data_range=1.0)
    assert_close(LOSSES["ms_ssim"]([x], y), expected, atol=1e-5, rtol=0)


def test_mix_is_five_parts_of_ms_ssim_and_one_of_l1():
    x, y = torch.rand(2, 2, 1, 48, 48).unbind()
    parts = [LOSSES[name]([x], y) for name in ("ms_ssim", "l1")]
    assert_close(LOSSES["mix"]([x], y), 0.84 * parts[0] + 0.16 * parts[1])


def test_the_loss_of_photographs_is_l1_with_ms_ssim_and_edges():
    x, y = torch.rand(2, 2, 3, 48, 48).unbind()
    expected = LOSSES["l1"]([x], y) + 0.2 * LOSSES["ms_ssim"]([x], y) + 0.2 * edge(x, y)
    assert_close(LOSSES["photo"]([x], y), expected)


@pytest.mark.parametrize("size", [(11, 11), (24, 12), (48, 60), (170, 161)], ids=str)
@pytest.mark.parametrize("name", ["ms_ssim", "mix", "photo"])
def test_the_gradient_of_an_inverted_image_is_finite(name, size):
    """Its contrast terms are negative, and a fractional power of 0 has no slope."""
    target = torch.rand(1, 1, *size)
    output = (1 - target).requires_grad_()
    LOSSES[name]([output], target).backward()
    assert output.grad.isfinite().all()


def test_charbonnier_is_l1_but_for_the_smallest_differences():
    assert_close(LOSSES["charbonnier"]([TARGET], TARGET), torch.tensor(1e-3))
    distant = LOSSES["charbonnier"]([TARGET + 0.5], TARGET)
    assert_close(distant, torch.tensor((0.25 + 1e-6) ** 0.5))


def test_halving_every_error_lowers_the_log_error_by_the_same_whatever_it_was():
    strong, weak = 0.2 * torch.ones(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    weak[:] = torch.tensor([0.2, 0.02])[:, None, None, None]
    zero = torch.zeros(2, 3, 8, 8)
    gained = [
        (LOSSES["log_error"]([x], zero) - LOSSES["log_error"]([x / 2], zero)).item()
        for x in (strong, weak)
    ]
    assert gained == pytest.approx([0.693] * 2, abs=0.03)  # ln 2, less what rounding hides
