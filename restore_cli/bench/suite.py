"""Weights to be measured, and the figures published for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from restore_cli import registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import is_path, load_checkpoint
from restore_cli.checkpoints.origin import origin_of
from restore_cli.data.sets import PairSet
from restore_cli.errors import UsageError
from restore_cli.files import sha256_of
from restore_cli.networks.facts import Facts
from restore_cli.registry import MODELS, Configured


@dataclass(frozen=True)
class Candidate:
    """Weights of a restoration network, and their specification."""

    weights: str  # a name, or the path of a file
    spec: Configured
    origin: str  # see checkpoints.origin

    @property
    def name(self) -> str:
        return Path(self.weights).stem if is_path(self.weights) else self.weights

    @property
    def model(self) -> str:
        return self.spec.arch

    def sha256(self) -> str:
        """Return the checksum of the weights. Raises WeightsError."""
        if is_path(self.weights):
            return sha256_of(Path(self.weights).expanduser())
        return manifest.find(self.weights).sha256

    @property
    def facts(self) -> Facts:
        assert self.spec.facts is not None  # it restores
        return self.spec.facts

    def supports(self, pairs: PairSet) -> bool:
        scale = self.facts.scale if pairs.task == "upscale" else 1
        return pairs.task in self.spec.tasks and scale == pairs.scale


@dataclass(frozen=True)
class Published:
    """Figure of a paper, and its reliability."""

    psnr: float
    ssim: float | None
    note: str


IMAGENET = "trained on ImageNet; quoted from other papers"
PUBLISHED: Mapping[tuple[str, str, int], Published] = MappingProxyType(
    {  # (arch, set, scale)
        ("espcn", "set5", 3): Published(33.13, None, f"{IMAGENET}, not checked against it"),
        ("espcn", "set14", 3): Published(29.49, None, f"{IMAGENET}, not checked against it"),
        ("espcn", "set5", 4): Published(30.90, None, IMAGENET),
        ("espcn", "set14", 4): Published(27.73, None, IMAGENET),
        ("mirnet", "lol", 1): Published(24.14, 0.830, "quoted from memory of the paper"),
    }
)


def candidates(names: Sequence[str]) -> list[Candidate]:
    """Return the weights of these names; a network stands for all its weights on this machine.

    No names: all weights on this machine. Raises UsageError, WeightsError.
    """
    here = {
        entry.name: _candidate(entry)
        for entry in manifest.entries().values()
        if entry.arch in MODELS and manifest.locate(entry)[0] in ("bundled", "cached")
    }
    if not names:
        return list(here.values())
    found: list[Candidate] = []
    for name in names:
        if name in MODELS:
            own = [each for each in here.values() if each.spec.arch == name]
            if not own:
                manifest.find(MODELS[name].default_weights)  # raises with the way to get them
            found += own
        else:
            found.append(here[name] if name in here else _loaded(name))
    return list({each.weights: each for each in found}.values())


def _candidate(entry: manifest.WeightsEntry) -> Candidate:
    spec = registry.configured(MODELS[entry.arch], entry.config, entry.tasks)
    return Candidate(entry.name, spec, origin_of(entry.name))


def _loaded(name: str) -> Candidate:
    spec = load_checkpoint(name).spec
    if spec.facts is None:
        raise UsageError(f"{name} does not take images and cannot be measured")
    return Candidate(name, spec, origin_of(name))
