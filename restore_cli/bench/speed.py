"""Speed of the restorer and of plain eager PyTorch with the same network and images.

Plain is the network in its simplest form: float32, contiguous, the whole image at once. The
variants take turns, so that a busy machine slows all of them; the median counts. Processor time is
measured in addition to the wall clock, since it is more reliable on a shared machine. The memory of
each variant is measured in a subprocess.
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

from restore_cli.bench.isolated import run_in_subprocess
from restore_cli.bench.machine import peak_memory
from restore_cli.bench.rows import Row, empty_row, failed_row
from restore_cli.bench.suite import Candidate
from restore_cli.checkpoints.load import load_checkpoint
from restore_cli.data.sets import PairSet, load_pair
from restore_cli.errors import OutOfMemory, RestoreError
from restore_cli.imaging.image import Image
from restore_cli.inference.device import (
    DTYPES,
    compute_in,
    pick_device,
)
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import Restorer, load_network
from restore_cli.inference.tiling import pad_to_multiple
from restore_cli.memory import is_out_of_memory, keep_freed_memory

Run = Callable[[Tensor], tuple[Tensor, str]]  # the result and its precision
OnCase = Callable[[str, int, int], None]  # title, rounds done, total
VariantName = Literal["plain", "fp32", "auto"]

PROTOCOL = "speed"
GEMM = 2048  # side of the matrices whose product measures the peak of the device
WARM_UP = 256  # side in pixels of the image that is restored before the clock runs


class Workload(Protocol):
    """Images to be timed."""

    @property
    def name(self) -> str: ...

    def images(self) -> list[Tensor]: ...


@dataclass(frozen=True)
class Square:
    """Image of random colours."""

    side: int

    @property
    def name(self) -> str:
        return f"{self.side}x{self.side}"

    def images(self) -> list[Tensor]:
        return [torch.rand(3, self.side, self.side, generator=torch.Generator().manual_seed(0))]


@dataclass(frozen=True)
class Degraded:
    """Degraded images of a set."""

    pairs: PairSet

    @property
    def name(self) -> str:
        return self.pairs.name

    def images(self) -> list[Tensor]:
        return [load_pair(self.pairs, index)[0] for index in range(len(self.pairs.pairs))]


@dataclass
class Variant:
    """One way to run the network, and the times of its rounds."""

    run: Run
    precision: str = ""  # known after the first run
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    last: Tensor | None = None  # output of the last round for the first image

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
    """Median time of a variant for all images."""

    precision: str
    seconds: float
    cpu_seconds: float
    difference: float | None  # largest difference from plain, of values in [0, 1]


@dataclass(frozen=True)
class Timings:
    variants: Mapping[VariantName, Timing]
    peaks: Mapping[str, float]  # precision -> flop/s of a matrix product
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
    """Yield the rows of each candidate on its images, or its error."""
    for candidate, load in work:
        row = empty_row(
            candidate, candidate.spec.tasks[0], load.name, PROTOCOL, candidate.facts.scale
        )

        def on_progress(
            done: int, total: int, title: str = f"{candidate.name}, {load.name}"
        ) -> None:
            on_case(title, done, total)

        try:
            timings = run_in_subprocess(
                measure_speed, candidate, load, options, rounds, on_progress=on_progress
            )
            memory = {
                variant: run_in_subprocess(
                    measure_memory, candidate, load, options, variant, on_progress=on_progress
                )
                for variant in timings.variants
            }
        except RestoreError as error:
            yield [failed_row(row, error)], error
        else:
            yield (
                [
                    _row(row, timings, memory, variant)
                    for variant in timings.variants
                    if variant != "plain"
                ],
                None,
            )


def measure_speed(
    candidate: Candidate, load: Workload, options: RunOptions, rounds: int, on_progress: OnProgress
) -> Timings:
    """Time all variants in turns. Raises OutOfMemory (of plain PyTorch), RestoreError."""
    keep_freed_memory()
    device = pick_device(options.device)
    images = load.images()
    variants = _variants(candidate, options, device)
    for variant in variants.values():
        variant.once(images[0][:, :WARM_UP, :WARM_UP] if device.type == "cpu" else images[0])
    if "auto" in variants and variants["auto"].precision == "fp32":
        del variants["auto"]
    products = {
        variant.precision: matrix_speed(variant.precision, device) for variant in variants.values()
    }
    peaks: dict[str, list[float]] = {precision: [] for precision in products}
    for number in range(rounds):
        for variant in variants.values():
            variant.time(images)
        for precision, product in products.items():
            peaks[precision].append(product())
        on_progress(number + 1, rounds)
    plain = variants["plain"].last
    assert plain is not None  # there is at least one round
    return Timings(
        variants={
            name: Timing(
                variant.precision,
                median(variant.wall),
                median(variant.cpu),
                None if variant.last is None else (variant.last - plain).abs().max().item(),
            )
            for name, variant in variants.items()
        },
        peaks={precision: median(speeds) for precision, speeds in peaks.items()},
        flop=sum(count_flop(candidate, image) for image in images),
        megapixels=sum(x.shape[-2] * x.shape[-1] for x in images) * candidate.facts.scale**2 / 1e6,
        images=len(images),
        device=str(device),
        weights_sha256=load_checkpoint(candidate.weights).sha256,
    )


def measure_memory(
    candidate: Candidate,
    load: Workload,
    options: RunOptions,
    variant: VariantName,
    on_progress: OnProgress,
) -> float | None:
    """Return the peak memory of this process after one run of one variant."""
    keep_freed_memory()
    device = pick_device(options.device)
    chosen = _variant(candidate, options, device, variant)
    for image in load.images():
        chosen.once(image)
    return peak_memory(device)


def _variants(
    candidate: Candidate, options: RunOptions, device: torch.device
) -> dict[VariantName, Variant]:
    names: list[VariantName] = ["plain", "fp32"]
    if options.precision != "fp32":
        names.append("auto")
    return {name: _variant(candidate, options, device, name) for name in names}


def _variant(
    candidate: Candidate, options: RunOptions, device: torch.device, name: VariantName
) -> Variant:
    if name == "plain":
        return Variant(_plain(candidate, device))
    chosen = options if name == "auto" else replace(options, precision="fp32")
    restorer = Restorer(load_network(candidate.weights, chosen), chosen)

    def run(pixels: Tensor) -> tuple[Tensor, str]:
        restored = restorer(Image(pixels))
        return restored.image.pixels, restored.report.precision

    return Variant(run)


def _plain(candidate: Candidate, device: torch.device) -> Run:
    """Return the plain network as a function that raises OutOfMemory."""
    facts = candidate.facts
    network = load_checkpoint(candidate.weights).module.to(device)

    @torch.inference_mode()
    def run(pixels: Tensor) -> tuple[Tensor, str]:
        prepared, undo = prepare(facts.preprocessing, pixels)
        height, width = (side * facts.network_scale for side in prepared.shape[-2:])
        try:
            output = network(pad_to_multiple(prepared, facts.multiple).contiguous().to(device))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"plain PyTorch runs out of memory at {pixels.shape[-1]}x{pixels.shape[-2]}",
                hint="try a smaller --size",
            ) from error
        last: Tensor = output[-1] if isinstance(output, tuple) else output
        return undo(last[..., :height, :width].float().cpu()).clamp(0, 1), "fp32"

    return run


def count_flop(candidate: Candidate, pixels: Tensor) -> float:
    """Count the multiplications and additions of the network without computing them."""
    prepared, _ = prepare(candidate.facts.preprocessing, pixels)
    network = load_checkpoint(candidate.weights).module.requires_grad_(False)
    padded = pad_to_multiple(prepared, candidate.facts.multiple)
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True) as fake,
        FlopCounterMode(display=False) as counter,
    ):
        network(fake.from_tensor(padded))
    return float(counter.get_total_flops())


def matrix_speed(precision: str, device: torch.device) -> Callable[[], float]:
    """Return a function that measures the speed of a matrix product, in flop/s."""
    matrix = torch.rand(GEMM, GEMM, device=device, dtype=DTYPES[precision])
    torch.mm(matrix, matrix)  # the first product starts threads

    def measure() -> float:
        _synchronise(device)
        began = time.perf_counter()
        with compute_in(precision, device):
            torch.mm(matrix, matrix)
        _synchronise(device)
        return 2 * GEMM**3 / (time.perf_counter() - began)

    return measure


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _row(
    row: Row, timings: Timings, memory: Mapping[VariantName, float | None], name: VariantName
) -> Row:
    """Return the row of a variant, with plain as its baseline."""
    variant, plain = timings.variants[name], timings.variants["plain"]
    speed = timings.flop / variant.seconds
    return {
        **row,
        **_costs(variant, timings, memory[name]),
        "images": timings.images,
        "weights_sha256": timings.weights_sha256,
        "device": timings.device,
        "precision": variant.precision,
        "baseline": {"plain": _costs(plain, timings, memory["plain"])},
        "times_plain": round(plain.seconds / variant.seconds, 3),
        "times_plain_cpu": round(plain.cpu_seconds / variant.cpu_seconds, 3),
        "gflop_per_second": round(speed / 1e9, 1),
        "share_of_matrix_peak": round(speed / timings.peaks[variant.precision], 3),
        "difference_from_plain": variant.difference,
    }


def _costs(variant: Timing, timings: Timings, memory: float | None) -> Row:
    return {
        "seconds": round(variant.seconds, 4),
        "cpu_seconds": round(variant.cpu_seconds, 4),
        "megapixels_per_second": round(timings.megapixels / variant.seconds, 3),
        "peak_memory_mb": memory,
    }
