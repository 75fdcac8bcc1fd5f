"""Detection of videos, and of truncated ones, by their headers."""

import av
import pytest

from restore_cli.imaging.video.containers import is_video, missing_bytes
from tests.imaging.clips import make_clip

COMPLETE = {
    "mp4": {},
    "mov": {},
    "mkv": {},
    "avi": {"codec": "mpeg4", "sound": None},
    "webm": {"codec": "libvpx-vp9", "sound": "libopus"},
}


@pytest.fixture(params=COMPLETE, ids=str)
def clip(request, tmp_path):
    return make_clip(tmp_path / f"clip.{request.param}", frames=3, **COMPLETE[request.param])


def index_first(clip):
    """Return the clip as a file for the web, with its index before the frames."""
    target = clip.with_name("web.mp4")
    with (
        av.open(str(clip)) as source,
        av.open(str(target), "w", options={"movflags": "faststart"}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return target


def test_a_whole_file_misses_nothing(clip):
    assert missing_bytes(clip) == 0


def test_it_is_known_by_its_first_bytes(clip):
    assert is_video(clip.read_bytes()[:16])


@pytest.mark.parametrize("cut", [1, 200])
def test_what_was_cut_off_is_counted(clip, cut):
    whole = clip.read_bytes()
    clip.write_bytes(whole[:-cut])
    assert missing_bytes(clip) == cut


def test_what_was_cut_off_a_file_for_the_web_is_counted(tmp_path):
    clip = index_first(make_clip(tmp_path / "clip.mp4"))
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    assert missing_bytes(clip) == len(whole) - len(whole) // 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x89PNG\r\n\x1a\n",
        b"\0\0\0\0mdat and so on up to the end",
        b"\x1aE\xdf\xa3",
        b"\x1aE\xdf\xa3\x00\x00\x00",
        b"\x1aE\xdf\xa3\x80\x18S\x80g\x01\xff\xff\xff\xff\xff\xff\xff never closed",
        b"\x00\x00\x00\x08ftyp\x00\x00\x00\x01mdat",
    ],
    ids=range(8),
)
def test_where_no_length_is_stated_nothing_is_missed(tmp_path, content):
    path = tmp_path / "odd"
    path.write_bytes(content)
    assert missing_bytes(path) == 0
