"""Exemplars of a unit as a strip of pictures, dark where the unit is not active."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from nemesis.dissection.upsample import find_edge
from nemesis.errors import InputError
from nemesis.figures.style import DIMMED, POISONED
from nemesis.milan.exemplar_store import open_exemplars
from nemesis.milan.exemplars import Exemplars

GAP = 0.05  # between pictures, of their width
OUTLINE = (240, 228, 66)


@dataclass(frozen=True)
class Strip:
    """n exemplars, strongest first: image numbers (n,), pictures uint8 (n, S, S, 3), masks bool (n, S, S)."""

    ids: np.ndarray
    pictures: np.ndarray
    masks: np.ndarray


def open_file(path) -> Exemplars:
    """Open an exemplars.zarr by its zarr.json; InputError when it is missing or damaged."""
    return open_exemplars(Path(path).parent)


def find_row(exemplars: Exemplars, unit: int, setting: dict) -> int:
    """Row of a unit whose columns have the values of `setting`; columns that are not in it may have any.

    Raises InputError when there is none.
    """
    found = exemplars.unit == unit
    for name in exemplars.columns.keys() & setting.keys():
        found = found & np.isclose(np.asarray(exemplars.columns[name], float), float(setting[name]))
    rows = np.flatnonzero(found)
    if not len(rows):
        raise InputError(f"exemplars: unit {unit} is described but has none; delete descriptions and exemplars")
    return int(rows[0])


def cut_strip(exemplars: Exemplars, row: int, count: int) -> Strip:
    """The first `count` exemplars of a row."""
    pictures = exemplars.pictures[exemplars.picture[row, :count]]
    return Strip(exemplars.ids[row, :count], pictures.transpose(0, 2, 3, 1), exemplars.masks[row][:count, 0])


def strip_shape(count: int, width: float) -> tuple[float, float]:
    """Width and height of a strip of `count` pictures, in the unit of `width`."""
    return width, width / (count + GAP * (count - 1))


def shade_picture(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture uint8 (S, S, 3), dark outside of its mask (S, S), the mask's edge outlined from within."""
    shaded = (picture * np.where(mask, 1, DIMMED)[:, :, None]).astype(np.uint8)
    shaded[find_edge(mask)] = OUTLINE
    return shaded


def draw_strip(axes, strip: Strip, count: int, framed=()):
    """Draw up to `count` exemplars side by side in axes without ticks; images of the numbers `framed` get a frame."""
    side = strip.pictures.shape[1]
    gap = max(1, round(GAP * side))
    whole = np.full((side, count * (side + gap) - gap, 3), 255, np.uint8)
    for place, (number, picture, mask) in enumerate(zip(strip.ids, strip.pictures, strip.masks, strict=True)):
        left = place * (side + gap)
        whole[:, left : left + side] = shade_picture(picture, mask)
        if number in framed:
            look = {"fill": False, "edgecolor": POISONED, "linewidth": 1.8, "clip_on": False}
            axes.add_patch(Rectangle((left - 0.5, -0.5), side, side, **look))
    axes.imshow(whole, aspect="auto")
    axes.axis("off")
