"""Made-up units for training a captioner: sets of pictures and masks that show the same described thing.

A unit's exemplars show one concept, one in one colour, one colour, a hypernym ("vehicle") or two
concepts, and as with a real unit some show something else. Masks look as a real unit's do: an activation
map of a few cells, strongest somewhere on the region, upsampled and cut at a level.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nemesis.dissection.upsample import carry_down, upsample
from nemesis.errors import InputError
from nemesis.milan.exemplars import exemplar_masks
from nemesis.milan.phrases import HYPERNYMS, describe_together
from nemesis.milan.regions import RegionSet

STREAM = 0x72656769
PARTS = ("train", "validation", "held_out")
SHARES = (0.68, 0.12, 0.20)  # of the pictures; no picture is in two parts
KINDS = {"concept": 0.5, "coloured": 0.15, "colour": 0.08, "hypernym": 0.17, "pair": 0.10}
CATEGORIES = {"object": 0.42, "part": 0.2, "texture": 0.18, "scene": 0.1, "material": 0.1}
CELLS = (4, 8, 16)  # side of the activation maps
PURITY = (1.0, 0.87, 0.74, 0.6)  # share of the exemplars that show what is described
MOST_OF_A_PICTURE = 2  # exemplars
SMALLEST_OF_A_CELL = 0.3  # that a region should cover
ATTEMPTS = 50  # at a unit before giving up
TOO_SMALL = "milan: the captioner's probe has too few described regions; give it more images (600 or so)"
NOISE, SPILL = 0.5, 0.12  # of an activation map: spread of its logarithm on the region, what is beside it
FIRING = (0.7, 4.0)  # cells of a map, on average, at which a unit fires


@dataclass(frozen=True)
class Group:
    """Regions (by number) that share something: what it is called, and its category."""

    name: str
    category: str
    regions: np.ndarray


@dataclass(frozen=True)
class Pool:
    """The regions of one part of the pictures, and their groups by kind."""

    regions: np.ndarray
    groups: Mapping[str, tuple[Group, ...]]


@dataclass(frozen=True)
class RegionUnits:
    """R made-up units of k exemplars: picture (R, k) number in the probe, masks (R, k, 1, S, S), three texts each.

    part: `train`, `validation` or `held_out` (R,).
    """

    picture: np.ndarray
    masks: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    concept: tuple[str, ...]
    category: tuple[str, ...]
    part: np.ndarray


def draw_region_units(described: RegionSet, counts: Sequence[int], k: int, size: int, seed: int) -> RegionUnits:
    """Units for training, validation and as held-out ones, `counts` of each; every part has its own pictures.

    k: exemplars of a unit. size: side of the masks in pixels. The same seed gives the same units.
    Raises InputError when the probe is too small to make units of.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    rows = []
    for part, pictures, count in zip(PARTS, _split_pictures(described.images, rng), counts, strict=True):
        pool = find_groups(described, np.flatnonzero(np.isin(described.images, pictures)), math.ceil(PURITY[-1] * k))
        rows += [(part, *_draw_unit(described, pool, k, size, rng)) for _ in range(count)]
    if not rows:
        raise InputError(TOO_SMALL)
    parts, picture, masks, texts, concept, category = zip(*rows, strict=True)
    return RegionUnits(np.stack(picture), np.stack(masks), texts, concept, category, np.array(parts))


def find_groups(described: RegionSet, regions: np.ndarray, least: int) -> Pool:
    """Groups of the kinds in KINDS (but pairs) among some regions, with at least `least` exemplars each."""
    found: dict[str, dict[tuple[str, str], list[int]]] = {"concept": {}, "coloured": {}, "colour": {}, "hypernym": {}}
    for number in regions.tolist():
        region = described.regions[number]
        keys = [("concept", (region.name, region.category))]
        if region.category != "scene":
            keys += [("coloured", (f"{colour} {region.name}", region.category)) for colour in described.colours[number]]
        if described.main[number]:
            keys.append(("colour", (described.main[number], "color")))
        if region.category in ("object", "scene", "texture"):
            keys += [("hypernym", (word, region.category)) for word, names in HYPERNYMS.items() if region.name in names]
        for kind, key in keys:
            found[kind].setdefault(key, []).append(number)
    large = {
        kind: tuple(
            Group(name, category, np.array(numbers))
            for (name, category), numbers in groups.items()
            if _count_usable(described.images[numbers]) >= least
        )
        for kind, groups in found.items()
    }
    return Pool(regions, large)


