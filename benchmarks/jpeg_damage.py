"""Measure how many damaged JPEGs are noticed, and false alarms on sound ones.

    python benchmarks/jpeg_damage.py [--count 200] [--sound 500] [--megapixels 24]

Sound files come from four encoders, in many qualities, subsamplings, sizes and orders, with padding
and data before, within and behind the image. Damage lies inside the scan: a bit, a byte, a run of
zeros, ones or random bytes, or a part cut out.
"""

from __future__ import annotations

import argparse
import io
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import imagecodecs
import kornia_rs
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.codecs import pillow
from restore_cli.imaging.codecs.jpeg_scan import DAMAGED, NO_END
from restore_cli.imaging.io import decode

Array = NDArray[np.uint8]

END = b"\xff\xd9"
KINDS: dict[str, dict[str, int | bool]] = {
    "4:2:0": {"quality": 90, "subsampling": 2},
    "4:2:2": {"quality": 75, "subsampling": 1},
    "4:4:4": {"quality": 90, "subsampling": 0},
    "coarse": {"quality": 40, "optimize": True},
    "progressive": {"quality": 90, "progressive": True},
    "restarts": {"quality": 85, "restart_marker_blocks": 8},
    "restarts of rows": {"quality": 85, "subsampling": 0, "restart_marker_rows": 1},
    "progressive restarts": {"quality": 85, "progressive": True, "restart_marker_rows": 1},
    "grey": {"quality": 90},
    "grey progressive": {"quality": 80, "progressive": True},
}


def scene(height: int, width: int, seed: int) -> Array:
    """Return smooth waves, a square and grain, (H, W, 3)."""
    grain = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [80 * np.sin(x / (7 + seed % 20)), 70 * np.cos(y / 13), 60 * np.sin((x + y) / 19)]
    levels = 110 + np.stack(waves, -1) + grain.normal(0, seed % 12, (height, width, 3))
    levels[height // 4 : height // 2, width // 4 : width // 2] += 60
    return levels.clip(0, 255).astype(np.uint8)


def by_pillow(levels: Array, kind: str) -> bytes:
    image, buffer = Pillow.fromarray(levels), io.BytesIO()
    image = image.convert("L") if kind.startswith("grey") else image
    image.save(buffer, "JPEG", **KINDS[kind])
    return buffer.getvalue()


def by_ffmpeg(levels: Array, pixel_format: str) -> bytes:
    context = av.CodecContext.create("mjpeg", "w")
    context.height, context.width = levels.shape[:2]
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    context.thread_count = 1  # with more, the restart markers of narrow images are wrong
    frame = av.VideoFrame.from_ndarray(levels, "rgb24").reformat(format=pixel_format)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])


def sound(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield descriptions and files without damage."""
    rng = random.Random(1)
    for seed in range(count):
        levels = scene(rng.randint(1, 300), rng.randint(1, 300), seed)
        encoder = ("Pillow", "Pillow", "libjpeg-turbo", "FFmpeg", "kornia")[seed % 5]
        kind = ""
        if encoder == "Pillow":
            kind = rng.choice([*KINDS])
            data = by_pillow(levels, kind)
        elif encoder == "libjpeg-turbo":
            kind = rng.choice(["444", "422", "420", "411", "440"])
            level, optimize = rng.randint(1, 100), rng.random() < 0.5
            data = imagecodecs.jpeg8_encode(levels, level, subsampling=kind, optimize=optimize)
        elif encoder == "FFmpeg":
            kind = rng.choice(["yuvj420p", "yuvj422p", "yuvj444p"])
            data = by_ffmpeg(levels, kind)
        else:
            data = kornia_rs.io.encode_image_jpeg(levels, rng.randint(1, 100))
        extra, data = _extended(bytes(data), rng)
        yield f"{encoder} {kind} {levels.shape[1]}x{levels.shape[0]} {extra}", data


def _extended(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Add what programs and cameras add to a file."""
    at = data.rfind(END)
    comment = b"\xff\xfe\x00\x0a" + rng.randbytes(8)
    thumbnail = b"Exif\0\0" + by_pillow(scene(32, 48, 1), "4:2:0")
    exif = b"\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    added = {
        "plain": data,
        "zeros behind": data + bytes(rng.randint(1, 5000)),
        "random bytes behind": data + rng.randbytes(rng.randint(1, 5000)),
        "a second image behind": data + data,
        "a film behind": data + b"\0\0\0\x18ftypmp42" + rng.randbytes(999),
        "zeros before the end": data[:at] + bytes(rng.randint(1, 40)) + data[at:],
        "ones before the end": data[:at] + b"\xff" * rng.randint(1, 40) + data[at:],
        "ones before a marker": data[:2] + b"\xff" * rng.randint(1, 9) + data[2:],
        "comment": data[:2] + comment + data[2:],
        "thumbnail": data[:2] + exif + data[2:],
    }
    name = rng.choice([*added])
    return name, added[name]


