"""Header of a JPEG XL codestream: size, depth, colours (ISO/IEC 18181-1, annexes A to E)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from restore_cli.imaging.codecs.boxes import boxes, colour_chunks

BARE = b"\xff\x0a"
CODESTREAM = b"jxlc"  # its box
LONGEST = 4096  # bytes of a codestream that hold its header, apart from an ICC profile
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
ALPHA, SPOT_COLOUR, COLOUR_FILTER = 0, 2, 5  # types of extra channels
GREY, XYB = 1, 2  # colour spaces
CUSTOM = 2  # white point, primaries
D65 = 1
P3, DISPLAY_P3 = 11, 12  # primaries of DCI, and with the white of D65, in H.273
UNKNOWN = 2  # code of H.273
SRGB, LINEAR = 13, 8  # transfer


@dataclass(frozen=True)
class Header:
    """Facts of a codestream; the size is that before the orientation."""

    height: int
    width: int
    depth: int = 8
    is_float: bool = False
    animated: bool = False
    others: bool = False  # extra channels besides one for alpha
    premultiplied: bool = False
    has_icc: bool = False  # compressed; of the pixels that are decoded only if they are not XYB
    colours: tuple[tuple[bytes, bytes], ...] = ()  # chunks of a PNG that state the same
    colours_at: int = 0  # first bit after the colours


class _Bits:
    """Numbers of a bit stream, the lowest bit first."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def u(self, bits: int) -> int:
        start, stop = self.at, self.at + bits
        if stop > 8 * len(self.data):
            raise ValueError("its header is cut off")
        number = int.from_bytes(self.data[start // 8 : (stop + 7) // 8], "little")
        self.at = stop
        return number >> start % 8 & (1 << bits) - 1

    def u32(self, *choices: tuple[int, int]) -> int:
        """Return offset + u(bits) for one of four (offset, bits)."""
        offset, bits = choices[self.u(2)]
        return offset + self.u(bits)

    def enum(self) -> int:
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))


def codestream(data: bytes) -> bytes:
    """Return the beginning of the codestream of a file, bare or in boxes."""
    if data.startswith(BARE):
        return data[:LONGEST]
    parts = b""
    for kind, body in boxes(data):
        if kind == CODESTREAM:
            return bytes(body[:LONGEST])
        if kind == b"jxlp" and len(parts) < LONGEST:  # a part, after its number
            parts += body[4 : 4 + LONGEST]
    return parts


def read_header(codestream: bytes) -> Header:
    """Parse SizeHeader and ImageMetadata. Raises ValueError."""
    if not codestream.startswith(BARE):
        raise ValueError("its codestream has no signature")
    bits = _Bits(codestream[2:])
    height, width = _size(bits)
    if bits.u(1):  # all defaults
        return Header(height, width)
    animated = bool(bits.u(1)) and _extra_fields(bits)
    depth, is_float = _depth(bits)
    bits.u(1)  # 16-bit buffers suffice
    kinds = [_extra_channel(bits) for _ in range(bits.u32((0, 0), (1, 0), (2, 4), (1, 12)))]
    alphas = [premultiplied for kind, premultiplied in kinds if kind == ALPHA]
    bits.u(1)  # XYB
    has_icc, colours = _colours(bits)
    return Header(
        height,
        width,
        depth,
        is_float,
        animated,
        len(kinds) > len(alphas[:1]),
        any(alphas[:1]),
        has_icc,
        colours,
        8 * len(BARE) + bits.at,
    )


def stating_srgb(codestream: bytes) -> bytes:
    """Return a codestream that says sRGB where libjxl says linear, by default beyond 8 bits."""
    header = read_header(codestream[:LONGEST])
    if header.colours != ((b"cICP", bytes((1, LINEAR, 0, 1))),):
        return codestream
    # The transfer is before the rendering intent, a number without bits of its own: 2 + 4, 2.
    at = header.colours_at - 2 - 4
    number = int.from_bytes(codestream[: LONGEST // 8], "little")
    number ^= ((LINEAR - 2) ^ (SRGB - 2)) << at
    return number.to_bytes(len(codestream[: LONGEST // 8]), "little") + codestream[LONGEST // 8 :]


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.u(1)

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if not ratio:
        return height, side()
    above, below = RATIOS[ratio]
    return height, height * above // below


def _extra_fields(bits: _Bits) -> bool:
    """Skip orientation, intrinsic size and preview; return True for an animation."""
    bits.u(3)
    if bits.u(1):
        _size(bits)
    if bits.u(1):
        in_eights = bits.u(1)
        large = ((1, 6), (65, 8), (321, 10), (1345, 12))
        sides = ((16, 0), (32, 0), (1, 5), (33, 9)) if in_eights else large
        bits.u32(*sides)
        if not bits.u(3):
            bits.u32(*sides)
    if not bits.u(1):
        return False
    bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.u32((0, 0), (0, 3), (0, 16), (0, 32))
    bits.u(1)
    return True


def _depth(bits: _Bits) -> tuple[int, bool]:
    if not bits.u(1):
        return bits.u32((8, 0), (10, 0), (12, 0), (1, 6)), False
    depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
    bits.u(4)
    return depth, True


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Return the type of an extra channel, and True for premultiplied alpha."""
    if bits.u(1):
        return ALPHA, False
    kind = bits.enum()
    _depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.u32((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.u(8)
    if kind == SPOT_COLOUR:
        bits.u(64)
    elif kind == COLOUR_FILTER:
        bits.u32((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, kind == ALPHA and bool(bits.u(1))


def _colours(bits: _Bits) -> tuple[bool, tuple[tuple[bytes, bytes], ...]]:
    """Return True for an ICC profile, and else the chunks about the colours."""
    if bits.u(1):  # sRGB
        return False, ()
    if bits.u(1):
        return True, ()
    space = bits.enum()
    white, primaries, own = D65, 1, list[int]()
    if space != XYB:
        white = bits.enum()
        own += _chromaticity(bits) if white == CUSTOM else []
        if space != GREY:
            primaries = bits.enum()
            own += [
                value for _ in range(3 * (primaries == CUSTOM)) for value in _chromaticity(bits)
            ]
    if space != XYB and bits.u(1):
        return False, ((b"gAMA", struct.pack(">I", max(1, bits.u(24) // 100))), *_chrm(own))
    transfer = bits.enum()
    bits.enum()  # rendering intent
    if own:
        linear = ((b"gAMA", struct.pack(">I", 100_000)),) if transfer == LINEAR else ()
        return False, (*linear, *_chrm(own))
    if primaries == P3 and white == D65:
        primaries = DISPLAY_P3
    return False, colour_chunks([(primaries, transfer)])


def _chromaticity(bits: _Bits) -> list[int]:
    """Return x and y in units of 1e-6, which are stored as unsigned numbers with a sign bit."""
    choices = ((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21))
    packed = [bits.u32(*choices) for _ in "xy"]
    return [-(value + 1) // 2 if value % 2 else value // 2 for value in packed]


def _chrm(own: list[int]) -> tuple[tuple[bytes, bytes], ...]:
    """Return white point and primaries as a cHRM, if all are given."""
    if len(own) != 8 or min(own) < 0:
        return ()
    return ((b"cHRM", struct.pack(">8I", *(value // 10 for value in own))),)
