"""Make the sample video again: a camera moves over a photograph in falling rain, and a tone sounds.

Run: python samples/make_clip.py   (needs scikit-image, whose wheel carries the photograph)
"""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from skimage import data
from torch import Tensor

from restore_cli.data.degrade import MEDIUM, rain_streaks
from restore_cli.imaging.resize import resize_matlab

TARGET = Path(__file__).parent / "rocket_rain.mp4"
HEIGHT, WIDTH = 180, 320
FRAMES, RATE = 48, 24
FALL = 17  # pixels a frame
SOUND_RATE, NOTE = 48_000, 220.0  # Hz


def view(photo: Tensor, time: float) -> Tensor:
    """What the camera sees, time from 0 to 1: it comes nearer and moves to the right."""
    height, width = 360 - round(90 * time), 640 - round(160 * time)
    top, left = round(40 + 20 * time), round((640 - width) * 0.4)
    part = photo[:, top : top + height, left : left + width]
    return resize_matlab(part, HEIGHT, WIDTH).clamp(0, 1)


def images() -> list[np.ndarray]:
    photo = torch.from_numpy(data.rocket().copy()).permute(2, 0, 1) / 255
    # One sheet of rain that is pulled down before the camera, so that each drop falls.
    style = replace(MEDIUM, layers=(3, 3), density=(0.004, 0.006), angle=0.0, jitter=4.0)
    rain = rain_streaks(HEIGHT + FALL * FRAMES, WIDTH, style, torch.Generator().manual_seed(4))
    rainy = []
    for number in range(FRAMES):
        top = FALL * (FRAMES - 1 - number)
        streaks = rain[top : top + HEIGHT]
        frame = 1 - (1 - view(photo, number / (FRAMES - 1))) * (1 - streaks)
        rainy.append((frame * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return rainy


def tone() -> np.ndarray:
    """A note that fades in and out, with its octave, as long as the images; (1, samples)."""
    seconds = np.arange(FRAMES * SOUND_RATE // RATE) / SOUND_RATE
    loudness = 0.2 * np.sin(np.pi * seconds / seconds[-1])
    wave = np.sin(2 * np.pi * NOTE * seconds) + 0.5 * np.sin(4 * np.pi * NOTE * seconds)
    return (loudness * wave).astype(np.float32)[None]


def main() -> None:
    with av.open(str(TARGET), "w", options={"movflags": "faststart"}) as container:
        container.metadata["title"] = "A rocket in made rain"
        video = container.add_stream("libx264", rate=RATE, options={"crf": "24", "preset": "slow"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=SOUND_RATE, layout="mono", bit_rate=48_000)
        for number, levels in enumerate(images()):
            frame = av.VideoFrame.from_ndarray(levels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(tone(), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SOUND_RATE, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode())


if __name__ == "__main__":
    main()