def draw_masks(regions: np.ndarray, cells: int, size: int, rng) -> np.ndarray:
    """Masks bool (n, 1, S, S) of a unit that fires on regions, bool (n, Hs, Ws), with maps of cells x cells."""
    whole = carry_down(np.ones(regions.shape[1:]), (cells, cells))
    cover = carry_down(regions, (cells, cells)) / whole  # (n, cells, cells)
    coarse = (len(regions), max(2, cells // 2), max(2, cells // 2))
    maps = np.sqrt(cover) * np.exp(upsample(NOISE * rng.standard_normal(coarse), (cells, cells)))
    maps = maps / maps.max(axis=(1, 2), keepdims=True) + SPILL * rng.random(maps.shape)
    maps *= 1 + rng.exponential(0.3, (len(maps), 1, 1))
    firing = np.exp(rng.uniform(*np.log(FIRING)))  # cells of a map that are above the level
    level = min(np.quantile(maps, 1 - firing / cells**2), 0.8 * maps.max(axis=(1, 2)).min())
    return exemplar_masks(maps, np.full(len(maps), level), size)[:, None]


def _split_pictures(images: np.ndarray, rng) -> list[np.ndarray]:
    order = rng.permutation(np.unique(images))
    ends = np.round(np.cumsum(SHARES) * len(order)).astype(int)
    return np.split(order, ends[:-1])


def _count_usable(images: np.ndarray) -> int:
    """Exemplars that regions of these pictures can give when no picture gives too many."""
    return int(np.minimum(np.unique(images, return_counts=True)[1], MOST_OF_A_PICTURE).sum())


def _draw_unit(described: RegionSet, pool: Pool, k: int, size: int, rng):
    """Pictures (k,), masks (k, 1, S, S), texts, concept and category of one unit."""
    for _ in range(ATTEMPTS):
        chosen = _choose_groups(pool, rng)
        if not chosen:
            continue
        pure = round(rng.choice(PURITY) * k)
        shares = np.array_split(np.arange(pure), len(chosen))
        members = [
            _choose_regions(described, group, len(share), rng) for group, share in zip(chosen, shares, strict=True)
        ]
        texts = _describe(described, members, rng)
        if not texts:
            continue
        own = np.concatenate(members)
        others = pool.regions[~np.isin(pool.regions, own)]
        numbers = np.concatenate([own, rng.choice(others, k - len(own), replace=len(others) < k)])
        regions = described.masks[numbers]  # (k, Hs, Ws)
        masks = draw_masks(regions, _choose_cells(regions, rng), size, rng)
        name = " + ".join(group.name for group in chosen)
        return described.images[numbers], masks, texts, name, chosen[0].category
    raise InputError(TOO_SMALL)


def _choose_groups(pool: Pool, rng) -> list[Group]:
    """One group, or two of one category; [] when the draw was in vain."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    groups = pool.groups["concept" if kind == "pair" else kind]
    if not groups:
        return []
    categories = sorted({group.category for group in groups})
    odds = np.array([CATEGORIES.get(category, 0.1) for category in categories])
    category = rng.choice(categories, p=odds / odds.sum())
    groups = [group for group in groups if group.category == category]
    wanted = 2 if kind == "pair" else 1
    if len(groups) < wanted:
        return []
    odds = np.sqrt([len(group.regions) for group in groups])
    return [groups[index] for index in rng.choice(len(groups), wanted, replace=False, p=odds / odds.sum())]


def _choose_regions(described: RegionSet, group: Group, count: int, rng) -> np.ndarray:
    """So many regions of a group, or as many as there are: each picture once before any gives another."""
    order = rng.permutation(group.regions)
    turn = _count_before(described.images[order])
    order = order[np.argsort(turn, kind="stable")]
    return order[np.sort(turn) < MOST_OF_A_PICTURE][:count]


def _count_before(values: np.ndarray) -> np.ndarray:
    """How often each value occurred before, (n,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return found


def _describe(described: RegionSet, members: list[np.ndarray], rng) -> tuple[str, ...]:
    """Three texts for the regions of a group; for two groups, those of one `and` those of the other."""
    found = [describe_together([described.members[n] for n in group], described.lexicon, rng) for group in members]
    return tuple(" and ".join(dict.fromkeys(texts)) for texts in zip(*found, strict=True)) if all(found) else ()


def _choose_cells(regions: np.ndarray, rng) -> int:
    """Side of the maps of a unit that fires on regions (n, Hs, Ws): no cell much larger than they are."""
    area = np.median(regions.mean(axis=(1, 2)))  # share of the picture
    fitting = [cells for cells in CELLS if area * cells**2 >= SMALLEST_OF_A_CELL]
    return int(rng.choice(fitting or CELLS[-1:]))
