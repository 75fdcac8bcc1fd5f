"""Commands without work load no heavy library, so that --help comes at once."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "PIL", "kornia", "diffusers", "safetensors", "rich", "fsspec", "gradio"}


def loaded_by(code: str) -> set[str]:
    """The top-level modules that are loaded once `code` has run."""
    script = f"import sys\n{code}\nprint('\\n', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return set(done.stdout.split("\n")[-2].split())


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "derain --help",
        "upscale --help",
        "eval --help",
        "ui --help",
        "train --help",
        "train --list",
        "train nope --data x --out y",
        "weights list",
        "nope",
        "derain no-such-file.png",
        "derain samples -o out --dry-run",
        "upscale samples -o out --dry-run",
        "upscale samples -o out --dry-run --weights espcn.x3",
        "upscale samples -o out --dry-run --weights weights/espcn.x3.safetensors",
        "run samples --steps derain,upscale -o out --dry-run",
        "denoise samples/chelsea_rain.jpg -o docs/before_after.jpg --skip-existing",
        "upscale samples/chelsea_rain.jpg -o docs/before_after.jpg --skip-existing",
        "generate --help",
        "generate --list-classes",
        "generate ball --dry-run",
        "generate no-such-class",
    ],
)
def test_commands_without_work_load_nothing_heavy(arguments):
    code = (
        "from restore_cli.cli.main import app\n"
        f"try:\n    app({arguments.split()})\n"
        "except SystemExit:\n    pass"
    )
    loaded = loaded_by(code)
    assert "restore_cli.cli.main" in loaded
    assert not HEAVY & loaded


def test_importing_the_package_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import restore_cli")


def test_listing_the_public_names_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import restore_cli; dir(restore_cli), restore_cli.__all__")


LIGHT = [
    "cbsn.fast",
    "dpenet.default",
    "espcn.x2",
    "fitv2.default",
    "mirnet.denoise",
    "tml.default",
]


@pytest.mark.parametrize("weights", LIGHT)  # that of scalecrafter is of diffusers, which needs it
def test_loading_weights_imports_no_compiler(weights):
    code = f"from restore_cli.checkpoints import load\nload({weights!r})"
    loaded = loaded_by(code)
    assert "torch" in loaded
    assert not {"torch._dynamo", "sympy"} & loaded


def test_enlarging_an_image_on_a_cpu_loads_no_torch(tmp_path):
    arguments = f"upscale samples/chelsea_rain.jpg -o {tmp_path}/big.png --device cpu".split()
    code = (
        "from restore_cli.cli.main import app\n"
        f"try:\n    app({arguments})\nexcept SystemExit:\n    pass"
    )
    loaded = loaded_by(code)
    assert (tmp_path / "big.png").exists()
    assert "torch" not in loaded
