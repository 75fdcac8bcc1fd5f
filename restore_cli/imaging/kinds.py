"""Files that are recognized by their first bytes; those that are not read have a way out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from restore_cli.errors import UnreadableImage

HEAD = 4096  # bytes of a file that show its kind


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name with an article, and the hint of its refusal."""

    name: str
    hint: str = "export it as PNG, JPEG or TIFF"

    def refusal(self) -> UnreadableImage:
        return UnreadableImage(f"{self.name}, which restore cannot read", hint=self.hint)


RAW = Kind("a raw photograph")  # this one is read
PAGES = "export its pages as PNG or TIFF"
LAYERS = "export it as PNG or TIFF from the program that made it"
EXTRACT = "extract the images first"

# First bytes, with the offset where they are found.
SIGNATURES: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"FUJIFILMCCD-RAW", RAW),  # RAF
    (0, b"IIU\0", RAW),  # RW2, Panasonic and Leica
    (0, b"IIRO", RAW),  # ORF, Olympus
    (0, b"IIRS", RAW),
    (0, b"MMOR", RAW),
    (0, b"FOVb", RAW),  # X3F, Sigma
    (0, b"\0MRM", RAW),  # MRW, Minolta
    (6, b"HEAPCCDR", RAW),  # CRW, Canon
    (0, b"ARRI", RAW),
    (8, b"CR\x02", RAW),  # CR2, Canon: a TIFF without a tag that tells
    (8, b"IIII", RAW),  # IIQ, Phase One: likewise
    (4, b"RED1", RAW),
    (4, b"RED2", RAW),
    (0, b"\0\0\0\x0cjP  ", Kind("a JPEG 2000 image")),
    (0, b"\xff\x4f\xff\x51", Kind("a JPEG 2000 image")),
    (0, b"\xff\xd8\xff\xf7", Kind("a JPEG-LS image")),
    (0, b"II\xbc\x01", Kind("a JPEG XR image")),
    (0, b"8BPS", Kind("a Photoshop document", LAYERS)),
    (0, b"gimp xcf", Kind("a GIMP image", LAYERS)),
    (30, b"mimetypeapplication/x-krita", Kind("a Krita document", LAYERS)),
    (30, b"mimetypeimage/openraster", Kind("an OpenRaster image", LAYERS)),
    (0, b"CSFCHUNK", Kind("a Clip Studio Paint document", LAYERS)),
    (0, b"\0\xffKA", Kind("an Affinity document", LAYERS)),
    (0, b"%PDF", Kind("a PDF document", PAGES)),
    (0, b"%!PS", Kind("a PostScript document", PAGES)),
    (0, b"\xc5\xd0\xd3\xc6", Kind("a PostScript document", PAGES)),
    (0, b"AT&TFORM", Kind("a DjVu document", PAGES)),
    (0, b"PF\n", Kind("a PFM image of floating-point levels")),
    (0, b"Pf\n", Kind("a PFM image of floating-point levels")),
    (0, b"P7\n", Kind("a PAM image")),
    (0, b"\xabKTX", Kind("a KTX texture")),
    (0, b"FLIF", Kind("a FLIF image")),
    (0, b"BPG\xfb", Kind("a BPG image")),
    (0, b"\0\0\x01\0", Kind("an icon (ICO)")),
    (0, b"icns", Kind("an icon (ICNS)")),
    (0, b"\xd7\xcd\xc6\x9a", Kind("a Windows metafile")),
    (40, b" EMF", Kind("a Windows metafile")),
    (0, b"\x59\xa6\x6a\x95", Kind("a Sun raster image")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file")),
    (0, b"\x93NUMPY", Kind("a NumPy array")),
    (0, b"PK\x03\x04", Kind("a ZIP archive", EXTRACT)),
    (0, b"\x1f\x8b", Kind("a gzip archive", EXTRACT)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", EXTRACT)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", EXTRACT)),
    (0, b"ID3", Kind("an audio file", "only images and videos are restored")),
    (0, b"fLaC", Kind("an audio file", "only images and videos are restored")),
    (8, b"WAVE", Kind("an audio file", "only images and videos are restored")),
    (8, b"M4A ", Kind("an audio file", "only images and videos are restored")),
)

# First brands of a file of the MP4 family, and the kind that each stands for.
BRANDS: dict[bytes, Kind] = {
    **dict.fromkeys((b"avci", b"avcs"), Kind("a HEIF image in H.264")),
    b"crx ": RAW,  # CR3
}
SVG = re.compile(rb"<svg[\s>]", re.I)
SVG_ALONE = re.compile(rb"\s*(<\?xml|<!--|<!DOCTYPE svg|<svg)", re.I)
HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!DOCTYPE html|html|head|body)\b", re.I | re.S)

RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25"),
    *(".kdc", ".mef", ".mos", ".nef", ".nrw", ".orf", ".pef", ".rw2", ".rwl", ".sr2"),
    *(".srf", ".srw"),
)


def other_kind(head: bytes) -> Kind | None:
    """Return the kind of a file that is not read, or RAW; None for any other file.

    head: its first `HEAD` bytes. Raw photographs that are TIFF are found by their tags instead.
    """
    for at, signature, kind in SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return kind
    if brands := brands_of(head):
        return BRANDS.get(brands[0])
    text = head.removeprefix(b"\xef\xbb\xbf")
    if SVG_ALONE.match(text) and SVG.search(text):
        return Kind("an SVG drawing")
    if HTML.match(text):
        return Kind("a web page", "download the image itself")
    return None


def brands_of(head: bytes) -> tuple[bytes, ...]:
    """Return the brands in the first box of a file of the MP4 family, the major one first."""
    if head[4:8] != b"ftyp":
        return ()
    end = min(int.from_bytes(head[:4], "big"), 128)
    return head[8:12], *(head[at : at + 4] for at in range(16, end, 4))
