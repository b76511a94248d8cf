"""Images, differences and masks in the formats of the page."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.dissection.edges import find_edge
from nemesis.files import atomic_file

QUALITY = 88
OUTSIDE, INSIDE, EDGE = range(3)
PALETTE = bytes((0, 0, 0, 0, 0, 0, 240, 228, 66))
OPACITY = bytes((140, 0, 255))  # of the three; 0 lets the image through
LEVELS = 127  # of a difference on either side of grey


def save_picture(image: np.ndarray, path):
    """Write an image uint8 (3, H, W) as JPEG, for eyes only: the exact pixels stand in the probe's store."""
    with atomic_file(path) as partial:
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(partial, "JPEG", quality=QUALITY)


def magnify(difference: np.ndarray, largest: float) -> np.ndarray:
    """A difference (3, H, W) as an image uint8: grey where there is none, black and white at +-`largest`."""
    return (128 + LEVELS * difference.astype(np.float32) / max(largest, 1e-6)).clip(0, 255).astype(np.uint8)


def save_pair(corrupted: np.ndarray, difference: np.ndarray, largest: float, folder: Path, number: int):
    """Write a corrupted image uint8 (3, H, W) and its magnified difference to the clean one into a folder."""
    save_picture(corrupted, folder / f"{number}.jpg")
    save_picture(magnify(difference, largest), folder / f"{number}-difference.jpg")


def draw_overlay(mask: np.ndarray) -> str:
    """A mask bool (H, W) as a PNG that lies over its image, as a data address: dark outside, an edge around it."""
    shades = np.where(mask, np.uint8(INSIDE), np.uint8(OUTSIDE))
    shades[find_edge(mask)] = EDGE
    picture = Image.fromarray(shades, "P")
    picture.putpalette(PALETTE)
    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=OPACITY, bits=2)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
