import json
import shutil

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.cli.main import app
from restore_cli.imaging.codecs.xmp import with_record as with_xmp
from restore_cli.inference import runner
from tests.unets import CLASS_UNET


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((40, 28), 50).convert("RGB").save(path)
    return path


@pytest.fixture
def x2(tmp_path):
    path = tmp_path / "x2.safetensors"
    save(registry.build("espcn", scale=2), path, arch="espcn", config={"scale": 2}, record={})
    return path


def restore(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def derained(photo, random_weights):
    """photo_derained.png, made by weights that are in a file."""
    done = restore("derain", photo, "--weights", random_weights, "--tile", 16)
    assert done.exit_code == 0, done.stderr
    return photo.with_name("photo_derained.png")


def test_a_result_comes_out_the_same_byte_for_byte(derained, random_weights):
    result = restore("replay", derained, "--weights", random_weights)
    assert result.exit_code == 0, result.stderr
    target = derained.with_name("photo_derained_replayed.png")
    assert result.stdout == f"{target}\n"
    assert "byte for byte" in result.stderr
    assert target.read_bytes() == derained.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_other_formats_do_too(photo, random_weights, tmp_path, suffix):
    made = tmp_path / f"made{suffix}"
    quality = () if suffix == ".tif" else ("--quality", 80)
    restore("derain", photo, "-o", made, "--weights", random_weights, *quality)
    result = restore("replay", made, "--weights", random_weights)
    assert "byte for byte" in result.stderr
    assert made.with_name(f"made_replayed{suffix}").read_bytes() == made.read_bytes()


def test_tiles_that_were_exact_are_exact_again(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "free_memory", lambda device: 2**20)  # so that there are tiles
    monkeypatch.setattr(runner, "SMALLEST_TILE", 32)
    config = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}
    weights = tmp_path / "tiny.safetensors"
    save(registry.build("mirnet", **config), weights, arch="mirnet", config=config, record={})
    chosen = ("--weights", weights, "--tile", "exact", "--precision", "fp32", "--json")
    done = restore("enhance", photo, *chosen)
    assert json.loads(done.stdout)["tile"] == 32
    made = photo.with_name("photo_enhanced.png")
    row = json.loads(restore("replay", made, "--weights", weights, "--json").stdout)
    assert row["identical"]
    assert row["record"]["settings"]["exact"]


def test_every_step_is_replayed_with_its_factor(photo, random_weights, x2):
    weights = ("--weights", f"derain={random_weights}", "--weights", f"upscale={x2}")
    restore("run", photo, "--steps", "upscale:1.5,derain", *weights)
    made = photo.with_name("photo_restored.png")
    result = restore("replay", made, "--weights", random_weights, "--weights", x2, "--json")
    row = json.loads(result.stdout)
    assert (row["identical"], row["pixels_identical"]) == (True, True)
    assert [used["network"] for used in row["record"]["networks"]] == ["espcn", "dpenet"]


def test_a_denoised_image_is_limited_to_its_noise_again(tmp_path):
    photo, weights = tmp_path / "photo.png", tmp_path / "tiny.safetensors"
    Image.effect_noise((80, 64), 20).convert("RGB").save(photo)
    config = {"channels": 8, "num_module": 1}
    save(registry.build("cbsn", **config), weights, arch="cbsn", config=config, record={})
    restore("denoise", photo, "--weights", weights, "--strength", 0.7)
    made = tmp_path / "photo_denoised.png"
    result = restore("replay", made, "--weights", weights, "--json")
    row = json.loads(result.stdout)
    assert row["record"]["networks"][0]["noise_sigma"] > 0
    assert row["identical"], result.stderr


def test_weights_are_found_again_by_their_checksum(photo, tmp_path):
    made = tmp_path / "made.png"
    restore("upscale", photo, "-o", made, "--weights", "espcn.x2")
    result = restore("replay", made)
    assert result.exit_code == 0, result.stderr
    assert "byte for byte" in result.stderr


def test_the_source_may_lie_elsewhere(derained, random_weights, tmp_path):
    moved = tmp_path / "elsewhere" / "renamed.png"
    moved.parent.mkdir()
    shutil.move(derained.with_name("photo.png"), moved)
    result = restore("replay", derained, "--source", moved, "--weights", random_weights)
    assert "byte for byte" in result.stderr


def test_different_pixels_are_reported(derained, random_weights):
    other = derained.with_name("other.png")
    text = derained.read_bytes()
    other.write_bytes(text)
    with Image.open(derained) as image:
        changed = image.point(lambda level: 255 - level)
        changed.info.clear()
        from PIL import PngImagePlugin

        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", image.info["xmp"].decode())
        changed.save(other, pnginfo=info)
    result = restore("replay", other, "--weights", random_weights, "--json")
    row = json.loads(result.stdout)
    assert (row["identical"], row["pixels_identical"]) == (False, False)
    assert row["largest_difference"] > 0.1
    assert "pixels differ by up to" in result.stderr


def test_the_record_can_be_shown(derained):
    result = restore("replay", derained, "--show")
    record = json.loads(result.stdout)
    assert record["command"] == "derain"
    assert record["source"] == "photo.png"
    assert record["networks"][0]["tile"] == 16
    assert not derained.with_name("photo_derained_replayed.png").exists()


def test_no_record_is_kept_where_none_is_wanted(photo, random_weights):
    restore("derain", photo, "--weights", random_weights, "--no-record")
    result = restore("replay", photo.with_name("photo_derained.png"))
    assert result.exit_code == 3
    assert "has no record of how it was made" in result.stderr


