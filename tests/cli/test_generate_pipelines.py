"""`restore generate --base` and its replay, with tiny random pipelines and their additions."""

import json

import pytest
import torch
from PIL import Image as Pillow
from typer.testing import CliRunner

from restore_cli.cli.main import app
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import write
from tests.pipelines import tiny_controlnet, tiny_lora, tiny_pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of diffusers and transformers
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a pipeline, another one, a LoRA, a ControlNet and images."""
    folder = tmp_path_factory.mktemp("parts")
    pytest.importorskip("peft")
    tiny_pipeline("sd", folder)
    (folder / "another").mkdir()
    tiny_pipeline("sd", folder / "another", seed=1)
    tiny_controlnet(folder / "net")
    tiny_lora(folder / "style.safetensors")
    torch.manual_seed(0)
    for name in ("photo", "edges", "other"):
        write(Image(torch.rand(3, 24, 32)), folder / f"{name}.png")
    mask = torch.zeros(1, 24, 32)
    mask[..., :16] = 1
    write(Image(mask), folder / "mask.png")
    (folder / "prompts.txt").write_text("a red fox\n\n  a grey wolf \n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def restore(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def everything(folder):
    """Options that use all parts."""
    return (
        *("--base", folder / "sd", "--lora", f"{folder / 'style.safetensors'}:0.5"),
        *("--controlnet", folder / "net", "--control-image", folder / "edges.png"),
        *("--init-image", folder / "photo.png", "--init-strength", 0.9),
        *("--mask", folder / "mask.png", "--scheduler", "euler", "--negative", "blurred"),
        *("--steps", 4, "--guidance", 3, "--enhance"),
    )


def test_all_options_enter_the_record_and_are_replayed(folder, everything, here):
    made = restore("generate", "a red fox", *everything, "-o", "fox.png", "--json")
    assert made.exit_code == 0, made.stderr
    row = json.loads(made.stdout)
    assert (row["width"], row["height"]) == (64, 48)  # of the initial image, enlarged
    assert row["model"].startswith("scalecrafter+")
    record = json.loads(restore("replay", "fox.png", "--show").stdout)
    assert [(one["role"], one["name"], one["scale"]) for one in record["inputs"]] == [
        ("init_image", "photo.png", 1),
        ("mask", "mask.png", 1),
        ("control_image", "edges.png", 1),
        ("lora", "style.safetensors", 0.5),
        ("controlnet", "net", 1),
    ]
    assert record["settings"]["init_strength"] == 0.9
    assert str(folder) not in json.dumps(record["inputs"])
    again = restore(
        *("replay", "fox.png", "--base", folder / "sd", "--controlnet", folder / "net"),
        *("--weights", folder / "style.safetensors", "--source", folder / "edges.png"),
        *("--source", folder / "mask.png", "--source", folder / "photo.png"),
    )
    assert again.exit_code == 0, again.stderr
    assert "identical, byte for byte" in again.stderr


def test_input_images_beside_the_result_need_no_name(folder, here):
    photo = here / "photo.png"
    photo.write_bytes((folder / "photo.png").read_bytes())
    base = ("--base", folder / "sd")
    restore("generate", "a fox", *base, "--init-image", photo, "--steps", 2, "-o", "fox.png")
    assert "identical, byte for byte" in restore("replay", "fox.png", *base).stderr


@pytest.fixture
def fox(folder, everything, here):
    restore("generate", "a red fox", *everything, "-o", "fox.png")
    return here / "fox.png"


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("--source photo.png edges.png mask.png", 4, "by --base FOLDER"),
        ("--base sd --source photo.png edges.png", 3, "mask.png: no such file"),
        ("--base sd --source photo.png edges.png mask.png", 3, "style.safetensors: no such file"),
        (
            "--base sd --source photo.png edges.png mask.png --weights style.safetensors",
            4,
            "no ControlNet is given, but",
        ),
        (
            "--base another/sd --controlnet net --source photo.png edges.png mask.png "
            "--weights style.safetensors",
            4,
            "the base in",
        ),
    ],
)
def test_a_replay_without_all_that_was_used_is_refused(given, code, message, fox, folder, here):
    words, option = [], None
    for word in given.split():
        option = word if word.startswith("--") else option
        words += [] if word == option else [option, folder / word]
    result = restore("replay", fox, *words)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr.replace("\n", " ")
    assert list(here.iterdir()) == [fox]


def test_prompts_come_from_a_file(folder, here):
    result = restore(
        *("generate", "an owl", "--prompts", folder / "prompts.txt", "--base", folder / "sd"),
        *("--steps", 1, "--size", "16x16", "-o", "{number}_{prompt}.png"),
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.split() == ["1_an-owl.png", "2_a-red-fox.png", "3_a-grey-wolf.png"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--prompts", "none.txt"), 2, "none.txt"),
        (("--controlnet", "net"), 2, "need each other"),
        (("--control-image", "x.png"), 2, "need each other"),
        (("--lora", "x.safetensors"), 2, "--lora has no effect without --base"),
        (("--mask", "x.png"), 3, "x.png"),
        (("--init-strength", "0.5"), 2, "--init-strength has no effect on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_an_option_without_effect_is_refused(options, code, message, here):
    result = restore("generate", "heart", "--steps", 1, *options)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert not list(here.iterdir())


def test_images_of_a_class_are_enlarged_and_replayed(here):
    result = restore("generate", "heart", "--steps", 1, "--size", "32x32", "--enhance", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["width"] == 64
    with Pillow.open("heart.png") as image:
        assert image.size == (64, 64)
    assert "identical, byte for byte" in restore("replay", "heart.png").stderr