def damaged(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield kinds and files with random damage inside their scans."""
    rng = random.Random(seed)
    for index in range(count):
        kind = [*KINDS][index % len(KINDS)]
        good = by_pillow(scene(rng.randint(64, 400), rng.randint(64, 400), index), kind)
        bad = good
        while bad == good:
            bad = _damaged(good, rng)
        yield kind, bad


def _damaged(good: bytes, rng: random.Random) -> bytes:
    data = bytearray(good)
    first = data.find(b"\xff\xda") + 12
    at = rng.randrange(first, len(data) - 2)
    stop = min(at + rng.choice([4, 16, 64, 200]), len(data) - 2)
    length = stop - at
    change = rng.choice(["bit", "byte", "zeros", "ones", "random", "cut"])
    if change == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif change == "byte":
        data[at] = rng.randrange(256)
    elif change == "cut":
        del data[at:stop]
    else:
        data[at:stop] = {
            "zeros": bytes(length),
            "ones": b"\xff" * length,
            "random": rng.randbytes(length),
        }[change]
    return bytes(data)


class Heard(logging.Handler):
    """Counts warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def verdict(data: bytes) -> str:
    """Return the warning of damage, or the error; "" for a file that is read without either."""
    heard, logger = Heard(), logging.getLogger("restore_cli")
    logger.addHandler(heard)
    try:
        decode(data, name="it")
    except UnreadableImage as error:
        return f"refused: {error.message}"
    finally:
        logger.removeHandler(heard)
    return "; ".join(each for each in heard.messages if DAMAGED in each or NO_END in each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--sound", type=int, default=500)
    parser.add_argument("--megapixels", type=float, default=24)
    options = parser.parse_args()
    noticed: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for kind, data in damaged(options.count):
        words = verdict(data)
        noticed[kind] += bool(words)
        kinds["refused" if words.startswith("refused") else "warned" if words else "silent"] += 1
    print(f"damaged: {sum(noticed.values())} of {options.count} noticed {dict(kinds)}")
    for kind, count in noticed.items():
        print(f"  {kind}: {count} of {options.count // len(KINDS)}")
    alarms = [(name, words) for name, data in sound(options.sound) if (words := verdict(data))]
    print(f"sound: {len(alarms)} false alarms of {options.sound}", *alarms, sep="\n")
    side = round((options.megapixels * 1e6 / 1.5) ** 0.5)
    data = by_pillow(scene(side, side * 3 // 2, 4), "4:2:0")
    ours = min(_seconds(lambda: pillow.decode(data)) for _ in range(3))
    plain = min(_seconds(lambda: np.asarray(Pillow.open(io.BytesIO(data)))) for _ in range(3))
    print(f"{options.megapixels:g} MP: {ours:.2f} s, by Pillow alone {plain:.2f} s")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
