import json

import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints.library import import_weights
from restore_cli.checkpoints.save import save
from restore_cli.cli.choices import CommonOptions
from restore_cli.cli.main import app
from restore_cli.cli.upscale import usual_network
from restore_cli.inference import factors, upscaler


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.effect_noise((12, 9), 50).convert("RGB").save(path)
    return path


@pytest.fixture
def x3(tmp_path):
    path = tmp_path / "x3.safetensors"
    save(registry.build("espcn", scale=3), path, arch="espcn", config={"scale": 3}, record={})
    return path


def upscale(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments)])


def size_of(path):
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ((), (36, 27)),
        (("--scale", "3"), (36, 27)),
        (("--scale", "2.5"), (30, 22)),
        (("--size", "30x20"), (30, 20)),
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


def test_json_tells_the_new_size_and_the_weights(photo, x3):
    result = upscale(photo, "--weights", x3, "--json")
    row = json.loads(result.stdout)
    assert (row["width"], row["height"], row["model"]) == (36, 27, "espcn")
    assert row["weights"] == "x3"
    assert len(row["weights_sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "name"),
    [((), "3"), (("--scale", "2.5"), "2.5"), (("--size", "30x20"), "30x20")],
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
        "hint: --repeat makes it of x3 after x3",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--scale", "1"),
        ("--scale", "0"),
        ("--scale", "-2"),
        ("--scale", "nan"),
        ("--scale", "two"),
        ("--size", "30"),
        ("--size", "0x9"),
        ("--scale", "2", "--size", "30x20"),
    ],
    ids=" ".join,
)
def test_sizes_that_make_no_sense_are_exit_2(photo, options):
    result = upscale(photo, *options)
    assert result.exit_code == 2
    assert "hint:" in result.stderr


def test_a_image_larger_than_the_size_is_exit_3(photo, x3):
    result = upscale(photo, "--weights", x3, "--size", "10x10")
    assert result.exit_code == 3
    assert "12x9" in result.stderr
    assert not photo.with_name("photo_upscaled.png").exists()


def test_exif_tells_the_new_size(tmp_path, x3):
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
    """A machine that says it has a GPU, and computes on the CPU all the same."""
    monkeypatch.setattr(factors, "_kind", lambda device: "cuda")


@pytest.mark.parametrize(
    ("options", "network", "other"),
    [((), "mirnet", "espcn is faster"), (("--scale", "4"), "mirnet", "espcn is faster")],
    ids=["x2", "x4"],
)
def test_a_gpu_enlarges_by_mirnet_and_that_is_said(photo, gpu, options, network, other):
    result = upscale(photo, "-o", photo.parent / "{stem}_{model}{ext}", *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{photo.with_name(f'photo_{network}.png')}\n"
    assert result.stderr.startswith(f"enlarging by {network} on cpu; --model {other}\n")


@pytest.mark.parametrize(("others", "wanted"), [([], "mirnet"), (["clip.mp4"], "espcn")])
def test_a_gpu_enlarges_by_the_better_network_unless_a_video_is_among_them(
    photo, tmp_path, others, wanted
):
    (tmp_path / "clip.mp4").touch()
    sources = [str(photo), *(str(tmp_path / name) for name in others)]
    assert usual_network(CommonOptions(sources, device="cuda"), 2) == wanted


def test_a_cpu_enlarges_by_espcn_and_that_is_said(photo):
    result = upscale(photo, "--device", "cpu")
    assert result.stderr.startswith("enlarging by espcn on cpu; --model mirnet is sharper\n")


@pytest.mark.parametrize("named", [("--model", "espcn"), ("--weights", "espcn.x2")], ids=" ".join)
def test_a_network_that_is_named_is_taken_on_a_gpu_too(photo, gpu, named):
    result = upscale(photo, "--json", *named)
    assert json.loads(result.stdout)["model"] == "espcn"
    assert "enlarging by" not in result.stderr


def test_several_steps_enlarge_by_the_same_rule(photo, gpu):
    target = photo.parent / "{stem}_{model}{ext}"
    result = CliRunner().invoke(app, ["run", str(photo), "--steps", "upscale:4", "-o", str(target)])
    assert result.stdout == f"{photo.with_name('photo_mirnet.png')}\n"


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
    assert json.loads(result.stdout)["weights"] == wanted


def test_photographs_are_enlarged_by_mirnet_unless_a_network_is_named(photo, monkeypatch):
    monkeypatch.setattr(upscaler, "photo_weights_by_scale", lambda spec: {})
    result = upscale(photo, "--for", "photo", "--device", "cpu")
    assert result.exit_code == 4
    assert result.stderr.startswith("restore: there are no weights of mirnet for photographs\n")
    assert "restore weights import FILE --as mirnet.real_x2" in result.stderr


def test_a_purpose_beside_weights_is_exit_2(photo, x3):
    result = upscale(photo, "--weights", x3, "--for", "photo")
    assert result.exit_code == 2
    assert "--for and --weights contradict each other" in result.stderr
