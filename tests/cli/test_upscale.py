import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import restore_cli as rc
from restore_cli.checkpoints.library import import_weights
from restore_cli.inference import device, factors, upscaler
from tests.cli.invoke import restore, rows, size_of

upscale = partial(restore, "upscale")


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), (36, 27)),
        (("--scale", "3"), (36, 27)),
        (("-s", "3x"), (36, 27)),
        (("-s", "x3"), (36, 27)),
        (("--scale", "2.5"), (30, 22)),
        (("--size", "30x20"), (30, 20)),
        (("--size", "30x"), (30, 22)),
        (("--size", "x20"), (27, 20)),
        (("--size", "30"), (30, 22)),
        (("--size", "100"), (100, 75)),
        (("--scale", "4", "--repeat"), (48, 36)),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else None,
)
def test_the_result_has_the_size_that_was_asked_for(photo, x3, options, size):
    result = upscale(photo, "--weights", x3, *options)
    assert result.exit_code == 0, result.stderr
    target = photo.with_name("photo_upscaled.png")
    assert result.stdout == f"{target}\n"
    assert size_of(target) == size


def test_json_has_the_new_size_and_the_weights(photo, x3):
    result = upscale(photo, "--weights", x3, "--json")
    (row,) = rows(result)
    assert (row["width"], row["height"], row["model"]) == (36, 27, "espcn")
    assert row["weights"] == "x3"
    assert len(row["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "3"),
        (("--scale", "x2.5"), "2.5"),
        (("--size", "30x20"), "30x20"),
        (("--size", "30x"), "30x"),
    ],
    ids=str,
)
def test_scale_in_a_template_is_what_was_asked_for(photo, x3, tmp_path, options, name):
    template = tmp_path / "{stem}_{task}_x{scale}{ext}"
    result = upscale(photo, "--weights", x3, "-o", template, *options)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / f"photo_upscaled_x{name}.png").is_file()


def test_a_factor_without_weights_is_one_line_and_exit_2(photo, x3):
    result = upscale(photo, "--weights", x3, "--scale", "4")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "restore: no weights enlarge x4: there are x3",
        "hint: x3 after x3 reaches it: upscale --repeat, or run --steps upscale:3,upscale:3",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--scale", "1"),
        ("--scale", "0"),
        ("--scale", "-2"),
        ("--scale", "nan"),
        ("--scale", "two"),
        ("--scale", "x2x"),
        ("--size", "x"),
        ("--size", "30x20x"),
        ("--size", "0x9"),
        ("--scale", "2", "--size", "30x20"),
    ],
    ids=" ".join,
)
def test_sizes_that_make_no_sense_are_exit_2(photo, options):
    result = upscale(photo, *options)
    assert result.exit_code == 2
    assert "hint:" in result.stderr


def test_an_image_larger_than_the_size_is_exit_3(photo, x3):
    result = upscale(photo, "--weights", x3, "--size", "10x10")
    assert result.exit_code == 3
    assert "12x9" in result.stderr
    assert not photo.with_name("photo_upscaled.png").exists()


