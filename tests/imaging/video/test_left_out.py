"""Contents of a video that are kept, or named in one warning."""

from fractions import Fraction

import av
import pytest
from PIL import Image

from restore_cli.imaging.video.reader import open_clip
from restore_cli.imaging.video.writer import writing
from tests.imaging.clips import RATE, image_of, make_clip
from tests.imaging.images import pillow_file


def copy(source, target):
    with (
        open_clip(source) as clip,
        writing(clip, target, format=target.suffix[1:], quality=None, overwrite=False) as writer,
    ):
        for frame in clip.frames():
            writer.write(frame)
    return target


def clip_with(path, *, tracks=1, covers=0, attachments=(), chapters=(), tags=None):
    """Write a video of several tracks of H.264."""
    with av.open(str(path), "w") as container:
        for _ in range(tracks):
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.metadata.update(tags or {})
        for number in range(covers):
            image = pillow_file(Image.new("RGB", (32, 24)), "jpeg")
            container.add_attachment(f"cover{number}.jpg", "image/jpeg", image)
        for name in attachments:
            container.add_attachment(name, "font/ttf", b"letters")
        container.set_chapters(list(chapters))
        for number in range(4):
            for stream in container.streams.video:
                image = image_of(48, 64, number, "yuv420p")
                image.pts, image.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(image))
        for stream in container.streams.video:
            container.mux(stream.encode())
    return path


CASES = {
    "tracks": ({"tracks": 3}, "the other video tracks"),
    "cover": ({"covers": 1}, "its cover"),
    "attachment": ({"attachments": ["a.ttf", "b.ttf"]}, "its attachments"),
    "alpha": ({"tags": {"ALPHA_MODE": "1"}}, "its alpha channel"),
    "several": (
        {"tracks": 2, "covers": 1, "attachments": ["a.ttf"]},
        "the other video tracks, its cover and its attachments",
    ),
}


@pytest.mark.parametrize(("contents", "named"), CASES.values(), ids=CASES)
def test_one_warning_names_all_that_is_not_read(contents, named, tmp_path, caplog):
    source = clip_with(tmp_path / "a.mkv", **contents)
    target = copy(source, tmp_path / "b.mkv")
    assert caplog.messages == [f"{source}: read without {named}"]
    with av.open(str(target)) as container:
        assert len(container.streams) == 1


def test_an_ordinary_clip_gives_no_warning(tmp_path, caplog):
    copy(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    assert caplog.messages == []


@pytest.mark.parametrize("tag", ["alpha_mode", "ALPHA_MODE"])
@pytest.mark.parametrize("suffix", [".webm", ".mkv"])
def test_a_result_never_claims_an_alpha_channel(tag, suffix, tmp_path):
    source = clip_with(tmp_path / "a.mkv", tags={tag: "1", "title": "front"})
    with av.open(str(copy(source, tmp_path / f"b{suffix}"))) as container:
        tags = {name.lower(): value for name, value in container.streams.video[0].metadata.items()}
    assert "alpha_mode" not in tags
    assert tags["title"] == "front"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("given", [".mp4", ".mkv"])
def test_chapters_are_kept(given, suffix, tmp_path, caplog):
    base = Fraction(1, 1000)
    chapters = [
        {"id": 1, "start": 0, "end": 80, "time_base": base, "metadata": {"title": "Rain"}},
        {"id": 2, "start": 80, "end": 160, "time_base": base, "metadata": {"title": "Sun"}},
    ]
    source = clip_with(tmp_path / f"a{given}", chapters=chapters)
    target = copy(source, tmp_path / f"b{suffix}")
    with av.open(str(target)) as container:
        found = [
            (each["metadata"]["title"], float(each["start"] * each["time_base"]))
            for each in container.chapters()
        ]
    assert found == [("Rain", 0.0), ("Sun", 0.08)]
    assert caplog.messages == []


def test_mastering_data_of_hdr_is_named_and_the_signalling_kept(tmp_path, caplog):
    options = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    pq = {"color_primaries": 9, "color_trc": 16, "colorspace": 9}
    source = tmp_path / "a.mkv"

    def set_up(stream):
        for name, code in pq.items():
            setattr(stream.codec_context, name, code)

    make_clip(
        source,
        codec="libx265",
        format="yuv420p10le",
        sound=None,
        set_up=set_up,
        **{"x265-params": f"log-level=none:{options}:max-cll=1000,400"},
    )
    target = copy(source, tmp_path / "b.mkv")
    assert caplog.messages == [f"{source}: read without its mastering data"]
    with av.open(str(target)) as container:
        context = container.streams.video[0].codec_context
        next(container.decode(video=0))
        assert {name: getattr(context, name) for name in pq} == pq
