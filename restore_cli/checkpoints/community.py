"""Networks of other projects, through spandrel (extra `models`), which knows their architectures.

A weight file is read as any other, so that a pickle with code is refused; spandrel gets tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn

from restore_cli.checkpoints.empty import no_initial_values
from restore_cli.checkpoints.read import WeightFile
from restore_cli.checkpoints.shapes import at_most, check_finite
from restore_cli.errors import InputError, WeightsMismatch
from restore_cli.networks.facts import Facts, Grey, Rgb, Tiling
from restore_cli.registry import Configured
from restore_cli.tasks import TASKS, TaskName

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

EXTRA = "needs the extra: pip install 'restore-cli[models]'"
OVERLAP = 32  # pixels; a multiple of the windows of the transformers, whose radius is not known
# Peak memory of published sizes at 256 px; most networks take less.
BYTES_PER_PIXEL = 16_000
MORE_BYTES_PER_PIXEL: Mapping[str, int] = MappingProxyType(
    {"ATD": 27_000, "DRCT": 24_000, "GRL": 52_000, "HAT": 40_000, "KBNet": 19_000}
)
TILING: Mapping[str, Tiling] = MappingProxyType(
    {"SUPPORTED": "approximate", "DISCOURAGED": "discouraged", "INTERNAL": "never"}
)
FIVE_DIMENSIONS = 5  # of parameters, for which torch has no channels_last
# IPT takes views that channels_last does not allow; rounding changes the codes of RestoreFormer.
NEEDS_CONTIGUOUS = ("IPT", "RestoreFormer")
KEEPING_SIZE = tuple(task for task in TASKS if task != "upscale")
# Tasks for which weights of an architecture are published, where these are not just any.
PUBLISHED: Mapping[str, tuple[TaskName, ...]] = MappingProxyType(
    {
        "DRUNet": ("denoise",),
        "DnCNN": ("denoise",),
        "FBCNN": ("dejpeg",),
        "FFTformer": ("deblur",),
        "GFPGAN": ("face",),
        "HVICIDNet": ("enhance",),
        "IPT": ("denoise", "derain"),
        "KBNet": ("denoise", "derain"),
        "MixDehazeNet": ("dehaze",),
        "NAFNet": ("denoise", "deblur"),
        "RestoreFormer": ("face",),
        "RetinexFormer": ("enhance",),
        "SAFMNBCIE": ("dejpeg",),
        "SCUNet": ("denoise",),
        "Uformer": ("denoise", "deblur"),
    }
)
# Networks that trainings keep beside those that restore, by names of their tensors.
DISCRIMINATORS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "the U-Net discriminator of Real-ESRGAN": frozenset({"conv0.weight", "conv9.weight"}),
        "the VGG discriminator of ESRGAN": frozenset({"conv0_0.weight", "linear2.weight"}),
        "the discriminator of StyleGAN2": frozenset(
            {"final_conv.0.weight", "final_linear.1.weight"}
        ),
    }
)


@dataclass(frozen=True)
class Community:
    """A community model: its network, and its state dict under the published names."""

    spec: Configured  # with all tasks that it may be for: its training decides
    likely: tuple[str, ...]  # tasks for which the architecture is published, else all
    config: Mapping[str, Any]  # its properties by spandrel, for people
    module: CommunityNetwork
    state: dict[str, Tensor]


class CommunityNetwork(nn.Module):
    """A model of spandrel; an image is padded to the size that it needs, and the output cropped."""

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module], face_side: int = 0):
        super().__init__()
        self.network = descriptor.model
        self.face_side = face_side  # the only size that it takes; 0: any
        self.seed = 0  # of the noise that some draw
        self._descriptor = descriptor
        self._lock = Lock()  # of the random numbers of the process

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.face_side and (height, width) != (self.face_side, self.face_side):
            raise InputError(
                f"the network takes a face of {self.face_side}x{self.face_side} px, "
                f"the image is {width}x{height}",
                hint="crop the face and resize it",
            )
        devices = [x.device] if x.device.type == "cuda" else []
        with self._lock, torch.random.fork_rng(devices):
            torch.manual_seed(self.seed)
            # One image at a time, of which some networks overwrite their input.
            return torch.cat([self._descriptor(image) for image in torch.split(x.clone(), 1)])


def load(file: WeightFile) -> Community:
    """Build the network that spandrel finds for the tensors of a file.

    Raises WeightsMismatch for an unknown network, for one that is no restoration of a single RGB
    or grey image, and where spandrel is missing.
    """
    name = file.path.name
    for discriminator, names in DISCRIMINATORS.items():
        if names <= file.state.keys():
            raise WeightsMismatch(f"{name}: is {discriminator}, which does not restore images")
    descriptor, state = _descriptor(file)
    check_finite(descriptor.model, name)
    _refuse_unsuitable(descriptor, name)
    arch = descriptor.architecture.id
    minimum = descriptor.size_requirements.minimum
    face_side = minimum if descriptor.purpose == "FaceSR" else 0
    able = ("upscale",) if descriptor.scale > 1 else KEEPING_SIZE
    likely = tuple(task for task in PUBLISHED.get(arch, ()) if task in able) or able
    spec = Configured(arch.lower(), able, _facts(descriptor))
    network = CommunityNetwork(descriptor, face_side).eval()
    return Community(spec, likely, _properties(descriptor), network, state)


def _facts(descriptor: ImageModelDescriptor[nn.Module]) -> Facts:
    is_face = descriptor.purpose == "FaceSR"
    parameters = [*descriptor.model.parameters(), *descriptor.model.buffers()]
    return Facts(
        receptive_radius=None,
        overlap=OVERLAP,
        bytes_per_pixel=MORE_BYTES_PER_PIXEL.get(descriptor.architecture.id, BYTES_PER_PIXEL),
        tiling="never" if is_face else TILING[descriptor.tiling.name],
        preprocessing=Rgb() if descriptor.input_channels == 3 else Grey(),
        scale=descriptor.scale,
        channels=descriptor.input_channels,
        multiple=descriptor.size_requirements.multiple_of,
        precisions=_precisions(descriptor),
        channels_last=descriptor.architecture.id not in NEEDS_CONTIGUOUS
        and all(tensor.dim() < FIVE_DIMENSIONS for tensor in parameters),
    )


def _precisions(descriptor: ImageModelDescriptor[nn.Module]) -> tuple[str, ...]:
    low = {"bf16": descriptor.supports_bfloat16, "fp16": descriptor.supports_half}
    return ("fp32", "tf32", *(precision for precision, supported in low.items() if supported))


def _properties(descriptor: ImageModelDescriptor[nn.Module]) -> dict[str, Any]:
    size = descriptor.size_requirements
    return {
        "architecture": descriptor.architecture.id,
        "tags": list(descriptor.tags),
        "scale": descriptor.scale,
        "channels": descriptor.input_channels,
        "minimum": size.minimum,
        "multiple": size.multiple_of,
        "square": size.square,
        "tiling": descriptor.tiling.name.lower(),
        "precisions": list(_precisions(descriptor)),
    }


def _refuse_unsuitable(descriptor: Any, name: str) -> None:
    arch, channels = descriptor.architecture.name, descriptor.input_channels
    if descriptor.purpose == "Inpainting":
        raise WeightsMismatch(f"{name}: {arch} fills masked areas, and no command takes masks")
    if channels not in (1, 3) or channels != descriptor.output_channels:
        raise WeightsMismatch(
            f"{name}: this {arch} makes {descriptor.output_channels} channels of {channels}, "
            "but images are RGB or grey"
        )


def _descriptor(file: WeightFile) -> tuple[Any, dict[str, Tensor]]:
    """Return the descriptor of spandrel, and the state dict under the names that it knows."""
    name, registry = file.path.name, _registry(file)
    for state in _under_published_names(file):
        for candidate in registry.architectures("detection"):
            if not candidate.detect(state):
                continue
            try:
                with catch_warnings(), no_initial_values(), at_most(state):
                    simplefilter("ignore")  # of code that this project does not maintain
                    return candidate.architecture.load(dict(state)), state
            # Shapes that do not fit fail in any way at all, from KeyError to RuntimeError.
            except Exception as error:
                reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
                raise WeightsMismatch(
                    f"{name}: does not fit {candidate.architecture.name}, whose names it has: "
                    f"{reason[0]}"
                ) from error
    raise WeightsMismatch(
        f"{name}: no known network of restore or spandrel has these tensors "
        f"({_first_names(file)} ...)"
    )


def _under_published_names(file: WeightFile) -> Iterator[dict[str, Tensor]]:
    """Yield the state dict under the names in the file, then without each prefix that it may have.

    "model." is part of the names of some architectures, and added to others by trainings.
    """
    for removed in range(len(file.prefixes) + 1):
        prefix = "".join(file.prefixes[removed:])
        yield {f"{prefix}{key}": tensor for key, tensor in file.state.items()}


def _registry(file: WeightFile) -> Any:
    """Import the architectures. Raises WeightsMismatch where spandrel or torchvision is missing."""
    try:
        from spandrel import MAIN_REGISTRY
    except ModuleNotFoundError as error:
        raise WeightsMismatch(
            f"{file.path.name}: no known network has these tensors "
            f"({_first_names(file)} ...); a community model {EXTRA}"
        ) from error
    # A torchvision of another build fails with RuntimeError, OSError or AttributeError.
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise WeightsMismatch(
            f"{file.path.name}: community models need a torchvision made for torch "
            f"{torch.__version__}, the installed one does not load: "
            "pip install --force-reinstall torch torchvision, both from one index"
        ) from error
    return MAIN_REGISTRY


def _first_names(file: WeightFile) -> str:
    return ", ".join(list(file.state)[:3]) or "none"
