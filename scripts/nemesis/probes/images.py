"""Decode image files: whole, upright and of 8 bits a channel, or not at all; what is lost is remarked."""

import logging
import re
import struct
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from nemesis.errors import InputError

HEAD = 4096  # bytes of a file, in which its depth stands
CONVERTED = frozenset(("1", "CMYK", "HSV", "L", "LA", "P", "PA", "RGBA", "RGBX", "YCbCr"))
LOSSY = {"AVIF": "AVIF", "JPEG": "JPEG", "JPEG2000": "JPEG 2000", "MPO": "JPEG", "WEBP": "WebP"}
HEIF = frozenset((b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"))
LABELS = "expected an RGB PNG with label = R + 256 G"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Remarks:
    """Sentences about the files below `root`, shown as warnings; they become the attribute `notes` of a store.

    Any thread may count files; their order does not matter.
    """

    def __init__(self, root):
        self.root = Path(root)
        self._said: list[str] = []
        self._counted: dict[str, list[str]] = {}

    def say(self, sentence: str, level: int = logging.WARNING):
        """Remark something now. What the user asked for is no warning: level INFO keeps it in the log."""
        self._said.append(sentence)
        logging.log(level, "%s: %s", self.root, sentence)

    def count(self, what: str, path):
        """Remark that `what` holds for a file, to be said once for all such files."""
        self._counted.setdefault(what, []).append(str(path))

    def finish(self) -> list[str]:
        """Say what was counted, and return all sentences."""
        for what, paths in sorted(self._counted.items()):
            first = str(Path(min(paths)).relative_to(self.root))
            self.say(f"{what}: {len(paths)} ({'first ' * (len(paths) > 1)}{first})")
        self._counted.clear()
        return list(self._said)


def name_some(names, limit: int = 3) -> str:
    """Names for a sentence: the first `limit`, and how many more."""
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def open_image(path: Path, remarks: Remarks | None = None, missing: str = "not found", upright=True) -> Image.Image:
    """The picture of a file in RGB; `upright` turns it as its EXIF data says.

    What is lost or assumed (transparency, further frames, a colour profile, damaged EXIF data) goes to `remarks`.
    Raises InputError that names the file when it is absent, cannot be decoded, or has more than 8 bits a
    channel, of which Pillow would keep 8 or clip it to white.
    """
    image, animated = _load(path, "image", missing)
    if image.mode != "RGB" and image.mode not in CONVERTED:
        raise InputError(f"{path}: image has mode {image.mode}; expected RGB or grey, so convert it")
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if remarks:
        _remark_image(image, animated, path, remarks)
    return _turn(picture, image, "images", path, remarks) if upright else picture


def open_mask(path: Path, remarks: Remarks, missing: str = "not found") -> Image.Image:
    """The label plane of a file, RGB or RGBA, turned as an image would be.

    Raises InputError where labels would be lost: in a file that `open_image` refuses, of lossy compression, with
    a palette, in grey, or with several frames.
    """
    image, _ = _load(path, "mask", missing)
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"{path}: mask has mode {image.mode}; {LABELS}")
    if _is_transparent(image):
        remarks.count("masks with transparent pixels, whose labels count all the same", path)
    return _turn(image, image, "masks", path, remarks)


def _load(path: Path, kind: str, missing: str) -> tuple[Image.Image, bool]:
    """The first frame of a file, and whether there are others."""
    head = b""
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
            stream.seek(0)
            with Image.open(stream) as image:
                animated = image.format != "MPO" and bool(getattr(image, "is_animated", False))
                fault = _find_fault(image, animated, head, kind)
                if not fault:
                    image.load()
    except FileNotFoundError:
        raise InputError(f"{path}: {kind} {missing}") from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: {kind} cannot be decoded ({_name_kind(head)})") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{path}: {kind} has too many pixels; expected at most {2 * Image.MAX_IMAGE_PIXELS:,}"
        ) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"{path}: {kind} cannot be read ({error.strerror})") from None
        raise InputError(f"{path}: {kind} cannot be decoded ({error}); is it truncated?") from None
    if fault:
        raise InputError(f"{path}: {kind} {fault}")
    return image, animated


