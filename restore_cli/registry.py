"""The table of networks: names and numbers only, so that reading it costs no torch.

Every number here is checked by a test that runs the network (tests/test_registry.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from restore_cli.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

Task = Literal["denoise", "derain", "enhance", "upscale", "generate"]


@dataclass(frozen=True)
class NetworkSpec:
    """What there is to know of any network; all of it, for one that makes images of nothing."""

    arch: str
    tasks: tuple[Task, ...]  # the first is its default
    module: str  # "package.module:name"; name(Config(**config)) builds it
    config: str  # the name of its config dataclass in the same module
    default_weights: str  # they need not be on this machine: most networks come without
    paper: str
    task_weights: Mapping[str, str] = field(default_factory=dict, kw_only=True)  # instead of them

    def weights_for(self, task: str) -> str:
        """The name of the weights that do `task` where none are named."""
        return self.task_weights.get(task, self.default_weights)

    def own_weights(self) -> tuple[str, ...]:
        """The names of the weights of all its tasks."""
        return tuple(dict.fromkeys(self.weights_for(task) for task in self.tasks))


Spec = TypeVar("Spec", bound=NetworkSpec)


@dataclass(frozen=True)
class ModelSpec(NetworkSpec):
    """What the pipeline must know, besides, of a network that takes an image."""

    adapter: str  # how it is fed and read: a key of pipelines.adapters.ADAPTERS
    scale: int  # output size / input size, of images; see network_scale
    channels: int  # 3 for RGB, 1 for luma
    multiple: int  # sizes are padded to a multiple of this
    radius: int | None  # receptive radius in input pixels; None: it sees the whole image
    overlap: int  # default context around a tile, in input pixels; its cost is in docs/tiling.md
    bytes_per_pixel: int  # of a tile, of working memory in float32, by benchmarks/memory.py
    fixed_size: tuple[int, int] | None  # (H, W) if it works at one size only
    tiling: Literal["exact", "approximate", "never"]
    # Its tasks of which it is the default; of others, that is the first in the table.
    best_for: tuple[Task, ...] = field(default=(), kw_only=True)

    @property
    def network_scale(self) -> int:
        """Output size / input size of the network: the image may be enlarged before."""
        return 1 if self.adapter == "pre_upscaled" else self.scale


TML_PAPER = (
    "Song et al., Troublemaker Learning for Low-Light Image Enhancement, 2024 (arXiv 2402.04584)"
)

MIRNET_FEATURES = 64  # of the published size, for which the table has its memory

MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.arch: spec
        for spec in (
            ModelSpec(
                arch="dpenet",
                tasks=("derain",),
                module="restore_cli.networks.dpenet.model:DPENet",
                config="DPENetConfig",
                adapter="rgb",
                scale=1,
                channels=3,
                multiple=1,
                radius=181,
                overlap=64,
                bytes_per_pixel=1200,
                fixed_size=None,
                tiling="exact",
                default_weights="dpenet.default",
                paper="Wen et al., From Heavy Rain Removal to Detail Restoration: "
                "A Faster and Better Network, Pattern Recognition 2023 (arXiv 2205.03553)",
            ),
            ModelSpec(
                arch="cbsn",
                tasks=("denoise",),
                module="restore_cli.networks.cbsn.model:CBSN",
                config="CBSNConfig",
                adapter="standardized",
                scale=1,
                channels=3,
                multiple=1,
                radius=29,
                overlap=29,
                bytes_per_pixel=3000,
                fixed_size=None,
                tiling="exact",
                default_weights="cbsn.fast",
                paper="Jang et al., Self-supervised Image Denoising with Downsampled Invariance "
                "Loss and Conditional Blind-Spot Network, ICCV 2023 (arXiv 2304.09507)",
            ),
            ModelSpec(
                arch="espcn",
                tasks=("upscale",),
                module="restore_cli.networks.espcn.model:ESPCN",
                config="ESPCNConfig",
                adapter="luma",
                scale=3,
                channels=1,
                multiple=1,
                radius=4,
                overlap=4,
                bytes_per_pixel=640,
                fixed_size=None,
                tiling="exact",
                default_weights="espcn.x2",
                paper="Shi et al., Real-Time Single Image and Video Super-Resolution Using an "
                "Efficient Sub-Pixel Convolutional Neural Network, CVPR 2016 (arXiv 1609.05158)",
            ),
            ModelSpec(
                arch="tml",
                tasks=("enhance",),
                module="restore_cli.networks.tml.model:TML",
                config="TMLConfig",
                adapter="fixed_size",
                scale=1,
                channels=3,
                multiple=1,
                radius=None,
                overlap=0,
                bytes_per_pixel=2700,
                fixed_size=(400, 640),
                tiling="never",
                default_weights="tml.default",
                paper=TML_PAPER,
            ),
            # Alone it is what TML begins with: images come out bright, not yet corrected.
            ModelSpec(
                arch="ugdc",
                tasks=("enhance",),
                module="restore_cli.networks.tml.model:UGDC",
                config="UGDCConfig",
                adapter="fixed_size",
                scale=1,
                channels=3,
                multiple=1,
                radius=None,
                overlap=0,
                bytes_per_pixel=2700,
                fixed_size=(400, 640),
                tiling="never",
                default_weights="ugdc.default",
                paper=TML_PAPER,
            ),
            # After all others of its tasks. Of the two denoisers it takes away more noise and
            # less else, in half as much time again (weights/mirnet.md).
            ModelSpec(
                arch="mirnet",
                tasks=("denoise", "enhance", "upscale"),
                module="restore_cli.networks.mirnet.model:MIRNet",
                config="MIRNetConfig",
                adapter="pre_upscaled",
                scale=1,
                channels=3,
                multiple=4,
                radius=None,
                overlap=32,
                bytes_per_pixel=4000,
                fixed_size=None,
                tiling="approximate",
                default_weights="mirnet.denoise",
                task_weights={"enhance": "mirnet.enhance", "upscale": "mirnet.sr_x2"},
                best_for=("denoise",),
                paper="Zamir et al., Learning Enriched Features for Real Image Restoration and "
                "Enhancement, ECCV 2020 (arXiv 2003.06792)",
            ),
        )
    }
)


GENERATORS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        spec.arch: spec
        for spec in (
            # The first is the default of `restore generate`: more of its images are right.
            NetworkSpec(
                arch="fitv2",
                tasks=("generate",),
                module="restore_cli.networks.fit.model:FiT",
                config="FiTConfig",
                default_weights="fitv2.default",
                paper="Wang et al., FiTv2: Scalable and Improved Flexible Vision Transformer for "
                "Diffusion Model (arXiv 2410.13925)",
            ),
            NetworkSpec(
                arch="fitv1",
                tasks=("generate",),
                module="restore_cli.networks.fit.model:FiT",
                config="FiTv1Config",
                default_weights="fitv1.default",
                paper="Lu et al., FiT: Flexible Vision Transformer for Diffusion Model, "
                "ICML 2024 (arXiv 2402.12376)",
            ),
            NetworkSpec(
                arch="scalecrafter",  # the small UNet that shows it; Stable Diffusion is a pipeline
                tasks=("generate",),
                module="restore_cli.networks.scalecrafter.unet:class_unet",
                config="UNetConfig",
                default_weights="scalecrafter.default",
                paper="He et al., ScaleCrafter: Tuning-free Higher-Resolution Visual Generation "
                "with Diffusion Models, ICLR 2024 (arXiv 2310.07702)",
            ),
        )
    }
)
NETWORKS: Mapping[str, NetworkSpec] = MappingProxyType({**MODELS, **GENERATORS})


def find(arch: str) -> NetworkSpec:
    """The fact sheet of a network. Raises UsageError for an unknown name."""
    try:
        return NETWORKS[arch]
    except KeyError:
        raise UsageError(
            f"no network is called {arch!r}", hint=f"one of: {', '.join(sorted(NETWORKS))}"
        ) from None


def configured(spec: Spec, config: Mapping[str, Any]) -> Spec:
    """The fact sheet of a network so configured, where its config has a say in the facts.

    Of a network that does many things, a configuration that enlarges does nothing else.
    """
    if not isinstance(spec, ModelSpec):
        return spec
    facts: dict[str, Any] = {}
    if "scale" in config:
        facts["scale"] = config["scale"]
        facts["tasks"] = ("upscale",) if config["scale"] > 1 else spec.tasks
    if config.get("upsampler") == "subpixel":  # the network enlarges, so nothing is done before
        facts["adapter"] = "rgb"
    if "n_feat" in config:  # of MIRNet, whose memory and halvings the others do not have
        facts["bytes_per_pixel"] = spec.bytes_per_pixel * config["n_feat"] // MIRNET_FEATURES
    if "height" in config:
        facts["multiple"] = 2 ** (config["height"] - 1)
    if "in_channels" in config:
        facts["channels"] = config["in_channels"]
    if "nominal_size" in config:
        height, width = config["nominal_size"]
        facts["fixed_size"] = (height, width)
    return replace(spec, **facts) if facts else spec


def find_for_task(task: str, model: str | None = None) -> ModelSpec:
    """The network that restores by `task`: `model` if named, else the default."""
    able = [spec for spec in MODELS.values() if task in spec.tasks]
    able.sort(key=lambda spec: task not in spec.best_for)
    for spec in able:
        if model in (None, spec.arch):
            return spec
    raise UsageError(
        f"{model!r} does not {task}", hint=f"one of: {', '.join(spec.arch for spec in able)}"
    )


def build(arch: str, **config: Any) -> nn.Module:
    """A new network with random weights; `config` are the fields of its config dataclass.

    Raises UsageError for an unknown network and for a config field that it does not have.
    """
    spec = find(arch)
    module_name, class_name = spec.module.split(":")
    module = import_module(module_name)
    config_class = getattr(module, spec.config)
    try:
        chosen = config_class(**config)
    except TypeError as error:
        raise UsageError(f"{arch}: {error}") from error
    network: nn.Module = getattr(module, class_name)(chosen)
    return network
