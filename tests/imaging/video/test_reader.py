"""Reading and writing of videos, and refusal of those that cannot be read."""

import math
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from restore_cli.errors import OutputCollision, OutputError, OutputExists, UnreadableVideo
from restore_cli.imaging.video.reader import open_clip
from restore_cli.imaging.video.writer import writing
from tests.imaging.clips import (
    RATE,
    STEP,
    TICK,
    add_tone,
    frames_of,
    image_of,
    luma_of_frame,
    make_clip,
    see,
)


def copy(source, target, *, format=None, quality=90, overwrite=False, turn=lambda frame: frame):
    """Copy a video by our reader and our writer."""
    format = format or target.suffix.removeprefix(".")
    with (
        open_clip(source) as clip,
        writing(clip, target, format=format, quality=quality, overwrite=overwrite) as writer,
    ):
        for frame in clip.frames():
            writer.write(turn(frame))
    return target


def reason(path):
    with pytest.raises(UnreadableVideo) as caught:
        frames_of(path)
    assert caught.value.exit_code == 3
    return caught.value.message


@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("yuv420p", "libx264"),
        ("yuv422p", "libx264"),
        ("yuv444p", "libx264"),
        ("yuv420p10le", "libx264"),
        ("yuv444p10le", "libx264"),
    ],
)
def test_levels_are_read_as_they_are_stored(tmp_path, format, codec):
    clip = make_clip(tmp_path / "a.mkv", format=format, codec=codec, frames=2, sound=None)
    bits = 10 if format.endswith("10le") else 8
    for number, frame in enumerate(frames_of(clip)):
        expected = torch.from_numpy(luma_of_frame(48, 64, number, bits).astype(int))
        assert torch.equal(frame.planes.luma.int(), expected.int())


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_rate_times_duration_and_sound_are_kept(tmp_path, suffix):
    source = make_clip(tmp_path / f"a.{suffix}")
    before, after = see(source), see(copy(source, tmp_path / f"b.{suffix}"))
    assert (after.rate, after.times, after.size) == (before.rate, before.times, before.size)
    assert after.duration == pytest.approx(before.duration, abs=0.003)
    assert (after.sound, after.sound_times) == (before.sound, before.sound_times)
    assert len(after.sound_times) > 10


