"""A corrupted probe as a folder in Broden's layout, so that any other tool can be pointed at it."""

import csv
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.errors import InputError
from nemesis.files import atomic_directory
from nemesis.perturb.poison import Poison
from nemesis.perturb.storage import store_image
from nemesis.rows import read_rows

POISONED = "nemesis_poisoned"  # folder of the changed images, below images/


def export_poison(poison: Poison, probe, source, target, storage: str):
    """Write target/unit-<u>[-<target>] for every task (target/shared for a shared attack).

    Each is a whole probe: the tables, the clean images and masks as links into `source` (the probe's
    own folder), the poisoned images as files. Raises InputError for the storage `float`, which no
    image file can hold.
    """
    if storage == "float":
        raise InputError("designed.export: images stored as `float` are no image files; set designed.storage: lossless")
    with atomic_directory(target) as partial:
        for index, task in enumerate(poison.tasks[:1] if poison.shared else poison.tasks):
            suffix = f"-to-{task.target}" if task.target else ""
            folder = partial / ("shared" if poison.shared else f"unit-{task.unit}{suffix}")
            _export_task(poison, index, probe, Path(source).resolve(), folder, storage)


def _export_task(poison: Poison, index: int, probe, source: Path, folder: Path, storage: str):
    images, changed = folder / "images", POISONED
    while (source / "images" / changed).exists():  # the probe was exported itself
        changed += "_again"
    (images / changed).mkdir(parents=True)
    for path in sorted((source / "images").iterdir()):
        (images / path.name).symlink_to(path)
    for path in sorted(source.glob("*.csv")):
        if path.name != "index.csv":
            shutil.copy(path, folder / path.name)
    renamed = {}
    for row in poison.rows_of(index).tolist():
        number = int(poison.image[row])
        clean = probe.images(number, number + 1)
        name = probe.names[number]
        renamed[name] = f"{changed}/{number:06d}.{'png' if storage == 'lossless' else 'jpg'}"
        _save(poison, slice(row, row + 1), clean, storage, images / renamed[name])
    _write_index(source / "index.csv", folder / "index.csv", renamed)


def _save(poison: Poison, row: slice, clean: np.ndarray, storage: str, path: Path):
    if storage == "lossless":
        Image.fromarray(poison.stored(row, clean, storage)[0].transpose(1, 2, 0)).save(path)
    else:
        store_image(poison.attacked(row, clean, storage == "published")[0], storage, path)


def _write_index(source: Path, target: Path, renamed: dict[str, str]):
    rows = [row for _, row in read_rows(source, ("image",))]
    with open(target, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"image": renamed.get(row["image"], row["image"])} for row in rows)
