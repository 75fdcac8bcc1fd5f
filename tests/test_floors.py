"""Imports go down only (CONTRIBUTING.md)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "restore_cli"
FLOORS = {
    "cli": 5,
    **dict.fromkeys(("jobs", "training"), 4),
    **dict.fromkeys(("pipelines", "data"), 3),
    **dict.fromkeys(("checkpoints", "metrics"), 2),
    **dict.fromkeys(("models", "imaging"), 1),
    **dict.fromkeys(("errors", "assets", "fetch", "registry", "__version__"), 0),
}
ONLY_IN = {"typer": "cli", "rich": "cli", "PIL": "imaging", "imageio": "imaging"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE) + [
    PACKAGE / f"{name}.py" for name in ("errors", "assets", "fetch", "registry")
]


def imports(path: Path) -> list[str]:
    """Dotted names of all that a file imports, with the names taken from our package."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "restore_cli":
            found += [f"restore_cli.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


def folder(path: Path) -> str:
    return path.stem if path.parent == PACKAGE else path.parent.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_go_down_only(path):
    here = folder(path)
    used = {name.split(".")[1] for name in imports(path) if name.startswith("restore_cli.")}
    assert not {name for name in used if name != here and FLOORS[name] >= max(FLOORS[here], 1)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_library_stays_in_its_folder(path):
    used = {name.split(".")[0] for name in imports(path)}
    assert not {name for name in used & set(ONLY_IN) if ONLY_IN[name] != folder(path)}
    assert not used & {"click", "torchvision"}
