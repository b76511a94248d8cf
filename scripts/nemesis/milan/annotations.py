"""Annotated units in the layout of MILANNOTATIONS: exemplars of each layer, and annotations.csv.

    <root>/annotations.csv     layer, unit, summary; one row per annotation
    <root>/<layer>/images.npy  uint8 (units, k, 3, S, S)
    <root>/<layer>/masks.npy   uint8 (units, k, 1, S, S), 0 or 1
    <root>/<layer>/ids.csv     numbers of the images, only needed where images.npy is absent
    <root>/<layer>/units.npy   unit number of each row, where it is not the row

Source: the data that Hernandez et al. (ICLR 2022) published. Nothing is unpickled.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.errors import InputError
from nemesis.probes.folder import Crop, ImageFolder, crop_image, read_folder
from nemesis.probes.images import open_image
from nemesis.rows import read_rows

COLUMNS = ("layer", "unit", "summary")
PER_UNIT = 3  # annotations; units with fewer are left out, more are cut


@dataclass(frozen=True)
class AnnotatedLayer:
    """Exemplars of a layer, read as they are indexed by row: images uint8 (R, k, 3, S, S), masks (R, k, 1, S, S).

    images is None where the pictures are in `folder`, numbered by ids (R, k); squash: they become square as
    they are, otherwise their middle is cut out. row: unit number -> row.
    """

    masks: np.ndarray
    row: Mapping[int, int]
    images: np.ndarray | None = None
    ids: np.ndarray | None = None
    folder: ImageFolder | None = None
    squash: bool = False

    def read(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 (k, 3, S, S) in [0, 255] and masks bool (k, 1, S, S) of a unit."""
        row = self.row[unit]
        masks = np.asarray(self.masks[row]) > 0
        if self.images is not None:
            return np.asarray(self.images[row]), masks
        paths = [self.folder.root / self.folder.names[number] for number in self.ids[row].tolist()]
        return np.stack([_read_image(path, masks.shape[-1], self.squash) for path in paths]), masks


