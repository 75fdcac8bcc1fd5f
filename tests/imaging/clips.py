"""Small videos for tests, and their contents read without our own reader."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from restore_cli.imaging.video.reader import open_clip

RATE = 25
TICK = Fraction(1, 12_800)  # time base of these clips: 512 ticks per frame
STEP = 512
SOUND_RATE = 48_000


def luma_of_frame(height, width, number, bits=8):
    """Return luma of frame `number`: a gradient that moves, so that all frames differ."""
    rows, columns = np.indices((height, width))
    slope = (3 * rows + 2 * columns + 5 * number) % 200 + 20
    return (slope << (bits - 8)).astype(np.uint8 if bits == 8 else np.uint16)


def image_of(height, width, number, format):
    """Return a frame for an encoder; chroma differs between the planes, and along each."""
    image = av.VideoFrame(width, height, format)
    bits = image.format.components[0].bits
    for index, plane in enumerate(image.planes):
        room = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
        room = room.reshape(plane.height, -1)
        if index == 0:
            room[:, : plane.width] = luma_of_frame(plane.height, plane.width, number, bits)
        else:
            room[:, : plane.width] = np.arange(plane.width) % 32 + (60 + 70 * index << (bits - 8))
    return image


def make_clip(
    path,
    *,
    codec="libx264",
    format="yuv420p",
    size=(48, 64),
    frames=6,
    times=None,
    rate=RATE,
    sound="aac",
    start=0,
    set_up=lambda stream: None,
    **options,
):
    """Write a video, lossless by H.264, with audio half as long again as the frames.

    size: (H, W). times: timestamp of each frame, in ticks; start: offset of all, in ticks.
    set_up: receives the stream before the first frame.
    """
    height, width = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, format
        stream.codec_context.time_base = TICK
        stream.options = (
            {"qp": "0", "preset": "ultrafast"} if codec == "libx264" else {}
        ) | options
        set_up(stream)
        voice = container.add_stream(sound, rate=SOUND_RATE) if sound else None
        for number in range(frames):
            image = image_of(height, width, number, format)
            image.pts = start + (times[number] if times else number * STEP)
            image.time_base = TICK
            container.mux(stream.encode(image))
        container.mux(stream.encode())
        if voice is not None:
            add_tone(container, voice, seconds=1.5 * frames / RATE, start=float(start * TICK))
    return path


def frames_of(path):
    """Read all frames by our own reader."""
    with open_clip(path) as clip:
        return list(clip.frames())


def add_tone(container, stream, *, seconds, start=0):
    layout = stream.codec_context.layout.name
    count = len(stream.codec_context.layout.channels)
    wave = np.sin(np.arange(int(seconds * SOUND_RATE)) * 2 * np.pi * 440 / SOUND_RATE) * 0.3
    for first in range(0, len(wave), 960):  # what Opus takes at once
        part = np.repeat(wave[None, first : first + 960].astype(np.float32), count, axis=0)
        sound = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        sound.sample_rate, sound.pts = SOUND_RATE, first + round(start * SOUND_RATE)
        sound.time_base = Fraction(1, SOUND_RATE)
        container.mux(stream.encode(sound))
    container.mux(stream.encode())


@dataclass(frozen=True)
class Seen:
    """Contents of a video as read by FFmpeg."""

    codec: str
    format: str
    size: tuple[int, int]
    rate: Fraction
    duration: float
    times: list[float]
    colours: tuple[int, int, int, int]
    aspect: Fraction | None
    luma: list[np.ndarray]
    sound: str
    sound_times: list[float]
    metadata: dict[str, str]


def see(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        images = list(container.decode(stream))
        context = stream.codec_context
        sound, sound_times = sound_of(path)
        return Seen(
            codec=context.codec.name,
            format=context.pix_fmt,
            size=(images[0].height, images[0].width),
            rate=stream.average_rate,
            duration=container.duration / av.time_base,
            times=[round(image.time, 4) for image in images],
            colours=(
                context.color_range,
                context.colorspace,
                context.color_primaries,
                context.color_trc,
            ),
            aspect=context.sample_aspect_ratio,
            luma=[luma_of(image) for image in images],
            sound=sound,
            sound_times=sound_times,
            metadata=dict(container.metadata),
        )


def sound_of(path):
    """Return a digest of all audio packets, and the time of each."""
    digest, times = hashlib.sha256(), []
    with av.open(str(path)) as container:
        if container.streams.audio:
            for packet in container.demux(container.streams.audio[0]):
                if packet.dts is not None:
                    digest.update(bytes(packet))
                    times.append(round(float(packet.pts * packet.time_base), 4))
    return digest.hexdigest(), times


def luma_of(image):
    plane = image.planes[0]
    bits = image.format.components[0].bits
    levels = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
    return levels.reshape(plane.height, -1)[:, : plane.width].copy()
