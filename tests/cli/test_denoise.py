import pytest
from PIL import Image
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.save import save
from restore_cli.cli.main import app

TINY = {"channels": 8, "num_module": 1}


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((40, 36), 50).convert("RGB").save(path)
    return path


@pytest.fixture
def tiny_cbsn(tmp_path):
    path = tmp_path / "tiny.safetensors"
    save(registry.build("cbsn", **TINY), path, arch="cbsn", config=TINY, record={})
    return path


def denoise(*arguments):
    return CliRunner().invoke(app, ["denoise", *map(str, arguments)])


def test_a_photo_is_denoised_beside_itself(photo, tiny_cbsn):
    result = denoise(photo, "--weights", tiny_cbsn)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_denoised.png')}\n"


def test_strength_0_writes_the_picture_as_it_is(photo, tiny_cbsn, tmp_path):
    result = denoise(photo, "-o", tmp_path / "out.png", "--weights", tiny_cbsn, "--strength", "0")
    assert result.exit_code == 0, result.stderr
    with Image.open(photo) as before, Image.open(tmp_path / "out.png") as after:
        assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize("strength", ["-0.1", "1.5", "nan", "much"])
def test_a_strength_beyond_its_range_is_exit_2(photo, tiny_cbsn, strength):
    result = denoise(photo, "--weights", tiny_cbsn, "--strength", strength)
    assert result.exit_code == 2
    assert "--strength" in result.stderr


def test_a_network_without_weights_says_how_to_get_them(photo, monkeypatch):
    monkeypatch.setattr(manifest, "bundled_entries", dict)
    result = denoise(photo, "--model", "mirnet")
    assert result.exit_code == 4
    assert "restore weights import FILE --as mirnet.denoise" in result.stderr
