"""ICC profiles with the statements of a PNG about its colours, for formats without them.

PNG, third edition, 11.3.2 (gAMA, cHRM, cICP); ITU-T H.273; ICC.1:2010.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# x and y of white, red, green, blue
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
SMPTE_170M = (0.3127, 0.3290, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
PRIMARIES = {  # H.273, table 2
    1: SRGB,
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: SMPTE_170M,
    7: SMPTE_170M,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
}
# Curves g, a, b, c, d: (a x + b)**g from d on, c x below; or g alone. ICC.1, 10.16
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
CURVES: dict[int, tuple[float, ...]] = {  # H.273, table 3
    **dict.fromkeys((1, 6, 14, 15), BT709_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: SRGB_CURVE,
}
ALIKE = 0.002  # of chromaticities
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def profile_of(chunks: Mapping[bytes, bytes], *, grey: bool) -> bytes | None:
    """Return a profile equal to cICP, gAMA and cHRM; None where they state sRGB, or nothing.

    Raises ValueError where no profile can state it.
    """
    if b"cICP" in chunks:
        primaries, transfer, matrix, full_range = chunks[b"cICP"]
        if primaries not in PRIMARIES or transfer not in CURVES or matrix or full_range != 1:
            raise ValueError("colours without an ICC profile")
        chromaticities, curve = PRIMARIES[primaries], CURVES[transfer]
    elif b"sRGB" in chunks:
        return None
    else:
        chromaticities, curve = SRGB, SRGB_CURVE
        if b"cHRM" in chunks:
            chromaticities = tuple(x / 1e5 for x in struct.unpack(">8I", chunks[b"cHRM"]))
        if b"gAMA" in chunks:
            curve = (1e5 / struct.unpack(">I", chunks[b"gAMA"])[0],)
    if np.allclose(chromaticities, SRGB, atol=ALIKE) and (
        curve == SRGB_CURVE or np.allclose(curve, 2.2, atol=0.02)
    ):
        return None
    return _pack(chromaticities, curve, grey=grey)


def profile_of_primaries(chromaticities: Sequence[float]) -> bytes | None:
    """Return a profile with the curve of sRGB; None for its own primaries, and for none at all."""
    if np.allclose(chromaticities, SRGB, atol=ALIKE):
        return None
    try:
        return _pack(chromaticities, SRGB_CURVE, grey=False)
    except ValueError:
        return None


def _pack(chromaticities: Sequence[float], curve: Sequence[float], *, grey: bool) -> bytes:
    to_xyz, adaptation = _to_d50(chromaticities)
    parametric = struct.pack(">4s4xHH", b"para", 3 if len(curve) > 1 else 0, 0) + _fixed(curve)
    tags = {
        b"desc": _text("Colours as stated by the source"),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adaptation.flat),
    }
    if grey:
        tags[b"kTRC"] = parametric
    else:
        for letter, column in zip((b"r", b"g", b"b"), to_xyz.T, strict=True):
            tags[letter + b"XYZ"] = b"XYZ \0\0\0\0" + _fixed(column)
            tags[letter + b"TRC"] = parametric
    start = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        index += name + struct.pack(">II", start + len(body), len(tag))
        body += tag + b"\0" * (-len(tag) % 4)
    return (
        struct.pack(">I4xI4s4s4s", start + len(body), 0x04300000, b"mntr", *_spaces(grey=grey))
        + struct.pack(">6H4s", 2000, 1, 1, 0, 0, 0, b"acsp")
        + bytes(28)
        + _fixed(D50)
        + bytes(48)
        + index
        + body
    )


def _spaces(*, grey: bool) -> tuple[bytes, bytes]:
    return (b"GRAY" if grey else b"RGB "), b"XYZ "


def _to_d50(chromaticities: Sequence[float]) -> tuple[Matrix, Matrix]:
    """Return matrices from linear RGB to XYZ under D50, and from the white of RGB to D50."""
    x, y = np.array(chromaticities[::2]), np.array(chromaticities[1::2])
    if not y.all():
        raise ValueError("chromaticities without luminance")
    white, *colours = np.stack([x / y, np.ones(4), (1 - x - y) / y], axis=1)
    try:
        basis = np.stack(colours, axis=1)
        to_xyz = basis * np.linalg.solve(basis, white)
        scale = (BRADFORD @ D50) / (BRADFORD @ white)
        adaptation = np.linalg.solve(BRADFORD, scale[:, None] * BRADFORD)
    except np.linalg.LinAlgError as error:
        raise ValueError("chromaticities on one line") from error
    return adaptation @ to_xyz, adaptation


def _fixed(values: Sequence[float] | Matrix | np.flatiter[Matrix]) -> bytes:
    """Encode as s15Fixed16. Raises ValueError."""
    numbers = np.rint(np.array([*values]) * 65536)
    if not (np.abs(numbers) < 1 << 31).all():
        raise ValueError("numbers beyond those of an ICC profile")
    return bytes(numbers.astype(">i4").tobytes())


def _text(text: str) -> bytes:
    body = text.encode("utf-16-be")
    return struct.pack(">4s4xII4sII", b"mluc", 1, 12, b"enUS", len(body), 28) + body
