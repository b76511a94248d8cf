"""A tiny probe in Broden's layout, made in memory first, so that tests know its labels without a reader."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.dissection.stored import MapSource

CATEGORIES = ("scene", "texture", "color", "object", "part", "material")
IMAGE_SIZE, LABEL_SIZE = 32, 16
# number: name, coverage by category. The primary category has the largest coverage, the later one of a tie.
CONCEPTS = {
    1: ("street", {"scene": 5.0}),
    2: ("red-c", {"color": 4.0}),
    3: ("table", {"object": 3.0}),
    4: ("leg", {"part": 2.0}),
    5: ("wood", {"material": 2.0}),
    6: ("dotted", {"texture": 2.0}),
    7: ("head", {"object": 1.0, "part": 1.5}),
    8: ("even", {"object": 2.0, "part": 2.0}),
    9: ("ghost", {}),
    10: ("green-c", {"color": 1.0}),
    300: ("zebra", {"object": 2.0}),
    301: ("yard", {"scene": 1.0}),
}
PRIMARY = {
    1: "scene",
    2: "color",
    3: "object",
    4: "part",
    5: "material",
    6: "texture",
    7: "part",
    8: "part",
    9: "material",
    10: "color",
    300: "object",
    301: "scene",
}


@dataclass(frozen=True)
class TinyRow:
    """One image: pixels (H, W, 3) uint8; cells {category: pieces}, a piece is a number or a plane (Hs, Ws)."""

    name: str
    split: str
    pixels: np.ndarray
    cells: dict

    @property
    def is_labelled(self) -> bool:
        return any(not isinstance(piece, int) or piece for pieces in self.cells.values() for piece in pieces)

    def planes(self) -> list[np.ndarray]:
        """Every label as a plane; a number covers the whole plane."""
        pieces = [piece for category in CATEGORIES for piece in self.cells.get(category, [])]
        whole = np.ones((LABEL_SIZE, LABEL_SIZE), np.int64)
        return [piece * whole if isinstance(piece, int) else piece.astype(np.int64) for piece in pieces]


def tiny_rows(count: int = 14) -> list[TinyRow]:
    """Rows with everything that Broden has; number 4 has no label and number 9 the scalar 0 only."""
    rng = np.random.default_rng(5)

    def plane(*numbers):
        cells = rng.choice([0, *numbers], (LABEL_SIZE // 4, LABEL_SIZE // 4))
        return np.kron(cells, np.ones((4, 4), int)).astype(np.uint16)

    rows = []
    for number in range(count):
        cells = {"object": [plane(3, 7, 8, 300)]}
        if number % 3 == 0:
            cells["object"].append(plane(3, 300))
        if number % 2 == 0:
            cells["part"] = [plane(4, 7, 8)]
        if number != 3:
            cells["color"] = [plane(2, 10)]
        if number % 3 < 2:
            cells["scene"] = [1 if number % 3 == 0 else 301]
        if number % 4 == 1:
            cells["material"] = [plane(5, 9)]
        if number in (2, 5):
            cells["texture"] = [6]
        if number == 6:  # one label, on two planes, at the same pixels
            cells["part"] = [cells["object"][0].copy()]
        if number == 8:  # a number and a plane in one cell
            cells["texture"] = [6, plane(6)]
        cells = {4: {}, 9: {"scene": [0]}}.get(number, cells)
        pixels = rng.integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        rows.append(TinyRow(f"t/{number:03d}.png", "val" if number % 5 == 0 else "train", pixels, cells))
    return rows


def write_broden(root: Path, rows: list[TinyRow]) -> Path:
    """Write rows as a folder in Broden's layout; returns the folder."""
    lines = []
    for row in rows:
        save(root / "images" / row.name, row.pixels)
        line = {"image": row.name, "split": row.split, "ih": IMAGE_SIZE, "iw": IMAGE_SIZE}
        line |= {"sh": LABEL_SIZE, "sw": LABEL_SIZE}
        for category in CATEGORIES:
            pieces = []
            for index, piece in enumerate(row.cells.get(category, [])):
                pieces.append(str(piece))
                if not isinstance(piece, int):
                    pieces[-1] = row.name.replace(".png", f"_{category}{index}.png")
                    save(root / "images" / pieces[-1], mask_pixels(piece))
            line[category] = ";".join(pieces)
        lines.append(line)
    write_rows(root / "index.csv", lines)
    write_rows(root / "category.csv", [{"name": category} for category in (*CATEGORIES, "weather")])
    write_rows(root / "label.csv", [{"number": n, "name": name} for n, (name, _) in CONCEPTS.items()])
    for category in CATEGORIES:
        table = [
            {"code": code, "number": number, "name": name, "frequency": 1, "coverage": coverage[category]}
            for code, (number, (name, coverage)) in enumerate(CONCEPTS.items())
            if category in coverage
        ]
        write_rows(root / f"c_{category}.csv", table)
    return root


def write_tidy_broden(root: Path, rows: list[TinyRow]) -> Path:
    """The same without what a reader remarks on: rows without labels, a category and a label that no table has."""
    write_broden(root, [row for row in rows if row.is_labelled])
    write_rows(root / "category.csv", [{"name": category} for category in CATEGORIES])
    with open(root / "c_material.csv", "a", encoding="utf-8") as stream:
        stream.write("8,9,ghost,1,0.0\r\n")
    return root


def save(path: Path, pixels: np.ndarray):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def mask_pixels(labels: np.ndarray) -> np.ndarray:
    """Labels as Broden stores them: R + 256 G; B holds something else."""
    return np.stack([labels % 256, labels // 256, labels * 0 + 77], axis=-1).astype(np.uint8)


def write_rows(path: Path, rows: list[dict]):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True)
class ArrayMaps(MapSource):
    """A map source in memory: maps (U, N, h, w)."""

    maps: np.ndarray
    block: int = 5
    unit_chunk: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        return self.maps.shape

    @property
    def dtype(self) -> np.dtype:
        return self.maps.dtype

    @property
    def image(self) -> np.ndarray:
        return np.arange(self.count)

    def read(self, images: slice, units: slice = slice(None)) -> np.ndarray:
        return self.maps[units, images]

    def read_units(self, images: slice, units) -> np.ndarray:
        return self.maps[np.asarray(units), images]
