"""Commands with community models."""

import sys

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from restore_cli.imaging.io import read
from tests.cli.invoke import restore, rows, size_of
from tests.community import save_model
from tests.imaging.clips import make_clip, see

pytestmark = pytest.mark.filterwarnings("ignore")  # of spandrel


@pytest.fixture
def x4(spandrel, tmp_path):
    return save_model(tmp_path, "ESRGAN")


@pytest.fixture
def same_size(spandrel, tmp_path):
    return save_model(tmp_path, "NAFNet")


def test_an_image_is_enlarged_as_spandrel_does(spandrel, photo, x4):
    Image.effect_noise((20, 17), 50).convert("RGB").save(photo)  # smaller ones are extended
    result = restore("upscale", photo, "--weights", x4, "--precision", "fp32", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = rows(result)
    assert (row["status"], row["model"], row["weights"]) == ("ok", "esrgan", "ESRGAN")
    assert (row["width"], row["height"], row["tile"]) == (80, 68, None)
    model = spandrel.ModelLoader().load_from_file(x4).eval()
    expected = model(read(photo).pixels[None])[0]
    enlarged = read(photo.with_name("photo_upscaled.png")).pixels
    assert_close(enlarged, expected, atol=0.51 / 255, rtol=0)  # rounded to 8 bit


def test_another_factor_is_reached_by_reduction(photo, x4):
    assert restore("upscale", photo, "--weights", x4, "--scale", 2).exit_code == 0
    assert size_of(photo.with_name("photo_upscaled.png")) == (24, 18)


@pytest.mark.parametrize(
    ("task", "participle"),
    [
        ("deblur", "deblurred"),
        ("dejpeg", "dejpegged"),
        ("dehaze", "dehazed"),
        ("face", "face"),
        ("denoise", "denoised"),
        ("enhance", "enhanced"),
    ],
)
def test_a_model_that_keeps_the_size_serves_each_task(photo, same_size, task, participle):
    result = restore(task, photo, "--weights", same_size)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name(f'photo_{participle}.png')}\n"
    assert "rain" not in result.stderr


def test_alpha_is_kept_and_enlarged(tmp_path, x4):
    source = tmp_path / "alpha.png"
    Image.effect_noise((12, 9), 50).convert("RGBA").save(source)
    restore("upscale", source, "--weights", x4)
    with Image.open(tmp_path / "alpha_upscaled.png") as image:
        assert (image.mode, image.size) == ("RGBA", (48, 36))


def test_a_task_without_a_network_of_restore_asks_for_a_model(photo):
    result = restore("deblur", photo)
    assert result.exit_code == 2
    assert "no weights are bundled for deblur" in result.stderr
    assert "restore deblur SOURCE --weights FILE" in result.stderr


def test_a_model_of_another_factor_than_1_is_no_deblurring(photo, x4):
    result = restore("deblur", photo, "--weights", x4)
    assert result.exit_code == 4
    assert "ESRGAN is trained to upscale, not to deblur" in result.stderr


def test_the_model_in_a_template_is_that_of_the_file(photo, x4, tmp_path):
    template = tmp_path / "{stem}_{model}{ext}"
    assert restore("upscale", photo, "--weights", x4, "-o", template).exit_code == 0
    assert (tmp_path / "photo_esrgan.png").exists()


def test_steps_take_community_models(photo, x4, same_size):
    weights = ("--weights", f"deblur={same_size}", "--weights", f"upscale={x4}")
    result = restore("run", photo, "--steps", "deblur,upscale", *weights, "--json")
    assert result.exit_code == 0, result.stderr
    assert rows(result)[0]["model"] == "nafnet+esrgan"


def test_a_result_is_replayed_byte_for_byte(spandrel, photo, tmp_path):
    weights = save_model(tmp_path, "AuraSR")  # draws noise
    assert restore("upscale", photo, "--weights", weights, "--seed", 5).exit_code == 0
    result = restore("replay", photo.with_name("photo_upscaled.png"), "--weights", weights)
    assert "byte for byte" in result.stderr