def test_frames_look_as_they_did(tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    target = copy(source, tmp_path / "b.mp4", quality=100)
    for before, after in zip(see(source).luma, see(target).luma, strict=True):
        assert np.abs(before.astype(int) - after).mean() < 2


def test_a_variable_frame_rate_stays_one(tmp_path):
    times = [0, 512, 700, 5000, 5001, 12_800]
    source = make_clip(tmp_path / "a.mp4", times=times)
    target = copy(source, tmp_path / "b.mp4")
    assert see(target).times == [round(float(time * TICK), 4) for time in times]
    assert see(target).duration == pytest.approx(see(source).duration, abs=1e-3)


def test_the_last_frame_lasts_as_long_as_it_did(tmp_path):
    source = make_clip(tmp_path / "a.mp4", times=[0, 512, 6400], frames=3, sound=None)
    last = frames_of(source)[-1]
    target = copy(source, tmp_path / "b.mp4")
    assert frames_of(target)[-1].duration * TICK == last.duration * TICK


def test_a_film_rate_is_kept_exactly(tmp_path):
    film = Fraction(24_000, 1001)
    times = [round(number / film / TICK) for number in range(6)]
    source = make_clip(tmp_path / "a.mkv", times=times, rate=film)
    assert see(copy(source, tmp_path / "b.mkv")).rate == see(source).rate == film


@pytest.mark.parametrize(
    "colours", [(1, 1, 1, 1), (2, 1, 1, 1), (1, 9, 9, 16), (1, 6, 6, 6)], ids=str
)
def test_colour_tags_are_kept(tmp_path, colours):
    def tag(stream):
        context = stream.codec_context
        context.color_range, context.colorspace = colours[:2]
        context.color_primaries, context.color_trc = colours[2:]

    source = make_clip(tmp_path / "a.mp4", set_up=tag)
    assert see(source).colours == colours
    assert see(copy(source, tmp_path / "b.mp4")).colours == colours


@pytest.mark.parametrize(
    ("size", "matrix"), [((48, 64), 6), ((720, 1280), 1)], ids=["small", "large"]
)
def test_colours_that_nothing_tells_are_told(tmp_path, size, matrix):
    """A player would assume BT.709 for the larger result, but not for its source."""
    source = make_clip(tmp_path / "a.mp4", size=size, frames=1, sound=None)
    assert see(source).colours[1] == 2
    assert see(copy(source, tmp_path / "b.mp4")).colours[:2] == (1, matrix)


def test_pixels_that_are_not_square_stay_so(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    source = make_clip(tmp_path / "a.mp4", set_up=wide)
    assert see(copy(source, tmp_path / "b.mp4")).aspect == Fraction(4, 3)


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
def test_ten_bits_stay_ten_in_a_codec_that_is_shown(tmp_path, frames):
    source = make_clip(tmp_path / "a.mp4", format="yuv420p10le", frames=frames)
    after = see(copy(source, tmp_path / "b.mp4"))
    assert (after.codec, after.format) == ("hevc", "yuv420p10le")
    assert after.times == see(source).times


@pytest.mark.parametrize("format", ["rgb24", "nv12", "gray", "yuv411p"])
def test_other_pixel_formats_are_read_as_the_nearest(tmp_path, format):
    codec = {"nv12": "libx264", "rgb24": "libx264rgb"}.get(format, "ffv1")
    clip = make_clip(tmp_path / "a.mkv", codec=codec, format=format, frames=2, sound=None)
    frame = frames_of(clip)[1]
    with av.open(str(clip)) as container:
        *_, image = container.decode(video=0)
        expected = image.reformat(
            format="yuv444p", dst_colorspace="ITU709" if format == "rgb24" else None
        ).to_ndarray()[0]
    assert_close(frame.planes.luma.float(), torch.from_numpy(expected).float(), atol=2, rtol=0)


def test_full_chroma_survives(tmp_path):
    source = make_clip(tmp_path / "a.mp4", format="yuv444p")
    assert see(copy(source, tmp_path / "b.mp4")).format == "yuv444p"


@pytest.mark.parametrize("size", [(47, 63), (48, 63), (1, 1)], ids=str)
def test_odd_sizes_are_kept(tmp_path, size, caplog):
    source = make_clip(
        tmp_path / "a.mkv", codec="ffv1", format="yuv420p", size=size, frames=2, sound=None
    )
    after = see(copy(source, tmp_path / "b.mp4"))
    assert (after.size, after.format) == (size, "yuv444p")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'b.mp4'}: the size {size[1]}x{size[0]} is odd: written with full chroma "
        "(4:4:4), which some players cannot show"
    ]


def test_webm_holds_odd_sizes_as_they_are(tmp_path):
    source = make_clip(
        tmp_path / "a.webm", codec="libvpx-vp9", size=(47, 63), frames=2, sound="libopus"
    )
    after = see(copy(source, tmp_path / "b.webm"))
    assert (after.codec, after.size, after.format) == ("vp9", (47, 63), "yuv420p")
    assert after.sound == see(source).sound


def state_matrix(clip, a, b, c, d):
    """Set the display matrix of an MP4: (x, y) to (a x + c y, b x + d y), y downwards."""
    content = bytearray(clip.read_bytes())
    header = content.index(b"tkhd") + 4  # of the first track, which is the video
    one = 1 << 16
    content[header + 40 : header + 76] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30
    )
    clip.write_bytes(content)


def shown(image, a, b, c, d):
    """Apply the display matrix to a square image, pixel by pixel."""
    result = np.empty_like(image)
    last = len(image) - 1
    for y in range(last + 1):
        for x in range(last + 1):
            column = a * x + c * y + last * (a + c < 0)
            row = b * x + d * y + last * (b + d < 0)
            result[row, column] = image[y, x]
    return result


