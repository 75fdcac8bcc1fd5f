"""Perceptual metrics, on RGB in [0, 1] whatever the protocol; most by the extra `metrics`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from restore_cli.assets import environment
from restore_cli.errors import FetchError, InputError, MissingExtra, UsageError
from restore_cli.metrics.niqe import SIDE, niqe

EXTRA = "pip install 'restore-cli[metrics]'"
SOURCE = "https://download.pytorch.org/models/"

Metric = Callable[..., Tensor | float | None]  # images (1, 3, H, W) -> one score


@dataclass(frozen=True)
class Perceptual:
    """One metric. A field that a row leaves out is a type error."""

    name: str
    images: Literal[1, 2]  # 1: without a reference
    smallest: int  # side of an image, pixels
    file: str | None  # weights of its backbone, which torchvision fetches
    megabytes: int
    build: Callable[[], Metric]

    def missing_file(self) -> Path | None:
        """Return the future path of weights that are not on this machine."""
        if self.file is None:
            return None
        path = Path(torch.hub.get_dir(), "checkpoints", self.file)
        return None if path.is_file() else path


def _lpips() -> Metric:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    metric = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
    network: Any = metric.net.eval()
    return lambda x, y: network(x, y, normalize=True)


def _dists() -> Metric:
    from torchmetrics.functional.image.dists import DISTSNetwork

    network: Metric = DISTSNetwork().eval()
    return network


def _vif() -> Metric:
    from torchmetrics.functional.image import visual_information_fidelity

    metric: Metric = visual_information_fidelity
    return metric


def _niqe() -> Metric:
    return lambda x: niqe(x[0])


# Licences of code and weights: LPIPS BSD-2, DISTS MIT, torchvision BSD-3, torchmetrics Apache-2.0.
PERCEPTUAL: Mapping[str, Perceptual] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Perceptual("lpips", 2, 31, "alexnet-owt-7be5be79.pth", 233, _lpips),
            Perceptual("dists", 2, 1, "vgg16-397923af.pth", 528, _dists),
            Perceptual("vif", 2, 41, None, 0, _vif),
            Perceptual("niqe", 1, SIDE, None, 0, _niqe),
        )
    }
)


def find_metrics(names: str) -> list[Perceptual]:
    """Read `lpips,vif`. Raises UsageError for an unknown name."""
    found = [PERCEPTUAL.get(name.strip()) for name in names.split(",")]
    known = [metric for metric in found if metric is not None]
    if len(known) < len(found):
        raise UsageError(
            f"--metric {names}: not every metric is known", hint=f"known: {', '.join(PERCEPTUAL)}"
        )
    return list(dict.fromkeys(known))


def load_metric(metric: Perceptual) -> Metric:
    """Return the metric; torchvision fetches its weights unless they are there.

    Raises MissingExtra, FetchError.
    """
    missing = metric.missing_file()
    by_hand = f"download {SOURCE}{metric.file} on another machine and copy it to {missing}"
    if missing is not None and environment().offline:
        raise FetchError(
            f"{metric.name}: {missing.name} is not on this machine, and the network is disabled",
            hint=by_hand,
        )
    try:
        return metric.build()
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"--metric {metric.name} needs {error.name or 'torchvision'}", hint=EXTRA
        ) from error
    except OSError as error:
        raise FetchError(f"{metric.name}: {SOURCE}{metric.file}: {error}", hint=by_hand) from error
    # A torchvision of another build fails with RuntimeError or AttributeError.
    except (ImportError, RuntimeError, AttributeError) as error:
        raise MissingExtra(
            f"--metric {metric.name} needs a torchvision made for torch {torch.__version__}, "
            "the installed one does not load",
            hint="pip install --force-reinstall torch torchvision, both from one index",
        ) from error


@torch.inference_mode()
def measure_perceptual(
    restored: Tensor, reference: Tensor | None, metrics: Mapping[str, Metric]
) -> dict[str, float | None]:
    """Return each score of (C, H, W), None where the image is too small or has no texture.

    reference: None where no metric needs one. Raises InputError where the sizes differ.
    """
    if reference is not None and restored.shape[-2:] != reference.shape[-2:]:
        raise InputError("the sizes of the images differ")
    given = [restored] if reference is None else [restored, reference]
    images = [image.cpu().clamp(0, 1).expand(3, -1, -1)[None] for image in given]
    scores: dict[str, float | None] = {}
    for name, metric in metrics.items():
        kind = PERCEPTUAL[name]
        fits = min(restored.shape[-2:]) >= kind.smallest
        value = metric(*images[: kind.images]) if fits else None
        scores[name] = None if value is None else float(value)
    return scores


def mean_scores(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each score over the pairs that have it."""
    means: dict[str, float | None] = {}
    for name in dict.fromkeys(name for each in scores for name in each):
        values = [value for each in scores if (value := each[name]) is not None]
        means[name] = math.fsum(values) / len(values) if values else None
    return means