def test_exif_has_the_new_size(tmp_path, x3):
    tags = Image.Exif()
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ExifImageWidth] = 12
    source = tmp_path / "photo.jpg"
    Image.effect_noise((12, 9), 50).convert("RGB").save(source, exif=tags, dpi=(300, 300))
    assert upscale(source, "--weights", x3).exit_code == 0
    with Image.open(tmp_path / "photo_upscaled.jpg") as large:
        camera = large.getexif().get_ifd(ExifTags.IFD.Exif)
        assert camera[ExifTags.Base.ExifImageWidth] == 36
        assert large.info["dpi"] == (300, 300)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that is found, while networks run on the CPU."""
    monkeypatch.setattr(factors, "GPU_FILES", (os.devnull,))
    monkeypatch.setattr(device, "pick_device", lambda name: torch.device("cuda"))


@pytest.mark.parametrize("options", [(), ("--scale", "4")], ids=["x2", "x4"])
def test_a_gpu_upscales_by_mirnet_and_says_so(photo, gpu, options):
    result = upscale(photo, "-o", photo.parent / "{stem}_{model}{ext}", *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name('photo_mirnet.png')}\n"
    assert result.stderr.startswith("using mirnet (GPU default); --model espcn is faster\n")


@pytest.mark.parametrize(("others", "wanted"), [([], "mirnet"), (["clip.mp4"], "espcn")])
def test_a_gpu_upscales_by_mirnet_unless_a_video_is_among_the_sources(photo, gpu, others, wanted):
    photo.with_name("clip.mp4").touch()
    sources = [photo, *(photo.with_name(name) for name in others)]
    result = upscale(*sources, "-o", photo.parent / "{stem}_{model}{ext}", "--dry-run")
    assert f"photo_{wanted}.png\n" in result.stdout


def test_a_cpu_upscales_by_espcn_and_says_so(photo):
    result = upscale(photo, "--device", "cpu")
    assert result.stderr.startswith("using espcn (CPU default); --model mirnet is sharper\n")


@pytest.mark.parametrize("named", [("--model", "espcn"), ("--weights", "espcn.x2")], ids=" ".join)
def test_a_named_network_is_taken_on_a_gpu_too(photo, gpu, named):
    result = upscale(photo, "--json", *named)
    assert rows(result)[0]["model"] == "espcn"
    assert "using" not in result.stderr


def test_several_steps_upscale_by_the_same_rule(photo, gpu):
    target = photo.parent / "{stem}_{model}{ext}"
    result = restore("run", photo, "--steps", "upscale:4", "-o", target)
    assert result.stdout == f"{photo.with_name('photo_mirnet.png')}\n"


def test_the_model_in_a_template_is_that_of_named_weights(photo):
    target = photo.parent / "{stem}_{model}{ext}"
    result = upscale(photo, "--weights", "mirnet.sr_x2", "-o", target, "--dry-run")
    assert result.stdout.endswith("photo_mirnet.png\n")


def test_weights_for_another_task_are_exit_4(photo, random_weights):
    assert upscale(photo, "--weights", random_weights).exit_code == 4


@pytest.fixture
def saved_coarsely(tmp_path):
    path = tmp_path / "coarse.jpg"
    Image.effect_noise((40, 48), 50).convert("RGB").save(path, quality=30)
    return path


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ((), "espcn.real_x3"),
        (("--for", "clean"), "espcn.x3"),
        (("--for", "photo"), "espcn.real_x3"),
    ],
    ids=["auto", "clean", "photo"],
)
def test_a_damaged_jpeg_takes_the_weights_for_photographs(saved_coarsely, x3, option, wanted):
    import_weights(x3, "espcn.real_x3")
    result = upscale(saved_coarsely, "--model", "espcn", "--scale", "3", "--json", *option)
    assert result.exit_code == 0, result.stderr
    assert rows(result)[0]["weights"] == wanted


def test_photographs_are_upscaled_by_mirnet_unless_a_network_is_named(photo, monkeypatch):
    monkeypatch.setattr(upscaler, "photo_weights_by_scale", lambda spec: {})
    result = upscale(photo, "--for", "photo", "--device", "cpu")
    assert result.exit_code == 4
    assert result.stderr.startswith("restore: there are no weights of mirnet for photographs\n")
    assert "restore weights import FILE --as mirnet.real_x2" in result.stderr


def test_a_purpose_beside_weights_is_exit_2(photo, x3):
    result = upscale(photo, "--weights", x3, "--for", "photo")
    assert result.exit_code == 2
    assert "--for and --weights contradict each other" in result.stderr


def test_a_result_that_the_format_cannot_hold_is_refused_before_the_weights_are_loaded(tmp_path):
    wide = tmp_path / "scroll.jpg"
    Image.new("RGB", (22_000, 8)).save(wide)
    for arguments in ([], ["--dry-run"]):
        result = restore("upscale", wide, "-s", 3, "-o", tmp_path / "out.jpg", *arguments)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "scroll.jpg: the result has 66000 x 24 pixels, but jpeg" in result.stderr


def test_several_networks_in_turn_are_named_and_recorded(photo, x3):
    result = upscale(photo, "--weights", x3, "--size", "100x75")
    assert result.exit_code == 0, result.stderr
    assert "2 networks in turn: x3 to 36x27, then x3 to 100x75\n" in result.stderr
    record = json.loads(restore("replay", "--show", photo.with_name("photo_upscaled.png")).stdout)
    assert [network["weights"] for network in record["networks"]] == ["x3", "x3"]


def test_networks_are_not_repeated_where_that_is_refused(photo, x3):
    result = upscale(photo, "--weights", x3, "--size", "100x75", "--no-repeat")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "hint: x3 after x3 reaches it: upscale --repeat, or run --steps upscale:3,upscale:3"
        in result.stderr
    )


def test_enlargements_of_one_image_are_kept_apart_by_a_template(photo, x3):
    upscale(photo, "--weights", x3)
    again = upscale(photo, "--weights", x3)
    assert again.exit_code == 3
    assert "choose another output with -o, for example -o '{folder}/{stem}_x{scale}" in again.stderr
    result = upscale(photo, "--weights", x3, "-o", "{folder}/{stem}_x{scale}{ext}")
    assert result.stdout == f"{photo.with_name('photo_x3.png')}\n"


@pytest.mark.parametrize("name", ["jpg", "JPEG"])
def test_a_format_is_named_by_its_suffix_too(photo, name):
    assert upscale(photo, "--dry-run", "--format", name).stdout.endswith("photo_upscaled.jpg\n")


def test_y_replaces_existing_files(photo, x3):
    photo.with_name("photo_upscaled.png").touch()
    assert upscale(photo, "--weights", x3, "-y").exit_code == 0
    assert size_of(photo.with_name("photo_upscaled.png")) == (36, 27)


def test_an_ensemble_averages_over_the_orientations(photo, tmp_path):
    plain, ensemble, named = (tmp_path / f"{name}.png" for name in ("plain", "ensemble", "named"))
    options = ("--weights", "espcn.x3", "--precision", "fp32", "--device", "cpu")
    upscale(photo, *options, "-o", plain)
    result = upscale(photo, *options, "--ensemble", "-o", ensemble)
    assert result.exit_code == 0, result.stderr
    restored = rc.restore(
        "upscale", photo, weights="espcn.x3", precision="fp32", device="cpu", ensemble=True
    )
    rc.write_image(restored, named)
    with Image.open(plain) as one, Image.open(ensemble) as eight, Image.open(named) as same:
        assert one.tobytes() != eight.tobytes()
        worst = np.abs(np.asarray(eight, int) - np.asarray(same, int)).max()
        assert worst <= 1  # onnxruntime and torch
    replayed = restore("replay", ensemble, "--source", photo)
    assert "byte for byte" in replayed.stderr


def test_an_ensemble_is_not_computed_without_torch(photo):
    upscale(photo, "--ensemble", "--device", "cpu")
    (row,) = rows(restore("replay", photo.with_name("photo_upscaled.png"), "--json"))
    assert row["record"]["torch"] is not None
    assert row["record"]["settings"]["ensemble"] is True