def test_a_video_is_enlarged(spandrel, tmp_path):
    clip, weights = make_clip(tmp_path / "clip.mp4"), save_model(tmp_path, "Compact")
    assert restore("upscale", clip, "--weights", weights).exit_code == 0
    assert see(tmp_path / "clip_upscaled.mp4").size == (96, 128)


def test_an_imported_model_is_used_by_its_name(photo, x4):
    result = restore("weights", "import", x4)
    assert result.stdout == "esrgan.imported\n"
    (row,) = (
        each for each in rows(restore("weights", "list", "--json")) if "esrgan" in each["name"]
    )
    assert row["tasks"] == ["upscale"]
    assert restore("upscale", photo, "--weights", "esrgan.imported").exit_code == 0
    assert restore("weights", "verify", "esrgan.imported").exit_code == 0
    by_file = restore("replay", photo.with_name("photo_upscaled.png"))
    assert "byte for byte" in by_file.stderr, by_file.stderr


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("SAFMNBCIE", ["dejpeg"]),
        ("NAFNet", ["denoise", "deblur"]),
        ("RetinexFormer", ["enhance"]),
        ("Compact", ["upscale"]),
    ],
)
def test_the_task_of_an_import_is_guessed_from_the_architecture(spandrel, tmp_path, name, tasks):
    path = save_model(tmp_path, name)
    result = restore("weights", "import", path, "--json")
    assert result.exit_code == 0, result.stderr
    assert rows(result)[0]["tasks"] == tasks


def test_a_task_that_is_given_overrides_the_guess(photo, same_size):
    restore("weights", "import", same_size, "--as", "nafnet.gopro", "--task", "deblur")
    assert restore("deblur", photo, "--weights", "nafnet.gopro").exit_code == 0
    refused = restore("denoise", photo, "--weights", "nafnet.gopro")
    assert refused.exit_code == 4
    assert "nafnet.gopro is trained to deblur, not to denoise" in refused.stderr


def test_a_task_that_the_weights_cannot_have_is_refused(x4, random_weights):
    refused = restore("weights", "import", x4, "--task", "deblur")
    assert refused.exit_code == 2
    assert "the weights are for esrgan, which does not deblur" in refused.stderr
    assert restore("weights", "import", random_weights, "--task", "upscale").exit_code == 2


def test_a_factor_that_the_weights_do_not_have_is_refused(x4):
    refused = restore("weights", "import", x4, "--scale", 2)
    assert refused.exit_code == 2
    assert "the weights enlarge x4, not x2" in refused.stderr


def test_info_shows_a_file_before_its_import(x4, random_weights):
    (row,) = rows(restore("weights", "info", x4, "--json"))
    assert (row["arch"], row["tasks"], row["where"]) == ("esrgan", ["upscale"], "file")
    assert row["config"]["scale"] == 4
    assert row["config"]["precisions"] == ["fp32", "tf32", "bf16", "fp16"]
    assert rows(restore("weights", "info", random_weights, "--json"))[0]["arch"] == "dpenet"


def test_info_shows_an_imported_model(x4):
    restore("weights", "import", x4, "--as", "esrgan.anime")
    (row,) = rows(restore("weights", "info", "esrgan.anime", "--json"))
    assert (row["importer"], row["config"]["architecture"]) == ("spandrel", "ESRGAN")


def test_a_missing_extra_ends_with_code_4_and_one_line(photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    path = tmp_path / "RealESRGAN_x4plus.pth"
    torch.save({"conv_first.weight": torch.zeros(1)}, path)
    result = restore("upscale", photo, "--weights", path)
    assert result.exit_code == 4
    (line,) = result.stderr.splitlines()
    assert line.endswith("needs the extra: pip install 'restore-cli[models]'")
