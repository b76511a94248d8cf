"""Write minibroden as a folder in Broden's layout, and a contact sheet of such a folder."""

import csv
import hashlib
import multiprocessing
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.errors import InputError
from nemesis.files import atomic_directory, atomic_file
from nemesis.probes.minibroden.annotate import Annotation, Statistics, annotate_image, count_concepts
from nemesis.probes.minibroden.catalogue import CATEGORIES, Catalogue, load_catalogue

INDEX_COLUMNS = ("image", "split", "ih", "iw", "sh", "sw", "color", "object", "part", "material", "scene", "texture")
DESCRIPTION_COLUMNS = ("image", "category", "number", "name", "x0", "y0", "x1", "y1", "description")
FOLDER = "minibroden"  # below images/
DRAW_STREAM = 0x64726177
SHADES = 6  # brightness levels of each channel of a mask's colour


def make_minibroden(target: Path, images: int = 600, size: int = 128, seed: int = 0, workers: int = 2) -> None:
    """Draw `images` pictures of size x size pixels and write them with their labels to `target`.

    Picture i depends on (seed, i, size) alone; the bytes do not depend on `workers`. Concept
    numbers follow frequency, so they do depend on how many pictures there are.
    """
    _check_arguments(images, size, seed, workers)
    catalogue = load_catalogue()
    with atomic_directory(target) as folder:
        (folder / "images" / FOLDER).mkdir(parents=True)
        draw = partial(_draw_and_save, folder, catalogue, size, seed)
        annotations = _map(draw, range(images), workers)
        statistics = count_concepts(catalogue, annotations)
        save = partial(_save_planes, folder, statistics.numbers)
        cells = _map(save, annotations, workers)
        _write_index(folder, size, cells)
        _write_descriptions(folder, statistics, annotations)
        _write_labels(folder, catalogue, statistics)


def drawing_seed(seed: int, draw: int) -> int:
    """The seed of one drawing of the probe: the config's own for draw 0, another one for each other draw."""
    if not draw:
        return seed
    return int(np.random.SeedSequence([seed, DRAW_STREAM, draw]).generate_state(1, np.uint64)[0])


def image_name(number: int) -> str:
    """Path of a picture below images/."""
    return f"{FOLDER}/{number:06d}.png"


def split_of(name: str) -> str:
    """train for seven names in ten, val for the others, by the name's md5."""
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
    return "train" if int(digest[:8], 16) % 10 < 7 else "val"


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


def _check_arguments(images, size, seed, workers):
    if not isinstance(images, int) or images < 1:
        raise InputError(f"minibroden: images must be a whole number from 1 on, not {images!r}")
    if not isinstance(size, int) or size < 32 or size % 2:
        raise InputError(f"minibroden: size must be an even number of pixels from 32 on, not {size!r}")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"minibroden: seed must be a whole number from 0 on, not {seed!r}")
    if not isinstance(workers, int) or workers < 1:
        raise InputError(f"minibroden: workers must be a whole number from 1 on, not {workers!r}")


def _map(function, items, workers: int) -> list:
    """function over items, in order, in `workers` forked processes.

    Forked, because a spawned process would run a workflow's script a second time.
    """
    if workers == 1 or "fork" not in multiprocessing.get_all_start_methods():
        return [function(item) for item in items]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        return pool.map(function, items, chunksize=8)


def _draw_and_save(folder: Path, catalogue: Catalogue, size: int, seed: int, number: int) -> Annotation:
    picture, annotation = annotate_image(catalogue, size, seed, number)
    Image.fromarray(picture).save(folder / "images" / image_name(number), compress_level=4)
    return annotation


def _save_planes(folder: Path, numbers: np.ndarray, annotation: Annotation) -> dict:
    """Write an image's label planes; returns its index row (without sizes) with cells by category."""
    name = image_name(annotation.number)
    cells = {category: [] for category in CATEGORIES}
    for category, code in annotation.scalars:
        cells[category].append(str(numbers[code]))
    for plane in annotation.planes:
        planes_before = sum(cell.endswith(".png") for cell in cells[plane.category])
        suffix = f"_{planes_before + 1}" if planes_before else ""
        path = f"{name.removesuffix('.png')}_{plane.category}{suffix}.png"
        labels = numbers[plane.codes]
        rgb = np.stack([labels % 256, labels // 256, plane.instances], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "images" / path)
        cells[plane.category].append(path)
    return {"image": name, **{category: ";".join(cell) for category, cell in cells.items()}}


def _write_index(folder: Path, size: int, cells: list):
    sizes = {"ih": size, "iw": size, "sh": size // 2, "sw": size // 2}
    rows = ({**cell, **sizes, "split": split_of(cell["image"])} for cell in cells)
    _write_csv(folder / "index.csv", INDEX_COLUMNS, ([row[key] for key in INDEX_COLUMNS] for row in rows))


def _write_descriptions(folder: Path, statistics: Statistics, annotations: list):
    number = {name: statistics.numbers[code] for name, code in statistics.codes.items()}
    rows = (
        (image_name(item.number), d.category, number[d.name], d.name, *d.box, d.text)
        for item in annotations
        for d in item.descriptions
    )
    _write_csv(folder / "descriptions.csv", DESCRIPTION_COLUMNS, rows)


def _write_labels(folder: Path, catalogue: Catalogue, statistics: Statistics):
    """label.csv, category.csv and a c_<category>.csv for each category."""
    labels, by_category = [], {category: [] for category in CATEGORIES}
    for number, name in statistics.names.items():
        code = statistics.codes[name]
        counted = {c: statistics.by_category[c] for c in CATEGORIES if statistics.by_category[c].frequency[code]}
        text = ";".join(f"{category}({counts.frequency[code]})" for category, counts in counted.items())
        synonyms = ";".join(catalogue.synonyms.get(name, ()))
        total = statistics.total
        labels.append((number, name, text, total.frequency[code], f"{total.coverage[code]:.6f}", synonyms))
        for category, counts in counted.items():
            row = (number, name, counts.frequency[code], f"{counts.coverage[code]:.12f}")
            by_category[category].append(row)
    _write_csv(folder / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"), labels)
    summary = []
    for category, rows in by_category.items():
        rows.sort(key=lambda row: (-row[2], row[0]))
        header = ("code", "number", "name", "frequency", "coverage")
        _write_csv(folder / f"c_{category}.csv", header, ((i + 1, *row) for i, row in enumerate(rows)))
        numbers = [row[0] for row in rows] or [0]
        summary.append((category, min(numbers), max(numbers), len(rows), sum(row[2] for row in rows)))
    _write_csv(folder / "category.csv", ("name", "first", "last", "count", "frequency"), summary)


def _write_csv(path: Path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


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
