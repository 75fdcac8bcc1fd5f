"""XMP packets, which PNG, JPEG, WebP and TIFF all can hold: our record, and stale properties.

XMP is extensible: each program keeps its properties in a description and a namespace of its own.
Properties that are true of any file with this image are kept byte for byte.
"""

from __future__ import annotations

import re
from html import unescape
from xml.parsers import expat
from xml.sax.saxutils import escape

NAMESPACE = "urn:restore-cli:record/"
DESCRIPTION = (
    f'<rdf:Description rdf:about="" xmlns:restore="{NAMESPACE}">'
    "<restore:record>{}</restore:record></rdf:Description>\n"
)
OURS = re.compile(re.escape(DESCRIPTION.encode()).replace(rb"\{\}", rb"[^<]*"))
# The record after another program has rewritten the packet.
PROPERTY = re.compile(rb"<restore:record>([^<]*)</restore:record>|\brestore:record=\"([^\"]*)\"")
END = b"</rdf:RDF>"
EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b"</rdf:RDF>\n"
    b'</x:xmpmeta>\n<?xpacket end="w"?>'
)

GOOGLE, ADOBE = "http://ns.google.com/photos/", "http://ns.adobe.com/"
EVERY = r"[\w.-]+"
# Namespace -> properties that tell of the file that was read, or of a part that is not kept.
STALE = {
    f"{ADOBE}hdr-gain-map/1.0/": EVERY,
    "http://ns.apple.com/HDRGainMap/1.0/": EVERY,
    f"{GOOGLE}1.0/container/": EVERY,
    f"{GOOGLE}1.0/container/item/": EVERY,
    f"{GOOGLE}dd/1.0/device/": EVERY,
    f"{GOOGLE}1.0/depthmap/": EVERY,
    f"{GOOGLE}1.0/image/": EVERY,
    f"{GOOGLE}1.0/audio/": EVERY,
    f"{GOOGLE}1.0/camera/": r"(?:MicroVideo|MotionPhoto)\w*",
    f"{ADOBE}xmp/note/": "HasExtendedXMP",
    f"{ADOBE}xap/1.0/": "Thumbnails",
    f"{ADOBE}photoshop/1.0/": "ColorMode|ICCProfile",
    f"{ADOBE}tiff/1.0/": "BitsPerSample|Compression|PhotometricInterpretation|SamplesPerPixel"
    "|PlanarConfiguration|YCbCrSubSampling",
}
PANORAMA, REGIONS = f"{GOOGLE}1.0/panorama/", "http://www.metadataworkinggroup.com/schemas/regions/"
# Namespace -> (properties with places in the image as it was stored, their name in a message).
PLACES = {
    PANORAMA: (EVERY, "its sizes of a panorama"),
    REGIONS: ("Regions", "its image regions"),
    "http://ns.microsoft.com/photo/1.2/": ("RegionInfo", "its image regions"),
}
LOSSES = {
    f"{GOOGLE}1.0/depthmap/": "its depth map",
    f"{GOOGLE}1.0/image/": "the image in its XMP",
    f"{GOOGLE}1.0/audio/": "the sound in its XMP",
}
SIDES = {  # namespace -> names of width and height
    f"{ADOBE}tiff/1.0/": ("ImageWidth", "ImageLength"),
    f"{ADOBE}exif/1.0/": ("PixelXDimension", "PixelYDimension"),
}
# Sizes and places of a panorama: of the image, of the whole sphere, and further ones.
ALONG_WIDTH = (
    "CroppedAreaImageWidthPixels FullPanoWidthPixels CroppedAreaLeftPixels "
    "LargestValidInteriorRectLeft LargestValidInteriorRectWidth"
)
ALONG_HEIGHT = (
    "CroppedAreaImageHeightPixels FullPanoHeightPixels CroppedAreaTopPixels "
    "LargestValidInteriorRectTop LargestValidInteriorRectHeight"
)
DAMAGED = "its XMP, which is damaged"


def with_record(packet: bytes | None, record: str) -> bytes | None:
    """Return the packet with `record` (ASCII) in place of any other; None if it has no room."""
    plain = without_record(packet) or EMPTY
    before, end, after = plain.rpartition(END)
    if not end:
        return None  # another encoding, or another prefix of RDF
    return before + DESCRIPTION.format(escape(record)).encode("ascii") + end + after


def without_record(packet: bytes | None) -> bytes | None:
    """Return the packet without its record; None if there was no packet before the record."""
    if packet is None:
        return None
    plain = PROPERTY.sub(b"", OURS.sub(b"", packet))
    return None if plain == EMPTY else plain


def record_in(packet: bytes | None) -> str | None:
    """Return the record of a packet, if it has one."""
    found = PROPERTY.search(packet or b"")
    return None if found is None else unescape((found[1] or found[2]).decode("ascii", "replace"))


