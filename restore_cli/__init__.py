"""Image restoration on PyTorch, as a command (`restore`) and as a package.

    import restore_cli as rc

    clean = rc.restore("derain", "rainy.jpg")
    rc.write_image(clean, "clean.png")

Names are imported on first use, so `import restore_cli` loads no torch. docs/python.md describes
the interface.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Image",
    "Restored",
    "build_network",
    "checkpoints",
    "crafted",
    "load",
    "load_generator",
    "load_restorer",
    "metrics",
    "models",
    "read_image",
    "registry",
    "restore",
    "restore_batch",
    "write_image",
]

if TYPE_CHECKING:
    from restore_cli import checkpoints, metrics, registry
    from restore_cli.api import load_restorer, read_image, restore, restore_batch, write_image
    from restore_cli.checkpoints.load import load
    from restore_cli.imaging.image import Image
    from restore_cli.inference.generator import load_generator
    from restore_cli.inference.report import Restored
    from restore_cli.inference.samplers.stable_diffusion import crafted
    from restore_cli.registry import MODELS as models
    from restore_cli.registry import build as build_network
else:
    _MODULES = ("checkpoints", "metrics", "registry")
    _NAMES = {
        **{
            name: f"restore_cli.api:{name}"
            for name in ("load_restorer", "read_image", "restore", "restore_batch", "write_image")
        },
        "Image": "restore_cli.imaging.image:Image",
        "Restored": "restore_cli.inference.report:Restored",
        "build_network": "restore_cli.registry:build",
        "crafted": "restore_cli.inference.samplers.stable_diffusion:crafted",
        "load": "restore_cli.checkpoints.load:load",
        "load_generator": "restore_cli.inference.generator:load_generator",
        "models": "restore_cli.registry:MODELS",
    }

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f"restore_cli.{name}")
        if name in _NAMES:
            module, attribute = _NAMES[name].split(":")
            return getattr(import_module(module), attribute)
        raise AttributeError(f"module 'restore_cli' has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
