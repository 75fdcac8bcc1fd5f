"""Image files in folders, as test sets and training data have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath, PurePosixPath

from restore_cli.errors import InputError
from restore_cli.imaging.formats import READABLE_SUFFIXES
from restore_cli.storage import Location, entries


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the image files in a folder, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.glob("**/*" if recursive else "*")
        if path.suffix.lower() in READABLE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def images_by_name(folder: Location) -> dict[str, Location]:
    """Map relative paths without suffix to the images below a folder.

    Raises InputError, and as `storage.entries`.
    """
    found: dict[str, Location] = {}
    for inside, path in _images_below(folder):
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"{found[name]} and {path} differ in their suffix only",
                hint="keep one of them in the folder",
            )
        found[name] = path
    return found


def _images_below(folder: Location) -> Iterator[tuple[PurePath, Location]]:
    """Yield the path below a folder and the place of each image in it, sorted."""
    if isinstance(folder, Path):
        for path in image_files(folder, recursive=True):
            yield path.relative_to(folder), path
    else:
        for entry in sorted(entries(folder, recursive=True), key=lambda entry: entry.url.address):
            if entry.url.suffix.lower() in READABLE_SUFFIXES:
                yield PurePosixPath(entry.url.below(folder)), entry.url
