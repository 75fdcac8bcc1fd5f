"""Weights as files. Nothing here imports torch before a file is read or written."""

from restore_cli.checkpoints import importers
from restore_cli.checkpoints.load import Checkpoint, load, load_checkpoint

__all__ = ["Checkpoint", "importers", "load", "load_checkpoint"]
