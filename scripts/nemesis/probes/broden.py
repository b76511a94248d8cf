"""Read a folder in Broden's layout (Bau et al., "Network Dissection", CVPR 2017).

index.csv has one row per image: `image` (path below images/), `split`, `ih,iw,sh,sw`, and a
column per category. A cell holds pieces separated by `;`: a piece of digits labels the whole
image, any other piece is the path of a label plane (PNG, label = R + 256 G; Broden keeps numbers
of instances in B). `category.csv`, `label.csv` and one `c_<category>.csv` per category name the
labels. Broden has six categories; others are used in the same way.
"""

import logging
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemesis.errors import InputError
from nemesis.probes.images import Remarks, name_some, open_image, open_mask
from nemesis.rows import read_rows

CATEGORIES = ("object", "part", "scene", "texture", "color", "material")
COLUMNS = ("image", "split", "ih", "iw", "sh", "sw")
MOST_CATEGORIES = 255  # a category's index is stored in a byte
MISSING = "not found, but index.csv names it"


@dataclass(frozen=True)
class Concept:
    """A thing with a name; `category` is its primary category."""

    number: int
    name: str
    category: str


@dataclass(frozen=True)
class IndexRow:
    """One image of the index: label planes and image-level labels as (category index, value)."""

    image: str
    split: str
    planes: tuple[tuple[int, str], ...]
    scalars: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class BrodenFolder:
    """A probing dataset on disk: its labelled rows, its concepts, and its two image sizes."""

    root: Path
    categories: tuple[str, ...]
    rows: tuple[IndexRow, ...]
    concepts: dict[int, Concept]
    image_size: tuple[int, int]  # (H, W)
    label_size: tuple[int, int]  # (Hs, Ws)
    remarks: Remarks


def read_broden(root, splits=None, max_images: int | None = None) -> BrodenFolder:
    """Read the tables of a Broden folder; images are not opened yet.

    Rows without any label take no part. `splits` keeps rows of these splits only,
    `max_images` the first so many. What is left out goes to `remarks`. Raises InputError that names the file
    and the line.
    """
    root = Path(root)
    remarks = Remarks(root)
    listed = _read_categories(root)
    lines = _read_csv(root / "index.csv", (*COLUMNS, *(name for name in listed if name in CATEGORIES)))
    if not lines:
        raise InputError(f"{root / 'index.csv'}: has no rows; expected one row per image")
    categories = _choose_categories(root, listed, lines, remarks)
    concepts = _read_concepts(root, categories, remarks)
    _remark_twice(lines, remarks)
    if splits:
        lines = _keep_splits(root, lines, splits, remarks)
    image_size = _one_size(root, lines, ("ih", "iw"))
    label_size = _one_size(root, lines, ("sh", "sw"))
    found = [_read_row(root, *line, categories, concepts) for line in lines]
    rows = [row for row in found if row]
    if not rows:
        raise InputError(f"{root / 'index.csv'}: none of its {len(lines)} images has a label; expected masks")
    if len(rows) < len(lines):
        bare = [line for (line, _), row in zip(lines, found, strict=True) if not row]
        remarks.say(
            f"index.csv: {len(bare)} of {len(lines)} images have no label and take no part (line {name_some(bare)})"
        )
    if max_images and max_images < len(rows):
        remarks.say(f"max_images: the first {max_images} of {len(rows)} images", logging.INFO)
    return BrodenFolder(root, categories, tuple(rows[:max_images]), concepts, image_size, label_size, remarks)


def decode_images(folder: BrodenFolder, start: int, stop: int, pool: ThreadPoolExecutor) -> np.ndarray:
    """Decode images start to stop as uint8 (B, 3, H, W)."""
    paths = [folder.root / "images" / row.image for row in folder.rows[start:stop]]
    images = list(pool.map(lambda path: _decode_image(path, folder.image_size, folder.remarks), paths))
    return np.stack(images)  # (B, 3, H, W)


def decode_labels(folder: BrodenFolder, start: int, stop: int, planes: int, pool) -> np.ndarray:
    """Decode label planes as uint16 (B, planes, Hs, Ws); 0 = no label."""
    known = np.zeros(65536, bool)
    known[[0, *folder.concepts]] = True

    def decode_row(row: IndexRow) -> np.ndarray:
        labels = np.zeros((planes, *folder.label_size), np.uint16)
        for index, (_, piece) in enumerate(row.planes):
            labels[index] = _decode_plane(folder.root / "images" / piece, folder.label_size, known, folder.remarks)
        return labels

    return np.stack(list(pool.map(decode_row, folder.rows[start:stop])))  # (B, K, Hs, Ws)


