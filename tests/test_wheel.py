"""What `pip install` gives: built, installed apart from the checkout, run from another folder."""

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

CHECKOUT = Path(__file__).parents[1]
BUNDLED = "restore_cli/bundled/"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel made from the sdist of this checkout, as `python -m build` makes it."""
    dist = tmp_path_factory.mktemp("dist")
    # Without isolation: hatchling is among the packages for development, so no index is asked.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist)]
    done = subprocess.run([*command, str(CHECKOUT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(list(dist.glob("restore_cli-*.tar.gz"))) == 1
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """Runs `restore` of a new environment that has the wheel, and borrows all other packages."""
    home = tmp_path_factory.mktemp("elsewhere")
    builder = venv.EnvBuilder(with_pip=False)
    builder.create(home / "venv")
    environment = builder.ensure_directories(home / "venv")
    own_packages = next((home / "venv").rglob("site-packages"))
    (own_packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()))
    pip = [environment.env_exe, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    # The borrowed packages hold the editable restore of the test environment too.
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def restore(*arguments):
        return subprocess.run(
            [Path(environment.bin_path, "restore"), *map(str, arguments)],
            cwd=home,
            env=clean | {"RESTORE_CACHE": str(home / "cache")},
            capture_output=True,
            encoding="utf-8",
        )

    return restore


def test_the_wheel_is_below_45_megabytes(wheel):
    assert wheel.stat().st_size < 45_000_000


@pytest.mark.parametrize("folder", ["weights", "samples"])
def test_the_wheel_holds_all_weights_and_samples(wheel, folder):
    wanted = {path.name for path in (CHECKOUT / folder).iterdir() if path.is_file()}
    prefix = f"{BUNDLED}{folder}/"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.removeprefix(prefix) for name in names if name.startswith(prefix)} == wanted


def test_the_wheel_holds_the_package_and_its_licence_only(wheel):
    package = {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("*.py", "*.html", "*.safetensors", "py.typed")
        for path in (CHECKOUT / "restore_cli").rglob(pattern)
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.startswith(BUNDLED)}
    about = {name.split(".dist-info/")[1] for name in names - package}
    assert package <= names
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_installed_weights_are_sound(installed):
    done = installed("weights", "verify", "--json")
    assert done.returncode == 0, done.stderr
    assert '"status": "ok"' in done.stdout
    assert str(CHECKOUT) not in done.stdout


def test_the_installed_samples_can_be_copied_out(installed, tmp_path):
    done = installed("samples", tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".md"} == {
        path.name for path in (CHECKOUT / "samples").iterdir() if path.suffix in (".jpg", ".mp4")
    }


def test_the_installed_command_derains_a_image(installed, tmp_path):
    Image.effect_noise((48, 32), 50).convert("RGB").save(tmp_path / "rain.png")
    done = installed("derain", tmp_path / "rain.png", "-o", tmp_path / "dry.png")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'dry.png'}\n"), done.stderr
    with Image.open(tmp_path / "dry.png") as dry:
        assert dry.size == (48, 32)
