"""Restoration networks as ONNX files, for onnxruntime and other programs.

The file holds the network alone, from its input to its output; its metadata tell how an image
becomes the input, and the output an image.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from restore_cli import __version__, registry
from restore_cli.checkpoints import manifest
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.checkpoints.onnx import EXTRA, INPUT, METADATA_KEY, OUTPUT, new_session
from restore_cli.errors import MissingExtra, WeightsError, WeightsMismatch
from restore_cli.networks.facts import Facts

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # the first with the antialiased bicubic of the sub-pixel MIRNet
SIDE = 64  # pixels of the example that is traced
TOLERANCE = 1e-4  # of an output, from that of torch
CHATTY = "torch.onnx._internal.exporter._registration"  # names what torchvision would add


class _Result(nn.Module):
    """A network with its last output alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        output = self.network(x)
        last: Tensor = output[-1] if isinstance(output, tuple) else output
        return last


def export(checkpoint: Checkpoint) -> bytes:
    """Return a restoration network as ONNX; batch, height and width are free.

    A network of one size has that size. Raises WeightsMismatch for a network that is no
    restoration network of restore, MissingExtra, WeightsError where onnxruntime disagrees.
    """
    facts = checkpoint.spec.facts
    if facts is None or checkpoint.spec.arch not in registry.MODELS:
        raise WeightsMismatch(
            f"{checkpoint.name} cannot be exported",
            hint=f"networks that can: {', '.join(registry.MODELS)}",
        )
    network = _Result(checkpoint.module)
    model = _traced(network, facts)
    for part in (
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        del part.metadata_props[:]  # paths of this machine, and lines of source
    del model.graph.metadata_props[:], model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(_about(checkpoint, facts), sort_keys=True)
    data: bytes = model.SerializeToString(deterministic=True)
    _compare(data, network, facts, checkpoint.name)
    return data


def _traced(network: nn.Module, facts: Facts) -> ModelProto:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"export needs the package {error.name}", hint=EXTRA) from error
    free = [0] if facts.fixed_size else [0, 2, 3]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (_example(facts, 2, 0),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=({axis: torch.export.Dim.DYNAMIC for axis in free},),
            verbose=False,
        )
    assert program is not None  # it is, without `dynamo` alone
    return program.model_proto


def _example(facts: Facts, batch: int, more: int) -> Tensor:
    """Return an input of `more` multiples beyond the least example."""
    count = -(-SIDE // facts.multiple) + more
    size = facts.fixed_size or (count * facts.multiple, (count + 2) * facts.multiple)
    return torch.rand(batch, facts.channels, *size, generator=torch.Generator().manual_seed(more))


def _compare(data: bytes, network: nn.Module, facts: Facts, name: str) -> None:
    """Run the file once, in another size than the traced one. Raises WeightsError."""
    x = _example(facts, 1, 3)
    with torch.no_grad():
        expected = network(x)
    (output,) = new_session(data, name).run([OUTPUT], {INPUT: x.numpy()})
    difference = (torch.from_numpy(output) - expected).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise WeightsError(
            f"{name}: the output of onnxruntime differs by {difference:.2g} from that of torch",
            hint="use other versions of torch and onnxruntime",
        )


def _about(checkpoint: Checkpoint, facts: Facts) -> dict[str, Any]:
    """Return the description that the metadata hold: what it is, and what a pipeline needs."""
    entry = manifest.entries().get(checkpoint.name)
    is_listed = entry is not None and entry.sha256 == checkpoint.sha256
    preprocessing = facts.preprocessing
    return {
        "restore": __version__,
        "name": checkpoint.name,
        "arch": checkpoint.spec.arch,
        "config": asdict(checkpoint.module.config),  # type: ignore[call-overload]
        "tasks": list(checkpoint.spec.tasks),
        "weights_sha256": checkpoint.sha256,
        "licence": entry.licence if entry is not None and is_listed else None,
        "scale": facts.scale,
        "network_scale": facts.network_scale,
        "channels": facts.channels,
        "multiple": facts.multiple,
        "receptive_radius": facts.receptive_radius,
        "overlap": facts.overlap,
        "tiling": facts.tiling,
        "preprocessing": {"type": type(preprocessing).__name__, **asdict(preprocessing)},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep messages of the exporter off stderr."""
    chatty = logging.getLogger(CHATTY)
    before = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatty.setLevel(before)
