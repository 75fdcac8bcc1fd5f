"""Check a GPU and measure how much of it is used: results, networks, a folder and a video.

    python -m benchmarks.gpu                          # about three minutes on a GPU
    python -m benchmarks.gpu --device cpu --quick     # the same code on small images

Results: distance from float32 on the CPU in dB, and of exact tiles from the whole image.
Networks: milliseconds for an image in the memory of the host, medians. "Plain" is the network in
float32 as PyTorch runs it, from host to host; "bare" the network in bfloat16 on images that are on
the device; "copies" the transfers of 8-bit levels alone. "levels" begins with decoded levels and
ends with those to encode, as the command does; "pixels" begins and ends with float32.
Folders and video: the command on images of 1 to 12 megapixels made of the samples, on images of
256x192, and on a clip of 1920x1080; "busy" is the mean utilization that nvidia-smi tells.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from threading import Event, Thread

import numpy as np
import torch
from torch import Tensor

from benchmarks.video_speed import make_source
from restore_cli.assets import samples_dir
from restore_cli.batch.video import restore_video
from restore_cli.bench.machine import describe
from restore_cli.checkpoints import load_checkpoint
from restore_cli.imaging.image import Image
from restore_cli.imaging.io import read, write
from restore_cli.imaging.quantize import Decoded, quantize, to_image
from restore_cli.imaging.resize import resize_matlab
from restore_cli.inference.device import compute_in, low_precisions, pick_device
from restore_cli.inference.options import Precision, RunOptions
from restore_cli.inference.preprocessing import prepare
from restore_cli.inference.restorer import Restorer, load_restorer
from restore_cli.inference.tiling import pad_to_multiple

NETWORKS = (
    ("derain", "dpenet.default"),
    ("denoise", "mirnet.denoise"),
    ("denoise", "cbsn.fast"),
    ("enhance", "tml.default"),
    ("upscale", "espcn.x2"),
    ("upscale", "mirnet.sr_x2"),
)
TILED = ("dpenet.default", "mirnet.denoise", "cbsn.fast", "espcn.x2")  # that have exact tiles
FOLDERS = (("derain",), ("upscale", "--scale", "2", "--model", "espcn"), ("denoise",))
POLL = 0.2  # seconds between two questions to nvidia-smi

Row = list[str]


def table(title: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [f"\n{title}\n", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def load(task: str, weights: str, device: str, **options: object) -> Restorer:
    return load_restorer(task, RunOptions(weights=weights, device=device, **options))  # type: ignore[arg-type]


def test_image(task: str, height: int, width: int) -> Tensor:
    """Return a part of a sample (3, height, width), dark for enhancement."""
    pixels = read(samples_dir() / "rocket_rain.jpg").pixels
    large = resize_matlab(pixels, max(height, width), max(height, width)).clamp(0, 1)
    return large[:, :height, :width] * (0.15 if task == "enhance" else 1)


def decibel(x: Tensor, y: Tensor) -> float:
    return float(-10 * (x - y).square().mean().clamp(min=1e-14).log10())


def results(device: str, networks: Sequence[tuple[str, str]], side: int) -> list[Row]:
    """Compare the device with float32 on the CPU, and exact tiles with the whole image."""
    rows = []
    for task, weights in networks:
        pixels = test_image(task, side, side + side // 4)
        wanted = load(task, weights, "cpu", precision="fp32").run(pixels)
        row = [weights]
        tf32: list[Precision] = ["tf32"] if "tf32" in low_precisions(pick_device(device)) else []
        precisions: list[Precision] = ["fp32", *tf32, "auto"]
        for precision in precisions:
            restored = load(task, weights, device, precision=precision)(Image(pixels))
            taken = restored.report.precision
            row.append(f"{taken} {decibel(restored.image.pixels, wanted):.0f} dB")
        if weights in TILED:
            whole, tiled = (
                load(task, weights, device, precision="fp32", **tiles).run(pixels)
                for tiles in ({"tile": "off"}, {"tile": max(16, side // 4), "exact": True})
            )
            row.append(f"{(whole - tiled).abs().max().item():.1e}")
        rows.append(row)
    return rows


def milliseconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    seconds = []
    for _ in range(rounds + 2):
        synchronise(device)
        began = time.perf_counter()
        run()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[2:])


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed(device: torch.device, task: str, weights: str, side: int, rounds: int) -> Row:
    """Time a network in five ways; the last number is levels / (bare + copies)."""
    pixels = test_image(task, side, side)
    decoded = Decoded(quantize(Image(pixels), 8))
    exact, auto = (load(task, weights, str(device), precision=p) for p in ("fp32", "auto"))
    network = load_checkpoint(weights).module.to(device).eval()
    plain_input = pad_to_multiple(
        prepare(exact.facts.preprocessing, pixels)[0], exact.facts.multiple
    )
    bare_input = plain_input.to(device).contiguous(memory_format=torch.channels_last)
    last = load_checkpoint(weights).module.to(device, memory_format=torch.channels_last).eval()

    @torch.inference_mode()
    def plain() -> Tensor:
        output = network(plain_input.to(device))
        result: Tensor = output[-1] if isinstance(output, tuple) else output
        return result.cpu()

    @torch.inference_mode()
    def bare() -> None:
        with compute_in("bf16", device, benchmark=True):
            last(bare_input)

    def levels() -> None:
        quantize(auto(to_image(decoded, device).as_tensors()).image, 8)

    result = auto(to_image(decoded, device).as_tensors()).image

    def copies() -> None:
        to_image(decoded, device)
        quantize(result, 8)

    ways: list[Callable[[], object]] = [
        plain,
        bare,
        copies,
        lambda: exact.run(pixels),
        lambda: auto.run(pixels),
        levels,
    ]
    times = [milliseconds(way, device, rounds) for way in ways]
    share = times[-1] / (times[1] + times[2])
    return [weights, *(f"{each:.1f}" for each in times), f"{share:.2f}"]


@contextmanager
def utilization(device: torch.device) -> Iterator[list[int]]:
    """Collect what nvidia-smi tells within this block, in per cent."""
    told: list[int] = []
    end = Event()

    def ask() -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        query = ["nvidia-smi", f"--id={index}", "--query-gpu=utilization.gpu"]
        while not end.wait(POLL):
            answer = subprocess.run(
                [*query, "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                check=False,
            )
            if answer.stdout.strip().isdigit():
                told.append(int(answer.stdout))

    thread = Thread(target=ask)
    if device.type == "cuda":
        thread.start()
    try:
        yield told
    finally:
        end.set()
        if thread.is_alive():
            thread.join()


def busy(told: Sequence[int]) -> str:
    return f"{mean(told):.0f} %" if told else "-"


def make_folder(folder: Path, count: int, megapixels: tuple[float, float]) -> None:
    """Write JPEG files of sizes between two numbers of megapixels."""
    folder.mkdir()
    for index, size in enumerate(np.geomspace(*megapixels, count)):
        width = round((size * 1e6 * 4 / 3) ** 0.5)
        write(Image(test_image("derain", width * 3 // 4, width)), folder / f"{index:03}.jpg")


def folder_row(device: torch.device, command: Sequence[str], source: Path, target: Path) -> Row:
    arguments = [sys.executable, "-m", "restore_cli", *command, str(source), "-o", str(target)]
    arguments += ["--device", str(device), "--overwrite", "--quiet"]
    before = os.times()
    began = time.perf_counter()
    with utilization(device) as told:
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])  # of children
    count = len(list(source.iterdir()))
    return [
        " ".join(command),
        str(count),
        f"{seconds:.1f}",
        f"{count / seconds:.1f}",
        busy(told),
        f"{cpu / seconds:.1f} of {os.cpu_count()}",
    ]


def video_row(device: torch.device, size: tuple[int, int], frames: int, folder: Path) -> Row:
    """Enlarge a clip of 24 frames/s twice by ESPCN."""
    source, target = folder / "source.mp4", folder / "target.mp4"
    make_source(samples_dir() / "rocket_rain.mp4", source, frames, size)
    network = load("upscale", "espcn.x2", str(device))
    network.run(torch.rand(3, 64, 64))  # starts the device
    began = time.perf_counter()
    with utilization(device) as told:
        restore_video(source, target, network, format="mp4", overwrite=True)
    rate = frames / (time.perf_counter() - began)
    return [f"{size[0]}x{size[1]}", f"{frames}", f"{rate:.1f}", f"{rate / 24:.1f}", busy(told)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="Small images, two networks, once.")
    given = parser.parse_args(arguments)
    device, quick = pick_device(given.device), given.quick
    networks = (NETWORKS[4], NETWORKS[3]) if quick else NETWORKS
    print(describe(device))
    precisions = ["fp32", *(["tf32"] if "tf32" in low_precisions(device) else []), "auto"]
    rows = results(str(device), networks, 32 if quick else 512)
    print(table("Results", ["weights", *precisions, "exact tiles"], rows), flush=True)
    head = ["weights", "plain", "bare", "copies", "pixels fp32", "pixels auto", "levels auto"]
    rows = [speed(device, *each, 64 if quick else 1024, 1 if quick else 9) for each in networks]
    print(table("Networks, ms", [*head, "levels / (bare + copies)"], rows), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder / "in", 2 if quick else 30, (0.01, 0.02) if quick else (1, 12))
        commands = FOLDERS[1:2] if quick else FOLDERS
        rows = [folder_row(device, each, folder / "in", folder / "out") for each in commands]
        make_folder(folder / "small", 2 if quick else 300, (0.049, 0.049))  # 256 x 192
        commands = [("upscale", "--model", "espcn"), *(() if quick else [("denoise",)])]
        rows += [folder_row(device, each, folder / "small", folder / "out") for each in commands]
        head = ["command", "images", "seconds", "images/s", "busy", "cores"]
        print(table("Folders", head, rows), flush=True)
        row = video_row(device, (160, 96) if quick else (1920, 1080), 6 if quick else 480, folder)
        print(table("Video", ["size", "frames", "frames/s", "times real time", "busy"], [row]))


if __name__ == "__main__":
    main()
