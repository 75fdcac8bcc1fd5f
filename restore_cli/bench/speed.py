"""Our pipeline beside plain eager PyTorch: the same network, the same images, one run.

Plain is the network as anyone would first write it: float32, contiguous, the whole image at once.
The ways take turns, so that a machine that is busy for a while is so for each; medians are given.
Beside the wall clock stands the time that the processors spent, which says more where others use
the machine too. The memory of each way is measured in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from restore_cli.bench.isolated import apart
from restore_cli.bench.machine import peak_memory
from restore_cli.bench.rows import Row, empty_row, failed_row
from restore_cli.bench.suite import Candidate
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import OutOfMemory, RestoreError
from restore_cli.imaging.image import Image
from restore_cli.inference.device import is_out_of_memory, keep_freed_memory, pick_device
from restore_cli.inference.preprocessing import PREPROCESSING
from restore_cli.inference.restorer import DTYPES, Restorer, RunOptions
from restore_cli.inference.tiling import pad_to_multiple

Run = Callable[[Tensor], tuple[Tensor, str]]  # the result and its precision
Tell = Callable[[int, int], None]
OnCase = Callable[[str, int, int], None]  # what is measured, rounds done, of how many
WayName = Literal["plain", "fp32", "auto"]

PROTOCOL = "speed"
GEMM = 2048  # side of the matrices whose product tells what the device can do at most
WARM = 256  # pixels a side that are computed before the clock runs


class Workload(Protocol):
    """Images to be timed."""

    @property
    def name(self) -> str: ...

    def images(self) -> list[Tensor]: ...


@dataclass(frozen=True)
class Square:
    """An image of random colours."""

    side: int

    @property
    def name(self) -> str:
        return f"{self.side}x{self.side}"

    def images(self) -> list[Tensor]:
        return [torch.rand(3, self.side, self.side, generator=torch.Generator().manual_seed(0))]


@dataclass(frozen=True)
class Degraded:
    """The degraded images of a set."""

    pairs: PairSet

    @property
    def name(self) -> str:
        return self.pairs.name

    def images(self) -> list[Tensor]:
        return [load_pair(self.pairs, index)[0] for index in range(len(self.pairs.pairs))]


@dataclass
class Way:
    """One way to restore, and what each round took."""

    run: Run
    precision: str = ""  # of "auto" it is known after the first run
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    last: Tensor | None = None  # its result for the first image

    def once(self, image: Tensor) -> Tensor:
        restored, self.precision = self.run(image)
        return restored

    def time(self, images: Sequence[Tensor]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        results = [self.once(image) for image in images]
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        self.last = results[0]


@dataclass(frozen=True)
class Timing:
    """What a way took for all images, by the median of its rounds."""

    precision: str
    seconds: float
    cpu_seconds: float
    difference: float | None  # the largest from plain, of values in [0, 1]


@dataclass(frozen=True)
class Timings:
    ways: Mapping[WayName, Timing]
    peaks: Mapping[str, float]  # precision -> flop/s of a product of matrices
    flop: float  # of the network, for all images
    megapixels: float  # of the results
    images: int
    device: str
    weights_sha256: str


def run_speed(
    work: Sequence[tuple[Candidate, Workload]],
    options: RunOptions,
    rounds: int,
    on_case: OnCase,
) -> Iterator[tuple[list[Row], RestoreError | None]]:
    """Rows of each of the weights on its images, or the error that they ended with."""
    for candidate, load in work:
        row = empty_row(
            candidate, candidate.spec.tasks[0], load.name, PROTOCOL, candidate.spec.scale
        )

        def tell(done: int, total: int, who: str = f"{candidate.name}, {load.name}") -> None:
            on_case(who, done, total)

        try:
            timings = apart(measure_speed, candidate, load, options, rounds, tell=tell)
            memory = {
                way: apart(measure_memory, candidate, load, options, way, tell=tell)
                for way in timings.ways
            }
        except RestoreError as error:
            yield [failed_row(row, error)], error
        else:
            yield [_row(row, timings, memory, way) for way in timings.ways if way != "plain"], None


def measure_speed(
    candidate: Candidate, load: Workload, options: RunOptions, rounds: int, tell: Tell
) -> Timings:
    """All ways by turns. Raises OutOfMemory, where that is plain's, and RestoreError."""
    keep_freed_memory()
    device = pick_device(options.device)
    images = load.images()
    ways = _ways(candidate, options, device)
    for way in ways.values():
        way.once(images[0][:, :WARM, :WARM] if device.type == "cpu" else images[0])
    if "auto" in ways and ways["auto"].precision == "fp32":
        del ways["auto"]
    products = {way.precision: _product(way.precision, device) for way in ways.values()}
    peaks: dict[str, list[float]] = {precision: [] for precision in products}
    for number in range(rounds):
        for way in ways.values():
            way.time(images)
        for precision, product in products.items():
            peaks[precision].append(product())
        tell(number + 1, rounds)
    plain = ways["plain"].last
    assert plain is not None  # there is one round at least
    return Timings(
        ways={
            name: Timing(
                way.precision,
                median(way.wall),
                median(way.cpu),
                None if way.last is None else (way.last - plain).abs().max().item(),
            )
            for name, way in ways.items()
        },
        peaks={precision: median(speeds) for precision, speeds in peaks.items()},
        flop=sum(_flop(candidate, image) for image in images),
        megapixels=sum(x.shape[-2] * x.shape[-1] for x in images) * candidate.spec.scale**2 / 1e6,
        images=len(images),
        device=str(device),
        weights_sha256=load_checkpoint(candidate.weights).sha256,
    )


