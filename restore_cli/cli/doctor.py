"""`restore doctor`: check the installation."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import typer

from restore_cli import __version__, assets, registry
from restore_cli.cli.console import Reporter, reporter
from restore_cli.cli.options import Json
from restore_cli.errors import MissingExtra, RestoreError, WeightsError, WeightsMissing

DISTRIBUTION = "restore-cli"


@dataclass(frozen=True)
class Finding:
    """One check. problem: the exit code, where it failed and a run needs it."""

    topic: str
    name: str
    value: str
    problem: int | None = None


def doctor(json: Json = False) -> None:
    """Check the installation, and restore a test image.

    Packages, devices, weights and the cache folder are checked.
    """
    with reporter("doctor", json=json) as report:
        found: list[Finding] = []
        for finding in _findings():
            found.append(finding)
            if not json:
                _show(finding, report)
        problems = [finding for finding in found if finding.problem is not None]
        if json:
            findings = [asdict(finding) for finding in found]
            report.data({"healthy": not problems, "findings": findings})
        if problems:
            report.warn(f"broken: {', '.join(finding.name for finding in problems)}")
            raise typer.Exit(problems[0].problem or 1)
        report.say("no problems found")


def _findings() -> Iterator[Finding]:
    yield Finding("versions", "restore", __version__)
    yield Finding("versions", "python", platform.python_version())
    yield Finding("versions", "system", platform.platform())
    yield from _packages()
    yield from _devices()
    yield from _weights()
    yield _cache()
    yield _trial()


def _show(finding: Finding, report: Reporter) -> None:
    mark = "  " if finding.problem is None else "! "
    report.data(f"{mark}{finding.topic:9} {finding.name:20} {finding.value}")


def _packages() -> Iterator[Finding]:
    """Check the packages that our metadata requires, and those of the extras."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding("versions", DISTRIBUTION, "not installed, run from source")
        return
    for requirement in wanted:
        if "python_version" in requirement:
            continue  # pip has installed what this version needs
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"""extra == ['"]([\w-]+)['"]""", requirement)
        problem = None
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "not installed" if extra else f"missing: pip install {name}"
            problem = None if extra else MissingExtra.exit_code
        yield Finding(f"[{extra[1]}]" if extra else "versions", name, installed, problem)


def _devices() -> Iterator[Finding]:
    import torch

    from restore_cli.inference.device import free_memory, low_precisions

    devices = [("cpu", f"{torch.get_num_threads()} threads")]
    for index in range(torch.cuda.device_count()):
        devices.append((f"cuda:{index}", torch.cuda.get_device_name(index)))
    if torch.backends.mps.is_available():
        devices.append(("mps", "Apple GPU"))
    for name, what in devices:
        device = torch.device(name)
        free = f"{free_memory(device) / 2**30:.1f} GiB free"
        yield Finding("devices", name, f"{what}, {free}, {_kinds(low_precisions(device))}")


def _kinds(low: Sequence[str]) -> str:
    return f"fp32 and fast {', '.join(low)}" if low else "fp32, no fast 16 bit"


def _weights() -> Iterator[Finding]:
    """Compare the default weights with their checksums."""
    from restore_cli.checkpoints import manifest
    from restore_cli.checkpoints.library import verify

    names = [name for spec in registry.NETWORKS.values() for name in spec.own_weights]
    for name in names:
        try:
            status = verify(manifest.find(name)).status
        except WeightsMissing as error:  # a network may come without weights
            yield Finding("weights", name, f"not bundled; {error.hint}")
            continue
        except RestoreError as error:
            yield Finding("weights", name, error.message, error.exit_code)
            continue
        yield Finding("weights", name, status, None if status == "ok" else WeightsError.exit_code)


def _cache() -> Finding:
    """Check the cache, never a problem: only fetching and importing need it."""
    folder = assets.cache_dir()
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    writable = os.path.isdir(nearest) and os.access(nearest, os.W_OK)
    return Finding("folders", "cache", str(folder) if writable else f"{folder}, not writable")


def _trial() -> Finding:
    """Restore a small grey image with the first network."""
    import torch

    from restore_cli.api import restore

    task = next(iter(registry.MODELS.values())).tasks[0]
    began = time.monotonic()
    try:
        restore(task, torch.full((3, 32, 32), 0.5))
    except RestoreError as error:
        return Finding("trial", task, error.message, error.exit_code)
    return Finding("trial", task, f"ok, {time.monotonic() - began:.1f} s")
