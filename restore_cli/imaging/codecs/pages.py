"""Pages of a TIFF: the image itself, reduced versions of it, masks, and raw photographs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from restore_cli.imaging.codecs.exif import ORDERS, Directory, is_big, read_directory

WIDTH, HEIGHT, PHOTOMETRIC = 256, 257, 262
SUBFILE, OLD_SUBFILE, BELOW = 254, 255, 330
REDUCED, MASK = 1, 4  # bits of SUBFILE
OLD_REDUCED = 2  # value of OLD_SUBFILE

COLOUR_FILTERS, LINEAR_RAW = 32803, 34892  # PHOTOMETRIC
DNG_VERSION, FILTER_SIZE, FILTER_PATTERN = 50706, 33421, 33422
MOST_PAGES = 64  # that are looked at


@dataclass(frozen=True)
class Page:
    """A directory that describes an image."""

    tags: Directory

    @property
    def pixels(self) -> int:
        return self.tags.numbers(WIDTH, (0,))[0] * self.tags.numbers(HEIGHT, (0,))[0]

    @property
    def is_reduced(self) -> bool:
        old = self.tags.numbers(OLD_SUBFILE, (0,))[0]
        return bool(self.tags.numbers(SUBFILE, (0,))[0] & REDUCED) or old == OLD_REDUCED

    @property
    def is_mask(self) -> bool:
        return bool(self.tags.numbers(SUBFILE, (0,))[0] & MASK)

    @property
    def is_raw(self) -> bool:
        """Return True if the levels are behind a colour filter, or the page is of a DNG."""
        photometric = self.tags.numbers(PHOTOMETRIC, (0,))[0]
        raw_tags = {DNG_VERSION, FILTER_SIZE, FILTER_PATTERN}
        return photometric in (COLOUR_FILTERS, LINEAR_RAW) or bool(raw_tags & {*self.tags.entries})


def pages_of(tiff: bytes) -> list[Page]:
    """Return the pages of a TIFF, each followed by those below it. Raises ValueError."""
    order = ORDERS.get(tiff[:2])
    if order is None:
        raise ValueError("neither II nor MM at the start of the tags")
    try:
        if is_big(tiff, order):
            (first,) = struct.unpack_from(f"{order}Q", tiff, 8)
        else:
            (first,) = struct.unpack_from(f"{order}I", tiff, 4)
        found = [Page(read_directory(tiff, first, order))]
    except struct.error as error:
        raise ValueError("the tags are cut off") from error
    waiting = [*_next_of(found[0])]
    seen = {first, *waiting}
    while waiting and len(found) < MOST_PAGES:
        at = waiting.pop(0)
        try:
            page = Page(read_directory(tiff, at, order))
        except struct.error:  # what is damaged is no page
            continue
        found.append(page)
        new = [place for place in _next_of(page) if place not in seen]
        waiting += new
        seen |= {*new}
    return found


def _next_of(page: Page) -> Iterator[int]:
    """Yield the offsets of the pages below a page, and of the following one."""
    yield from page.tags.numbers(BELOW)[:MOST_PAGES]
    if page.tags.following:
        yield page.tags.following


def image_page(pages: list[Page]) -> Page:
    """Return the page of the image: the first that is neither reduced nor a mask."""
    full = [page for page in pages if not page.is_reduced and not page.is_mask]
    return full[0] if full else max(pages, key=lambda page: page.pixels)


def with_first_page(tiff: bytes, page: Page) -> bytes:
    """Return a TIFF whose first page is `page`, for decoders that read the first one."""
    at, code = (8, "Q") if is_big(tiff, page.tags.order) else (4, "I")
    offset = struct.pack(page.tags.order + code, page.tags.start)
    return (
        tiff
        if tiff[at : at + len(offset)] == offset
        else b"".join((tiff[:at], offset, tiff[at + len(offset) :]))
    )
