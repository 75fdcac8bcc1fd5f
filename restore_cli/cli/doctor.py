"""`restore doctor`: is everything here that a run needs?"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from restore_cli import __version__, assets
from restore_cli.cli.console import reporter
from restore_cli.cli.options import Json
from restore_cli.errors import RestoreError

PACKAGES = ("torch", "numpy", "pillow", "tifffile", "kornia-rs", "safetensors", "typer", "rich")


def doctor(json: Json = False) -> None:
    """Check versions, devices, memory and the bundled weights."""
    from restore_cli import registry
    from restore_cli.checkpoints.load import load_checkpoint
    from restore_cli.pipelines.device import fastest_low_precision, free_memory, pick_device

    device = pick_device("auto")
    low = fastest_low_precision(device)
    findings: dict[str, str] = {
        "restore": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "device": str(device),
        "free memory": f"{free_memory(device) / 2**30:.1f} GiB",
        "16-bit precision": str(low).removeprefix("torch.") if low else "not in this hardware",
        "cache": str(assets.cache_dir()),
    }
    broken = [package for package in PACKAGES if findings[package] == "missing"]
    for spec in registry.MODELS.values():
        try:
            load_checkpoint(spec.default_weights)
            findings[spec.default_weights] = "ok"
        except RestoreError as error:
            findings[spec.default_weights] = error.message
            broken.append(spec.default_weights)
    with reporter("doctor", json=json) as report:
        if json:
            report.data({**findings, "broken": broken})
        else:
            for name, finding in findings.items():
                report.data(f"{name:18} {finding}")
    if broken:
        raise typer.Exit(4)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