def _read_categories(root: Path) -> list[str]:
    path = root / "category.csv"
    names = []
    for line, row in _read_csv(path, ("name",)):
        name = row["name"].strip()
        if not name or name in COLUMNS:
            raise InputError(
                f"{path}: line {line}: '{name}' is no name for a category; expected {', '.join(CATEGORIES)}"
            )
        if name in names:
            raise InputError(f"{path}: line {line}: category {name} stands there twice")
        names.append(name)
    return names


def _choose_categories(root: Path, listed: list[str], lines, remarks: Remarks) -> tuple[str, ...]:
    """The categories that have a column in index.csv, in the order of category.csv."""
    header = list(lines[0][1])
    categories = tuple(name for name in listed if name in header)
    if not 0 < len(categories) <= MOST_CATEGORIES:
        raise InputError(
            f"{root / 'category.csv'}: {len(categories)} of its {len(listed)} categories ({name_some(listed)}) are"
            f" columns of index.csv; expected 1 to {MOST_CATEGORIES}, such as {', '.join(CATEGORIES)}"
        )
    if absent := [name for name in listed if name not in header]:
        remarks.say(f"category.csv: not used, because index.csv has no column of that name: {name_some(absent)}")
    others = [name for name in header if name not in (*COLUMNS, *categories)]
    if unused := [name for name in others if any(row[name].strip() for _, row in lines)]:
        remarks.say(f"index.csv: columns not used, because category.csv does not name them: {name_some(unused)}")
    tables = sorted(path.name for path in root.glob("c_*.csv") if path.stem[2:] not in categories)
    if tables:
        remarks.say(f"not used, because these are no categories of index.csv and category.csv: {name_some(tables)}")
    return categories


def _remark_twice(lines, remarks: Remarks):
    count = Counter(row["image"] for _, row in lines)
    if twice := [line for line, row in lines if count[row["image"]] > 1]:
        remarks.say(f"index.csv: images that stand there twice count twice (lines {name_some(twice)})")


def _read_row(root: Path, line: int, cells: dict, categories, concepts) -> IndexRow | None:
    where = f"{root / 'index.csv'}: line {line}"
    _check_path(where, cells["image"])
    planes, scalars = [], []
    for index, category in enumerate(categories):
        for piece in filter(None, (text.strip() for text in cells[category].split(";"))):
            if not piece.isdecimal():
                _check_path(where, piece)
                planes.append((index, piece))
            elif int(piece) > 65535:
                raise InputError(f"{where} ({cells['image']}): label {piece} is above 65535")
            elif int(piece) and int(piece) not in concepts:
                raise InputError(f"{where} ({cells['image']}): label number {piece} is not in label.csv")
            elif int(piece):
                scalars.append((index, int(piece)))
    if not planes and not scalars:
        return None
    return IndexRow(cells["image"], cells["split"].strip(), tuple(planes), tuple(scalars))


def _check_path(where: str, name: str):
    """Images lie below images/, and so do their copies wherever the folder is brought."""
    if not name.strip():
        raise InputError(f"{where}: image is empty; expected its path below images/")
    if "\\" in name or name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
        raise InputError(f"{where}: '{name}' is no path below images/; expected one with / and without ..")


def _keep_splits(root: Path, lines, splits, remarks: Remarks):
    count = Counter(row["split"].strip() for _, row in lines)
    for split in splits:
        if split not in count:
            known = ", ".join(filter(None, sorted(count))) or "none at all"
            raise InputError(f"{root / 'index.csv'}: has no split '{split}'; it has {known}")
    kept = [(line, row) for line, row in lines if row["split"].strip() in splits]
    remarks.say(f"splits: {len(kept)} of {len(lines)} images, those of {', '.join(splits)}", logging.INFO)
    if count[""] and "" not in splits:
        remarks.say(f"index.csv: {count['']} images have no split and are left out")
    return kept


def _one_size(root: Path, lines, keys) -> tuple[int, int]:
    first = None
    for line, row in lines:
        where = f"{root / 'index.csv'}: line {line} ({row['image']})"
        try:
            size = tuple(int(row[key]) for key in keys)
        except ValueError:
            size = (0, 0)
        if min(size) < 1:
            raise InputError(f"{where}: {','.join(keys)} must be positive integers")
        first = first or size
        if size != first:
            raise InputError(
                f"{where} is {_text(size)}, the first row is {_text(first)}; all images of a probe must have one size"
            )
    return first


