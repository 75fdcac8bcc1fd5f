"""Memory and disk that an image takes, from its header: what cannot suffice is refused unread.

Of memory it is the least, of parts that are certainly held at the same time: no image is refused
that could be restored. Of disk it is the most, as it is reserved before the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from restore_cli.errors import OutOfMemory, OutputError
from restore_cli.files import free_space
from restore_cli.imaging.formats import ENCODINGS, Format
from restore_cli.imaging.headers import Header
from restore_cli.memory import ADVICE, Room

LARGE = 1 << 26  # pixels of source and result together; below, several are held in memory
ROW_BY_ROW = ("png", "tiff")  # formats that are encoded without all levels at once
FLOAT = 4  # bytes
BANDS = 1_300_000_000  # bytes of large images that memory holds at once: docs/reliability.md
NETWORK_BYTES = {"denoise": 12}  # that a task stores on disk for each pixel of a large image


@dataclass(frozen=True)
class Need:
    """Bytes that an image takes beside the network.

    addresses: of address space, mapped files included. disk: 0 for an image held in memory.
    """

    memory: int
    addresses: int
    disk: int
    hint: str

    def __str__(self) -> str:
        """Describe the need of a large image."""
        memory = _gigabytes(self.memory + BANDS)
        return f"up to {_gigabytes(self.disk)} of disk and about {memory} of memory"


def need_of(
    header: Header,
    file_size: int,
    format: Format,
    result: tuple[int, int],
    *,
    task: str,
    piped: bool,
) -> Need:
    """Return the need of an image that becomes `result`, (H, W), in a format.

    file_size: of the source, in bytes. piped: the result goes to stdout, from memory.
    """
    before, after = header.height * header.width, result[0] * result[1]
    colours, decoding = header.colours, header.decoder_bytes * before
    encoding = ENCODINGS[format].encoder_bytes * after // (4 if colours == 1 else 1)
    hint = "write PNG or TIFF, for example with --format png" if encoding > decoding else ADVICE
    if before + after <= LARGE or piped:
        memory = max(
            file_size + decoding,
            FLOAT * colours * (before + after),
            FLOAT * colours * after + encoding,
        )
        return Need(memory, memory, 0, ADVICE if before + after <= LARGE else "name a file with -o")
    stored = NETWORK_BYTES.get(task, 0) * before
    levels = 0 if format in ROW_BY_ROW else colours * after
    memory = max(decoding, encoding)
    addresses = memory + file_size + colours * before + stored + levels
    disk = disk_need(header.height, header.width, header.pixel_bytes, format, result, stored)
    return Need(memory, addresses, disk, hint)


def disk_need(
    height: int,
    width: int,
    pixel_bytes: int,
    format: Format,
    result: tuple[int, int],
    network_bytes: int,
) -> int:
    """Return the bytes that a giant takes on disk at most, its result included.

    pixel_bytes: of a decoded pixel. network_bytes: that the networks store.
    """
    copies = 1 if format in ROW_BY_ROW else 2  # levels and file
    return (
        height * width * pixel_bytes + network_bytes + result[0] * result[1] * pixel_bytes * copies
    )


def refuse_little_memory(name: str, header: Header, need: Need, room: Room) -> None:
    """Refuse an image that the memory cannot hold. Raises OutOfMemory."""
    size = f"{name}: {header.width} x {header.height} pixels"
    if need.memory > room.memory:
        raise OutOfMemory(
            f"{size} take at least {_gigabytes(need.memory)} of memory, "
            f"{_gigabytes(room.memory)} are free",
            hint=need.hint,
        )
    # Without any room the process is refused, not the image: `refuse_small_address_space`.
    if room.addresses and need.addresses > room.addresses:
        raise OutOfMemory(
            f"{size} take at least {_gigabytes(need.addresses)} of address space, "
            f"{_gigabytes(room.addresses)} are free",
            hint=f"raise the limit: ulimit -v, or {need.hint}",
        )


def refuse_little_disk(target: object, folder: Path, need: int) -> None:
    """Refuse a giant for which the disk of a folder has no room. Raises OutputError."""
    free = free_space(folder)
    if free is not None and free < need:
        raise OutputError(
            f"{target}: takes up to {_gigabytes(need)} on disk, but {_gigabytes(free)} are free",
            hint="choose another place with -o",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
