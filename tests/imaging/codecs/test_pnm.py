import numpy as np
import pytest

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.io import decode
from tests.imaging.images import noise


def pnm_file(levels, largest, *, words=False, comment=b""):
    height, width, channels = levels.shape
    kind = {(1, True): b"P2", (1, False): b"P5", (3, True): b"P3", (3, False): b"P6"}
    head = b"%s\n%s%d %d\n%d\n" % (kind[channels, words], comment, width, height, largest)
    body = " ".join(map(str, levels.flat)).encode() if words else levels.astype(">u2").tobytes()
    return head + body


@pytest.mark.parametrize("largest", [256, 1023, 65535])
@pytest.mark.parametrize("words", [False, True], ids=["binary", "words"])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_levels_are_read_in_their_range(channels, words, largest):
    levels = noise(7, 13, channels, 16).clip(max=largest)
    image = decode(pnm_file(levels, largest, words=words), name="it")
    assert image.bit_depth == 16
    np.testing.assert_allclose(image.pixels, levels.transpose(2, 0, 1) / largest, atol=1e-6, rtol=0)


@pytest.mark.parametrize("comment", [b"# a comment\n", b"#\n# 1 2 3\r\n", b"# 9\n\n\t"])
def test_comments_do_not_count(comment):
    levels = noise(7, 13, 3, 16)
    image = decode(pnm_file(levels, 65535, comment=comment), name="it")
    assert (image.height, image.width) == (7, 13)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"P6 2 2 65535\n" + bytes(23), "buffer is smaller"),
        (b"P3 2 2 65535\n1 2 3", "3 of 12 levels"),
        (b"P3 1 1 65535\n1 2 x", "invalid literal"),
        (b"P3 1 1 65535\n1 2 -3", "outside 0 to 65535"),
        (b"P5 1 1 1000\n\xff\xff", "outside 0 to 1000"),
        (b"P6 0 2 65535\n", "0 x 2 pixels"),
    ],
    ids=["short", "few", "word", "negative", "too large", "nothing"],
)
def test_damage_is_refused(data, said):
    with pytest.raises(UnreadableImage, match=f"it: damaged or truncated .*{said}"):
        decode(data, name="it")
