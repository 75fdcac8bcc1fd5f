"""Measure frames per second of `restore upscale clip.mp4`, of its limit and of plain PyTorch.

    python benchmarks/video_speed.py --frames 24 --rounds 3

960x540 to 1920x1080 by ESPCN x2. The limit is encoding alone, of prepared frames. Plain is the
simplest implementation: frame by frame, decoded to RGB, converted to YCbCr, through the network in
float32 and contiguous, back to RGB, and to the same encoder. Two more variants, ours in float32 and
ours by way of RGB, show the effect of bfloat16 and of the stored luma. The variants take turns; the
median counts. Processor time is more reliable than the wall clock on a shared machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
import torch.nn.functional as F

from restore_cli.assets import samples_dir
from restore_cli.batch.video import restore_video
from restore_cli.checkpoints import load_checkpoint
from restore_cli.imaging.colour import rgb_to_ycbcr, ycbcr_to_rgb
from restore_cli.imaging.image import Image
from restore_cli.imaging.video.reader import open_clip
from restore_cli.imaging.video.writer import writing
from restore_cli.imaging.video.yuv import with_luma
from restore_cli.inference.options import Precision, RunOptions
from restore_cli.inference.report import Restored
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.memory import keep_freed_memory

WIDTH, HEIGHT, RATE = 960, 540, 24
WEIGHTS = "espcn.x2"
ENCODER = {"crf": "17.7", "preset": "medium"}  # of --quality 90


@dataclass
class Variant:
    name: str
    run: Callable[[], object]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def time(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)


def make_source(
    clip: Path, target: Path, frames: int, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> None:
    """Write `frames` frames of a clip in a size, repeated if it is shorter, nearly lossless."""
    with av.open(str(clip)) as source, av.open(str(target), "w") as out:
        images = [p.reformat(*size, "yuv420p") for p in source.decode(video=0)]
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "10"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(frames):
            image = images[number % len(images)]
            image.pts, image.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(image))
        out.mux(stream.encode())


def restorer(precision: Precision) -> Restorer:
    return load_restorer("upscale", RunOptions(weights=WEIGHTS, device="cpu", precision=precision))


def ours(source: Path, target: Path, precision: Precision) -> Callable[[], object]:
    network = restorer(precision)
    return lambda: restore_video(source, target, network, format="mp4", overwrite=True)


def by_rgb(source: Path, target: Path) -> Callable[[], object]:
    """Run a network that does not declare that luma is enough."""
    network = restorer("auto")

    def enlarge(image: Image) -> Restored:
        return network(image)

    return lambda: restore_video(source, target, enlarge, format="mp4", overwrite=True)


def encoding(source: Path, target: Path) -> Callable[[], object]:
    """Run the writer alone, on luma that was doubled without a network."""
    with open_clip(source) as clip:
        frames = [
            (frame, with_luma(frame.planes, doubled(frame.planes.luma))) for frame in clip.frames()
        ]

    def encode() -> None:
        with (
            open_clip(source) as clip,
            writing(clip, target, format="mp4", quality=None, overwrite=True) as writer,
        ):
            next(clip.frames())  # the writer reads the colours of the clip
            for frame, planes in frames:
                writer.write(replace(frame, planes=planes, passing=()))

    return encode


def doubled(luma: torch.Tensor) -> torch.Tensor:
    return F.interpolate(luma[None, None] / 255, scale_factor=2, mode="bicubic")[0]


def plain(source: Path, target: Path) -> Callable[[], object]:
    network = load_checkpoint(WEIGHTS).module

    @torch.inference_mode()
    def run() -> None:
        with av.open(str(source)) as clip, av.open(str(target), "w") as out:
            stream = out.add_stream("libx264", rate=RATE, options=ENCODER)
            stream.width, stream.height, stream.pix_fmt = 2 * WIDTH, 2 * HEIGHT, "yuv420p"
            for image in clip.decode(video=0):
                rgb = torch.from_numpy(image.to_ndarray(format="rgb24")).permute(2, 0, 1) / 255
                ycbcr = rgb_to_ycbcr(rgb)[None]
                luma = network(ycbcr[:, :1])
                chroma = F.interpolate(ycbcr[:, 1:], scale_factor=2, mode="bicubic")
                large = ycbcr_to_rgb(torch.cat([luma, chroma], 1))[0].clamp(0, 1)
                levels = (large * 255).round().byte().permute(1, 2, 0).numpy()
                result = av.VideoFrame.from_ndarray(np.ascontiguousarray(levels), "rgb24")
                result.pts, result.time_base = image.pts, image.time_base
                out.mux(stream.encode(result.reformat(format="yuv420p")))
            out.mux(stream.encode())

    return run


def table(variants: list[Variant], frames: int) -> str:
    limit, *_, base = variants
    lines = [
        "| variant | frames/s | of the limit | times plain | CPU ms/frame | plain's CPU / this |",
        "|---|---|---|---|---|---|",
    ]
    for variant in variants:
        wall, cpu = median(variant.wall), median(variant.cpu)
        lines.append(
            f"| {variant.name} | {frames / wall:.1f} | {median(limit.wall) / wall:.0%} "
            f"| {median(base.wall) / wall:.2f} | {1000 * cpu / frames:.0f} "
            f"| {median(base.cpu) / cpu:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clip", type=Path, default=samples_dir() / "rocket_rain.mp4")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.mp4"), Path(folder, "target.mp4")
        make_source(arguments.clip, source, arguments.frames)
        variants = [
            Variant("encoding alone", encoding(source, target)),
            Variant("ours", ours(source, target, "auto")),
            Variant("ours, float32", ours(source, target, "fp32")),
            Variant("ours, by way of RGB", by_rgb(source, target)),
            Variant("plain, float32", plain(source, target)),
        ]
        for variant in variants:
            variant.run()  # warms up the caches and determines the precision
        for _ in range(arguments.rounds):
            for variant in variants:
                variant.time()
                print(f"{variant.name}: {variant.wall[-1]:.2f} s", file=sys.stderr)
    print(f"{arguments.frames} frames, {torch.get_num_threads()} threads of torch\n")
    print(table(variants, arguments.frames))


if __name__ == "__main__":
    main()