def without_stale(packet: bytes, *, upright: bool) -> tuple[bytes | None, list[str]]:
    """Return the packet without what other contents of its file stated, and names of losses.

    upright: False for an image that has been turned, to which places in it no longer apply.
    """
    stale = dict(STALE)
    losses = dict(LOSSES)
    if not upright:
        stale |= {namespace: names for namespace, (names, _) in PLACES.items()}
        losses |= {namespace: name for namespace, (_, name) in PLACES.items()}
    present = {
        re.escape(prefix) + rb":(?:" + names.encode() + rb")(?=[\s=/>])": namespace
        for namespace, names in stale.items()
        for prefix in _prefixes(packet, namespace)
    }
    found = {name: space for name, space in present.items() if re.search(rb"[<\s]" + name, packet)}
    cleaned = packet
    for name in found if _is_well_formed(packet) else ():  # damage would take long to search
        cleaned = _without_properties(cleaned, name)
    if found and not (cleaned != packet and _is_well_formed(cleaned)):
        return None, [DAMAGED]
    return cleaned, list(
        dict.fromkeys(losses[space] for space in found.values() if space in losses)
    )


def _is_well_formed(packet: bytes) -> bool:
    try:
        expat.ParserCreate().Parse(packet.strip(b"\0"), True)
    except expat.ExpatError:
        return False
    return True


def _prefixes(packet: bytes, namespace: str) -> list[bytes]:
    declared = rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(namespace.encode()) + rb"[\"']"
    return list(dict.fromkeys(re.findall(declared, packet)))


def _without_properties(packet: bytes, name: bytes) -> bytes:
    element = rb"<(" + name + rb")[^>]*?(?:/>|>.*?</\1\s*>)"
    attribute = rb"(?<=\s)" + name + rb"\s*=\s*(?:\"[^\"]*\"|'[^']*')"
    cleaned = re.sub(element, b"", packet, flags=re.DOTALL)
    return re.sub(attribute, b"", cleaned)


def with_size(packet: bytes, height: int, width: int, format: str) -> bytes:
    """Return the packet with this size and format wherever it states them; panoramas are scaled."""
    for namespace, names in SIDES.items():
        for prefix in _prefixes(packet, namespace):
            for name, side in zip(names, (width, height), strict=True):
                packet = _with_number(packet, prefix, name, side)
    for prefix in _prefixes(packet, PANORAMA):
        packet = _scaled(packet, prefix, ALONG_WIDTH.split(), width)
        packet = _scaled(packet, prefix, ALONG_HEIGHT.split(), height)
    for prefix in _prefixes(packet, REGIONS):
        packet = _with_region_size(packet, prefix, height, width)
    for prefix in _prefixes(packet, "http://purl.org/dc/elements/1.1/"):
        value = rb"(" + re.escape(prefix) + rb":format(?:\s*=\s*[\"']|>\s*)image/)[\w.+-]+"
        packet = re.sub(value, rb"\g<1>" + format.encode(), packet)
    return packet


def _with_number(packet: bytes, prefix: bytes, name: str, number: int) -> bytes:
    return _number(prefix, name).sub(rb"\g<1>%d" % number, packet)


def _number(prefix: bytes, name: str) -> re.Pattern[bytes]:
    start = re.escape(prefix + b":" + name.encode())
    return re.compile(rb"(" + start + rb"(?:\s*=\s*[\"']|>)\s*)(-?\d{1,9}(?:\.\d{0,9})?)(?![\d.])")


def _scaled(packet: bytes, prefix: bytes, names: list[str], side: int) -> bytes:
    """Scale numbers so that the first, or else the second, becomes `side`."""
    found = {name: _number(prefix, name).search(packet) for name in names}
    numbers = {name: float(match[2]) for name, match in found.items() if match}
    stated = numbers.get(names[0], numbers.get(names[1], 0))
    if stated <= 0:
        return packet
    for name, number in numbers.items():
        packet = _with_number(packet, prefix, name, round(number * side / stated))
    return packet


def _with_region_size(packet: bytes, prefix: bytes, height: int, width: int) -> bytes:
    """Set the size in pixels to which the regions, in shares of the sides, apply."""
    start = packet.find(b"<" + prefix + b":AppliedToDimensions")
    ends = (packet.find(end, start) for end in (b":AppliedToDimensions>", b"/>"))
    part = packet[start : next((end for end in ends if end > 0), start)]
    if start < 0 or not re.search(rb"unit(?:\s*=\s*[\"']|>)\s*pixel", part):
        return packet
    changed = part
    for dimensions in _prefixes(packet, f"{ADOBE}xap/1.0/sType/Dimensions#"):
        for name, side in (("w", width), ("h", height)):
            changed = _with_number(changed, dimensions, name, side)
    return packet[:start] + changed + packet[start + len(part) :]
