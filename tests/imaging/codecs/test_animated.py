"""Animations are restored frame by frame, and keep timing, alpha and number of plays."""

import io
from dataclasses import replace

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from restore_cli.batch.jobs import Job
from restore_cli.batch.run import run
from restore_cli.errors import ImageTooLarge, UnreadableImage
from restore_cli.imaging.codecs.animated import read_animation
from restore_cli.imaging.transfer import CPU
from restore_cli.inference.report import Report, Restored
from tests.imaging.images import camera_exif

TIMES = [100, 250, 40]
COLOURS = [(220, 40, 40, 255), (40, 220, 40, 255), (40, 40, 220, 255)]
WRITTEN = {"gif": "GIF", "webp": "WEBP", "png": "PNG"}


def animation(format, *, plays=0, times=TIMES, colours=COLOURS, **options):
    """Return frames whose left half is transparent."""
    frames = []
    for colour in colours:
        levels = np.full((16, 24, 4), (255, 255, 255, 0), np.uint8)  # black when it is inverted
        levels[:, 12:] = colour
        frames.append(Pillow.fromarray(levels))
    buffer = io.BytesIO()
    own = {"GIF": {"disposal": 2}, "WEBP": {"lossless": True, "exact": True}, "PNG": {}}[format]
    loop = {} if plays is None else {"loop": plays}
    frames[0].save(
        buffer,
        format,
        save_all=True,
        append_images=frames[1:],
        duration=times,
        **loop,
        **own,
        **options,
    )
    return buffer.getvalue()


class Doubling:
    """Enlarges by repetition, and inverts the colours."""

    device = CPU

    def __call__(self, image, *, on_progress=None):
        def enlarged(values):
            return values.repeat_interleave(2, 1).repeat_interleave(2, 2)

        alpha = None if image.alpha is None else enlarged(image.alpha)
        return Restored(replace(image, pixels=1 - enlarged(image.pixels), alpha=alpha), Report(()))

    def size_after(self, height, width):
        return 2 * height, 2 * width


def restored(data, suffix, target, tmp_path, **options):
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{target}"
    source.write_bytes(data)
    format = {"jpg": "jpeg"}.get(target.suffix[1:], target.suffix[1:])
    (result,) = run([Job(source, target, format)], Doubling(), **options)
    assert result.error is None
    return Pillow.open(target)


def frames_of(opened):
    for index in range(opened.n_frames):
        opened.seek(index)
        opened.load()
        yield opened.info["duration"], np.asarray(opened.convert("RGBA"))


@pytest.mark.parametrize("target", ["webp", "png"])
@pytest.mark.parametrize("suffix", WRITTEN)
def test_each_frame_is_restored_and_keeps_its_time_and_alpha(suffix, target, tmp_path, caplog):
    with restored(animation(WRITTEN[suffix]), suffix, target, tmp_path) as opened:
        times, frames = zip(*frames_of(opened), strict=True)
    assert list(times) == TIMES
    for frame, colour in zip(frames, COLOURS, strict=True):
        assert frame.shape == (32, 48, 4)
        assert (frame[:, :24, 3] == 0).all()
        assert (frame[:, 24:] == (*(255 - np.array(colour[:3])), 255)).all()
    assert caplog.messages == []


# A GIF counts repetitions after the first play; without a count it is played once.
@pytest.mark.parametrize(
    ("format", "stated", "plays"),
    [("GIF", 0, 0), ("GIF", None, 1), ("GIF", 2, 3), ("WEBP", 0, 0), ("WEBP", 3, 3), ("PNG", 3, 3)],
)
def test_the_number_of_plays_is_kept(format, stated, plays, tmp_path):
    data = animation(format, plays=stated)
    assert read_animation(data, "it").plays == plays
    with restored(data, "gif", "png", tmp_path) as opened:
        assert opened.info["loop"] == plays


def test_a_format_without_animations_gets_the_first_frame_with_a_warning(tmp_path, caplog):
    with restored(animation("WEBP"), "webp", "jpg", tmp_path) as opened:
        assert getattr(opened, "n_frames", 1) == 1
    assert "read without the other frames" in caplog.text


def test_a_sequence_in_avif_is_restored_too(tmp_path, caplog):
    buffer = io.BytesIO()
    frames = [Pillow.new("RGB", (24, 16), colour[:3]) for colour in COLOURS]
    options = {"save_all": True, "append_images": frames[1:], "duration": TIMES}
    frames[0].save(buffer, "AVIF", quality=100, **options)
    with restored(buffer.getvalue(), "avif", "png", tmp_path) as opened:
        assert [time for time, _ in frames_of(opened)] == TIMES
    assert caplog.messages == []


def test_of_an_animated_jpeg_xl_the_first_frame_is_restored_with_a_warning(tmp_path, caplog):
    frames = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (0, 255)])
    data = imagecodecs.jpegxl_encode(frames, lossless=True)
    restored(data, "jxl", "png", tmp_path).close()
    assert "read without the other frames" in caplog.text


def test_every_frame_counts_as_progress(tmp_path):
    heard = []
    data = animation("WEBP")
    restored(data, "webp", "webp", tmp_path, on_tile=lambda *told: heard.append(told)).close()
    assert heard == [(0, 2, 3), (0, 3, 3)]


def test_the_orientation_holds_for_all_frames(tmp_path):
    data = animation("WEBP", exif=camera_exif(orientation=6))
    with restored(data, "webp", "webp", tmp_path) as opened:
        assert opened.size == (32, 48)
        assert opened.n_frames == 3


@pytest.mark.parametrize("format", WRITTEN.values())
def test_a_still_is_no_animation(format):
    buffer = io.BytesIO()
    Pillow.new("RGB", (9, 9)).save(buffer, format)
    assert read_animation(buffer.getvalue(), "it") is None


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_an_animation_that_is_cut_is_refused(format):
    noise = [tuple(colour) for colour in torch.randint(0, 255, (40, 4)).tolist()]
    data = animation(format, times=50, colours=noise)
    with pytest.raises(UnreadableImage, match="it: a frame is damaged or truncated"):
        read_animation(data[: len(data) * 3 // 4], "it")


def test_an_animation_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr("restore_cli.imaging.headers.MOST_PIXELS", 16 * 24 * 3 - 1)
    with pytest.raises(ImageTooLarge, match="it: 3 frames of 24 x 16 pixels"):
        read_animation(animation("GIF"), "it")
