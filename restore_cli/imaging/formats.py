"""Formats of still images and containers of videos, one row each.

No codec is loaded here, so that planning stays fast: codecs are named by "module:function".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, TypeGuard, TypeVar, get_args

from restore_cli.errors import MissingExtra, OutputError, UnreadableImage, UsageError
from restore_cli.imaging.kinds import RAW_SUFFIXES, brands_of
from restore_cli.storage import Location, Url

# Still images that can be written.
Format = Literal["png", "jpeg", "webp", "dicom", "tiff", "avif", "jxl", "exr", "hdr", "fits"]
Container = Literal["mp4", "mov", "mkv", "webm"]  # videos that can be written
Compress = Literal["fast", "normal", "small"]  # time for smaller files of the same pixels


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Encoder and limits of a still format that is written."""

    format: Format
    suffix: str
    encode: str  # (Encodable, file) -> None
    alpha: bool  # False: the image is composited on white
    depth: Literal[8, 16]  # bits per channel, at most
    lossy: bool  # a quality can be chosen
    largest_icc: int | None  # bytes of an ICC profile; 0: none is held; None: no limit
    largest_exif: int | None
    largest_xmp: int | None
    largest_side: int | None = None  # pixels; None: no limit
    keywords: tuple[str, ...] | None = ()  # of texts that are held; None: any
    largest_text: int | None = None
    photoshop: bool = False  # image resources of Photoshop are held, with IPTC captions
    chunks: bool = False  # statements of a PNG about its colours are held
    grey: bool = True  # False: grey is written as RGB
    animated: bool = False  # animations are written
    values: Literal["levels", "light", "own"] = "levels"  # own: only of sources of this format
    encoder_bytes: int = 0  # memory of the encoder for each pixel of RGB, at least
    efforts: tuple[int, int, int] | None = None  # of the encoder, for each of Compress; None: one

    def effort(self, compress: Compress) -> int:
        """Return the effort of the encoder, 0 where it has no choice."""
        return self.efforts[get_args(Compress).index(compress)] if self.efforts else 0


@dataclass(frozen=True)
class Extra:
    """An extra of ours whose module decodes a format, and the refusal where it is missing."""

    name: str
    module: str
    refusal: str
    export: str  # the way out without it

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


@dataclass(frozen=True, kw_only=True)
class StillFormat:
    """A format of still images that can be read."""

    name: str
    suffixes: tuple[str, ...]
    decode: str  # (bytes) -> Decoded
    signatures: tuple[bytes, ...] = ()  # first bytes of a file; empty: Pillow identifies it
    pillow: str | None = None  # Pillow's name of it, if Pillow decodes any of its files
    encoding: Encoding | None = None  # None: it is not written
    brands: tuple[bytes, ...] = ()  # of the first box, in files of the MP4 family
    extra: Extra | None = None
    offset: int = 0  # of the signatures
    end: bytes | None = None  # last bytes of a file


@dataclass(frozen=True)
class Muxing:
    """Muxer and codecs of a container that is written."""

    container: Container
    muxer: str  # FFmpeg's name of it
    codec_8bit: str
    codec_10bit: str
    quicktime: bool  # MP4 and MOV: the index goes to the front, and HEVC has the tag hvc1

    def codec(self, bits: int) -> str:
        """Return the encoder of levels of 8 or 10 bits."""
        return self.codec_8bit if bits == 8 else self.codec_10bit


@dataclass(frozen=True)
class VideoFormat:
    """A container of videos that can be read."""

    name: str
    suffixes: tuple[str, ...]
    muxing: Muxing | None  # None: it is not written


ONE_SEGMENT = 65_533 - 29  # bytes of EXIF, or of XMP after its name, in a JPEG
DEFLATE = (1, 6, 12)  # levels of libdeflate: benchmarks/compress.py
ALL_SEGMENTS = 255 * (65_533 - 14)  # bytes of an ICC profile in a JPEG

