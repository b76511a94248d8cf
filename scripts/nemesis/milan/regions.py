"""The regions of a probe whose descriptions are known, and what holds for each of them.

A region comes from a descriptions.csv beside a probe in Broden's layout (minibroden writes one): a
phrase for a part of a picture. What else holds for it (its colours, what is around it) is read off the
probe's label maps.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nemesis.errors import InputError
from nemesis.milan.phrases import Lexicon, Member, make_member
from nemesis.probes.probe import Probe, read_concepts
from nemesis.rows import read_rows

COLUMNS = ("image", "category", "number", "name", "x0", "y0", "x1", "y1", "description")
SMALLEST = 12  # label pixels; smaller regions cannot be told from what surrounds them
COLOUR_SHARE = 0.3  # of a region's pixels; it is that colour
MAIN_SHARE = 0.6  # a region is all of that colour
AROUND_SHARE = 0.04  # of the pixels around a region; it is there
MARGIN = 3  # label pixels around a region's box that count as around it


@dataclass(frozen=True)
class DescribedRegion:
    """A described part of picture `image`; box = (x0, y0, x1, y1) in label pixels, x1 and y1 exclusive."""

    image: int
    category: str
    number: int
    name: str
    box: tuple[int, int, int, int]
    text: str


@dataclass(frozen=True)
class RegionSet:
    """Described regions (G), their masks, bool (G, Hs, Ws), and what holds for them.

    colours: those of a good part of each region; main: the colour of nearly all of it, or "".
    """

    regions: tuple[DescribedRegion, ...]
    masks: np.ndarray
    members: tuple[Member, ...]
    colours: tuple[tuple[str, ...], ...]
    main: tuple[str, ...]
    lexicon: Lexicon

    @cached_property
    def images(self) -> np.ndarray:
        """Picture of each region, (G,)."""
        return np.array([region.image for region in self.regions], np.int64)


def load_regions(probe: Probe, descriptions, concepts) -> RegionSet:
    """The described regions of a probe; descriptions: its descriptions.csv, concepts: its concepts.csv.

    Raises InputError when the files do not fit.
    """
    named = {row["number"]: (row["name"], row["category"]) for row in read_concepts(concepts)}
    return collect_regions(probe, read_regions(descriptions, probe.names), named)


def read_regions(path, names: list[str]) -> list[DescribedRegion]:
    """Rows of a descriptions.csv whose image is one of the probe's `names`.

    Raises InputError that names the file and what is wrong: a column, a row, or no image of the probe.
    """
    path, place = Path(path), {name: index for index, name in enumerate(names)}
    listed = read_rows(path, COLUMNS)
    rows = [(line, row) for line, row in listed if row["image"] in place]
    found = [_read_row(path, row, line, place) for line, row in rows]
    if not found:
        raise InputError(f"{path}: describes no image of the probe; give the descriptions of that probe")
    if len(rows) < len(listed):
        logging.warning("%s: %d of %d rows describe no image of the probe", path, len(listed) - len(rows), len(listed))
    return found


def collect_regions(probe: Probe, regions: list[DescribedRegion], concepts: Mapping[int, tuple[str, str]]) -> RegionSet:
    """Masks and words of the regions that are large enough; `concepts`: number -> (name, category)."""
    names = {number: _plain(name) for number, (name, _) in concepts.items()}
    colours = {number for number, (_, category) in concepts.items() if category == "color"}
    adjectives = {names[n] for n, (_, category) in concepts.items() if category in ("color", "texture")}
    lexicon = Lexicon(frozenset(adjectives), frozenset(names.values()))
    labels, scalars = probe.labels(0, probe.count), probe.scalars  # (N, K, Hs, Ws), (N, S)
    kept, masks, members, own_colours, main = [], [], [], [], []
    for region in regions:
        planes = labels[region.image]  # (K, Hs, Ws)
        mask = find_mask(planes, region)
        if mask.sum() < SMALLEST:
            continue
        shares = _count_shares(planes[:, mask])
        coloured = {number: share for number, share in shares.items() if number in colours}
        around = _count_shares(planes[:, *_box_around(region.box)].reshape(len(planes), -1))
        there = {number for number, share in around.items() if share >= AROUND_SHARE and number not in colours}
        found = tuple(names[n] for n, share in coloured.items() if share >= COLOUR_SHARE)
        own = {*found, _plain(region.name)}
        near = own | {names[n] for n in there | set(scalars[region.image].tolist()) if n in names}
        kept.append(region)
        masks.append(mask)
        members.append(make_member(region.text, own, near, lexicon))
        own_colours.append(found)
        main.append(next((names[n] for n, share in coloured.items() if share >= MAIN_SHARE), ""))
    return RegionSet(tuple(kept), np.array(masks), tuple(members), tuple(own_colours), tuple(main), lexicon)


def find_mask(planes: np.ndarray, region: DescribedRegion) -> np.ndarray:
    """Pixels (Hs, Ws) of a region: its concept's, inside its box; the whole box for a label of the whole picture.

    planes: the picture's label maps (K, Hs, Ws).
    """
    x0, y0, x1, y1 = region.box
    inside = (planes[:, y0:y1, x0:x1] == region.number).any(axis=0)
    mask = np.zeros(planes.shape[1:], bool)
    mask[y0:y1, x0:x1] = inside if inside.any() else True
    return mask


def _read_row(path: Path, row: dict, line: int, place: Mapping[str, int]) -> DescribedRegion:
    try:
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
        number = int(row["number"])
    except (TypeError, ValueError):
        raise InputError(f"{path}: line {line}: number, x0, y0, x1 and y1 must be whole numbers") from None
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise InputError(f"{path}: line {line}: the box {x0}, {y0}, {x1}, {y1} is empty or outside the image")
    if not (row["description"]).strip():
        raise InputError(f"{path}: line {line}: the description is empty")
    text = row["description"].strip()
    return DescribedRegion(place[row["image"]], row["category"], number, row["name"], (x0, y0, x1, y1), text)


def _plain(name: str) -> str:
    """A concept's name as one word: `grey-c` is grey, `living room` is living_room."""
    return name.removesuffix("-c").replace(" ", "_")


def _box_around(box: tuple[int, int, int, int]) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(max(0, y0 - MARGIN), y1 + MARGIN), slice(max(0, x0 - MARGIN), x1 + MARGIN)


def _count_shares(labels: np.ndarray) -> dict[int, float]:
    """Share of the pixels that carry each concept on some plane; labels (K, pixels)."""
    counts = np.bincount(labels.ravel())
    return {number: counts[number] / labels.shape[1] for number in np.flatnonzero(counts).tolist() if number}
