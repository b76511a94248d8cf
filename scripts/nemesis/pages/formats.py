"""Data, images, differences and masks in the formats of the page.

A page that was opened from disk may load a script, but not a JSON file: data comes as scripts.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from nemesis.dissection.upsample import find_edge
from nemesis.files import atomic_file

QUALITY = 88
OUTSIDE, INSIDE, EDGE = range(3)
PALETTE = bytes((0, 0, 0, 0, 0, 0, 240, 228, 66))
OPACITY = bytes((140, 0, 255))  # of the three; 0 lets the image through
LEVELS = 127  # of a difference on either side of grey


def save_data(folder: Path, name: str, data, place: str = ""):
    """Write `folder/name.js`, which hands `data` to the page under the address `place/name`."""
    address = f"{place}/{name}" if place else name
    text = f"nemesis.receive({to_json(address)}, {to_json(data)});\n"
    with atomic_file(folder / f"{name}.js") as partial:
        partial.write_text(text, encoding="ascii")


def to_json(data) -> str:
    """JSON in ASCII that may stand in a script: no `<`, so nothing in it ends the script or starts a tag."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def to_columns(table: pd.DataFrame) -> dict[str, list]:
    """A table as lists by column; what is not there is None, numbers keep their full precision."""
    return {str(name): [_plain(value) for value in table[name]] for name in table.columns}


def _plain(value):
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)


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