STILLS: tuple[StillFormat, ...] = (
    StillFormat(
        name="PNG",
        suffixes=(".png", ".apng"),
        signatures=(b"\x89PNG\r\n\x1a\n",),
        decode="restore_cli.imaging.codecs.png:decode",
        encoding=Encoding(
            format="png",
            suffix=".png",
            encode="restore_cli.imaging.codecs.png:encode",
            alpha=True,
            depth=16,
            lossy=False,
            largest_icc=None,
            largest_exif=None,
            largest_xmp=None,
            keywords=None,
            chunks=True,
            animated=True,
            efforts=DEFLATE,
        ),
    ),
    StillFormat(
        name="JPEG",
        suffixes=(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
        signatures=(b"\xff\xd8\xff",),
        decode="restore_cli.imaging.codecs.pillow:decode",
        pillow="JPEG",
        encoding=Encoding(
            format="jpeg",
            suffix=".jpg",
            encode="restore_cli.imaging.codecs.pillow:encode_jpeg",
            alpha=False,
            depth=8,
            lossy=True,
            largest_side=65_500,
            largest_icc=ALL_SEGMENTS,
            largest_exif=ONE_SEGMENT,
            largest_xmp=ONE_SEGMENT,
            keywords=("Comment",),
            largest_text=65_533,
            photoshop=True,
            encoder_bytes=4,
        ),
    ),
    StillFormat(
        name="WebP",
        suffixes=(".webp",),
        signatures=(b"RIFF",),
        decode="restore_cli.imaging.codecs.pillow:decode",
        pillow="WEBP",
        encoding=Encoding(
            format="webp",
            suffix=".webp",
            encode="restore_cli.imaging.codecs.pillow:encode_webp",
            alpha=True,
            depth=8,
            lossy=True,
            largest_side=16_383,
            largest_icc=None,
            largest_exif=None,
            largest_xmp=None,
            grey=False,
            animated=True,
            encoder_bytes=8,
            efforts=(0, 4, 6),
        ),
    ),
    StillFormat(
        name="DICOM",
        suffixes=(".dcm", ".dicom"),
        signatures=(b"DICM",),
        decode="restore_cli.imaging.codecs.dicom:decode",
        encoding=Encoding(
            format="dicom",
            suffix=".dcm",
            encode="restore_cli.imaging.codecs.dicom:encode",
            alpha=True,
            depth=16,
            lossy=False,
            largest_side=65_535,
            largest_icc=0,
            largest_exif=0,
            largest_xmp=0,
            values="own",
        ),
        extra=Extra(
            "science",
            "pydicom",
            "a DICOM file, which needs the package pydicom",
            "export its image as PNG or TIFF of 16 bits",
        ),
        offset=128,  # before TIFF, which may be what precedes
    ),
    StillFormat(
        name="TIFF",
        suffixes=(".tif", ".tiff"),
        signatures=(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        decode="restore_cli.imaging.codecs.tiff:decode",
        pillow="TIFF",
        encoding=Encoding(
            format="tiff",
            suffix=".tif",
            encode="restore_cli.imaging.codecs.tiff:encode",
            alpha=True,
            depth=16,
            lossy=False,
            largest_icc=None,
            largest_exif=None,
            largest_xmp=None,
            photoshop=True,
            efforts=DEFLATE,
        ),
    ),
    StillFormat(
        name="BMP",
        suffixes=(".bmp",),
        signatures=(b"BM",),
        decode="restore_cli.imaging.codecs.pillow:decode",
        pillow="BMP",
    ),
    StillFormat(
        name="GIF",
        suffixes=(".gif",),
        signatures=(b"GIF8",),
        decode="restore_cli.imaging.codecs.pillow:decode",
        pillow="GIF",
    ),
    StillFormat(
        name="PNM",
        suffixes=(".ppm", ".pgm", ".pbm", ".pnm"),
        signatures=(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
        decode="restore_cli.imaging.codecs.pnm:decode",
        pillow="PPM",
    ),
    StillFormat(
        name="Targa, QOI, DDS, SGI, PCX",
        suffixes=(".tga", ".qoi", ".dds", ".sgi", ".pcx"),
        signatures=(b"qoif", b"DDS ", b"\x01\xda", b"\n\x02\x01", b"\n\x03\x01", b"\n\x05\x01"),
        decode="restore_cli.imaging.codecs.plugins:decode",
        end=b"TRUEVISION-XFILE.\0",  # of Targa, which has no signature at its start
    ),
    StillFormat(
        name="AVIF",
        suffixes=(".avif",),
        decode="restore_cli.imaging.codecs.avif:decode",
        encoding=Encoding(
            format="avif",
            suffix=".avif",
            encode="restore_cli.imaging.codecs.avif:encode",
            alpha=True,
            depth=8,
            lossy=True,
            largest_side=65_536,
            largest_icc=None,
            largest_exif=None,
            largest_xmp=None,
            encoder_bytes=16,
        ),
        brands=(b"avif", b"avis", b"avio"),
    ),
    StillFormat(
        name="JPEG XL",
        suffixes=(".jxl",),
        signatures=(b"\xff\x0a", b"\0\0\0\x0cJXL "),
        decode="restore_cli.imaging.codecs.jpegxl:decode",
        encoding=Encoding(
            format="jxl",
            suffix=".jxl",
            encode="restore_cli.imaging.codecs.jpegxl:encode",
            alpha=True,
            depth=16,
            lossy=True,
            largest_icc=0,  # the codestream holds it, but imagecodecs does not write it
            largest_exif=None,
            largest_xmp=None,
            encoder_bytes=16,
            efforts=(2, 5, 7),
        ),
    ),
    StillFormat(
        name="HEIC",
        suffixes=(".heic", ".heif", ".hif"),
        decode="restore_cli.imaging.codecs.heif:decode",
        brands=(
            *(b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"),
            *(b"mif1", b"mif2", b"msf1"),  # any HEIF image; AVIF, which has them too, is above
        ),
        extra=Extra(
            "heif",
            "pillow_heif",
            "a HEIC image, which needs the package pillow-heif",
            "export it as PNG, JPEG or TIFF",
        ),
    ),
    StillFormat(
        name="RAW",
        suffixes=(*RAW_SUFFIXES, ".cr3", ".raf", ".mrw", ".x3f"),
        # Without signatures: `kinds` and the tags of a TIFF tell.
        decode="restore_cli.imaging.codecs.raw:decode",
        extra=Extra(
            "raw",
            "rawpy",
            "a raw photograph: develop it first, or install the package rawpy",
            "export it as TIFF from a raw converter, for example darktable or RawTherapee",
        ),
    ),
    StillFormat(
        name="OpenEXR",
        suffixes=(".exr",),
        signatures=(b"v/1\x01",),
        decode="restore_cli.imaging.codecs.exr:decode",
        encoding=Encoding(
            format="exr",
            suffix=".exr",
            encode="restore_cli.imaging.codecs.exr:encode",
            alpha=True,
            depth=16,
            lossy=False,
            largest_icc=0,
            largest_exif=0,
            largest_xmp=None,
            values="light",
        ),
        extra=Extra(
            "exr",
            "OpenEXR",
            "an OpenEXR image, which needs the package OpenEXR",
            "save it as Radiance HDR, or as TIFF of 16 bits",
        ),
    ),
    StillFormat(
        name="Radiance HDR",
        suffixes=(".hdr", ".rgbe"),
        signatures=(b"#?RADIANCE", b"#?RGBE"),
        decode="restore_cli.imaging.codecs.radiance:decode",
        encoding=Encoding(
            format="hdr",
            suffix=".hdr",
            encode="restore_cli.imaging.codecs.radiance:encode",
            alpha=False,
            depth=16,
            lossy=False,
            largest_icc=0,
            largest_exif=0,
            largest_xmp=0,
            grey=False,
            values="light",
        ),
    ),
    StillFormat(
        name="FITS",
        suffixes=(".fits", ".fit", ".fts"),
        signatures=(b"SIMPLE  =",),
        decode="restore_cli.imaging.codecs.fits:decode",
        encoding=Encoding(
            format="fits",
            suffix=".fits",
            encode="restore_cli.imaging.codecs.fits:encode",
            alpha=True,
            depth=16,
            lossy=False,
            largest_icc=0,
            largest_exif=0,
            largest_xmp=0,
            values="own",
        ),
        extra=Extra(
            "science",
            "astropy",
            "a FITS image, which needs the package astropy",
            "export it as TIFF of 16 bits",
        ),
    ),
)

# H.264 for 8 bits and HEVC for 10, whose H.264 hardly any device plays; VP9 in WebM.
VIDEOS: tuple[VideoFormat, ...] = (
    VideoFormat("MP4", (".mp4", ".m4v"), Muxing("mp4", "mp4", "libx264", "libx265", True)),
    VideoFormat("MOV", (".mov",), Muxing("mov", "mov", "libx264", "libx265", True)),
    VideoFormat("Matroska", (".mkv",), Muxing("mkv", "matroska", "libx264", "libx265", False)),
    VideoFormat("WebM", (".webm",), Muxing("webm", "webm", "libvpx-vp9", "libvpx-vp9", False)),
    VideoFormat("AVI", (".avi",), None),
    VideoFormat("MPEG", (".mpg", ".mpeg"), None),
    VideoFormat("MPEG-TS", (".ts", ".mts", ".m2ts"), None),
    VideoFormat("Windows Media", (".wmv",), None),
    VideoFormat("Flash", (".flv",), None),
    VideoFormat("3GP", (".3gp",), None),
    VideoFormat("Ogg", (".ogv",), None),
)

LARGEST_FRAME = {"libx264": 16_384, "libvpx-vp9": 65_535}  # pixels a side; libx265 has no limit

ENCODINGS: dict[Format, Encoding] = {
    still.encoding.format: still.encoding for still in STILLS if still.encoding
}
MUXINGS: dict[Container, Muxing] = {
    video.muxing.container: video.muxing for video in VIDEOS if video.muxing
}
SUFFIXES: dict[str, Format] = {
    suffix: still.encoding.format for still in STILLS if still.encoding for suffix in still.suffixes
}
CONTAINERS: dict[str, Container] = {
    suffix: video.muxing.container for video in VIDEOS if video.muxing for suffix in video.suffixes
}
SUFFIX_OF: dict[Format, str] = {format: encoding.suffix for format, encoding in ENCODINGS.items()}


def readable_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats whose decoders are installed."""
    stills = (still for still in STILLS if still.extra is None or still.extra.is_installed)
    return frozenset(suffix for still in stills for suffix in still.suffixes)


READABLE_SUFFIXES = readable_suffixes()
VIDEO_SUFFIXES = frozenset(suffix for video in VIDEOS for suffix in video.suffixes)
LOSSY = frozenset[str](
    [*MUXINGS, *(format for format, encoding in ENCODINGS.items() if encoding.lossy)]
)
WITH_EFFORTS = frozenset[str](name for name, encoding in ENCODINGS.items() if encoding.efforts)


def still_of(head: bytes) -> StillFormat | None:
    """Return the format of a file by its first bytes; None if they do not tell."""
    for still in STILLS:
        if head.startswith(still.signatures, still.offset) or {*still.brands} & {*brands_of(head)}:
            return still
    return None


def still_named(name: str) -> StillFormat:
    """Return the row of a name."""
    return next(still for still in STILLS if still.name == name)


def refuse_without_extra(still: StillFormat) -> None:
    """Refuse a format whose decoder is not installed. Raises UnreadableImage."""
    extra = still.extra
    if extra is not None and not extra.is_installed:
        raise UnreadableImage(
            extra.refusal, hint=f"pip install 'restore-cli[{extra.name}]', or {extra.export}"
        )


def format_of(path: Location) -> Format:
    """Return the still format that the suffix of `path` stands for.

    Raises UsageError, MissingExtra.
    """
    format = _by_suffix(path, SUFFIXES, "cannot write")
    still = next(row for row in STILLS if row.encoding and row.encoding.format == format)
    if still.extra is not None and not still.extra.is_installed:
        raise MissingExtra(
            f"{path.name}: {still.name} needs the package {still.extra.module}",
            hint=f"pip install 'restore-cli[{still.extra.name}]'",
        )
    return format


def format_of_new(path: Location) -> Format:
    """Return the format for an image without a source. Raises UsageError, MissingExtra."""
    format = format_of(path)
    if ENCODINGS[format].values == "own":
        raise UsageError(
            f"{path.name}: {format.upper()} is written only from a source of that format",
            hint="write PNG or TIFF",
        )
    return format


def container_of(path: Location) -> Container:
    """Return the video container that the suffix of `path` stands for. Raises UsageError."""
    return _by_suffix(path, CONTAINERS, "a video cannot become")


def refuse_beyond(format: Format, height: int, width: int) -> None:
    """Refuse an image of more pixels a side than the format holds. Raises OutputError."""
    largest = ENCODINGS[format].largest_side
    if largest and max(height, width) > largest:
        raise OutputError(
            f"the result has {width} x {height} pixels, but {format} supports at most "
            f"{largest:,} per side",
            hint="write PNG or TIFF, for example with --format png",
        )


def refuse_beyond_codec(codec: str, height: int, width: int, *, name: str) -> None:
    """Refuse a video of more pixels a side than its encoder takes. Raises OutputError."""
    largest = LARGEST_FRAME.get(codec)
    if largest and max(height, width) > largest:
        raise OutputError(
            f"{name}: {width} x {height} pixels, but {codec} supports at most {largest:,} per side",
            hint="choose a smaller --scale, or reduce the video first",
        )


def refuse_hdr(format: Format, transfer: str | None, *, name: str = "") -> None:
    """Refuse colours of HDR (PQ, HLG) in a format that cannot state them. Raises OutputError."""
    if transfer and not ENCODINGS[format].chunks:
        raise OutputError(
            f"{name or 'the image'} has HDR colours ({transfer}), which {format.upper()} "
            "cannot store",
            hint="write PNG, for example with --format png",
        )


def is_container(format: Format | Container) -> TypeGuard[Container]:
    """Return True for the format of a video."""
    return format in get_args(Container)


def has_efforts(format: Format | Container) -> bool:
    """Return True for a format in which files of the same pixels can be made smaller."""
    return format in WITH_EFFORTS


def is_lossy(format: Format | Container) -> bool:
    """Return True for a format with a choice of quality; every video has one."""
    return format in LOSSY


T = TypeVar("T")


def _by_suffix(path: Location, table: dict[str, T], refusal: str) -> T:
    try:
        return table[path.suffix.lower()]
    except KeyError:
        name = path if isinstance(path, Url) else path.name  # of a URL without its query
        kind = path.suffix if re.fullmatch(r"\.\w+", path.suffix) else "a file without suffix"
        raise UsageError(
            f"{name}: {refusal} {kind}",
            hint=f"one of: {', '.join(table)}",
        ) from None