def _find_fault(image: Image.Image, animated: bool, head: bytes, kind: str) -> str:
    """What makes a file useless, as the end of a sentence; "" where nothing does."""
    depth = _count_bits(image, head)
    if depth > 8:
        return f"has {depth} bits a channel; expected 8 bits per channel, so convert it"
    if kind == "image":
        return ""
    if image.format in LOSSY or str(image.info.get("compression")) in ("jpeg", "webp"):
        return f"is a {LOSSY.get(image.format, image.format)} file, which may not keep labels exactly; {LABELS}"
    if image.format == "PPM" and _find_maximum(image) not in (None, 255):
        return f"has the maximum {_find_maximum(image)}, which changes labels; {LABELS}"
    return f"has several frames; {LABELS}" if animated else ""


def _count_bits(image: Image.Image, head: bytes) -> int:
    """Bits a channel in the file: Pillow's mode is that of what it makes of them."""
    found = 32 if image.mode in ("I", "F") else 8
    if image.mode.startswith("I;") or any(re.search(r";16[BLN]|SGI16", f"{tile[0]} {tile[3]}") for tile in image.tile):
        found = 16
    if image.format == "PNG":
        found = head[24]
    elif image.format == "TIFF":
        found = int(np.max(image.tag_v2.get(258, 1)))
    elif image.format == "PPM" and (white := _find_maximum(image)):
        found = white.bit_length()
    elif image.format == "JPEG2000" and (start := head.find(b"\xff\x4f\xff\x51")) >= 0:  # its components
        found = max(1 + (bits & 127) for bits in head[start + 42 : start + 42 + 3 * head[start + 41] : 3])
    elif image.format == "AVIF" and (start := head.find(b"av1C")) >= 0:
        found = {0: 8, 64: 10}.get(head[start + 6] & 96, 12)
    return found


def _find_maximum(image: Image.Image) -> int | None:
    """The value that stands for white in a PPM file, None where that is 255 or the image is black and white."""
    args = image.tile[0][3]
    if "I;16" in str(args):
        return 65535
    return args[1] if isinstance(args, tuple) and len(args) == 2 and isinstance(args[1], int) else None


def _name_kind(head: bytes) -> str:
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:12] in HEIF:
        return "it is a HEIC file; convert it to PNG or JPEG"
    frame = re.search(rb"\xff[\xc0-\xc3]..(.)", head, re.DOTALL) if head.startswith(b"\xff\xd8") else None
    if frame and frame[1] != b"\x08":
        return f"it is a JPEG file of {frame[1][0]} bits a channel; expected 8"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "it is a TIFF file that cannot be read; expected RGB or grey of 8 bits a channel"
    return "it is no image of a known format; is it truncated?"


def _remark_image(image: Image.Image, animated: bool, path: Path, remarks: Remarks):
    if animated:
        remarks.count("images with several frames, of which the first is taken", path)
    if _is_transparent(image):
        remarks.count("images with transparent pixels, which show the colours that the file has there", path)
    if image.mode == "CMYK":
        remarks.count("images in CMYK, made RGB without a colour profile", path)
    elif _has_other_colours(image.info.get("icc_profile")):
        remarks.count("images with a colour profile that is not called sRGB, whose colours are taken as they are", path)


def _is_transparent(image: Image.Image) -> bool:
    if image.info.get("transparency") is not None:
        image = image.convert("RGBA")
    return image.mode in ("LA", "PA", "RGBA", "RGBa") and image.getextrema()[-1][0] < 255


def _has_other_colours(profile: bytes | None) -> bool:
    """Is this a profile of colours that does not call itself sRGB (in ASCII or UTF-16)?"""
    return bool(profile) and profile[16:20] == b"RGB " and not re.search(rb"s\0?R\0?G\0?B", profile)


def _turn(picture: Image.Image, image: Image.Image, kind: str, path: Path, remarks: Remarks | None) -> Image.Image:
    """The picture of `image` as its EXIF data says; as it is where that is damaged."""
    if not image.info.keys() & {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}:
        return picture
    try:
        _check_exif(image.info.get("exif", b""))
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # whatever a reader of damaged data may raise
        if remarks:
            remarks.count(f"{kind} with damaged EXIF data, taken as they are stored", path)
        return picture
    if turn is None:
        return picture
    if remarks:
        remarks.count(f"{kind} turned upright, as their EXIF data says", path)
    return picture.transpose(turn)


def _check_exif(data: bytes):
    """Raise struct.error or KeyError where EXIF data ends within its first table; Pillow takes what is there."""
    data = data.removeprefix(b"Exif\0\0")
    if data:
        order = {b"II": "<", b"MM": ">"}[data[:2]]
        (start,) = struct.unpack(f"{order}L", data[4:8])
        (count,) = struct.unpack(f"{order}H", data[start : start + 2])
        if start + 2 + 12 * count > len(data):
            raise struct.error("table is cut off")
