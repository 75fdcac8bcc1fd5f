from functools import partial

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from restore_cli.checkpoints import manifest
from restore_cli.imaging.io import read
from tests.cli.invoke import restore, rows

enhance = partial(restore, "enhance")


@pytest.fixture
def tiny_tml(untrained):
    return untrained("tiny", "tml", pm_stem=2, em_stem=2, nominal_size=[80, 80])


def test_a_photo_is_enhanced_beside_itself_at_its_own_size(photo, tiny_tml):
    result = enhance(photo, "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_enhanced.png')}\n"
    with Image.open(photo.with_name("photo_enhanced.png")) as enhanced:
        assert enhanced.size == (12, 9)


def test_every_way_to_resize_gives_another_image_of_the_same_size(photo, tiny_tml, tmp_path):
    images = []
    for how in ("detail", "fit", "native"):
        out = tmp_path / f"{how}.png"
        result = enhance(photo, "-o", out, "--weights", tiny_tml, "--resize", how)
        assert result.exit_code == 0, result.stderr
        images.append(read(out).pixels)
    assert {tuple(pixels.shape) for pixels in images} == {(3, 9, 12)}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(images[one], images[other])


def test_sixteen_bits_and_alpha_stay(tmp_path, tiny_tml):
    levels = np.random.default_rng(0).integers(0, 2**16, (50, 70, 4), dtype=np.uint16)
    source, out = tmp_path / "deep.tiff", tmp_path / "out.tiff"
    iio.imwrite(source, levels)
    result = enhance(source, "-o", out, "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    before, after = read(source), read(out)
    assert after.bit_depth == 16
    assert torch.equal(after.alpha, before.alpha)


def test_strength_0_writes_the_image_as_it_is(photo, tiny_tml, tmp_path):
    result = enhance(photo, "-o", tmp_path / "out.png", "--weights", tiny_tml, "--strength", "0")
    assert result.exit_code == 0, result.stderr
    assert torch.equal(read(tmp_path / "out.png").pixels, read(photo).pixels)


def test_a_folder_is_enhanced_with_a_line_of_json_each(photo, tiny_tml, tmp_path):
    photo.with_name("broken.png").write_bytes(b"no image")
    result = enhance(tmp_path, "-o", tmp_path / "out", "--weights", tiny_tml, "--json")
    assert result.exit_code == 6
    status = [row["status"] for row in rows(result)]
    assert sorted(status) == ["failed", "ok"]


@pytest.mark.parametrize(
    ("model", "name"),
    [("mirnet", "mirnet.enhance"), ("ugdc", "ugdc.default"), ("tml", "tml.default")],
)
def test_a_network_without_weights_says_how_to_get_them(photo, model, name, monkeypatch):
    monkeypatch.setattr(manifest, "bundled_entries", dict)
    result = enhance(photo, "--model", model)
    assert result.exit_code == 4
    assert f"restore weights import FILE --as {name}" in result.stderr


def test_a_network_of_any_size_has_nothing_to_resize(photo, untrained):
    weights = untrained("mirnet", "mirnet", n_feat=8, n_RRG=1, n_MSRB=1)
    enhanced = enhance(photo, "--model", "mirnet", "--weights", weights)
    assert enhanced.exit_code == 0, enhanced.stderr
    refused = enhance(photo, "--weights", weights, "--resize", "fit", "--overwrite")
    assert refused.exit_code == 2
    assert "leave --resize out" in refused.stderr


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (153, "60 %: not dark, unchanged"),
        (115, "45 %: not dark, only black and white points adjusted"),
        (76, "30 %: not very dark"),
        (20, None),
    ],
    ids=["bright", "daylight", "between", "dark"],
)
def test_an_image_that_is_not_dark_is_reported(level, said, tmp_path, tiny_tml):
    photo = tmp_path / "grey.png"
    Image.new("RGB", (50, 40), (level,) * 3).save(photo)
    result = enhance(photo, "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    assert (said or "tiny on cpu") in result.stderr
    assert ("brightness" in result.stderr) == (said is not None)


def test_daylight_comes_back_as_it_was(tmp_path, tiny_tml):
    for name in ("astronaut", "coffee", "chelsea", "camera", "clock"):
        Image.fromarray(getattr(data, name)()).convert("RGB").save(tmp_path / f"{name}.png")
    result = enhance(tmp_path, "-o", tmp_path / "out", "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    changes = {
        path.stem: (read(tmp_path / "out" / path.name).pixels - read(path).pixels).abs().mean()
        for path in tmp_path.glob("*.png")
    }
    assert 0.03 < changes.pop("chelsea") < 0.08  # it has no white: its white point is set
    assert max(changes.values()) < 0.03


def test_a_grainy_result_suggests_to_denoise_it_too(tmp_path, tiny_tml):
    rng = np.random.default_rng(0)
    for name, noise in (("grainy", 12), ("clean", 0)):
        levels = 60 + noise * rng.standard_normal((90, 120, 3))
        Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    alone = enhance(tmp_path / "grainy.png", "--weights", tiny_tml)
    command = f"try restore run {tmp_path / 'grainy.png'} --steps enhance,denoise"
    assert alone.stderr.count("grainy result (noise sigma ") == 1
    assert command in " ".join(alone.stderr.split())
    assert "grainy result" not in enhance(tmp_path / "clean.png", "--weights", tiny_tml).stderr


def film(size, box, bar, seed=0):
    """A dark scene (H, W, 3) with colors and detail, at `box` of an image filled with `bar`."""
    rng = np.random.default_rng(seed)
    rows, columns = box
    pixels = np.full((*size, 3), bar, np.float64)
    y, x = np.mgrid[: rows.stop - rows.start, : columns.stop - columns.start] / 20
    scene = np.stack([np.sin(x) + 1.2, np.cos(y) + 1.3, np.sin(x + y) + 1.4], -1) * 9
    pixels[rows, columns] = scene + rng.random(scene.shape) + 4
    return pixels


@pytest.mark.parametrize(
    ("box", "bar"),
    [
        ((slice(30, 90), slice(0, 160)), 0),
        ((slice(0, 120), slice(40, 120)), 0),
        ((slice(0, 100), slice(0, 160)), 2),
        ((slice(15, 105), slice(20, 140)), 128),
    ],
    ids=["above and below", "left and right", "nearly black below", "grey all around"],
)
@pytest.mark.parametrize("top", [255, 65535], ids=["8 bit", "16 bit"])
def test_bars_stay_as_they_are_and_do_not_count(box, bar, top, tmp_path):
    levels = film((120, 160), box, bar) / 255 * top
    source, out = tmp_path / "film.tiff", tmp_path / "out.tiff"
    iio.imwrite(source, levels.astype(np.uint8 if top == 255 else np.uint16))
    result = enhance(source, "-o", out, "--weights", "tml.default")
    assert result.exit_code == 0, result.stderr
    before, after = read(source).pixels, read(out).pixels
    scene = torch.zeros(120, 160, dtype=torch.bool)
    scene[box] = True
    assert torch.equal(after[:, ~scene], before[:, ~scene])
    assert after[:, scene].mean() > before[:, scene].mean() + 20 / 255
    assert "brightness" not in result.stderr


def test_black_around_a_title_stays_black(tmp_path):
    pixels = np.zeros((120, 200, 3), np.uint8)
    for start in range(40, 160, 16):
        pixels[50:70, start : start + 6] = (230, 220, 200)
    Image.fromarray(pixels).save(tmp_path / "title.png")
    enhance(tmp_path / "title.png", "-o", tmp_path / "out.png", "--weights", "tml.default")
    after = read(tmp_path / "out.png").pixels * 255
    assert after[:, torch.from_numpy(pixels.max(-1) == 0)].max() <= 4
