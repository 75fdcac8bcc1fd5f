"""A network on a device, run on inputs of any size in tiles, in the precision that suits it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby, zip_longest
from threading import Lock

import torch
import torch.nn.functional as F
from torch import Tensor

from restore_cli import registry
from restore_cli.checkpoints.community import CommunityNetwork
from restore_cli.checkpoints.load import Checkpoint
from restore_cli.checkpoints.onnx_network import OnnxNetwork
from restore_cli.errors import BrokenOutput, OutOfMemory, UsageError
from restore_cli.imaging.planes import Planes
from restore_cli.imaging.transfer import CPU
from restore_cli.inference.blockwise import blocks_of, blockwise, blockwise_chains
from restore_cli.inference.device import (
    SMALLEST_TILE,
    compute_in,
    free_memory,
    low_precisions,
    refuse_precision,
    release_unused,
)
from restore_cli.inference.ensemble import ALL, UPRIGHT, mean_of_orientations
from restore_cli.inference.fused import can_fuse, fused
from restore_cli.inference.graphs import Graphs
from restore_cli.inference.options import OnProgress, RunOptions
from restore_cli.inference.preprocessing import BAND, Feed, feed
from restore_cli.inference.tiled import kept_bytes, share_statistics, tiled_blocks
from restore_cli.inference.tiling import Span, blend_in, cut, kept, plan_tiles
from restore_cli.inference.together import run_batched
from restore_cli.memory import is_out_of_memory
from restore_cli.networks.facts import Facts

logger = logging.getLogger(__name__)

GATE = 50.0  # dB between the probe in low precision and in float32
PROBE = 128  # pixels a side of the probe
LARGEST_TILE = 2048  # pixels; what is computed twice around it is little already
LARGEST_CPU_TILE = 512  # of a network that is not run in pieces: more would leave the caches
EXACT_CPU_TILE = 320  # where the size of tiles does not change the result; ESPCN: 0.74 of the time
MEMORY_SHARE = 0.5  # of the free memory


@dataclass
class TileRun:
    """State of one input on its way through a network."""

    on_progress: OnProgress | None
    tile: int | None = None  # side in pixels; None: the whole input at once
    precision: str = ""


class NetworkRunner:
    """A network on a device, ready for inputs of any size, in any number of threads.

    The precision "auto" is settled when the first input comes, by a trial of its own.
    """

    def __init__(
        self, checkpoint: Checkpoint, facts: Facts, options: RunOptions, device: torch.device
    ):
        """facts: of the network as it is used. Raises UsageError."""
        self.facts, self.options, self.device = facts, options, device
        self._name, self._arch = checkpoint.name, checkpoint.spec.arch
        self._lock = Lock()  # of the three that follow
        self._overflowed = False  # in low precision, which has been reported
        self._precision: str | None = None if options.precision == "auto" else options.precision
        self._limit: int | None = None  # the largest tile, once memory has run out
        if self._precision not in (None, *facts.precisions):
            raise UsageError(
                f"{self._name} does not work in {self._precision}",
                hint=f"use --precision {' or '.join(facts.precisions)}",
            )
        refuse_precision(options.precision, device)
        if options.resize == "native":
            checkpoint.module.allow_any_size()  # type: ignore[operator]
        if isinstance(checkpoint.module, CommunityNetwork):
            checkpoint.module.seed = options.seed
        self._layout = torch.channels_last if facts.channels_last else torch.contiguous_format
        network = checkpoint.module.to(device)
        if facts.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A GPU has no use for pieces: its memory is as fast for large tensors as for small ones.
        known = self._arch in registry.MODELS
        self.network = network
        if device.type == "cpu":
            self.network = blockwise(network)
            is_torch = not isinstance(checkpoint.module, OnnxNetwork)
            if known and is_torch and can_fuse(options.precision):
                self.network = fused(self.network)
        if options.exact and facts.tiling in ("approximate", "discouraged"):
            self.network = share_statistics(network, facts, self._arch)
        self._tiled, chains = tiled_blocks(self.network), blockwise_chains(self.network)
        self._in_caches = device.type != "cpu" or bool(chains)
        blocks = sum(len(chain.blocks) for chain in chains) + len(self._tiled)
        self._steps = max(1, blocks)  # of progress, in a tile
        # Exact tiles decide on the way, and community models may do anything.
        self._fixed = known and not self._tiled
        self._graphs = Graphs() if device.type == "cuda" and self._fixed else None
        self._overlap, self._blend = self._context()

    def with_options(self, options: RunOptions) -> NetworkRunner:
        """Return this runner, its network included, for options with the same `of_loading`."""
        other = copy(self)
        other.options = options
        return other

    def output(self, source: Feed, run: TileRun) -> Iterator[tuple[int, Tensor]]:
        """Yield the output of the network: first row, and rows (1, channels, h, W).

        Where memory runs out, smaller tiles go on below the rows that have been returned.
        """
        run.tile, done = self._first_tile(*source.size), 0
        while True:
            try:
                for top, rows in self._tile_rows(source, run, done):
                    yield top, rows
                    done = top + rows.shape[-2]
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                run.tile = self._smaller_tile(run.tile, source.size, error)
            if self._graphs is not None:
                self._graphs.clear()
            release_unused(self.device)  # only now is nothing held by the traceback

    def _tile_rows(self, source: Feed, run: TileRun, done: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the output of each row of tiles, without the rows before `done`."""
        facts, scale = self.facts, self.facts.network_scale
        height, width = source.size
        in_blocks = bool(self._tiled)
        tile = None if in_blocks else run.tile
        plan = plan_tiles(
            height,
            width,
            tile=tile,
            overlap=self._overlap,
            blend=self._blend,
            multiple=facts.multiple,
            rows=None if tile is None else _most_rows(width * scale**2),
        )
        side = run.tile if in_blocks else None
        steps = self._steps * len(self._orientations)
        progress = _Progress(steps, len(plan), run.on_progress)
        faded: Tensor | None = None  # rows that the next row of tiles shares
        for row, below in zip_longest(plan.rows, plan.rows[1:]):
            if row.keep_stop * scale <= done:
                progress.skip(len(plan.columns))
                continue
            band = source.rows(row.start, row.stop)
            if not run.precision:
                with blocks_of(side):
                    run.precision = self._settled_precision()
            with blocks_of(side, progress.block_done):
                result = self._row(band, row, plan.columns, run.precision, faded, progress)
            # Looking at each tile would wait for a GPU each time.
            if not torch.isfinite(result).all():
                with blocks_of(side):
                    result = self._row(band, row, plan.columns, run.precision, faded, None)
            top, owned = row.keep_start * scale, result.shape[-2]
            if below is not None:
                owned = (below.keep_start - row.keep_start) * scale
                faded = result[..., owned:, :].clone()
            if top + owned > done:
                yield max(top, done), result[..., max(0, done - top) : owned, :]

    def _row(
        self,
        band: Tensor,
        row: Span,
        columns: Sequence[Span],
        precision: str,
        faded: Tensor | None,
        progress: _Progress | None,
    ) -> Tensor:
        """Return the output of a row of tiles, blended.

        band: the input, from the start of the row. faded: the rows that the row above shares.
        Without progress, tiles with NaN or infinity are computed in float32. Raises BrokenOutput.
        """
        scale = self.facts.network_scale
        height, width = row.keep_stop - row.keep_start, band.shape[-1]
        result = band.new_zeros(*band.shape[:2], height * scale, width * scale)
        if faded is not None:
            result[..., : faded.shape[-2], :] = faded
        read, written = row.counted_from(row.start), row.counted_from(row.keep_start)
        for column, piece in self._pieces(band, read, columns, precision):
            if progress is None and not torch.isfinite(piece).all():
                self._warn_of_overflow(precision)
                ((_, piece),) = self._pieces(band, read, [column], "fp32")
                if not torch.isfinite(piece).all():
                    raise BrokenOutput(
                        f"{self._name} produced NaN or infinity in float32",
                        hint="try other weights",
                    )
            blend_in(result, piece, written, column, scale)
            if progress is not None:
                progress.tile_done()
        return result

    def _pieces(
        self, band: Tensor, row: Span, columns: Sequence[Span], precision: str
    ) -> Iterator[tuple[Span, Tensor]]:
        """Yield each column with what its tile keeps; tiles of one width run as a batch."""
        for width, alike in groupby(columns, key=lambda column: column.stop - column.start):
            group = tuple(alike)
            size = self._tiles_at_once(row.stop - row.start, width) if len(group) > 1 else 1
            for first in range(0, len(group), size):
                batch = group[first : first + size]
                tiles = [cut(band, row, column) for column in batch]
                outputs = self._forward(torch.cat(tiles) if len(tiles) > 1 else tiles[0], precision)
                for column, output in zip(batch, torch.split(outputs, len(band)), strict=True):
                    piece = kept(output, row, column, self.facts.network_scale)
                    yield column, piece.to(band.device)

    def _tiles_at_once(self, height: int, width: int) -> int:
        """Return how many tiles of a size run as a batch: small ones do not fill a GPU.

        One after memory has run out: more of smaller tiles would take as much.
        """
        if self.device.type == "cpu" or not self._fixed or self._limit is not None:
            return 1
        affordable = free_memory(self.device) * MEMORY_SHARE / self.facts.bytes_per_pixel
        return max(1, int(min(affordable, LARGEST_TILE**2)) // (height * width))

    def _warn_of_overflow(self, precision: str) -> None:
        with self._lock:
            if precision != "fp32" and not self._overflowed:
                logger.warning("NaN or infinity in %s: such tiles use float32", precision)
                self._overflowed = True

    @property
    def _orientations(self) -> tuple[int, ...]:
        """Return the orientations of a tile that the network sees."""
        if not self.options.ensemble:
            return (0,)
        return UPRIGHT if self.facts.upright else ALL

    def _forward(self, piece: Tensor, precision: str) -> Tensor:
        """Return the last output of the network for one tile, float32."""
        x = piece.to(self.device, non_blocking=True)
        network = partial(self._computed, precision=precision)
        return run_batched((id(self), precision), network, x) if self._fixed else network(x)

    def _computed(self, inputs: Tensor, precision: str) -> Tensor:
        """Return the last output of the network for inputs (B, C, H, W), float32."""
        network = partial(self._computed_once, precision=precision)
        if len(self._orientations) == 1:
            return network(inputs)
        return mean_of_orientations(network, inputs, self._orientations)

    def _computed_once(self, inputs: Tensor, precision: str) -> Tensor:
        def network(x: Tensor, again: bool) -> Tensor:
            # Kernels that are timed are faster, but maybe less exact: not for float32.
            with compute_in(precision, self.device, benchmark=again and precision != "fp32"):
                output = self.network(x.contiguous(memory_format=self._layout))
            last: Tensor = output[-1] if isinstance(output, tuple) else output
            return last.float()

        if self._graphs is None:
            return network(inputs, False)
        return self._graphs.run(network, inputs, precision)

    def _settled_precision(self) -> str:
        """Return the precision of all images, which "auto" settles once."""
        with self._lock:
            if self._precision is None:
                self._precision = self._fastest_precision()
            return self._precision

    def _fastest_precision(self) -> str:
        """Return the lowest precision that is fast here and within the gate for the probe.

        The same for every image, so that a result does not depend on the images before it.
        """
        candidates = [name for name in low_precisions(self.device) if self._is_faster_in(name)]
        if not candidates:
            return "fp32"
        exact = self._restored_probe("fp32")
        for precision in candidates:
            error = self._restored_probe(precision) - exact
            decibel = -10 * error.square().mean().clamp(min=1e-12).log10().item()
            logger.info("%s: PSNR of %.1f dB against float32", precision, decibel)
            if decibel >= GATE:
                return precision
        return "fp32"

    def _restored_probe(self, precision: str) -> Tensor:
        """Return the probe as restored in a precision; from a network of one size its output."""
        side = min(PROBE, self._limit or PROBE)
        source = feed(self.facts, Planes.of(_probe()[:, :side, :side]))
        height, _ = source.size
        # Not in a batch with others, which wait for the lock.
        output = self._computed(source.rows(0, height).to(self.device), precision).to(CPU)
        return output if self.facts.tiling == "never" else torch.cat([*source.undo(output, 0)], 1)

    def _is_faster_in(self, precision: str) -> bool:
        """Return True if the network works in a precision and gains by it."""
        gains = precision == "tf32" or self.device.type == "cpu" or self.facts.faster_in_16_bit
        return gains and precision in self.facts.precisions

    def _context(self) -> tuple[int, int]:
        """(overlap, blend) in pixels."""
        facts, chosen = self.facts, self.options.overlap
        if self.options.exact and facts.receptive_radius is None:
            return max((block.radius for block in self._tiled), default=0), 0
        if chosen == "exact" or self.options.exact:
            if facts.receptive_radius is None:
                raise UsageError(
                    f"{self._arch} sees the whole image, so no overlap is exact",
                    hint="use --tile exact, or --overlap auto",
                )
            return facts.receptive_radius, 0
        overlap = facts.overlap if chosen == "auto" else chosen
        exact = facts.receptive_radius is not None and overlap >= facts.receptive_radius
        return overlap, 0 if exact else overlap // 2

    def _first_tile(self, height: int, width: int) -> int | None:
        """Return the first core size; None for the whole image at once."""
        chosen = self.options.tile
        if self.options.resize == "native":
            self._refuse_too_large(height, width, self.facts.bytes_per_pixel, "--resize native")
        if self.options.exact:
            self._refuse_too_large(height, width, kept_bytes(self.network), "--tile exact")
        if chosen == "off" or self.facts.tiling == "never":
            return self._capped(None, height, width)
        if chosen != "auto":
            return self._capped(chosen, height, width)
        if max(height, width) <= SMALLEST_TILE:  # whatever is free
            return self._capped(None, height, width)
        affordable = free_memory(self.device) * MEMORY_SHARE / self.facts.bytes_per_pixel
        side = int(affordable**0.5) - 2 * self._overlap
        # The wider the context, the more of it is computed twice: larger tiles pay off.
        largest = max(self._largest_tile(), 4 * self._overlap)
        if self.facts.tiling == "discouraged":
            largest = side
        tile = max(SMALLEST_TILE, min(side, largest) // 32 * 32)
        return self._capped(None if tile >= max(height, width) else tile, height, width)

    def _refuse_too_large(self, height: int, width: int, each: int, option: str) -> None:
        """Raise OutOfMemory before the system kills the process, as Linux does.

        each: bytes for a pixel of the whole image. option: the option that needs them.
        """
        needed, free = height * width * each, free_memory(self.device)
        if needed > free:
            raise OutOfMemory(
                f"{width} x {height} px at full size take about {needed / 2**30:.0f} GiB of "
                f"memory, {free / 2**30:.0f} GiB are free",
                hint=f"leave out {option}",
            )

    def _largest_tile(self) -> int:
        if self._in_caches:
            return LARGEST_TILE
        return EXACT_CPU_TILE if self.facts.tiling == "exact" else LARGEST_CPU_TILE

    def _capped(self, tile: int | None, height: int, width: int) -> int | None:
        """Limit a tile to the size that an earlier image has shown to fit."""
        side = max(height, width) if tile is None else tile
        return tile if self._limit is None or side <= self._limit else self._limit

    def _smaller_tile(self, tile: int | None, size: tuple[int, int], error: BaseException) -> int:
        """Halve a tile that was too large; the images that follow begin with it."""
        side = max(size) if tile is None else min(tile, max(size))
        if self.facts.tiling == "never":
            raise OutOfMemory(
                f"{self._arch} needs the whole image at once, which does not fit into the memory "
                f"of {self.device}",
                hint="close other programs, or use --device cpu",
            ) from error
        if side <= SMALLEST_TILE:
            raise OutOfMemory(
                f"not even a tile of {side} px fits into the memory of {self.device}",
                hint="close other programs, or use --device cpu",
            ) from error
        with self._lock:
            if self._limit is None:
                logger.warning("out of memory on %s: continuing with smaller tiles", self.device)
            self._limit = min(max(SMALLEST_TILE, side // 2), self._limit or side)
            return self._limit


class _Progress:
    """Progress by tile, and within a tile by block where the network runs block by block."""

    def __init__(self, steps: int, tiles: int, on_progress: OnProgress | None):
        """steps: of each tile."""
        self.steps, self.tiles, self.on_progress = steps, tiles, on_progress
        self.tile = self.block = 0

    def block_done(self) -> None:
        self.block += 1
        self._tell()

    def tile_done(self) -> None:
        self.tile, self.block = self.tile + 1, 0
        self._tell()

    def skip(self, tiles: int) -> None:
        self.tile += tiles

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.tile * self.steps + self.block, self.tiles * self.steps)


def _most_rows(pixels: int) -> int:
    """Return the rows of a tile up to which a band of the output has BAND pixels.

    pixels: of the output, for each row of the input.
    """
    return max(SMALLEST_TILE, BAND // pixels // 32 * 32)


@lru_cache
def _probe() -> Tensor:
    """Return random pixels (3, PROBE, PROBE) with a spectrum like that of photographs.

    Each octave of noise has half the amplitude of the octave below it.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(1, 3, PROBE, PROBE)
    side = 2
    while side <= PROBE:
        octave = torch.randn(1, 3, side, side, generator=generator) / side
        total += F.interpolate(octave, (PROBE, PROBE), mode="bicubic")
        side *= 2
    return (0.5 + 0.2 * total[0] / total.std()).clamp(0, 1)
