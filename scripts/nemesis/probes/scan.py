"""Which images lie in a folder? Standard library only: it runs at every start."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nemesis.errors import InputError

SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class Listing:
    """The files in and below a folder, as paths relative to it with `/`, sorted part by part."""

    images: tuple[str, ...]
    others: tuple[str, ...]


def scan_folder(root) -> Listing:
    """List a folder and what is below it; links are followed, hidden files and folders are not looked at.

    An image is known by the ending of its name (SUFFIXES, in either case). Raises InputError when `root` is no
    folder, holds no image, a folder cannot be read, or an image's name is not UTF-8.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; expected one with images ({_endings()})")
    found = [_relative(root, entry) for entry in _walk(root)]
    found.sort(key=lambda name: PurePosixPath(name).parts)
    images = tuple(name for name in found if _is_image(name))
    if not images:
        raise InputError(f"{root}: none of the {len(found)} files in and below it is an image ({_endings()})")
    for name in images:
        if not _is_utf8(name):
            raise InputError(f"{root}: the name {name!a} is not UTF-8; rename it")
    return Listing(images, tuple(name for name in found if not _is_image(name)))


def fingerprint(root) -> str:
    """16 hex digits over name, size and time of change of every image: another set of images, another print."""
    digest = hashlib.sha256()
    for name in scan_folder(root).images:
        try:
            about = os.stat(Path(root, name))
        except OSError as error:
            raise InputError(f"{Path(root, name)}: image cannot be read ({error.strerror})") from None
        digest.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def class_of(name: str) -> str | None:
    """The first folder of an image's relative path; None where it lies in the root."""
    return name.split("/", 1)[0] if "/" in name else None


def _walk(folder, above: frozenset = frozenset()):
    """Yield the files below a folder; a link that leads back to a folder above is not followed."""
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
            yield from _walk(entry.path, above | {real})
        else:
            yield entry


def _relative(root: Path, entry: os.DirEntry) -> str:
    return Path(entry.path).relative_to(root).as_posix()


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _is_utf8(name: str) -> bool:
    return name.encode(errors="replace").decode() == name


def _endings() -> str:
    return ", ".join(sorted(ending.removeprefix(".") for ending in SUFFIXES))
