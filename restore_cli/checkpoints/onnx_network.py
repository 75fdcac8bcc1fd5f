"""Networks in ONNX files as modules, which take the place of those of torch in a pipeline."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from restore_cli.checkpoints.load import Checkpoint, load_checkpoint
from restore_cli.checkpoints.onnx import (
    OnnxFile,
    bundled_onnx,
    cached_onnx,
    open_named,
    open_onnx,
    usable_cores,
)
from restore_cli.errors import MissingExtra
from restore_cli.files import write_atomically

if TYPE_CHECKING:
    from openvino import CompiledModel

logger = logging.getLogger(__name__)

Runtime = Literal["onnx", "openvino"]


class OnnxNetwork(nn.Module):
    """A network that onnxruntime runs on the CPU."""

    runtime: Runtime = "onnx"
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, file: OnnxFile):
        super().__init__()
        self.file = file

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.file.run(x.contiguous().numpy()))


class OpenVinoNetwork(OnnxNetwork):
    """A network that OpenVINO runs on the CPU; under autocast in bfloat16."""

    runtime = "openvino"
    precisions = ("fp32", "bf16")

    def __init__(self, file: OnnxFile):
        super().__init__(file)
        # Without this package OpenVINO sends no usage data; it has no switch for a process.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            from openvino import Core
        except ImportError as error:
            raise MissingExtra(
                "--backend openvino needs the package openvino",
                hint="pip install 'restore-cli[openvino]'",
            ) from error
        self._core, self._lock = Core(), Lock()
        self._compiled: dict[str, CompiledModel] = {}

    def forward(self, x: Tensor) -> Tensor:
        compiled = self._model("bf16" if torch.is_autocast_enabled(x.device.type) else "f32")
        request = compiled.create_infer_request()  # one serves one thread
        (output,) = request.infer([x.float().contiguous().numpy()]).values()
        return torch.from_numpy(output.copy())  # its memory is that of the request

    def _model(self, precision: str) -> CompiledModel:
        with self._lock:
            if precision not in self._compiled:
                settings = {
                    "INFERENCE_PRECISION_HINT": precision,
                    "INFERENCE_NUM_THREADS": usable_cores(),
                }
                self._compiled[precision] = self._core.compile_model(
                    str(self.file.path), "CPU", settings
                )
            return self._compiled[precision]


def load_onnx_file(path: Path, runtime: Runtime = "onnx") -> Checkpoint:
    """Load an exported file. Raises MissingExtra, WeightsError."""
    file = open_onnx(path)
    return _checkpoint(file, path.stem, file.sha256, runtime)


def load_named_onnx(name: str, runtime: Runtime = "onnx") -> Checkpoint:
    """Load weights from their ONNX file, which is exported once into the cache.

    Raises MissingExtra, WeightsError.
    """
    if bundled_onnx(name) is None and not cached_onnx(name).is_file():
        from restore_cli.checkpoints.export import export

        data = export(load_checkpoint(name))
        write_atomically(cached_onnx(name), data, overwrite=True)
        logger.warning("%s: exported once to %s", name, cached_onnx(name))
    file = open_named(name)
    return _checkpoint(file, name, file.weights_sha256, runtime)


def _checkpoint(file: OnnxFile, name: str, sha256: str, runtime: Runtime) -> Checkpoint:
    assert file.spec.facts is not None  # so it was opened
    network = OpenVinoNetwork(file) if runtime == "openvino" else OnnxNetwork(file)
    facts = replace(file.spec.facts, precisions=network.precisions, channels_last=False)
    return Checkpoint(name, file.path, sha256, replace(file.spec, facts=facts), network)
