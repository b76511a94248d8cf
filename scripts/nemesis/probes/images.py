"""Decode image files: whole, or not at all."""

from pathlib import Path

from PIL import Image

from nemesis.errors import InputError


def open_image(path: Path, kind: str = "image", mode: str | None = None, missing: str = "not found") -> Image.Image:
    """The picture of a file, in `mode` if one is given.

    Raises InputError that names the file when it is absent, cannot be decoded, or has more than 8 bits a
    channel where a mode is asked for (Pillow would clip it to white).
    """
    try:
        with Image.open(path) as image:
            image.load()
            deep = mode and image.mode[0] in "IF"
            picture = image.convert(mode) if mode and not deep and image.mode != mode else image
    except FileNotFoundError:
        raise InputError(f"{path}: {kind} {missing}") from None
    except Exception as error:
        raise InputError(f"{path}: {kind} cannot be decoded ({error}); is it truncated?") from None
    if deep:
        raise InputError(f"{path}: {kind} has mode {image.mode}; expected 8 bits a channel, so convert it")
    return picture
