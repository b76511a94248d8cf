"""How large a probe is or will be, without reading its images."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemesis.errors import InputError
from nemesis.probes.scan import scan_folder
from nemesis.rows import read_rows

TABLE = Path(__file__).with_name("sizes.csv")
STAND_IN = "broden1_224"  # what a folder that is not there is taken for
FOLDER_IMAGES = 50_000  # of a folder of images that is not there
MINIBRODEN_PLANES, MINIBRODEN_CONCEPTS = 6, 170


@dataclass(frozen=True)
class ProbeSize:
    """Images of a probe, sizes (H, W) in px of images and label maps, label planes and concepts.

    note: where the numbers come from. assumed: the probe is not there, so they are a guess.
    """

    images: int
    size: tuple[int, int]
    label_size: tuple[int, int]
    planes: int
    concepts: int
    note: str
    assumed: bool = False


def size_probe(name: str, spec: Mapping) -> ProbeSize:
    """The size of a config's probe: counted where it is there, known, or assumed."""
    if spec["kind"] == "minibroden":
        side = spec["size"]
        note = f"{name}: {spec['images']} images, from the config"
        sizes = ((side, side), (side // 2, side // 2))
        return ProbeSize(spec["images"], *sizes, MINIBRODEN_PLANES, MINIBRODEN_CONCEPTS, note)
    if spec["kind"] == "folder":
        return _size_folder(name, spec)
    if spec["kind"] == "download":
        known = _known_size(spec["version"])
        return _limit(known, spec, f"{name}: {known.note}")
    if Path(spec["path"], "index.csv").is_file():
        return _limit(_count_broden(Path(spec["path"])), spec, f"{name}: counted in {spec['path']}")
    known = _known_size(STAND_IN)
    return _limit(known, spec, f"{name}: {spec['path']} is not there; assumed as large as {STAND_IN}", assumed=True)


def image_size(spec: Mapping) -> tuple[int, int] | None:
    """(H, W) in px of the images of a config's probe, at a glance; None where its files are not there."""
    if "size" in spec:
        return spec["size"], spec["size"]
    if spec["kind"] == "download":
        return _known_size(spec["version"]).size
    try:
        with open(Path(spec["path"], "index.csv"), newline="", encoding="utf-8-sig") as stream:
            first = next(csv.DictReader(stream))
        return int(float(first["ih"])), int(float(first["iw"]))
    except (OSError, KeyError, TypeError, ValueError, StopIteration):
        return None  # prepare_probe says what is wrong


def _limit(found: ProbeSize, spec: Mapping, note: str, assumed: bool = False) -> ProbeSize:
    images = min(found.images, spec.get("max_images") or found.images)
    return ProbeSize(images, found.size, found.label_size, found.planes, found.concepts, note, assumed)


def _size_folder(name: str, spec: Mapping) -> ProbeSize:
    size = (spec["size"], spec["size"])
    there = Path(spec["path"]).is_dir()
    count = len(scan_folder(spec["path"]).images) if there else FOLDER_IMAGES
    count = min(count, spec.get("max_images") or count)
    note = f"counted in {spec['path']}" if there else f"{spec['path']} is not there; assumed {count:,} images"
    return ProbeSize(count, size, size, 0, 0, f"{name}: {note}", not there)


def _known_size(version: str) -> ProbeSize:
    with open(TABLE, newline="", encoding="utf-8") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    if version not in rows:
        raise InputError(f"probe {version}: its size is not known; known are {', '.join(rows)}")
    row = rows[version]
    image, label = ((int(row[f"{of}height"]), int(row[f"{of}width"])) for of in ("", "label_"))
    return ProbeSize(int(row["images"]), image, label, int(row["planes"]), int(row["concepts"]), row["source"])


def _count_broden(root: Path) -> ProbeSize:
    rows = _read_rows(root / "index.csv", ("ih", "iw", "sh", "sw"))
    categories = [row["name"] for row in _read_rows(root / "category.csv", ("name",)) if row["name"] in rows[0]]
    pieces = [[piece for name in categories for piece in row[name].split(";")] for row in rows]
    planes = max(sum(bool(piece) and not piece.isdigit() for piece in part) for part in pieces)
    try:
        sizes = [int(float(rows[0][key])) for key in ("ih", "iw", "sh", "sw")]
    except ValueError:
        raise InputError(f"{root / 'index.csv'}: ih, iw, sh and sw must be numbers") from None
    concepts = len(_read_rows(root / "label.csv", ()))
    return ProbeSize(len(rows), tuple(sizes[:2]), tuple(sizes[2:]), planes, concepts, "")


def _read_rows(path: Path, columns) -> list[dict]:
    rows = [row for _, row in read_rows(path, columns)]
    if not rows:
        raise InputError(f"{path}: has no row")
    return rows
