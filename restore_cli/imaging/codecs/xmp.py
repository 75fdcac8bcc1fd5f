"""The provenance record in an XMP packet, which PNG, JPEG, WebP and TIFF all can hold.

XMP is extensible: each program keeps its properties in a description and a namespace of its own.
EXIF is not, and is kept byte for byte.
"""

from __future__ import annotations

import re
from html import unescape
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
