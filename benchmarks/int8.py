"""Measure networks of enlargement in 8-bit integers, as a Markdown table.

    python benchmarks/int8.py ../shared/data --weights espcn.x2 mirnet.fast_x2 --images 5

Static quantization by onnxruntime (QDQ, weights per channel, MinMax of the activations), calibrated
on the images before those that are measured. Quality by the protocol of super-resolution; processor
time of the network alone, median of three rounds in turns, 256 x 256.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from restore_cli.checkpoints.export import export
from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.checkpoints.onnx import INPUT, OUTPUT, new_session
from restore_cli.data.public_sets import find_set
from restore_cli.data.sets import load_pair, public_pairs
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.tiling import pad_to_multiple
from restore_cli.metrics import PROTOCOLS, means_of, measure

Array = NDArray[np.float32]
Network = Callable[[Array], Array]

ROUNDS = 3
SIDE = 256  # pixels of the image that is timed
CALIBRATING = 3  # images


class Calibration(CalibrationDataReader):
    """Inputs of the network, one after the other."""

    def __init__(self, inputs: list[Array]):
        self._inputs: Iterator[Array] = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        x = next(self._inputs, None)
        return None if x is None else {INPUT: x}


def network_of(model: bytes, name: str) -> Network:
    session = new_session(model, name)
    return lambda x: session.run([OUTPUT], {INPUT: x})[0]


def quantized(model: bytes, inputs: list[Array], convolutions: list[str] | None) -> bytes:
    """Return the model in integers; convolutions: those that stay in float32."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("float.onnx", "ready.onnx", "int8.onnx")]
        paths[0].write_bytes(model)
        quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
        quantize_static(
            paths[1],
            paths[2],
            Calibration(inputs),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=convolutions,
        )
        return paths[2].read_bytes()


def prepared(checkpoint: Checkpoint, image: torch.Tensor) -> tuple[Array, Any]:
    facts = checkpoint.spec.facts
    assert facts is not None
    x, undo = prepare(facts.preprocessing, image)
    height, width = (side * facts.network_scale for side in x.shape[-2:])
    padded = pad_to_multiple(x, facts.multiple).contiguous().numpy()
    return padded, lambda y: undo(torch.from_numpy(y)[..., :height, :width]).clamp(0, 1)


def ends_of(model: bytes) -> list[str]:
    """Return the names of the first and the last convolution."""
    import onnx

    nodes = [
        node.name for node in onnx.load_from_string(model).graph.node if node.op_type == "Conv"
    ]
    return [nodes[0], nodes[-1]]


def cpu_seconds(networks: dict[str, Network], x: Array) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network(x)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            began = time.process_time()
            network(x)
            times[name].append(time.process_time() - began)
    return {name: median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", nargs="+", default=["espcn.x2", "mirnet.fast_x2"])
    parser.add_argument("--set", default="set14")
    parser.add_argument("--images", type=int, default=5)
    arguments = parser.parse_args()
    print(
        "| weights | | PSNR (Y) | loss, dB | CPU s, 256 x 256 |", "|---|---|---|---|---|", sep="\n"
    )
    for weights in arguments.weights:
        checkpoint = load_checkpoint(weights)
        facts = checkpoint.spec.facts
        assert facts is not None
        found = find_set(arguments.set)
        assert found is not None
        sets = public_pairs(found[0], arguments.data)
        (pairs,) = [each for each in sets if each.scale == facts.scale]
        images = [load_pair(pairs, index) for index in range(CALIBRATING + arguments.images)]
        model = export(checkpoint)
        inputs = [prepared(checkpoint, image)[0] for image, _ in images[:CALIBRATING]]
        networks = {
            "float32": network_of(model, weights),
            "int8": network_of(quantized(model, inputs, None), weights),
            "int8, ends in float32": network_of(quantized(model, inputs, ends_of(model)), weights),
        }
        seconds = cpu_seconds(networks, prepared(checkpoint, torch.rand(3, SIDE, SIDE))[0])
        scores: dict[str, float] = {}
        for name, network in networks.items():
            measured = []
            for image, clean in images[CALIBRATING:]:
                x, undo = prepared(checkpoint, image)
                measured.append(measure(undo(network(x)), clean, PROTOCOLS[pairs.protocol]))
            scores[name] = means_of(measured).psnr
            loss = scores["float32"] - scores[name]
            print(f"| {weights} | {name} | {scores[name]:.2f} | {loss:.2f} | {seconds[name]:.3f} |")


if __name__ == "__main__":
    main()