def _read_concepts(root: Path, categories, remarks: Remarks) -> dict[int, Concept]:
    path = root / "label.csv"
    names = {number: row["name"] for _, number, row in _read_numbered(path, ("number", "name"))}
    names.pop(0, None)
    if unnamed := [number for number, name in names.items() if not name.strip()]:
        raise InputError(f"{path}: label {name_some(unnamed)} has no name; expected one for every label but 0")
    coverage = [_read_coverage(root, category, names, remarks) for category in categories]
    concepts, nowhere = {}, []
    for number, name in names.items():
        # Primary category: largest coverage; ties and unlisted labels go to the later category.
        scores = [table.get(number, 0.0) for table in coverage]
        primary = max(range(len(categories)), key=lambda index, s=scores: (s[index], index))
        concepts[number] = Concept(number, name, categories[primary])
        nowhere += [name] * (not any(number in table for table in coverage))
    if nowhere:
        remarks.say(
            f"label.csv: labels that no c_<category>.csv lists count as {categories[-1]}, the last category:"
            f" {name_some(nowhere)}"
        )
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        remarks.say(f"label.csv: names of several label numbers, which count one by one: {name_some(twice)}")
    return concepts


def _read_coverage(root: Path, category: str, names: dict[int, str], remarks: Remarks) -> dict[int, float]:
    path = root / f"c_{category}.csv"
    table, unknown, other = {}, [], []
    for line, number, row in _read_numbered(path, ("number", "name", "coverage")):
        try:
            table[number] = float(row["coverage"])
        except ValueError:
            raise InputError(f"{path}: line {line}: label {number}: coverage must be a number") from None
        if number and number not in names:
            unknown.append(number)
        elif number and names[number] != row["name"]:
            other.append(f"{number} is {names[number]}")
    if unknown:
        remarks.say(f"{path.name}: label numbers that label.csv lacks are not used: {name_some(unknown)}")
    if other:
        remarks.say(f"{path.name}: names are taken from label.csv, where they differ: {name_some(other)}")
    return table


def _read_numbered(path: Path, columns):
    """Yield line, label number and cells of each row; no number may stand twice."""
    lines: dict[int, int] = {}
    for line, row in _read_csv(path, columns):
        text = row["number"].strip()
        if not text.isdecimal() or int(text) > 65535:
            raise InputError(f"{path}: line {line}: label number '{text}' must be an integer from 0 to 65535")
        number = int(text)
        if number in lines:
            raise InputError(f"{path}: line {line}: label number {number} stands in line {lines[number]} already")
        lines[number] = line
        yield line, number, row


def _read_csv(path: Path, columns) -> list[tuple[int, dict]]:
    return read_rows(path, columns, "a folder in Broden's layout has it")


def _decode_image(path: Path, size: tuple[int, int], remarks: Remarks) -> np.ndarray:
    pixels = np.asarray(open_image(path, remarks, MISSING))
    _check_size(path, "image", pixels.shape[:2], size)
    return pixels.transpose(2, 0, 1)  # (3, H, W)


def _decode_plane(path: Path, size: tuple[int, int], known: np.ndarray, remarks: Remarks) -> np.ndarray:
    pixels = np.asarray(open_mask(path, remarks, MISSING))
    _check_size(path, "mask", pixels.shape[:2], size)
    labels = pixels[..., 0].astype(np.uint16) + (pixels[..., 1].astype(np.uint16) << 8)
    if not known[labels].all():
        wrong = pixels[~known[labels]][0].tolist()
        colour = "({}, {}, {})".format(*wrong)
        raise InputError(
            f"{path}: label number {wrong[0] + 256 * wrong[1]} is not in label.csv (RGB {colour}, label = R + 256 G)"
        )
    return labels


def _check_size(path: Path, kind: str, size, expected):
    if tuple(size) != tuple(expected):
        turned = "; an EXIF orientation counts" if tuple(size) == tuple(expected)[::-1] else ""
        raise InputError(f"{path}: {kind} is {_text(size)}, but index.csv says {_text(expected)}{turned}")


def _text(size) -> str:
    return f"{size[0]}x{size[1]} (height x width)"