def measure_memory(
    candidate: Candidate, load: Workload, options: RunOptions, way: WayName, tell: Tell
) -> float | None:
    """The peak of this process, which goes one way once."""
    keep_freed_memory()
    device = pick_device(options.device)
    chosen = _way(candidate, options, device, way)
    for image in load.images():
        chosen.once(image)
    return peak_memory(device)


def _ways(candidate: Candidate, options: RunOptions, device: torch.device) -> dict[WayName, Way]:
    names: list[WayName] = ["plain", "fp32"]
    if options.precision != "fp32":
        names.append("auto")
    return {name: _way(candidate, options, device, name) for name in names}


def _way(candidate: Candidate, options: RunOptions, device: torch.device, name: WayName) -> Way:
    if name == "plain":
        return Way(_plain(candidate, device))
    chosen = options if name == "auto" else replace(options, precision="fp32")
    restorer = Restorer(load_checkpoint(candidate.weights), chosen)

    def run(pixels: Tensor) -> tuple[Tensor, str]:
        restored = restorer(Image(pixels))
        return restored.image.pixels, restored.report.precision

    return Way(run)


def _plain(candidate: Candidate, device: torch.device) -> Run:
    """Raises OutOfMemory."""
    spec = candidate.spec
    network = load_checkpoint(candidate.weights).module.to(device)

    @torch.inference_mode()
    def run(pixels: Tensor) -> tuple[Tensor, str]:
        fed, finish = PREPROCESSING[spec.adapter](pixels, spec)
        height, width = (side * spec.network_scale for side in fed.shape[-2:])
        try:
            output = network(pad_to_multiple(fed, spec.multiple).contiguous().to(device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"plain PyTorch runs out of memory at {pixels.shape[-1]}x{pixels.shape[-2]}",
                hint="try a smaller --size",
            ) from error
        last: Tensor = output[-1] if isinstance(output, tuple) else output
        return finish(last[..., :height, :width].float().cpu()).clamp(0, 1), "fp32"

    return run


def _flop(candidate: Candidate, pixels: Tensor) -> float:
    """Multiplications and additions of the network, counted without doing them."""
    spec = candidate.spec
    fed, _ = PREPROCESSING[spec.adapter](pixels, spec)
    network = load_checkpoint(candidate.weights).module.requires_grad_(False)
    padded = pad_to_multiple(fed, spec.multiple)
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True) as fake,
        FlopCounterMode(display=False) as counter,
    ):
        network(fake.from_tensor(padded))
    return float(counter.get_total_flops())


def _product(precision: str, device: torch.device) -> Callable[[], float]:
    """What gives the speed of a product of matrices, in flop/s."""
    matrix = torch.rand(GEMM, GEMM, device=device, dtype=DTYPES[precision])
    torch.mm(matrix, matrix)  # the first one starts threads

    def measure() -> float:
        _synchronise(device)
        began = time.perf_counter()
        torch.mm(matrix, matrix)
        _synchronise(device)
        return 2 * GEMM**3 / (time.perf_counter() - began)

    return measure


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _row(row: Row, timings: Timings, memory: Mapping[WayName, float | None], name: WayName) -> Row:
    """One of our ways, beside plain."""
    way, plain = timings.ways[name], timings.ways["plain"]
    speed = timings.flop / way.seconds
    return {
        **row,
        **_costs(way, timings, memory[name]),
        "images": timings.images,
        "weights_sha256": timings.weights_sha256,
        "device": timings.device,
        "precision": way.precision,
        "baseline": {"plain": _costs(plain, timings, memory["plain"])},
        "times_plain": round(plain.seconds / way.seconds, 3),
        "times_plain_cpu": round(plain.cpu_seconds / way.cpu_seconds, 3),
        "gflop_per_second": round(speed / 1e9, 1),
        "share_of_matrix_peak": round(speed / timings.peaks[way.precision], 3),
        "difference_from_plain": way.difference,
    }


def _costs(way: Timing, timings: Timings, memory: float | None) -> Row:
    return {
        "seconds": round(way.seconds, 4),
        "cpu_seconds": round(way.cpu_seconds, 4),
        "megapixels_per_second": round(timings.megapixels / way.seconds, 3),
        "peak_memory_mb": memory,
    }
