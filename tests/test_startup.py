import subprocess
import sys

HEAVY = {"torch", "numpy", "PIL", "kornia", "diffusers"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return set(done.stdout.split("\n")[-2].split())


def test_help_loads_nothing_heavy():
    code = (
        "from typer.testing import CliRunner\n"
        "from restore_cli.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    assert not HEAVY & loaded_by(code)


def test_importing_the_package_loads_nothing_heavy():
    assert not HEAVY & loaded_by("import restore_cli")
