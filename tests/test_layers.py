"""The lines that keep the house in order (CONTRIBUTING.md), read from the source by ast."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "restore_cli"
LAYERS = {
    "__main__": 9,
    "cli": 8,
    **dict.fromkeys(("batch", "training", "bench"), 7),
    "api": 6,
    **dict.fromkeys(("inference", "data", "report"), 5),
    **dict.fromkeys(("checkpoints", "metrics"), 4),
    "registry": 3,
    "networks": 2,
    "imaging": 1,
    **dict.fromkeys(
        ("__init__", "tasks", "errors", "assets", "downloads", "files", "memory", "storage"), 0
    ),
    **dict.fromkeys(("worker", "interrupts"), 0),
}
GROUND = 0  # its modules are single files, which may use each other
ONLY_IN = {  # library -> where it may be imported: folders, or files of them
    **dict.fromkeys(("typer", "rich"), ("cli",)),
    **dict.fromkeys(("PIL", "imageio", "tifffile", "imagecodecs"), ("imaging", "bench/report")),
    "simplejpeg": ("imaging",),
    "av": ("imaging/codecs/jpeg_scan", "imaging/video/reader", "imaging/video/writer"),
    **dict.fromkeys(("socket", "ssl", "ftplib", "http", "urllib.request"), ("downloads",)),
    **dict.fromkeys(("requests", "httpx"), ()),
    "huggingface_hub": ("downloads",),
    **dict.fromkeys(("fsspec", "aiohttp", "s3fs", "gcsfs", "adlfs"), ("storage",)),
    "diffusers": (
        "inference/samplers/dimr",
        "inference/samplers/fit",
        "inference/samplers/unet",
        "inference/samplers/pipelines",
        "inference/samplers/stable_diffusion",
        "inference/samplers/vae",
        "networks/scalecrafter/unet",
    ),
    "ray": ("batch/distributed",),
    "ncnn": ("bench/peers",),
    "onnxruntime": ("checkpoints/onnx",),
    "openvino": ("checkpoints/onnx_network",),
    **dict.fromkeys(("onnx", "onnxscript"), ("checkpoints/export",)),
    "spandrel": ("checkpoints/community",),
    "jinja2": ("report/page",),
    "torchmetrics": ("metrics/perceptual",),
    "rawpy": ("imaging/codecs/raw",),
    **dict.fromkeys(("OpenEXR", "Imath"), ("imaging/codecs/exr",)),
    "pydicom": ("imaging/codecs/dicom",),
    "astropy": ("imaging/codecs/fits",),
    "pillow_heif": ("imaging/codecs/heif",),
    **dict.fromkeys(("gradio", "starlette"), ("cli/ui", "cli/ui_page")),
    **dict.fromkeys(("click", "typer._click", "torchvision"), ()),
}
NOT_AT_THE_TOP = {
    "aiohttp",
    "diffusers",
    "fsspec",
    "ray",
    "kornia",
    "ncnn",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "spandrel",
    "torchmetrics",
    "pillow_heif",
    "rawpy",
    "OpenEXR",
    "pydicom",
    "astropy",
}  # slow to import, or optional
NOT_AT_THE_TOP_OF_HELP = {"torch", "numpy", "rich", "safetensors"}  # of what --help imports
ONLY_CONSOLE_PRINTS = "cli/console"
ONLY_ASSETS_READS_THE_ENVIRONMENT = "assets"

FILES = sorted(PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: name_of(path))


def name_of(path: Path) -> str:
    """cli/console for restore_cli/cli/console.py"""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def folder_of(path: Path) -> str:
    return name_of(path).split("/")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Dotted names of all that is imported: modules, and what is taken from them."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def at_the_top(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield from at_the_top(node)


def uses(names: set[str], library: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for name in names)


def own(names: set[str]) -> set[str]:
    """The parts of our package among `names`: folders, or modules of the ground layer."""
    parts = {name.split(".")[1] for name in names if uses({name}, "restore_cli")}
    return {"__init__" if part == "__version__" else part for part in parts}


# The package itself names the public interface, and imports none of it before its use.
@pytest.mark.parametrize(
    "path", [each for each in FILES if name_of(each) != "__init__"], ids=name_of
)
def test_imports_go_down_only(path):
    here = folder_of(path)
    used = own(imported(ast.walk(tree_of(path)))) - {here}
    highest = max(LAYERS[here] - 1, GROUND)
    assert not {name for name in used if LAYERS[name] > highest}


@each_file
def test_each_library_stays_in_its_place(path):
    used = imported(ast.walk(tree_of(path)))
    here = {folder_of(path), name_of(path)}
    elsewhere = {name for name, places in ONLY_IN.items() if not here & {*places}}
    assert not {name for name in elsewhere if uses(used, name)}


@each_file
def test_slow_libraries_are_imported_inside_functions(path):
    helps = folder_of(path) == "cli" or LAYERS[folder_of(path)] == GROUND
    late = NOT_AT_THE_TOP | NOT_AT_THE_TOP_OF_HELP if helps else NOT_AT_THE_TOP
    used = imported(at_the_top(tree_of(path)))
    assert not {name for name in late if uses(used, name)}


@pytest.mark.parametrize("path", FILES[1:], ids=name_of)  # __init__ names the public API
def test_dotted_names_in_tables_point_down_only(path):
    """A dotted name such as "restore_cli.networks.cbsn.model:CBSN"."""
    assert path != PACKAGE / "__init__.py"
    nodes = ast.walk(tree_of(path))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    dotted = {text for text in texts if re.fullmatch(r"restore_cli[\w.]+:\w+", str(text))}
    highest = max(LAYERS[folder_of(path)], GROUND)
    assert not {name for name in own(dotted) if LAYERS[name.split(":")[0]] > highest}


@pytest.mark.parametrize("path", sorted((PACKAGE / "networks").glob("*/model.py")), ids=name_of)
def test_a_network_can_be_lifted_out_and_used_alone(path):
    used = {name for name in imported(ast.walk(tree_of(path))) if uses({name}, "restore_cli")}
    assert not {name for name in used if not uses({name}, "restore_cli.networks.layers")}


@pytest.mark.parametrize("path", sorted((PACKAGE / "networks").glob("*.py")), ids=name_of)
def test_what_networks_share_knows_no_paper(path):
    papers = {folder.name for folder in (PACKAGE / "networks").iterdir() if folder.is_dir()}
    used = imported(ast.walk(tree_of(path)))
    assert not {name for name in papers if uses(used, f"restore_cli.networks.{name}")}


@each_file
def test_nothing_is_done_in_an_assert(path):
    """It would be left out by `python -O`."""
    asserts = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert))
    calls = (node for each in asserts for node in ast.walk(each) if isinstance(node, ast.Call))
    done = {ast.unparse(call.func).rpartition(".")[2] for call in calls}
    assert not done & {"next", "pop", "popleft", "add", "append", "remove", "read", "write", "send"}


@each_file
def test_only_the_console_prints(path):
    names = {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}
    assert name_of(path) == ONLY_CONSOLE_PRINTS or "print" not in names


@each_file
def test_only_assets_reads_the_environment(path):
    words = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
    reads = name_of(path) == ONLY_ASSETS_READS_THE_ENVIRONMENT
    assert reads or not words & {"environ", "getenv"}