@pytest.fixture
def generator(tmp_path):
    """The weights of a generator of two classes that was never trained."""
    path = tmp_path / "unet.safetensors"
    network = registry.build("scalecrafter", **CLASS_UNET)
    record = {"classes": ["ball", "sunflower"]}
    save(network, path, arch="scalecrafter", config=CLASS_UNET, record=record)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_generated_images_come_out_the_same_too(generator, tmp_path, suffix):
    made = tmp_path / f"made{suffix}"
    asked = ("--count", 2, "--seed", 5, "--size", "16x12", "--steps", 2, "--guidance", 2)
    restore("generate", "ball", "sunflower", "-o", made, "--weights", generator, *asked)
    result = restore("replay", made, "--weights", generator, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert (row["source"], row["identical"]) == (None, True)
    assert row["record"]["seeds"] == [5, 6, 5, 6]


def test_a_generated_image_needs_its_weights(generator, tmp_path):
    made = tmp_path / "made.png"
    restore("generate", "ball", "-o", made, "--weights", generator, "--steps", 1)
    result = restore("replay", made)
    assert result.exit_code == 4
    assert "the weights unet" in result.stderr


def test_a_generated_image_has_no_source(generator, tmp_path):
    made = tmp_path / "made.png"
    restore("generate", "ball", "-o", made, "--weights", generator, "--steps", 1)
    result = restore("replay", made, "--source", made, "--weights", generator)
    assert result.exit_code == 2
    assert "a generated image has no --source" in result.stderr


def test_a_vae_is_for_generated_images_alone(derained, tmp_path):
    result = restore("replay", derained, "--vae", tmp_path)
    assert result.exit_code == 2
    assert "--vae has no effect on a restored image" in result.stderr


def test_another_source_is_exit_3(derained, random_weights):
    Image.new("RGB", (40, 28)).save(derained.with_name("photo.png"))
    result = restore("replay", derained, "--weights", random_weights)
    assert result.exit_code == 3
    assert "was made from" in result.stderr


def test_a_missing_source_is_exit_3(derained):
    derained.with_name("photo.png").unlink()
    result = restore("replay", derained)
    assert result.exit_code == 3
    assert "hint: name it by --source FILE" in result.stderr


def with_record(path, change):
    """The same image with another record."""
    row = change(json.loads(restore("replay", path, "--show").stdout))
    with Image.open(path) as image:
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", with_xmp(None, json.dumps(row)).decode())
        image.info.clear()
        image.save(path, pnginfo=info)


@pytest.mark.parametrize("source", ["{secret}", "../secret/photo.png", ".."])
def test_a_record_does_not_lead_out_of_the_folder_of_the_result(derained, tmp_path, source):
    secret = tmp_path / "secret" / "photo.png"
    secret.parent.mkdir()
    derained.with_name("photo.png").rename(secret)
    with_record(derained, lambda row: {**row, "source": source.format(secret=secret)})
    result = restore("replay", derained)
    assert result.exit_code == 3
    assert "its record cannot be read: source: expected the name of a file" in result.stderr


def test_a_source_that_is_a_link_is_named_by_the_user_only(derained, random_weights, tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    link = derained.with_name("photo.png")
    link.rename(elsewhere)
    link.symlink_to(elsewhere)
    result = restore("replay", derained, "--weights", random_weights)
    assert result.exit_code == 3
    assert "may lead out of its folder" in result.stderr
    result = restore("replay", derained, "--weights", random_weights, "--source", link)
    assert "byte for byte" in result.stderr


def test_weights_are_never_read_from_a_path_in_the_record(derained, random_weights):
    network = {"weights": str(random_weights)}
    with_record(derained, lambda row: {**row, "networks": [row["networks"][0] | network]})
    result = restore("replay", derained)
    assert result.exit_code == 4
    assert "are not on this machine" in result.stderr


def test_a_source_with_a_long_name_is_missing(derained, random_weights):
    with_record(derained, lambda row: {**row, "source": "x" * 300 + ".png"})
    result = restore("replay", derained, "--weights", random_weights)
    assert result.exit_code == 3
    assert "no such file" in result.stderr


def test_a_record_is_shown_with_escapes(derained):
    with_record(derained, lambda row: {**row, "source": "\x1b[31mred\x07.png"})
    result = restore("replay", derained, "--show")
    assert json.loads(result.stdout)["source"] == "\x1b[31mred\x07.png"
    assert "\x1b" not in result.stdout


def test_missing_weights_are_exit_4(derained):
    result = restore("replay", derained)
    assert result.exit_code == 4
    assert "the weights random" in result.stderr


def test_other_weights_of_the_same_name_are_exit_4(photo, tmp_path):
    renamed = tmp_path / "espcn.x2.safetensors"
    save(registry.build("espcn", scale=2), renamed, arch="espcn", config={"scale": 2}, record={})
    restore("upscale", photo, "--weights", renamed)
    result = restore("replay", photo.with_name("photo_upscaled.png"))
    assert result.exit_code == 4
    assert "espcn.x2 has sha256" in result.stderr


def test_nothing_is_overwritten_unasked(derained, random_weights):
    target = derained.with_name("photo_derained_replayed.png")
    target.write_bytes(b"precious")
    result = restore("replay", derained, "--weights", random_weights)
    assert result.exit_code == 3
    assert target.read_bytes() == b"precious"


def test_another_format_is_refused(derained, tmp_path):
    result = restore("replay", derained, "-o", tmp_path / "out.jpg")
    assert result.exit_code == 2
    assert "the record is of a png" in result.stderr


def test_a_device_that_is_not_there_is_exit_5(derained, random_weights):
    result = restore("replay", derained, "--weights", random_weights, "--device", "cuda:99")
    assert result.exit_code == 5


def test_a_video_has_no_record(tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    result = CliRunner().invoke(app, ["replay", str(clip)])
    assert result.exit_code == 3
    assert "videos have no record" in result.stderr
