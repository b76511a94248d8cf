"""Read a folder in Broden's layout (Bau et al., "Network Dissection", CVPR 2017).

index.csv has one row an image: `image` (path below images/), `split`, `ih,iw,sh,sw`, and a
column per category. A cell holds pieces separated by `;`: a piece of digits labels the whole
image, any other piece is the path of a label plane (PNG, label = R + 256 G). `category.csv`,
`label.csv` and one `c_<category>.csv` per category name the labels.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nemesis.errors import InputError
from nemesis.probes.images import open_image
from nemesis.rows import read_rows

CATEGORIES = ("object", "part", "scene", "texture", "color", "material")
MISSING = "not found, but index.csv names it"


@dataclass(frozen=True)
class Concept:
    """A thing with a name; `category` is its primary category."""

    number: int
    name: str
    category: str


@dataclass(frozen=True)
class Row:
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
    rows: tuple[Row, ...]
    concepts: dict[int, Concept]
    image_size: tuple[int, int]  # (H, W)
    label_size: tuple[int, int]  # (Hs, Ws)


def read_broden(root, splits=None, max_images: int | None = None) -> BrodenFolder:
    """Read the tables of a Broden folder; images are not opened yet.

    Rows without any label take no part. `splits` keeps rows of these splits only,
    `max_images` the first so many. Raises InputError that names the file and the row.
    """
    root = Path(root)
    categories = _read_categories(root)
    raw = _read_csv(root / "index.csv", ("image", "split", "ih", "iw", "sh", "sw", *categories))
    if not raw:
        raise InputError(f"{root / 'index.csv'}: has no rows; expected one row an image")
    if splits:
        raw = _keep_splits(root, raw, splits)
    image_size = _one_size(root, raw, ("ih", "iw"))
    label_size = _one_size(root, raw, ("sh", "sw"))
    rows = [row for line in raw if (row := _read_row(root, line, categories))]
    if not rows:
        raise InputError(f"{root / 'index.csv'}: none of its {len(raw)} images has a label; expected masks")
    concepts = _read_concepts(root, categories)
    return BrodenFolder(root, categories, tuple(rows[:max_images]), concepts, image_size, label_size)


def decode_images(folder: BrodenFolder, start: int, stop: int, pool: ThreadPoolExecutor) -> np.ndarray:
    """Decode images start to stop as uint8 (B, 3, H, W)."""
    paths = [folder.root / "images" / row.image for row in folder.rows[start:stop]]
    images = list(pool.map(lambda path: _decode_image(path, folder.image_size), paths))
    return np.stack(images)  # (B, 3, H, W)


def decode_labels(folder: BrodenFolder, start: int, stop: int, planes: int, pool) -> np.ndarray:
    """Decode label planes as uint16 (B, planes, Hs, Ws); 0 = no label."""
    known = np.zeros(65536, bool)
    known[[0, *folder.concepts]] = True

    def decode_row(row: Row) -> np.ndarray:
        labels = np.zeros((planes, *folder.label_size), np.uint16)
        for index, (_, piece) in enumerate(row.planes):
            labels[index] = _decode_plane(folder.root / "images" / piece, folder.label_size, known)
        return labels

    return np.stack(list(pool.map(decode_row, folder.rows[start:stop])))  # (B, K, Hs, Ws)


def _read_categories(root: Path) -> tuple[str, ...]:
    names = [line["name"] for line in _read_csv(root / "category.csv", ("name",))]
    categories = tuple(name for name in names if name in CATEGORIES)
    if not categories:
        raise InputError(f"{root / 'category.csv'}: names none of the categories {', '.join(CATEGORIES)}")
    return categories


def _read_row(root: Path, line: dict, categories) -> Row | None:
    planes, scalars = [], []
    for index, category in enumerate(categories):
        for piece in filter(None, (text.strip() for text in (line[category] or "").split(";"))):
            if piece.isdecimal():
                if not 0 <= int(piece) < 65536:
                    raise InputError(f"{root / 'index.csv'}: row {line['image']}: label {piece} is above 65535")
                scalars += [(index, int(piece))] if int(piece) else []
            else:
                planes.append((index, piece))
    if not planes and not scalars:
        return None
    return Row(line["image"], line["split"], tuple(planes), tuple(scalars))


def _keep_splits(root: Path, raw, splits):
    known = sorted({line["split"] for line in raw})
    for split in splits:
        if split not in known:
            raise InputError(f"{root / 'index.csv'}: has no split '{split}'; it has {', '.join(known)}")
    return [line for line in raw if line["split"] in splits]


def _one_size(root: Path, raw, keys) -> tuple[int, int]:
    first = None
    for line in raw:
        try:
            size = tuple(int(line[key]) for key in keys)
        except (TypeError, ValueError):
            size = (0, 0)
        if min(size) < 1:
            raise InputError(f"{root / 'index.csv'}: row {line['image']}: {','.join(keys)} must be positive integers")
        first = first or size
        if size != first:
            raise InputError(
                f"{root / 'index.csv'}: row {line['image']} is {_text(size)}, the first row is {_text(first)};"
                " all images of a probe must have one size"
            )
    return first


def _read_concepts(root: Path, categories) -> dict[int, Concept]:
    coverage = [_read_coverage(root, category) for category in categories]
    concepts = {}
    for line in _read_csv(root / "label.csv", ("number", "name")):
        number = _number(root / "label.csv", line["number"])
        # Primary category: largest coverage; ties and unlisted labels go to the later category.
        scores = [table.get(number, 0.0) for table in coverage]
        primary = max(range(len(categories)), key=lambda index, s=scores: (s[index], index))
        concepts[number] = Concept(number, line["name"], categories[primary])
    concepts.pop(0, None)
    return concepts


def _read_coverage(root: Path, category: str) -> dict[int, float]:
    path = root / f"c_{category}.csv"
    table = {}
    for line in _read_csv(path, ("number", "name", "coverage")):
        try:
            table[_number(path, line["number"])] = float(line["coverage"])
        except ValueError:
            raise InputError(f"{path}: label {line['number']}: coverage must be a number") from None
    return table


def _number(path: Path, text: str) -> int:
    if not (text or "").isdecimal() or int(text) > 65535:
        raise InputError(f"{path}: label number '{text}' must be an integer from 0 to 65535")
    return int(text)


def _read_csv(path: Path, columns) -> list[dict]:
    return [row for _, row in read_rows(path, columns, "a folder in Broden's layout has it")]


def _decode_image(path: Path, size: tuple[int, int]) -> np.ndarray:
    pixels = np.asarray(open_image(path, "image", "RGB", MISSING))
    _check_size(path, "image", pixels.shape[:2], size)
    return pixels.transpose(2, 0, 1)  # (3, H, W)


def _decode_plane(path: Path, size: tuple[int, int], known: np.ndarray) -> np.ndarray:
    image = open_image(path, "mask", missing=MISSING)
    if image.mode not in ("RGB", "RGBA"):
        raise InputError(f"{path}: mask has mode {image.mode}; expected an RGB PNG with label = R + 256 G")
    pixels = np.asarray(image)
    _check_size(path, "mask", pixels.shape[:2], size)
    labels = pixels[..., 0].astype(np.uint16) + (pixels[..., 1].astype(np.uint16) << 8)
    if not known[labels].all():
        number = int(labels[~known[labels]][0])
        raise InputError(f"{path}: label number {number} is not in label.csv")
    return labels


def _check_size(path: Path, kind: str, size, expected):
    if tuple(size) != tuple(expected):
        raise InputError(f"{path}: {kind} is {_text(size)}, but index.csv says {_text(expected)}")


def _text(size) -> str:
    return f"{size[0]}x{size[1]} (height x width)"
