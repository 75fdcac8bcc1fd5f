import pytest
import torch

from restore_cli.data.scenes import add_haze, add_uprights, bars, random_scene


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("angle", [0.0, 12.0])
def test_bars_cover_their_thickness_of_each_period(angle):
    cover, _ = bars(200, 240, period=12.0, thickness=3.0, angle=angle, start=5.0)
    assert cover.mean().item() == pytest.approx(3 / 12, abs=0.01)  # the last bar may be cut


def test_upright_bars_are_the_same_in_every_row():
    cover, _ = bars(30, 40, period=9.0, thickness=2.5, angle=0.0, start=3.0)
    assert torch.equal(cover, cover[:1].expand(30, 40))


@pytest.mark.parametrize("seed", range(8))
def test_uprights_change_more_across_than_along(seed):
    scene = add_uprights(torch.full((3, 90, 90), 0.2), seeded(seed)).mean(0)
    assert scene.diff(dim=1).abs().sum() > scene.diff(dim=0).abs().sum()


def test_uprights_are_mostly_brighter_than_a_dark_scene():
    dark = torch.full((3, 64, 64), 0.1)
    added = torch.stack([add_uprights(dark, seeded(seed)) - dark for seed in range(20)])
    assert (added > 0.05).sum() > 5 * (added < -0.05).sum()
    assert (added > 0.05).any()


def test_haze_lowers_the_contrast():
    clean = torch.rand(3, 40, 40, generator=seeded())
    assert add_haze(clean, seeded()).std() < 0.85 * clean.std()


def test_most_scenes_stay_as_they_are():
    clean = torch.full((3, 24, 24), 102 / 255)
    generator = seeded()
    kept = sum(torch.equal(random_scene(clean, generator), clean) for _ in range(300))
    assert 0.5 < kept / 300 < 0.75


def test_the_same_seed_gives_the_same_scene():
    clean = torch.rand(3, 40, 50, generator=seeded())
    assert torch.equal(random_scene(clean, seeded(4)), random_scene(clean, seeded(4)))


def test_a_scene_has_8_bit():
    levels = 255 * add_uprights(torch.full((3, 30, 30), 0.2), seeded(2))
    assert torch.allclose(levels, levels.round(), atol=1e-4)
