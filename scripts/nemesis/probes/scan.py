"""Which images lie in a folder? Standard library only: it runs at every start."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from nemesis.errors import InputError

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class Listing:
    """The files in and below a folder, as paths relative to it with `/`, sorted part by part."""

    images: tuple[str, ...]
    others: tuple[str, ...]


def check_folder(root):
    """Raise InputError when `root` is no folder or no image lies in or below it."""
    expected = f"expected a folder with images ({', '.join(sorted(ending[1:] for ending in SUFFIXES))})"
    if not Path(root).is_dir():
        raise InputError(f"{root}: not a folder; {expected}")
    if not any(map(is_image, _walk(root))):
        raise InputError(f"{root}: no image in or below it; {expected}")


def scan_folder(root) -> Listing:
    """List a folder and what is below it; links are followed, hidden files and folders are not looked at.

    Raises InputError when there is no image, a folder cannot be read, or an image's name is not UTF-8.
    """
    check_folder(root)
    names = sorted(_walk(root), key=lambda name: name.split("/"))
    images = tuple(filter(is_image, names))
    for name in images:
        if name.encode(errors="replace").decode() != name:
            raise InputError(f"{root}: the name {name!a} is not UTF-8; rename it")
    return Listing(images, tuple(name for name in names if not is_image(name)))


def fingerprint(root) -> str:
    """16 hex digits over name, size and time of change of every image: other images, another print."""
    digest = hashlib.sha256()
    for name in scan_folder(root).images:
        try:
            about = os.stat(Path(root, name))
        except OSError as error:
            raise InputError(f"{Path(root, name)}: image cannot be read ({error.strerror})") from None
        digest.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def is_image(name: str) -> bool:
    """Is this the name of an image, by its ending?"""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def class_of(name: str) -> str | None:
    """The first folder of an image's relative path; None where it lies in the root."""
    return name.split("/", 1)[0] if "/" in name else None


def _walk(folder, before: str = "", above: frozenset = frozenset()):
    """Yield the files below a folder, `before` their names; a link back to a folder above is not followed."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror})") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, f"{before}{entry.name}/", above | {real})
        else:
            yield before + entry.name
