"""Super-resolution networks of other projects, from files of the user: `ncnn:PARAM,BIN,SCALE`.

ncnn describes a network in a text file (.param) and stores its weights in another (.bin). Input
and output are RGB in [0, 1], as in the files of SPAN and Real-ESRGAN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from restore_cli.data.sets import PairSet
from restore_cli.errors import (
    BrokenOutput,
    MissingExtra,
    UsageError,
    WeightsCorrupt,
    WeightsMismatch,
    WeightsMissing,
)
from restore_cli.files import sha256_of

Enlarge = Callable[[Tensor], Tensor]  # (C, H, W) in [0, 1] -> (3, scale * H, scale * W)

MAGIC = "7767517"  # first line of every .param file
FORM = "ncnn:PARAM,BIN,SCALE"
PROBE = (16, 24)  # (H, W) of the grey image that reveals the scale of a network
MOST_CHANGE = 0.1  # of that grey, on average


@dataclass(frozen=True)
class Blobs:
    """Names of a network's input and output, and its input channels if the file states them."""

    input: str
    output: str
    channels: int | None


@dataclass(frozen=True)
class Peer:
    """Network in files of ncnn, and its scale."""

    param: Path
    weights: Path
    scale: int

    @property
    def name(self) -> str:
        return self.param.stem

    @property
    def model(self) -> str:
        return self.name

    @property
    def origin(self) -> str:
        return "ncnn file"

    def supports(self, pairs: PairSet) -> bool:
        return pairs.task == "upscale" and pairs.scale == self.scale

    def sha256(self) -> str:
        return sha256_of(self.weights)

    def load(self) -> Enlarge:
        """Return the network as a function, on as many CPU threads as torch uses, in float32.

        Raises MissingExtra, WeightsCorrupt, WeightsMismatch.
        """
        enlarge = _ncnn_network(self)
        height, width = PROBE
        grey = torch.full((3, height, width), 0.5)
        enlarged = enlarge(grey)
        size = tuple(enlarged.shape)
        if size != (3, self.scale * height, self.scale * width):
            raise WeightsMismatch(
                f"{self.param.name}: an image of 3x{height}x{width} became {_sides(size)}, "
                f"which is not x{self.scale}",
                hint=f"the scale of the network is the last part of {FORM}",
            )
        difference = (enlarged - 0.5).abs().mean().item()
        if difference > MOST_CHANGE:  # ncnn loads weights of another network without an error
            raise WeightsMismatch(
                f"{self.param.name}, {self.weights.name}: mid-grey changes by {difference:.2f}",
                hint="name both files of one network, whose input is RGB in [0, 1]",
            )
        return enlarge


def peer_of(text: str) -> Peer:
    """Parse `ncnn:PARAM,BIN,SCALE`; check that the files exist and the network takes RGB.

    Raises UsageError, WeightsMissing, WeightsCorrupt, WeightsMismatch.
    """
    kind, _, rest = text.partition(":")
    parts = rest.split(",")
    if kind != "ncnn" or len(parts) != 3 or not all(parts) or not _is_factor(parts[2]):
        raise UsageError(
            f"--peer {text}: expected {FORM}", hint="for example --peer ncnn:span.param,span.bin,2"
        )
    peer = Peer(Path(parts[0]), Path(parts[1]), int(parts[2]))
    for path in (peer.param, peer.weights):
        if not path.is_file():
            raise WeightsMissing(f"{path}: no such file", hint=f"--peer expects {FORM}")
    _refuse_other_channels(peer, read_blobs(peer.param))
    return peer


def read_blobs(param: Path) -> Blobs:
    """Read the blobs of a .param file: of its only Input layer, and of its last layer.

    A line is `type name inputs outputs`, the names of as many blobs, then `key=value`. Raises
    WeightsCorrupt, WeightsMismatch.
    """
    try:
        magic, _, *lines = param.read_text(encoding="utf-8").splitlines()
        layers = [_Layer.of(line) for line in lines if line.strip()]
    except (ValueError, IndexError) as error:  # UnicodeDecodeError is a ValueError
        raise WeightsCorrupt(f"{param.name}: not a .param file of ncnn") from error
    if magic.strip() != MAGIC:
        raise WeightsCorrupt(
            f"{param.name}: begins with {magic.strip()[:20]!r}, not with {MAGIC}",
            hint="name the text file first: " + FORM,
        )
    entries = [layer for layer in layers if layer.kind == "Input"]
    if len(entries) != 1 or len(entries[0].outputs) != 1 or len(layers[-1].outputs) != 1:
        raise WeightsMismatch(
            f"{param.name}: {len(entries)} inputs and {len(layers[-1].outputs)} outputs",
            hint="a network with one input and one output is needed",
        )
    first = next((layer for layer in layers if layer.kind.startswith("Convolution")), None)
    channels = None if first is None else first.input_channels()
    return Blobs(entries[0].outputs[0], layers[-1].outputs[0], channels)


@dataclass(frozen=True)
class _Layer:
    kind: str
    outputs: tuple[str, ...]
    values: dict[str, str]

    @classmethod
    def of(cls, line: str) -> _Layer:
        kind, _, inputs, outputs, *rest = line.split()
        begin, end = int(inputs), int(inputs) + int(outputs)
        if len(rest) < end:
            raise ValueError(line)
        values = dict(each.split("=", 1) for each in rest[end:])
        return cls(kind, tuple(rest[begin:end]), values)

    def input_channels(self) -> int | None:
        """Return the input channels: all weights / those of one (0: outputs, 1 and 11: kernel)."""
        if not {"0", "1", "6"} <= self.values.keys():
            return None
        width = int(self.values["1"])
        kernel = width * int(self.values.get("11", width))
        return int(self.values["6"]) // (int(self.values["0"]) * kernel)


def _refuse_other_channels(peer: Peer, blobs: Blobs) -> None:
    if blobs.channels not in (None, 3):
        raise WeightsMismatch(
            f"{peer.param.name}: the first convolution takes {blobs.channels} channels, not 3",
            hint="networks whose input includes degradation maps (SRMD) are not supported",
        )


def _ncnn_network(peer: Peer) -> Enlarge:
    try:
        import ncnn
    except ImportError as error:
        raise MissingExtra(
            "--peer needs the package ncnn", hint="pip install 'restore-cli[peers]'"
        ) from error
    blobs = read_blobs(peer.param)
    network = ncnn.Net()
    network.opt.num_threads = torch.get_num_threads()
    network.opt.use_fp16_packed = False  # as restore is measured in float32
    network.opt.use_fp16_storage = False
    network.opt.use_fp16_arithmetic = False
    if network.load_param(str(peer.param)) or network.load_model(str(peer.weights)):
        raise WeightsCorrupt(f"{peer.param.name}, {peer.weights.name}: ncnn does not load them")

    def enlarge(pixels: Tensor) -> Tensor:
        image = np.ascontiguousarray(pixels.expand(3, -1, -1).numpy(), dtype=np.float32)
        extractor = network.create_extractor()
        extractor.input(blobs.input, ncnn.Mat(image))
        status, output = extractor.extract(blobs.output)
        if status:
            raise BrokenOutput(f"{peer.name}: ncnn ended with status {status}")
        enlarged = torch.from_numpy(np.array(output))
        if not enlarged.isfinite().all():
            raise BrokenOutput(f"{peer.name}: the output has NaN or infinity")
        return enlarged.clamp(0, 1)

    return enlarge


def _is_factor(text: str) -> bool:
    return text.isdecimal() and 2 <= int(text) <= 16


def _sides(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size)) or "nothing"