@pytest.mark.parametrize(
    "matrix",
    [
        (0, -1, 1, 0),
        (-1, 0, 0, -1),
        (0, 1, -1, 0),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, -1, -1, 0),
    ],
    ids=["left", "over", "right", "mirrored", "flipped", "transposed", "transversed"],
)
def test_a_turned_video_comes_out_upright(tmp_path, matrix):
    source = make_clip(tmp_path / "a.mp4", size=(48, 48))
    state_matrix(source, *matrix)
    (first, *_) = frames_of(source)
    assert np.array_equal(first.planes.luma.numpy(), shown(luma_of_frame(48, 48, 0), *matrix))


def test_a_turned_video_is_no_more_turned_when_written(tmp_path):
    source = make_clip(tmp_path / "a.mp4", size=(48, 64))
    state_matrix(source, 0, -1, 1, 0)
    target = copy(source, tmp_path / "b.mp4")
    assert see(target).size == (64, 48)
    with av.open(str(target)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_broadcast_begins_at_zero(tmp_path):
    source = make_clip(tmp_path / "a.ts", start=100 * STEP)
    assert see(source).times[0] > 3.9
    after = see(copy(source, tmp_path / "b.mkv"))
    first = min(after.times[0], after.sound_times[0])
    assert first == pytest.approx(0, abs=0.03)
    gap = see(source).times[0] - see(source).sound_times[0]
    assert after.times[0] - after.sound_times[0] == pytest.approx(gap, abs=0.002)


def test_title_and_language_are_kept(tmp_path):
    source = tmp_path / "a.mkv"
    with av.open(str(make_clip(tmp_path / "plain.mkv"))) as plain, av.open(str(source), "w") as out:
        out.metadata["title"] = "Rain"
        copies = {stream.index: out.add_stream_from_template(stream) for stream in plain.streams}
        copies[1].metadata["language"] = "fra"
        for packet in plain.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream.index]
                out.mux(packet)
    target = copy(source, tmp_path / "b.mkv")
    assert see(target).metadata["title"] == "Rain"
    with av.open(str(target)) as container:
        assert container.streams.audio[0].language == "fra"


@pytest.mark.parametrize(
    ("sound", "suffix"), [("aac", "webm"), ("flac", "mov"), ("libopus", "mov")], ids="-".join
)
def test_sound_that_the_container_cannot_hold_is_refused_before_any_work(tmp_path, sound, suffix):
    source = make_clip(tmp_path / "a.mkv", sound=sound)
    name = sound.removeprefix("lib")

    def work(frame):
        raise AssertionError("the work has begun")

    with pytest.raises(OutputError, match=f"{suffix} cannot hold the audio codec {name}"):
        copy(source, tmp_path / f"b.{suffix}", turn=work)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_of_a_broadcast_still_sounds(tmp_path, suffix):
    """Audio packets of MPEG-TS have headers that other containers store elsewhere."""
    source = make_clip(tmp_path / "a.ts")
    target = copy(source, tmp_path / f"b.{suffix}")
    assert samples_in(target) == samples_in(source) > 0


def samples_in(path):
    with av.open(str(path)) as container:
        return sum(sound.samples for sound in container.decode(audio=0))


def test_subtitles_go_along_where_they_can(tmp_path, caplog):
    source = add_subtitle(make_clip(tmp_path / "plain.mkv", sound=None), tmp_path / "a.mkv")
    kept = copy(source, tmp_path / "b.mkv")
    with av.open(str(kept)) as container:
        packets = [p for p in container.demux(container.streams.subtitles[0]) if p.dts is not None]
        assert [bytes(packet) for packet in packets] == [b"It rains."]
    assert len(see(copy(source, tmp_path / "b.mp4")).times) == 6
    assert "b.mp4: subtitles dropped: mp4 cannot hold subrip" in caplog.text


def add_subtitle(clip, target):
    text = target.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:00,200\nIt rains.\n")
    with av.open(str(clip)) as video, av.open(str(text)) as words, av.open(str(target), "w") as out:
        streams = [video.streams.video[0], words.streams.subtitles[0]]
        copies = [out.add_stream_from_template(stream) for stream in streams]
        for source, stream, copied in zip((video, words), streams, copies, strict=True):
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copied
                    out.mux(packet)
    return target


