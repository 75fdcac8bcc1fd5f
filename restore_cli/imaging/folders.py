"""Image files in folders, as test sets and training data have them."""

from __future__ import annotations

from pathlib import Path

from restore_cli.errors import InputError
from restore_cli.imaging.formats import READABLE_SUFFIXES


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the image files in a folder, sorted; hidden files and folders are left out."""
    return sorted(
        path
        for path in folder.glob("**/*" if recursive else "*")
        if path.suffix.lower() in READABLE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def images_by_name(folder: Path) -> dict[str, Path]:
    """Map relative paths without suffix to the images below a folder. Raises InputError."""
    found: dict[str, Path] = {}
    for path in image_files(folder, recursive=True):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise InputError(
                f"{found[name]} and {path} differ in their suffix only",
                hint="keep one of them in the folder",
            )
        found[name] = path
    return found
