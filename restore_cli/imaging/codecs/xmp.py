"""A text of ours in an XMP packet: the one place that PNG, JPEG, WebP and TIFF have in common.

XMP is made to be added to: each program keeps its properties in a description and under a name of
its own, and leaves those of others alone. EXIF has no such place, and is kept byte for byte.
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
# The same after another program has written the packet anew.
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
    """The packet with `record`, in place of one that it had; None where it has no room for it.

    record: ASCII, as JSON can be.
    """
    plain = without_record(packet) or EMPTY
    before, end, after = plain.rpartition(END)
    if not end:
        return None  # another encoding, or another name for RDF's elements
    return before + DESCRIPTION.format(escape(record)).encode("ascii") + end + after


def without_record(packet: bytes | None) -> bytes | None:
    """The packet as it was before a record came into it; None if there was none."""
    if packet is None:
        return None
    plain = PROPERTY.sub(b"", OURS.sub(b"", packet))
    return None if plain == EMPTY else plain


def record_in(packet: bytes | None) -> str | None:
    """The record in a packet."""
    found = PROPERTY.search(packet or b"")
    return None if found is None else unescape((found[1] or found[2]).decode("ascii", "replace"))
