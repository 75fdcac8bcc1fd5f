import pytest
import torch
from torch.testing import assert_close

from restore_cli.imaging import planes
from restore_cli.imaging.tone import keep_black, keep_hue, luminance, stretch_contrast


def hue(pixels):
    chroma = pixels - luminance(pixels)
    return chroma / chroma.norm(dim=0, keepdim=True)


def test_hue_and_new_luminance_stay_while_a_cast_is_refused():
    pixels, changed = 0.2 * torch.rand(3, 20, 30), torch.rand(3, 20, 30)
    result = keep_hue(pixels, changed)
    assert_close(luminance(result), luminance(changed))
    assert result.min() > -1e-5 and result.max() < 1 + 1e-5
    apart = (result - luminance(result)).norm(dim=0) > 0.02
    assert_close(hue(result)[:, apart], hue(pixels)[:, apart], atol=1e-3, rtol=0)


def test_a_sunset_keeps_most_of_its_saturation():
    orange = torch.tensor([0.2, 0.1, 0.05])[:, None, None]
    grey = torch.full((3, 1, 1), 0.3)
    result = keep_hue(orange, grey)
    gain = (0.3 + 1 / 255) / (luminance(orange) + 1 / 255)
    assert_close(result - 0.3, 0.6 * gain * (orange - luminance(orange)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [3, 64], ids=["several strips", "one strip"])
def test_black_stays_up_to_its_edge_and_specks_of_noise_are_brightened(rows, monkeypatch):
    monkeypatch.setattr(planes, "STRIP", rows)
    pixels = torch.full((3, 40, 40), 0.1)
    pixels[:, :20] = 0
    pixels[:, 30, 10:12] = 0
    changed = pixels + 0.3
    keep_black(pixels, changed, 6 / 255)
    assert torch.equal(changed[:, :20], pixels[:, :20])
    assert_close(changed[:, 20:], pixels[:, 20:] + 0.3)


def test_contrast_is_stretched_to_both_points_by_its_share():
    dull = torch.linspace(0.15, 0.75, 2000).reshape(1, 40, 50)
    full, half = dull.clone(), dull.clone()
    stretch_contrast(full, 1.0)
    stretch_contrast(half, 0.5)
    assert full.min() == pytest.approx(0.01, abs=0.002)
    assert full.flatten()[1960] == pytest.approx(0.95, abs=0.002)
    assert_close(half, (dull + full) / 2)


@pytest.mark.parametrize(
    "pixels", [torch.full((3, 9, 9), 0.6), torch.linspace(0, 1, 900).expand(3, 30, 30 * 30)[:, :30]]
)
def test_no_contrast_and_full_contrast_stay_as_they_are(pixels):
    result = pixels.clone()
    stretch_contrast(result, 1.0)
    assert torch.equal(result, pixels)
