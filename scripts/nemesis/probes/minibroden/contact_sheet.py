"""A contact sheet of a Broden folder: each picture beside its object and part masks."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.errors import InputError
from nemesis.files import atomic_file

SHADES = 6  # brightness levels a channel of a mask's colour may take


def contact_sheet(folder: Path, count: int, path: Path | None = None, columns: int = 4) -> Image.Image:
    """Sheet of the first `count` pictures, each with its object mask and its part mask laid over it.

    Returns the picture and, where `path` is given, writes it there as well.
    """
    index = Path(folder) / "index.csv"
    if not index.is_file():
        raise InputError(f"{index}: not found; expected a folder in Broden's layout")
    with open(index, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))[:count]
    if not rows:
        raise InputError(f"{index}: lists no image")
    tiles = [_tile(Path(folder) / "images", row) for row in rows]
    height, width = tiles[0].shape[:2]
    lines = -(-len(tiles) // columns)
    sheet = np.full((lines * (height + 4), columns * (width + 8), 3), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        y, x = (i // columns) * (height + 4), (i % columns) * (width + 8)
        sheet[y : y + height, x : x + width] = tile
    picture = Image.fromarray(sheet)
    if path is not None:
        with atomic_file(path) as partial:
            picture.save(partial, "PNG")
    return picture


def _tile(images: Path, row: dict) -> np.ndarray:
    """Picture, picture with object mask, picture with part mask: uint8 (h, 3 w, 3)."""
    picture = np.asarray(Image.open(images / row["image"]).convert("RGB"))
    shown = [picture]
    for category in ("object", "part"):
        overlaid = picture
        for piece in filter(None, row.get(category, "").split(";")):
            if not piece.isdigit():
                overlaid = _overlay(overlaid, images / piece)
        shown.append(overlaid)
    return np.concatenate(shown, axis=1)


def _overlay(picture: np.ndarray, mask_path: Path) -> np.ndarray:
    h, w = picture.shape[:2]
    mask = np.asarray(Image.open(mask_path).resize((w, h), Image.Resampling.NEAREST)).astype(int)
    labels = mask[..., 0] + 256 * mask[..., 1]
    spread = labels[..., None] * np.array([37, 59, 83]) % SHADES
    colours = spread * (255 / (SHADES - 1))
    mixed = np.where((labels > 0)[..., None], 0.35 * picture + 0.65 * colours, picture)
    return mixed.astype(np.uint8)
