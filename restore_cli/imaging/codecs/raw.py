"""Raw photographs, developed by LibRaw (rawpy, extra `raw`)."""

from __future__ import annotations

import io

from restore_cli.errors import UnreadableImage
from restore_cli.imaging.canvas import MEMORY, Storage
from restore_cli.imaging.codecs.exif import ORDERS, exif_of_tiff
from restore_cli.imaging.codecs.metadata import incoming_metadata
from restore_cli.imaging.headers import refuse_giant
from restore_cli.imaging.image import Metadata
from restore_cli.imaging.quantize import Decoded, stored

SRGB_CURVE = (2.4, 12.92)  # power, slope near black


def decode(data: bytes, storage: Storage = MEMORY) -> Decoded:
    """Develop to sRGB of 16 bits with the white balance of the camera, without brightening.

    Raises UnreadableImage, ImageTooLarge, and what rawpy raises.
    """
    import rawpy

    data = data[:]  # a mapped file becomes bytes

    try:
        opened = rawpy.imread(io.BytesIO(data))
    except rawpy.LibRawFileUnsupportedError as error:
        raise UnreadableImage(
            "a raw photograph of a camera that LibRaw does not know",
            hint="export it as TIFF from a raw converter, for example darktable or RawTherapee",
        ) from error
    with opened as raw:
        refuse_giant(raw.sizes.iheight, raw.sizes.iwidth)
        levels = raw.postprocess(
            use_camera_wb=True, output_bps=16, no_auto_bright=True, gamma=SRGB_CURVE
        )
    try:
        exif = exif_of_tiff(data) if data[:2] in ORDERS else None
    except ValueError:  # the image is readable without its description
        exif = None
    # LibRaw has applied the orientation.
    metadata, _, stale = incoming_metadata(Metadata(exif=exif), orientation=1)
    dropped = stale if metadata.exif else ("its EXIF", *stale)
    return Decoded(stored(levels, storage), 65_535, metadata=metadata, dropped=dropped)
