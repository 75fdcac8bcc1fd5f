"""Animations in GIF, WebP, PNG and AVIF: the frames after the first, through Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging import headers
from restore_cli.imaging.codecs.pillow import pillow_limits
from restore_cli.imaging.image import Image
from restore_cli.imaging.quantize import Array, Decoded, quantize, to_image

FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
UNSTATED = 100  # milliseconds of a frame without duration, as browsers show it
ORIENTATION = 0x0112
FRAMES = "the other frames"  # as the decoders of stills name what they leave out


@dataclass(frozen=True)
class Animation:
    """Frames of 8 bits after the first (H, W, 3 or 4), and the timing of all."""

    frames: tuple[Array, ...]
    milliseconds: tuple[float, ...]
    plays: int  # 0: without end
    orientation: int = 1  # EXIF orientation of the frames, not yet applied

    def through(
        self, restore: Callable[[Image], Image], on_frame: Callable[[int, int], None] | None
    ) -> Animation:
        """Return the animation with restored frames."""
        done = list[Array]()
        for frame in self.frames:
            image = to_image(Decoded(frame, orientation=self.orientation)).as_tensors()
            done.append(quantize(restore(image), 8))
            if on_frame is not None:
                on_frame(1 + len(done), 1 + len(self.frames))
        return replace(self, frames=tuple(done), orientation=1)


def read_animation(data: bytes, name: str) -> Animation | None:
    """Return the animation in a file, None for a still and for JPEG XL.

    Raises UnreadableImage, ImageTooLarge.
    """
    try:
        with pillow_limits(), Pillow.open(io.BytesIO(data), formats=FORMATS) as opened:
            count = getattr(opened, "n_frames", 1)
            # The default image of a PNG is for programs that do not know animations.
            if count == 1 or opened.info.get("default_image"):
                return None
            if opened.height * opened.width * count > headers.MOST_PIXELS:
                raise ImageTooLarge(
                    f"{name}: {count} frames of {opened.width} x {opened.height} pixels",
                    hint="cut the animation into parts",
                )
            loop = opened.info.get("loop")
            if opened.format == "GIF":  # it counts repetitions, and is played once without them
                loop = 1 if loop is None else loop + 1 if loop else 0
            orientation = opened.getexif().get(ORIENTATION, 1)
            frames, milliseconds = list[Array](), list[float]()
            for index in range(count):
                opened.seek(index)
                opened.load()
                milliseconds.append(float(opened.info.get("duration") or UNSTATED))
                mode = "RGBA" if opened.has_transparency_data else "RGB"
                if index:
                    frames.append(np.asarray(opened.convert(mode)))
    except UnidentifiedImageError:  # of a format that Pillow does not know, as JPEG XL
        return None
    except (OSError, EOFError, ValueError, SyntaxError) as error:
        raise UnreadableImage(
            f"{name}: a frame is damaged or truncated ({error})", hint="get the file again"
        ) from error
    valid = orientation if orientation in range(1, 9) else 1
    return Animation(tuple(frames), tuple(milliseconds), loop or 0, valid)
