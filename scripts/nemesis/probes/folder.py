"""A folder of images without masks as a probing dataset; its sub-folders, if there are any, are classes."""

import logging
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nemesis.errors import InputError
from nemesis.files import sha256_file, sha256_json
from nemesis.probes.images import Remarks, name_some, open_image
from nemesis.probes.probe import unlabelled_rows, write_arrays, write_concepts
from nemesis.probes.scan import class_of, scan_folder
from nemesis.stores import save_array, write_store

NO_CLASS = -1
LONGEST = 100  # times the shorter side


@dataclass(frozen=True)
class Crop:
    """What is kept of an image: the middle size x size px, once its shorter side is `resize` px.

    resize is by default 256 for 224, as ImageNet networks are evaluated, and in proportion.
    """

    size: int = 224
    resize: int | None = None

    @property
    def shorter(self) -> int:
        """The shorter side before the cut, in px."""
        return self.resize or round(self.size * 256 / 224)


USUAL = Crop()


@dataclass(frozen=True)
class ImageFolder:
    """Images by their paths below `root`, and the number of each one's class; NO_CLASS for those in the root."""

    root: Path
    names: tuple[str, ...]
    classes: tuple[int, ...]
    class_names: tuple[str, ...]


def prepare_folder(
    root, store_path, concepts_path, crop: Crop = USUAL, max_images: int | None = None, config_hash: str = ""
):
    """Decode a folder of images into `store_path` (zarr) and `concepts_path` (a CSV without rows).

    The store is that of `prepare_probe` with no label planes; `classes` int32 (N,) holds class numbers, the
    attribute `class_names` their names. Images are cut by `crop`. Raises InputError that names the folder or
    the image that is wrong.
    """
    size = crop.size
    if crop.shorter < size:
        raise InputError(f"{root}: resize must be at least size, {size}, not {crop.shorter}")
    remarks, digests = Remarks(root), {}
    folder = read_folder(root, max_images, remarks)

    def decode(start, stop, pool):
        names = folder.names[start:stop]
        found = list(pool.map(lambda name: _decode(folder.root / name, crop, remarks), names))
        digests.update(zip(names, (digest for _, digest in found), strict=True))
        return np.stack([pixels for pixels, _ in found]), np.zeros((stop - start, 0, size, size), np.uint16)

    with write_store(store_path, config_hash, categories=[], class_names=list(folder.class_names)) as group:
        write_arrays(group, unlabelled_rows(folder.names, (size, size)), decode)
        classes = np.array(folder.classes, np.int32)
        save_array(group, "classes", classes, ("image",), "index into class_names, -1 = none")
        group.attrs["created_from"] = {str(root): sha256_json(digests)}
        group.attrs["notes"] = remarks.finish()
    write_concepts(concepts_path)
    logging.info("%d images, %d classes, no masks", len(folder.names), len(folder.class_names))


def read_folder(root, max_images: int | None = None, remarks: Remarks | None = None) -> ImageFolder:
    """List the images of a folder; they are not opened yet.

    Classes are the sub-folders that hold an image, numbered in sorted order; a class holds what is in folders
    below it, too. `max_images` keeps so many, evenly spaced in the sorted list. What is left out goes to
    `remarks`. Raises InputError when there is no image.
    """
    listing, remarks = scan_folder(root), remarks or Remarks(root)
    if listing.others:
        endings = Counter(os.path.splitext(name)[1].lower() or "no ending" for name in listing.others)
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        remarks.say(f"left out {len(listing.others)} files that are no images: {kinds}")
    names = listing.images
    class_names = sorted({class_of(name) for name in names} - {None})
    if class_names and (bare := _list_folders(root) - set(class_names)):
        remarks.say(f"folders without an image, which are no classes: {len(bare)} ({name_some(sorted(bare))})")
    if class_names and (loose := [name for name in names if class_of(name) is None]):
        remarks.say(f"images in no class's folder, which have no class: {len(loose)} ({name_some(loose)})")
    if max_images and max_images < len(names):
        remarks.say(f"max_images: {max_images} of {len(names)} images, evenly spaced", logging.INFO)
        names = tuple(names[index * len(names) // max_images] for index in range(max_images))
    numbers = {None: NO_CLASS} | {name: number for number, name in enumerate(class_names)}
    return ImageFolder(Path(root), names, tuple(numbers[class_of(name)] for name in names), tuple(class_names))


def _list_folders(root) -> set[str]:
    """The folders in a folder, without hidden ones."""
    return {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}


def crop_image(image: Image.Image, crop: Crop) -> Image.Image:
    """What a crop keeps of an image; resized bilinearly, antialiased.

    The longer side and the crop are rounded as by torchvision's Resize and CenterCrop.
    """
    size, resize = crop.size, crop.shorter
    width, height = image.size
    short = min(width, height)
    width, height = (resize if side == short else int(resize * side / short) for side in (width, height))
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _decode(path: Path, crop: Crop, remarks: Remarks) -> tuple[np.ndarray, str]:
    """An image, uint8 (3, S, S), the right way up, and the sha256 of its file."""
    image = open_image(path, remarks)
    if max(image.size) > LONGEST * min(image.size):
        width, height = image.size
        raise InputError(f"{path}: image is {height}x{width} (height x width); expected a less narrow one")
    pixels = np.asarray(crop_image(image, crop))
    return pixels.transpose(2, 0, 1), sha256_file(path)  # (3, S, S)
