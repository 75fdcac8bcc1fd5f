"""`restore generate --base` and its replay, with tiny random pipelines and their additions."""

import json
import shutil

import pytest
import torch
from PIL import Image as Pillow
from typer.testing import CliRunner

from restore_cli.cli.main import app
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import read, write
from tests.pipelines import LORAS, save_lora, tiny_controlnet, tiny_lora, tiny_pipeline

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
        *("--controlnet-scale", 0.75),
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
        ("controlnet", "net", 0.75),
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
        (("--controlnet-scale", "1"), 2, "--controlnet-scale has no effect without --controlnet"),
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


def test_a_larger_scale_of_the_controlnet_changes_more(folder, here):
    net = ("--controlnet", folder / "net", "--control-image", folder / "edges.png")
    common = ("generate", "a fox", "--base", folder / "sd", "--size", "16x16", "--steps", 2)
    restore(*common, "-o", "without.png")
    for scale in (0, 0.5, 1):
        result = restore(*common, *net, "--controlnet-scale", scale, "-o", f"{scale}.png")
        assert result.exit_code == 0, result.stderr
    restore(*common, *net, "-o", "default.png")
    pixels = {path.stem: read(path).pixels for path in here.glob("*.png")}
    assert torch.equal(pixels["0"], pixels["without"])
    assert torch.equal(pixels["1"], pixels["default"])
    changes = [(pixels[scale] - pixels["without"]).abs().mean().item() for scale in ("0.5", "1")]
    assert 0 < changes[0] < changes[1]


@pytest.fixture
def parts(folder, here):
    """The parts of a pipeline, links to them in the working folder, and damaged ones."""
    for path in folder.iterdir():
        (here / path.name).symlink_to(path)
    (here / "bad.safetensors").write_bytes(b"no tensors")
    write(Image(torch.rand(1, 30, 30)), here / "large.png")
    tiny_controlnet(here / "other-net", cross_attention_dim=16)
    tiny_controlnet(here / "wide-net", in_channels=8)
    tiny_controlnet(here / "deep-net", channels=1)
    shutil.copytree(folder / "sd", here / "hollow")
    for file in (here / "hollow" / "unet").glob("*.safetensors"):
        file.unlink()
    return here


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--base nothing", 4, "nothing is not a folder"),
        ("--base net", 4, "net contains no model_index.json"),
        ("--base hollow", 4, "hollow: not a readable pipeline: unet/ contains no weights"),
        ("--base none.safetensors", 4, "none.safetensors: no such file"),
        ("--base sd --lora none.safetensors", 4, "none.safetensors: no such file"),
        ("--base sd --lora bad.safetensors", 4, "bad.safetensors: not a LoRA"),
        ("--base sd --init-image none.png", 3, "none.png"),
        ("--base sd --init-image bad.safetensors", 3, "bad.safetensors"),
        ("--base sd --init-image photo.png --mask large.png", 2, "large.png is 30x30"),
        ("--base sd --mask mask.png", 2, "--mask has no effect without --init-image"),
        ("--base sd --controlnet sd --control-image edges.png", 4, "no readable ControlNet"),
        ("--base sd --controlnet other-net --control-image edges.png", 4, "cross_attention_dim 16"),
        (
            "--base sd --controlnet net --control-image edges.png --controlnet-scale 3",
            2,
            "from 0 to 2",
        ),
        ("--base sd --controlnet sd/unet --control-image edges.png", 4, "a UNet2DConditionModel"),
        ("--base sd --controlnet deep-net --control-image edges.png", 4, "takes 1 channels"),
        ("--base sd --controlnet wide-net --control-image edges.png", 4, "in_channels 8, the base"),
        ("--base sd --scheduler foo", 2, "--sampler foo: unknown"),
        ("--base sd --size 33x16", 2, "the nearest is 32x16"),
        ("--base sd --size 160x16", 2, "160x16 is 10.0 times the side"),
        ("--base sd --freeu", 2, "--freeu has no effect on StableDiffusionPipeline"),
        ("--base sd --size 16x16 --disperse", 2, "--disperse has no effect within"),
        ("--base sd --vae net", 2, "--vae has no effect on --base"),
        ("--prompts none.txt --base sd", 2, "--prompts none.txt: No such file"),
        ("--base sd --guidance inf", 2, "from 1 to 1000"),
    ],
)
@pytest.mark.parametrize("dry", [("--dry-run",), ()], ids=["dry", "real"])
def test_a_dry_run_refuses_what_a_real_one_does(options, code, message, dry, parts):
    before = set(parts.iterdir())
    result = restore("generate", "a fox", "--steps", 1, *options.split(), *dry)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr.replace("\n", " ")
    assert result.stdout == ""
    assert set(parts.iterdir()) == before


@pytest.mark.parametrize("layout", LORAS)
@pytest.mark.parametrize(
    ("down", "up", "wrong"),
    [((2, 8), (8, 2), None), ((2, 4), (8, 2), "lora_A"), ((2, 8), (6, 2), "lora_B")],
    ids=["fitting", "input", "output"],
)
def test_a_lora_of_other_shapes_is_refused_by_its_header(layout, down, up, wrong, folder, here):
    layers, matrices = LORAS[layout]
    file = save_lora(here / "style.safetensors", layers, matrices, down, up)
    common = ("generate", "a fox", "--base", folder / "sd", "--lora", file, "--steps", 1)
    dry, real = (restore(*common, "--size", "16x16", *end) for end in (("--dry-run",), ()))
    assert dry.exit_code == real.exit_code == (4 if wrong else 0), real.stderr
    if wrong:
        assert dry.stderr == real.stderr
        said, _, hint = dry.stderr.partition("hint: ")
        assert f"{wrong}." in said
        assert hint == "take a LoRA that was trained for this base\n"


def test_a_dry_run_of_all_parts_plans_and_reads_no_weights(folder, everything, here, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("weights are read")

    monkeypatch.setattr("restore_cli.inference.samplers.pipelines.read_pipeline", refused)
    result = restore("generate", "a red fox", *everything, "-o", "fox.png", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "a red fox -> fox.png\n"), result.stderr
    assert not list(here.iterdir())


@pytest.mark.parametrize("kind", ["xl", "lcm", "inpaint"])
def test_other_pipelines_are_planned_too(kind, tmp_path):
    base = tiny_pipeline(kind, tmp_path)
    result = restore("generate", "a fox", "--base", base, "--negative", "blurred", "--dry-run")
    reasons = {"lcm": "--negative has no effect", "inpaint": "it needs --init-image and --mask"}
    assert reasons.get(kind, "1 planned") in result.stderr


def test_a_text_model_has_no_classes_to_list(folder):
    result = restore("generate", "--base", folder / "sd", "--list-classes")
    assert result.exit_code == 2
    assert "--base takes any text" in result.stderr