def test_higher_quality_is_a_larger_file(tmp_path):
    source = make_clip(tmp_path / "a.mp4", size=(96, 128), sound=None)
    sizes = [
        copy(source, tmp_path / f"{quality}.mp4", quality=quality).stat().st_size
        for quality in (1, 50, 100)
    ]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the file is empty"), (b"no video at all" * 100, "damaged or not a video")],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_said(tmp_path, content, said):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert said in reason(path)


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    assert "No such file" in reason(tmp_path / "none.mp4")
    (tmp_path / "folder.mp4").mkdir()
    assert "Is a directory" in reason(tmp_path / "folder.mp4")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        add_tone(container, container.add_stream("aac", rate=48_000), seconds=0.2)
    assert "no video stream" in reason(path)


def test_an_image_with_the_name_of_a_video_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", format="image2pipe") as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 8, 8, "rgb24"
        container.mux(stream.encode(image_of(8, 8, 0, "rgb24")))
    assert "an image, not a video" in reason(path)


def test_a_video_without_frames_is_said(tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(make_clip(tmp_path / "b.mp4"))) as full, av.open(str(path), "w") as container:
        container.add_stream_from_template(full.streams.video[0])
        container.start_encoding()
    assert "no readable frame" in reason(path)


def test_a_video_that_was_cut_short_is_refused_at_once(tmp_path):
    clip = make_clip(tmp_path / "a.mkv")
    clip.write_bytes(clip.read_bytes()[:-1000])
    assert "truncated, the last 1,000 bytes are missing" in reason(clip)


def test_damage_in_the_middle_is_an_error_that_says_where(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", frames=40, size=(96, 128), sound=None, g="10")
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    clip.write_bytes(content)
    said = reason(clip)
    assert "damaged at 0." in said
    target = tmp_path / "b.mkv"
    with pytest.raises(UnreadableVideo):
        copy(clip, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]


def test_a_frame_size_that_changes_is_an_error(tmp_path):
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream = None
        for part, width in enumerate((64, 80)):
            clip = make_clip(
                tmp_path / f"{width}.ts", size=(48, width), sound=None, start=6 * STEP * part
            )
            with av.open(str(clip)) as source:
                stream = stream or container.add_stream_from_template(source.streams.video[0])
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = stream
                        container.mux(packet)
    assert "the frame size changes from 64x48 yuv420p to 80x48 yuv420p" in reason(path)


def test_a_warning_names_interlaced_frames(tmp_path, caplog):
    make_clip(tmp_path / "a.mkv", frames=2, **{"x264-params": "tff=1", "qp": "20"})
    frames_of(tmp_path / "a.mkv")
    assert "is interlaced" in caplog.text


def test_nothing_appears_where_writing_fails(tmp_path):
    source = make_clip(tmp_path / "a.mp4")

    def fail(frame):
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        copy(source, tmp_path / "b.mp4", turn=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_what_exists_is_replaced_only_if_asked_for(tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    target = tmp_path / "b.mp4"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExists):
        copy(source, target)
    assert target.read_bytes() == b"precious"
    copy(source, target, overwrite=True)
    assert len(see(target).times) == 6


def test_a_link_to_the_source_is_not_written_over(tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to(source)
    with pytest.raises(OutputCollision):
        copy(source, tmp_path / "b.mp4", overwrite=True)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    with pytest.raises(OutputError):
        copy(source, source / "b.mp4")


def test_names_are_no_addresses(tmp_path):
    source = make_clip(tmp_path / "a.mp4")
    odd = source.rename(tmp_path / "http: ü 100%d.mp4")
    assert len(see(copy(odd, tmp_path / "pipe:1.mp4")).times) == 6


def test_the_number_of_frames_is_about_known(tmp_path):
    with open_clip(make_clip(tmp_path / "a.mkv", frames=30, sound=None)) as clip:
        assert clip.expected == 30
    assert math.isclose(30 * STEP * TICK, 30 / RATE)
