"""One image through one network: preprocessing, tiles, network, blending, and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, zip_longest
from pathlib import Path
from threading import Lock
from typing import Literal

import torch
from torch import Tensor

from restore_cli import registry
from restore_cli.checkpoints.community import CommunityNetwork
from restore_cli.checkpoints.load import Checkpoint, is_onnx, is_path, load_checkpoint
from restore_cli.checkpoints.onnx import bundled_onnx, is_installed
from restore_cli.checkpoints.onnx_network import OnnxNetwork, load_named_onnx, load_onnx_file
from restore_cli.errors import BrokenOutput, OutOfMemory, UsageError, WeightsMismatch
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.image import BandedImage, Image
from restore_cli.imaging.planes import Planes, new_planes
from restore_cli.imaging.resize import REACH, resize_matlab
from restore_cli.imaging.transfer import CPU, complete, home_of
from restore_cli.inference.blockwise import blocks_of, blockwise, blockwise_chains
from restore_cli.inference.device import (
    SMALLEST_TILE,
    compute_in,
    free_memory,
    low_precisions,
    pick_device,
    refuse_precision,
    release_unused,
)
from restore_cli.inference.ensemble import ALL, UPRIGHT, mean_of_orientations
from restore_cli.inference.fused import can_fuse, fused
from restore_cli.inference.graphs import Graphs
from restore_cli.inference.noise import limit_to_noise
from restore_cli.inference.options import OnProgress, Resize, RunOptions
from restore_cli.inference.preprocessing import (
    BAND,
    Feed,
    Prepared,
    WholeFeed,
    brightness_and_grain,
    extend_border,
    feed,
)
from restore_cli.inference.rain import Rain, RainMeter
from restore_cli.inference.report import Report, Restored, Restoring, StepReport
from restore_cli.inference.tiled import kept_bytes, share_statistics, tiled_blocks
from restore_cli.inference.tiling import Span, blend_in, cut, kept, plan_tiles
from restore_cli.inference.together import run_batched
from restore_cli.memory import is_out_of_memory
from restore_cli.networks.facts import Facts, FixedSize, Luma, Normalized, Stretched
from restore_cli.tasks import find_task

logger = logging.getLogger(__name__)

GATE = 50.0  # dB between the first tile in low precision and in float32
PROBE = 256  # pixels a side of the first tile that are computed in both
LARGEST_TILE = 2048  # pixels; what is computed twice around it is little already
LARGEST_CPU_TILE = 512  # of a network that is not run in pieces: more would leave the caches
EXACT_CPU_TILE = 320  # where the size of tiles does not change the result; ESPCN: 0.74 of the time
MEMORY_SHARE = 0.5  # of the free memory
WORKING_BYTES = 64  # for each pixel of source and result, what is done to them included


class Restorer:
    """A network on a device, ready to restore images of any size, in any number of threads.

    The precision "auto" is settled by the first image.
    """

    def __init__(self, checkpoint: Checkpoint, options: RunOptions, *, limited: bool = False):
        """limited: what is removed is limited to the estimated noise, as by a denoiser."""
        facts = checkpoint.spec.facts
        if facts is None:
            raise WeightsMismatch(
                f"{checkpoint.name} does not take images, so it cannot restore any"
            )
        self.checkpoint = checkpoint
        self._refuse_strength(options)
        self.facts = _resized(facts, options.resize, checkpoint.spec.arch)
        self.options = options
        self.device = pick_device(options.device)
        self._home = home_of(self.device)
        self._backend = backend_of(checkpoint, self.device)
        self.limited = limited
        self._lock = Lock()  # of the three that follow
        self._overflowed = False  # in low precision, which has been reported
        self._precision: str | None = None if options.precision == "auto" else options.precision
        self._limit: int | None = None  # the largest tile, once memory has run out
        if self._precision not in (None, *facts.precisions):
            raise UsageError(
                f"{checkpoint.name} does not work in {self._precision}",
                hint=f"use --precision {' or '.join(facts.precisions)}",
            )
        refuse_precision(options.precision, self.device)
        if options.resize == "native":
            checkpoint.module.allow_any_size()  # type: ignore[operator]
        if isinstance(checkpoint.module, CommunityNetwork):
            checkpoint.module.seed = options.seed
        self._layout = torch.channels_last if facts.channels_last else torch.contiguous_format
        network = checkpoint.module.to(self.device)
        if facts.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A GPU has no use for pieces: its memory is as fast for large tensors as for small ones.
        known = self.model in registry.MODELS
        self.network = network
        if self.device.type == "cpu":
            self.network = blockwise(network)
            if known and self._backend == "torch" and can_fuse(options.precision):
                self.network = fused(self.network)
        if options.exact and self.facts.tiling in ("approximate", "discouraged"):
            self.network = share_statistics(network, self.facts, self.model)
        self._tiled, chains = tiled_blocks(self.network), blockwise_chains(self.network)
        self._in_caches = self.device.type != "cpu" or bool(chains)
        blocks = sum(len(chain.blocks) for chain in chains) + len(self._tiled)
        self._steps = max(1, blocks)  # of progress, in a tile
        # Exact tiles decide on the way, and community models may do anything.
        self._fixed = known and not self._tiled
        self._graphs = Graphs() if self.device.type == "cuda" and self._fixed else None
        self._overlap, self._blend = self._context()

    @property
    def model(self) -> str:
        return self.checkpoint.spec.arch

    @property
    def _orientations(self) -> tuple[int, ...]:
        """Return the orientations of a tile that the network sees."""
        if not self.options.ensemble:
            return (0,)
        return UPRIGHT if self.facts.upright else ALL

    def with_options(self, options: RunOptions) -> Restorer:
        """Return this restorer, its network included, for options with the same `of_loading`.

        Raises UsageError.
        """
        assert options.of_loading == self.options.of_loading
        self._refuse_strength(options)
        other = copy(self)
        other.options = options
        return other

    def _refuse_strength(self, options: RunOptions) -> None:
        facts = self.checkpoint.spec.facts
        assert facts is not None
        if facts.scale != 1 and options.strength != 1:
            raise UsageError(f"{self.checkpoint.name} enlarges, so strength has no effect")

    def __call__(self, image: Image, *, on_progress: OnProgress | None = None) -> Restored:
        """Restore an image. Raises OutOfMemory, BrokenOutput."""
        return self.stream(image, on_progress=on_progress).whole(image.device)

    def stream(
        self, image: Image, *, on_progress: OnProgress | None = None, storage: Storage = MEMORY
    ) -> Restoring:
        """Restore an image band by band, as the bands are asked for.

        storage: of the result, where a band of it depends on the others.
        """
        run = _Run(on_progress)
        image = self._placed(image)
        result = image.without_pixels(*self.size_after(image.height, image.width))
        bands = self._with_alpha(
            image, self._restored(image.visible_colours().planes, run, storage)
        )
        return Restoring(result, bands, lambda: Report((self._step(result, run),)))

    def _placed(self, image: Image) -> Image:
        """Return the image on the device, if it has room; else its rows go there band by band."""
        if isinstance(image, BandedImage):
            return image
        if self._home == CPU:
            return image.to(CPU)
        both = image.height * image.width * (1 + self.facts.scale**2)  # source and result
        fits = both * WORKING_BYTES <= free_memory(self._home) * MEMORY_SHARE
        return image.to(self._home if fits else CPU)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """Return the (H, W) of the result of an image."""
        return height * self.facts.scale, width * self.facts.scale

    def stored_bytes(self, height: int, width: int) -> int:
        """Return the bytes in `storage` of `stream`, of an image with colours."""
        return height * width * 12 if self.limited or self.facts.tiling == "never" else 0

    def run(self, pixels: Tensor, *, on_progress: OnProgress | None = None) -> Tensor:
        """(C, H, W) in [0, 1] -> (C, scale * H, scale * W) in [0, 1], float32, where it was."""
        return self(Image(pixels), on_progress=on_progress).image.pixels

    @property
    def luma_alone(self) -> bool:
        """True if the network sees luma alone."""
        return isinstance(self.facts.preprocessing, Luma)

    @torch.inference_mode()
    def run_luma(self, luma: Tensor) -> tuple[Tensor, Report]:
        """(1, H, W) -> (1, scale * H, scale * W), not clamped: luma as `rgb_to_ycbcr` has it.

        For a network that sees nothing else: see `luma_alone`.
        """
        assert isinstance(self.facts.preprocessing, Luma)
        run = _Run(None)
        padded, crop = extend_border(luma[None].to(self._home), self.facts.preprocessing)
        bands = [band for _, band in self._output(Prepared(padded), run)]
        result = crop(torch.cat(bands, dim=-2))[0]
        complete(result)
        result = result.to(luma.device)
        return result, Report((self._step(Image(result), run),))

    @torch.inference_mode()
    def _with_alpha(self, image: Image, bands: Iterator[Tensor]) -> Iterator[Image]:
        """Yield the restored bands with alpha, and with the hidden colours of the image."""
        bottom, scale = 0, self.facts.scale
        for pixels in bands:
            top, bottom = bottom, bottom + pixels.shape[-2]
            if scale == 1:
                own = image.rows(top, bottom).to(pixels.device)
                yield own.with_pixels(own.keep_hidden_colours(pixels))
            else:
                alpha = _enlarged_alpha(image, scale, top, bottom)
                yield Image(pixels, None if alpha is None else alpha.to(pixels.device))

    @torch.inference_mode()
    def _restored(self, planes: Planes, run: _Run, storage: Storage) -> Iterator[Tensor]:
        """Yield the restored pixels band by band."""
        source = feed(self.facts, planes, storage, self._home)
        bands = self._clamped(source, run)
        if self.limited:
            bands = self._limited_to_noise(planes, bands, run, storage)
        if "derain" in self.checkpoint.spec.tasks and self.facts.scale == 1:
            bands = _measured_rain(planes, bands, run)
        bottom, strength = 0, self.options.strength
        for band in bands:
            top, bottom = bottom, bottom + band.shape[-2]
            if strength != 1:
                band = torch.lerp(planes.read(top, bottom).to(band.device), band, strength)
            yield band
            planes.release()
        if isinstance(source, WholeFeed):
            run.brightness, run.grain = brightness_and_grain(
                self.facts.preprocessing, planes, source.blended(planes, strength)
            )

    def _clamped(self, source: Feed, run: _Run) -> Iterator[Tensor]:
        for top, output in self._output(source, run):
            for band in source.undo(output, top):
                yield band.clamp_(0, 1)

    def _limited_to_noise(
        self, planes: Planes, bands: Iterator[Tensor], run: _Run, storage: Storage
    ) -> Iterator[Tensor]:
        """Keep what the network took away beyond the noise, once all bands are known."""
        denoised = new_planes(storage, planes.shape, planes.device)
        bottom = 0
        for band in bands:
            top, bottom = bottom, bottom + band.shape[-2]
            denoised[:, top:bottom] = band
            planes.release()
        run.noise_sigma = limit_to_noise(planes, denoised, self.options.noise_limit)
        yield from torch.split(denoised, max(1, BAND // planes.width), dim=1)

    def _step(self, result: Image, run: _Run) -> StepReport:
        return StepReport(
            network=self.model,
            weights=self.checkpoint.name,
            sha256=self.checkpoint.sha256,
            tile=run.tile,
            precision=run.precision,
            height=result.height,
            width=result.width,
            seconds=time.monotonic() - run.began,
            backend=self._backend,
            noise_sigma=run.noise_sigma,
            brightness=run.brightness,
            grain=run.grain,
            rain=run.rain,
        )

    def _output(self, source: Feed, run: _Run) -> Iterator[tuple[int, Tensor]]:
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

    def _tile_rows(self, source: Feed, run: _Run, done: int) -> Iterator[tuple[int, Tensor]]:
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
                first = cut(band, row.counted_from(row.start), plan.columns[0])
                with blocks_of(side):
                    run.precision = self._settled_precision(first)
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
                        f"{self.checkpoint.name} produced NaN or infinity in float32",
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
                for column, output in zip(batch, torch.split(outputs, 1), strict=True):
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

    def _settled_precision(self, first: Tensor) -> str:
        """Return the precision of all images; "auto" is settled by the first tile of the first."""
        with self._lock:
            if self._precision is None:
                self._precision = self._fastest_precision(first)
            return self._precision

    def _fastest_precision(self, first: Tensor) -> str:
        """Return the lowest precision that is fast here and keeps the output within the gate."""
        candidates = [name for name in low_precisions(self.device) if self._is_faster_in(name)]
        if not candidates:
            return "fp32"
        side = PROBE - PROBE % self.facts.multiple
        probe = first if self.facts.tiling == "never" else first[..., :side, :side]
        probe = probe.to(self.device)
        exact = self._computed(probe, "fp32")  # not in a batch: other threads wait for the lock
        for precision in candidates:
            error = self._computed(probe, precision) - exact
            decibel = -10 * error.square().mean().clamp(min=1e-12).log10().item()
            logger.info("%s stands %.1f dB from float32", precision, decibel)
            if decibel >= GATE:
                return precision
        return "fp32"

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
                    f"{self.model} sees the whole image, so no overlap is exact",
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
                f"{self.model} needs the whole image at once, which does not fit into the memory "
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


def _resized(facts: Facts, resize: Resize, arch: str) -> Facts:
    """Return the facts of a network of one size for another way of resizing.

    Raises UsageError for a network that takes any size.
    """
    if resize == "detail":
        return facts
    way = facts.preprocessing
    if not isinstance(way, FixedSize):
        raise UsageError(
            f"{arch} works at any size, so --resize has no effect",
            hint="leave --resize out",
        )
    resized = Stretched(way.height, way.width) if resize == "fit" else Normalized()
    return replace(facts, preprocessing=resized)


@dataclass
class _Run:
    """State of one image on its way through the network."""

    on_progress: OnProgress | None
    tile: int | None = None
    precision: str = ""
    began: float = field(default_factory=time.monotonic)
    noise_sigma: float | None = None
    brightness: float | None = None
    grain: float | None = None
    rain: Rain | None = None


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


def _measured_rain(planes: Planes, bands: Iterator[Tensor], run: _Run) -> Iterator[Tensor]:
    """Yield the bands, and measure the rain that each has lost."""
    meter, bottom = RainMeter(), 0
    for band in bands:
        top, bottom = bottom, bottom + band.shape[-2]
        meter.add(planes.read(top, bottom).to(band.device), band)
        yield band
    run.rain = meter.rain()


def _enlarged_alpha(image: Image, scale: int, top: int, bottom: int) -> Tensor | None:
    """Return the rows of the enlarged alpha of an image."""
    if image.alpha is None:
        return None
    low = max(0, top // scale - REACH)
    alpha = image.rows(low, min(image.height, -(-bottom // scale) + REACH)).alpha
    assert alpha is not None
    height, width = (side * scale for side in alpha.shape[-2:])
    wide = resize_matlab(alpha, height, width).clamp_(0, 1)
    return wide[:, top - low * scale : bottom - low * scale]


def load_network(weights: str, options: RunOptions) -> Checkpoint:
    """Load weights for the backend of the options. Raises UsageError, WeightsError, DeviceError.

    "auto" is onnxruntime, if it is installed, for weights with an ONNX file, on a CPU in float32.
    """
    backend, is_file = options.backend, is_path(weights)
    if is_onnx(weights):
        if backend == "torch":
            raise UsageError(
                f"{weights} is not a PyTorch file", hint="use the weights that it was exported from"
            )
        path = Path(weights).expanduser()
        return load_onnx_file(path, "openvino" if backend == "openvino" else "onnx")
    if backend in ("onnx", "openvino"):
        if is_file:
            raise UsageError(
                f"{weights} is not an ONNX file",
                hint=f"make one: restore export {weights} -o FILE.onnx, then --weights FILE.onnx",
            )
        return load_named_onnx(weights, backend)
    if backend == "auto" and options.precision in ("auto", "fp32") and not is_file:
        there = bundled_onnx(weights) is not None and is_installed()
        if there and pick_device(options.device).type == "cpu":
            return load_named_onnx(weights)
    return load_checkpoint(weights)


def backend_of(
    checkpoint: Checkpoint, device: torch.device
) -> Literal["torch", "onnx", "openvino"]:
    """Return the backend of a network. Raises UsageError for ONNX on another device than a CPU."""
    if not isinstance(checkpoint.module, OnnxNetwork):
        return "torch"
    if device.type != "cpu":
        raise UsageError("ONNX files run on the CPU", hint="add --device cpu")
    return checkpoint.module.runtime


def load_restorer(task: str, options: RunOptions) -> Restorer:
    """Load the network for `task` with the weights and on the device of the options.

    Raises UsageError, WeightsError, DeviceError.
    """
    row = find_task(task)
    usual = ""
    if row.network or options.model or options.weights is None:
        usual = registry.find_for_task(task, options.model).weights[row.name]
    checkpoint = load_network(options.weights or usual, options)
    spec = checkpoint.spec
    if task not in spec.tasks:
        raise WeightsMismatch(
            f"{checkpoint.name} is trained to {' or '.join(spec.tasks)}, not to {task}",
            hint=f"for example --weights {usual}" if usual else None,
        )
    # A community model may be trained for more than noise: only a given limit applies to it.
    checkpoint = replace(checkpoint, spec=replace(spec, tasks=(task,)))
    limits = spec.arch in registry.MODELS or not isinstance(options.noise_limit, str)
    return Restorer(checkpoint, options, limited=task == "denoise" and limits)
