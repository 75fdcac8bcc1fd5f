import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.save import save
from restore_cli.cli.main import app
from restore_cli.imaging.files import read

TINY = {"pm_stem": 2, "em_stem": 2, "nominal_size": [80, 80]}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((90, 60), 20).convert("RGB").save(path)
    return path


@pytest.fixture(scope="module")
def tiny_tml(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(registry.build("tml", **TINY), path, arch="tml", config=TINY, record={})
    return path


def enhance(*arguments):
    return CliRunner().invoke(app, ["enhance", *map(str, arguments)])


def test_a_photo_is_enhanced_beside_itself_at_its_own_size(photo, tiny_tml):
    result = enhance(photo, "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_enhanced.png')}\n"
    with Image.open(photo.with_name("photo_enhanced.png")) as enhanced:
        assert enhanced.size == (90, 60)


def test_every_way_to_resize_gives_another_picture_of_the_same_size(photo, tiny_tml, tmp_path):
    pictures = []
    for how in ("detail", "fit", "native"):
        out = tmp_path / f"{how}.png"
        result = enhance(photo, "-o", out, "--weights", tiny_tml, "--resize", how)
        assert result.exit_code == 0, result.stderr
        pictures.append(read(out).pixels)
    assert {tuple(pixels.shape) for pixels in pictures} == {(3, 60, 90)}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(pictures[one], pictures[other])


def test_sixteen_bits_and_alpha_stay(tmp_path, tiny_tml):
    levels = np.random.default_rng(0).integers(0, 2**16, (50, 70, 4), dtype=np.uint16)
    source, out = tmp_path / "deep.tiff", tmp_path / "out.tiff"
    iio.imwrite(source, levels)
    result = enhance(source, "-o", out, "--weights", tiny_tml)
    assert result.exit_code == 0, result.stderr
    before, after = read(source), read(out)
    assert after.bit_depth == 16
    assert torch.equal(after.alpha, before.alpha)


def test_strength_0_writes_the_picture_as_it_is(photo, tiny_tml, tmp_path):
    result = enhance(photo, "-o", tmp_path / "out.png", "--weights", tiny_tml, "--strength", "0")
    assert result.exit_code == 0, result.stderr
    assert torch.equal(read(tmp_path / "out.png").pixels, read(photo).pixels)


def test_a_folder_is_enhanced_with_a_line_of_json_each(photo, tiny_tml, tmp_path):
    photo.with_name("broken.png").write_bytes(b"no picture")
    result = enhance(tmp_path, "-o", tmp_path / "out", "--weights", tiny_tml, "--json")
    assert result.exit_code == 6
    status = [json.loads(line)["status"] for line in result.stdout.splitlines()]
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


def test_a_network_of_any_size_has_nothing_to_resize(photo, tmp_path):
    config = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}
    weights = tmp_path / "mirnet.safetensors"
    save(registry.build("mirnet", **config), weights, arch="mirnet", config=config, record={})
    enhanced = enhance(photo, "--model", "mirnet", "--weights", weights)
    assert enhanced.exit_code == 0, enhanced.stderr
    refused = enhance(photo, "--weights", weights, "--resize", "fit", "--overwrite")
    assert refused.exit_code == 2
    assert "leave --resize out" in refused.stderr


@pytest.mark.parametrize(
    ("level", "said"),
    [(153, "60 %: not dark, left as it is"), (76, "30 %: not very dark"), (20, None)],
    ids=["bright", "between", "dark"],
)
def test_it_is_said_when_a_picture_is_not_dark(level, said, tmp_path, tiny_tml):
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
    assert max(changes.values()) < 0.03