@dataclass(frozen=True)
class AnnotatedUnit:
    """A unit of a layer and what people wrote about it."""

    layer: str
    unit: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Annotations:
    """Layers by name, and the units in order."""

    layers: Mapping[str, AnnotatedLayer]
    units: tuple[AnnotatedUnit, ...]

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 (k, 3, S, S) and masks bool (k, 1, S, S) of units[index]."""
        unit = self.units[index]
        return self.layers[unit.layer].read(unit.unit)


def read_annotations(root, count: int | None = PER_UNIT, images=None, published: bool = False) -> Annotations:
    """Open a folder in MILANNOTATIONS' layout.

    count: annotations per unit; units that have fewer are left out, and the rest come in the order of the
        CSV. None: all units of all layers, in order, with what annotations they have.
    images: folder of image classes (ImageNet's `val`) for layers that come with the images' numbers only.
    published: as the published code: such images are squashed to a square, although the masks were made
        for a centre crop; rows are taken for unit numbers even where units.npy says otherwise; and with
        count None, a layer whose name is a number has no annotations.
    Raises InputError that names the file, row or layer that is wrong.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of annotated units")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    texts = _read_texts(root / "annotations.csv", set(names))
    folder = None if images is None else read_folder(images)
    used = names if count is None else list(dict.fromkeys(layer for layer, _ in texts))
    layers = {name: _open_layer(root / name, folder, published) for name in used}
    for layer, unit in texts:
        if unit not in layers[layer].row:
            raise InputError(f"{root / 'annotations.csv'}: layer {layer} has no unit {unit}; delete its rows")
    if count is None:
        found = [
            AnnotatedUnit(name, unit, () if published and name.isdigit() else tuple(texts.get((name, unit), ())))
            for name, layer in layers.items()
            for unit in layer.row
        ]
    else:
        found = [AnnotatedUnit(*key, tuple(all_[:count])) for key, all_ in texts.items() if len(all_) >= count]
        _warn_of_count(root / "annotations.csv", texts.values(), count)
    if not found:
        raise InputError(f"{root / 'annotations.csv'}: no unit has {count} annotations; nothing can be learnt from it")
    return Annotations(layers, tuple(found))


def _read_texts(path: Path, layers: set[str]) -> dict[tuple[str, int], list[str]]:
    """Annotations by (layer, unit), in the order of the file."""
    found: dict[tuple[str, int], list[str]] = {}
    for line, row in read_rows(path, COLUMNS):
        found.setdefault(_read_key(path, row, line, layers), []).append(row["summary"].strip())
    return found


def _warn_of_count(path: Path, texts, count: int):
    fewer, more = (sum(len(all_) < count for all_ in texts), sum(len(all_) > count for all_ in texts))
    if fewer:
        logging.warning("%s: units left out, with fewer than %d annotations: %d", path, count, fewer)
    if more:
        logging.warning("%s: units of whose annotations the first %d are taken: %d", path, count, more)


def _read_key(path: Path, row: dict, line: int, layers: set[str]) -> tuple[str, int]:
    layer, unit = row["layer"].strip(), row["unit"].strip()
    if not unit.isdecimal():
        raise InputError(f"{path}: line {line}: unit '{unit[:40]}' is no whole number")
    if layer not in layers:
        raise InputError(f"{path}: line {line}: {path.parent} has no folder for layer '{layer[:80]}'")
    if not row["summary"].strip():
        raise InputError(f"{path}: line {line}: the summary of layer {layer}, unit {unit} is empty")
    return layer, int(unit)


def _open_layer(path: Path, folder: ImageFolder | None, published: bool) -> AnnotatedLayer:
    masks = _open_array(path / "masks.npy", 1)
    images = ids = None
    if (path / "images.npy").exists():
        images = _open_array(path / "images.npy", 3)
        if images.shape[:2] != masks.shape[:2] or images.shape[3:] != masks.shape[3:]:
            raise InputError(f"{path}: images.npy {images.shape} and masks.npy {masks.shape} do not belong together")
    elif folder is None:
        raise InputError(f"{path}: has no images.npy; name the folder of the images (ImageNet's val) as `images`")
    else:
        ids = _read_ids(path / "ids.csv", masks.shape[:2], len(folder.names))
    numbers = range(len(masks))
    if (path / "units.npy").exists() and not published:
        numbers = _load(path / "units.npy").tolist()
        if len(set(numbers)) != len(masks):
            raise InputError(f"{path / 'units.npy'}: {len(set(numbers))} units for {len(masks)} rows of masks.npy")
    return AnnotatedLayer(masks, {int(unit): row for row, unit in enumerate(numbers)}, images, ids, folder, published)


def _read_image(path: Path, size: int, squash: bool) -> np.ndarray:
    """An image, uint8 (3, size, size), as the exemplars' masks see it."""
    image = open_image(path, upright=False)  # the masks were made for the pixels as they are stored
    image = image.resize((size, size), Image.Resampling.BILINEAR) if squash else crop_image(image, Crop(size))
    return np.asarray(image).transpose(2, 0, 1)


def _open_array(path: Path, channels: int) -> np.ndarray:
    """An array (R, k, channels, S, S) of bytes, read as it is indexed."""
    array = _load(path)
    if array.ndim != 5 or array.shape[2] != channels or array.shape[3] != array.shape[4]:
        raise InputError(f"{path}: has shape {array.shape}, expected (units, exemplars, {channels}, side, side)")
    if array.dtype not in (np.uint8, np.bool_):
        raise InputError(f"{path}: holds {array.dtype}, expected uint8")
    return array


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable array ({' '.join(str(error).split())}); download it again") from error


def _read_ids(path: Path, shape: tuple[int, int], count: int) -> np.ndarray:
    try:
        ids = np.loadtxt(path, np.int64, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table of image numbers ({error})") from error
    if ids.shape != shape:
        raise InputError(f"{path}: has shape {ids.shape}, expected {shape} as masks.npy")
    if ids.min(initial=0) < 0 or ids.max(initial=0) >= count:
        raise InputError(f"{path}: names image {ids.max()}, but the folder has {count} images; is it the right one?")
    return ids
