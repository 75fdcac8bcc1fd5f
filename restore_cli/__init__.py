"""Image restoration on PyTorch: `restore` as a command, and as a package.

Names are loaded when they are first used, so that `import restore_cli` costs no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ATTRIBUTES = {
    "restore": "restore_cli.inference.restorer:restore",
    "load": "restore_cli.checkpoints.load:load",
    "models": "restore_cli.registry:MODELS",
}
_PACKAGES = ("checkpoints", "metrics", "registry")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"restore_cli.{name}")
    if name in _ATTRIBUTES:
        module, attribute = _ATTRIBUTES[name].split(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'restore_cli' has no attribute {name!r}")
