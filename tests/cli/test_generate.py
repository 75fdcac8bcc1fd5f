"""`restore generate` with tiny random weights."""

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from restore_cli import registry
from restore_cli.checkpoints.save import save
from restore_cli.cli.main import app
from restore_cli.networks.dimr.model import branches
from tests.unets import CLASS_UNET, tiny_vae

FIT = {
    "hidden_size": 32,
    "depth": 1,
    "num_heads": 2,
    "num_classes": 2,
    "adaln_lora_dim": 8,
    "in_channels": 3,
    "context_size": 16,
    "ori_max_pe_len": 4,
}

DIMR = {
    "channels": 3,
    "num_classes": 3,
    "stage_configs": [asdict(stage) for stage in branches((16, 8), (1, 1), 8, heads=2)],
}


def weights_file(path, arch, config):
    network = registry.build(arch, **config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save(network, path, arch=arch, config=config, record={"classes": ["ball", "sunflower"]})
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    return {
        "unet": weights_file(folder / "unet.safetensors", "scalecrafter", CLASS_UNET),
        "fit": weights_file(folder / "fit.safetensors", "fitv2", FIT),
        "dimr": weights_file(folder / "dimr.safetensors", "dimr", DIMR),
        "dimr latent": weights_file(
            folder / "dimr_latent.safetensors", "dimr", DIMR | {"channels": 4}
        ),
        "latent": weights_file(folder / "latent.safetensors", "fitv2", FIT | {"in_channels": 4}),
    }


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def generate(*arguments):
    return CliRunner().invoke(app, ["generate", *map(str, arguments), "--steps", "2"])


def made(*arguments):
    result = generate(*arguments)
    assert result.exit_code == 0, result.stderr
    return result


def shown(name):
    return CliRunner().invoke(app, ["replay", name, "--show"]).stdout


each_network = pytest.mark.parametrize("network", ["unet", "fit", "dimr"])


@each_network
def test_an_image_is_generated_with_its_record(network, files, here):
    result = made("sunflower", "--weights", files[network], "--size", "16x12", "--seed", 7)
    assert result.stdout == "sunflower.png\n"
    with Image.open(here / "sunflower.png") as image:
        assert image.size == (16, 12)
        texts = image.text
    assert texts["Description"] == "sunflower"  # for other programs
    assert texts["Software"].startswith("restore ")
    record = json.loads(shown("sunflower.png"))
    assert (record["prompts"], record["seeds"]) == (["sunflower"], [7])
    assert record["settings"]["steps"] == 2
    (used,) = record["networks"]
    assert (used["width"], used["height"], used["weights"]) == (16, 12, network)
    assert len(used["sha256"]) == 64


@each_network
@pytest.mark.parametrize(
    "options",
    [("--size", "9x8"), ("--sampler", "none"), ("--freeu",), ("--guidance", "inf")],
    ids=lambda options: options[0],
)
def test_a_dry_run_refuses_what_the_network_refuses(network, options, files, here):
    common = ("ball", "--weights", files[network], *options)
    dry, real = generate(*common, "--dry-run"), generate(*common)
    assert dry.exit_code == real.exit_code == 2
    assert dry.stderr == real.stderr != ""
    assert not list(here.iterdir())


def test_a_format_without_texts_is_written_without_a_warning(files, here):
    result = made("ball", "--weights", files["fit"], "-o", "ball.webp")
    assert "warning" not in result.stderr
    assert json.loads(shown("ball.webp"))["prompts"] == ["ball"]


@each_network
def test_the_same_command_gives_the_same_bytes_and_another_seed_others(network, files, here):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made("ball", "--weights", files[network], "-o", f"{name}.png", "--seed", seed)
    first, second, third = ((here / f"{name}.png").read_bytes() for name in "abc")
    assert first == second
    assert first != third


def test_an_image_of_many_is_that_of_its_seed_alone(files, here):
    made("ball", "--weights", files["fit"], "--count", 3, "--seed", 4, "-o", "all/")
    made("ball", "--weights", files["fit"], "--seed", 6, "-o", "alone.png")
    assert (here / "all/ball_6.png").read_bytes() == (here / "alone.png").read_bytes()


def test_many_in_one_file_are_a_grid(files, here):
    made("ball", "sunflower", "--weights", files["fit"], "--count", 3, "-o", "grid.png")
    with Image.open(here / "grid.png") as grid:
        assert grid.size == (3 * 8 + 2 * 2, 2 * 8 + 2)
    assert json.loads(shown("grid.png"))["seeds"] == [0, 1, 2] * 2


@each_network
def test_without_a_size_the_network_takes_its_own(network, files, here):
    made("ball", "--weights", files[network])
    with Image.open(here / "ball.png") as image:  # the UNet goes beyond its own, 8
        assert image.size == ((8, 8) if network == "fit" else (16, 16))


@pytest.mark.parametrize(
    ("network", "options"),
    [
        ("unet", ("--direct",)),
        ("unet", ("--sampler", "ddpm")),
        ("unet", ("--negative", "ball")),
        ("unet", ("--guidance", "5")),
        ("fit", ("--sampler", "sde")),
        ("fit", ("--negative", "ball")),
        ("fit", ("--size", "16x16", "--rope", "linear")),
        ("dimr", ("--sampler", "ddim")),
        ("dimr", ("--negative", "ball")),
        ("dimr", ("--guidance", "5")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_each_choice_changes_the_image(network, options, files, here):
    size = () if "--size" in options else ("--size", "16x16")
    common = ("sunflower", "--weights", files[network], *size)
    made(*common, *options, "-o", "with.png")
    made(*common, *options[:2] * ("--size" in options), "-o", "without.png")
    assert (here / "with.png").read_bytes() != (here / "without.png").read_bytes()


def test_json_has_a_line_for_each_file(files):
    result = made("ball", "--weights", files["fit"], "--count", 2, "-o", "out/", "--json")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["target"] for row in rows] == ["out/ball_0.png", "out/ball_1.png"]
    assert [row["seed"] for row in rows] == [0, 1]
    first = rows[0] | {"seconds": None, "weights_sha256": None}
    assert first == {
        "source": "ball",
        "target": "out/ball_0.png",
        "status": "ok",
        "error": None,
        "seconds": None,
        "model": "fitv2",
        "weights": "fit",
        "weights_sha256": None,
        "device": "cpu",
        "backend": None,
        "precision": "fp32",
        "tile": None,
        "width": 8,
        "height": 8,
        "seed": 0,
        "noise_sigma": None,
        "rain": None,
    }


def test_an_image_goes_through_a_pipe(files):
    result = made("ball", "--weights", files["fit"], "-o", "-")
    assert result.stdout_bytes.startswith(b"\x89PNG")


@pytest.mark.parametrize("network", ["latent", "dimr latent"])
def test_latents_are_decoded_by_the_vae_in_a_folder(network, files, here):
    tiny_vae().save_pretrained(here / "vae")
    made("ball", "--weights", files[network], "--vae", "vae", "--size", "20x12")
    with Image.open(here / "ball.png") as image:
        assert image.size == (20, 12)


def replay(*arguments):
    return CliRunner().invoke(app, ["replay", "ball.png", *map(str, arguments)])


def test_latents_are_replayed_with_the_same_vae_and_no_other(files, here):
    for name, seed in (("vae", 0), ("other", 1)):
        tiny_vae(seed).save_pretrained(here / name)
    made("ball", "--weights", files["latent"], "--vae", "vae", "--size", "20x12")
    with_weights = ("--weights", files["latent"])
    again = replay(*with_weights, "--vae", "vae")
    assert "identical, byte for byte" in again.stderr
    other = replay(*with_weights, "--vae", "other", "--overwrite")
    assert other.exit_code == 4
    assert "the VAE in other has sha256" in other.stderr
    none = replay(*with_weights, "--overwrite")
    assert none.exit_code == 4
    assert "--vae FOLDER" in none.stderr


@pytest.mark.parametrize("arguments", [("ball",), ("--list-classes",)], ids=["make", "list"])
def test_without_any_weights_of_a_generator_it_is_exit_4(arguments, monkeypatch):
    monkeypatch.setattr("restore_cli.checkpoints.classes.installed", list)
    result = generate(*arguments)
    assert result.exit_code == 4
    assert "hint: name some: --weights FILE" in result.stderr


def test_classes_are_listed(files):
    result = made("--list-classes", "--weights", files["fit"])
    assert result.stdout == "ball\nsunflower\n"
    row = json.loads(made("--list-classes", "--weights", files["fit"], "--json").stdout)
    assert row == {
        "model": "fitv2",
        "weights": str(files["fit"]),
        "classes": ["ball", "sunflower"],
    }


def test_a_dry_run_makes_nothing(files, here):
    result = made("ball", "--weights", files["fit"], "--dry-run")
    assert result.stdout == "ball -> ball.png\n"
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sunflour", "--weights", "fit"), 2, "the nearest: sunflower"),
        ((), 2, "no prompt"),
        (("ball", "--weights", "fit", "--size", "9x8"), 2, "multiples of 2"),
        (("ball", "--weights", "fit", "--size", "big"), 2, "width x height"),
        (("ball", "--weights", "fit", "--direct"), 2, "--direct has no effect"),
        (("ball", "--weights", "unet", "--rope", "yarn"), 2, "--rope has no effect"),
        (("ball", "--weights", "unet", "--size", "64x64"), 2, "8.0 times the side"),
        (("ball", "--weights", "fit", "--sampler", "ddim"), 2, "one of: euler, midpoint"),
        (("ball", "--weights", "fit", "--negative", "bell"), 2, "the nearest: ball"),
        (("ball", "--weights", "fit", "-o", "-", "--json"), 2, "cannot both go to stdout"),
        (("ball", "--weights", "fit", "--quality", "9"), 2, "--quality has no effect on png"),
        (("ball", "--weights", "fit", "--base", "x"), 2, "contradict"),
        (("ball", "--weights", "fit", "--seed", str(1 << 64)), 2, "--seed"),
        (("ball", "--weights", "fit", "--guidance", "inf"), 2, "from 1 to 1000"),
        (("", "--weights", "fit"), 2, "a prompt or -o is empty"),
        (("ball", "--model", "dpenet"), 2, "one of: fitv2"),
        (("ball", "--weights", "fit", "--model", "scalecrafter"), 4, "holds fitv2"),
        (
            ("ball", "--model", "fitv2", "--base", "x"),
            2,
            "--base is for ScaleCrafter, not for fitv2",
        ),
        (("0", "--weights", "latent"), 4, "latents of 4 channels"),
        (("0", "--weights", "latent", "--vae", "nowhere"), 4, "contains no readable AutoencoderKL"),
        (("ball", "--weights", "none.safetensors"), 4, "none.safetensors"),
        (("ball", "--weights", "dimr", "--size", "32x16"), 2, "positions up to 16x16"),
        (("ball", "--weights", "dimr", "--rope", "yarn"), 2, "--rope has no effect on DiMR"),
        (("0", "--weights", "dimr latent"), 4, "this DiMR generates latents of 4 channels"),
        (("0", "--model", "fitv1"), 4, "hint: train them: restore train --list"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_made_is_refused(arguments, code, words, files, here):
    result = generate(*(files.get(word, word) for word in arguments))
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""
    assert not list(here.iterdir())


def test_paths_can_end_with_nul(files):
    result = made("ball", "sunflower", "--weights", files["unet"], "--size", "16x16", "--print0")
    assert result.stdout == "ball.png\0sunflower.png\0"


@pytest.mark.parametrize(
    "arguments",
    [["--size", "20000x64"], ["--count", 1000, "--size", "640x64"]],
    ids=["one image", "many"],
)
def test_a_sheet_that_the_format_cannot_hold_is_refused(files, arguments):
    options = ["ball", "--weights", files["unet"], "-o", "x.webp", *arguments]
    for dry in ([], ["--dry-run"]):
        result = generate(*options, *dry)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "webp supports at most 16,383 per side" in result.stderr


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_of_another_run_is_skipped(when, files, here, monkeypatch):
    from restore_cli.batch import generate as generate_module
    from restore_cli.batch import pipeline

    if when == "before":
        monkeypatch.setattr(pipeline, "is_taken", lambda target: target.name == "ball.png")
    else:
        actual = generate_module.write

        def write(image, target, **options):
            if target.name == "ball.png":
                target.write_bytes(b"precious")
            actual(image, target, **options)

        monkeypatch.setattr(generate_module, "write", write)
    options = ["--weights", files["unet"], "--size", "16x16", "--skip-existing"]
    result = made("ball", "sunflower", *options)
    assert result.stdout == "sunflower.png\n"
    assert "skipped, already exists: ball.png" in result.stderr
