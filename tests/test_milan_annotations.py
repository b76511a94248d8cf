"""Annotated units in MILANNOTATIONS' layout: what is read, in which order, and what is refused."""

import csv
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nemesis.errors import InputError
from nemesis.milan.annotations import read_annotations

K, SIDE = 2, 8
ROWS = [
    ("conv2", 1, "a dog"),
    ("conv1", 0, "a red car"),
    ("conv1", 2, "sky"),
    ("conv1", 0, "the car"),
    ("conv1", 0, "cars"),
    ("conv2", 1, "dogs"),
    ("conv1", 0, "vehicles"),
    ("conv2", 1, "an animal"),
]


def write_layer(root, name: str, units: int = 3, images: bool = True):
    """A layer whose picture (unit, exemplar) is filled with 10 * unit + exemplar."""
    folder = root / name
    folder.mkdir(parents=True)
    value = 10 * np.arange(units)[:, None] + np.arange(K)
    pictures = np.broadcast_to(value[..., None, None, None], (units, K, 3, SIDE, SIDE)).astype(np.uint8)
    masks = np.zeros((units, K, 1, SIDE, SIDE), np.uint8)
    masks[..., :2, :3] = 1
    if images:
        np.save(folder / "images.npy", pictures)
    np.save(folder / "masks.npy", masks)
    return folder


def write_rows(root, rows, header=("layer", "unit", "summary", "worker")):
    with open(root / "annotations.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows((*row, 7) for row in rows)


@pytest.fixture
def root(tmp_path):
    for name in ("conv1", "conv2"):
        write_layer(tmp_path, name)
    write_rows(tmp_path, ROWS)
    return tmp_path


def found(annotations) -> list:
    return [(unit.layer, unit.unit, unit.texts) for unit in annotations.units]


def test_units_with_enough_annotations_in_the_order_of_the_file(root):
    annotations = read_annotations(root)
    assert found(annotations) == [
        ("conv2", 1, ("a dog", "dogs", "an animal")),
        ("conv1", 0, ("a red car", "the car", "cars")),
    ]
    pictures, masks = annotations.read(0)
    assert pictures.dtype == np.uint8 and pictures.shape == (K, 3, SIDE, SIDE)
    assert pictures[:, 0, 0, 0].tolist() == [10, 11]
    assert masks.dtype == bool and masks.shape == (K, 1, SIDE, SIDE) and masks[0].sum() == 6


def test_one_annotation_is_enough_if_one_is_asked_for(root):
    assert found(read_annotations(root, count=1)) == [
        ("conv2", 1, ("a dog",)),
        ("conv1", 0, ("a red car",)),
        ("conv1", 2, ("sky",)),
    ]


def test_without_a_count_all_units_in_order_of_layers(root):
    units = found(read_annotations(root, count=None))
    assert [unit[:2] for unit in units] == [(layer, unit) for layer in ("conv1", "conv2") for unit in range(3)]
    assert [len(unit[2]) for unit in units] == [4, 0, 1, 0, 3, 0]


def test_layers_whose_name_is_a_number(root):
    write_layer(root, "5")
    write_rows(root, [*ROWS, ("5", 1, "grass")])
    assert ("5", 1, ("grass",)) in found(read_annotations(root, count=None))
    assert ("5", 1, ("grass",)) in found(read_annotations(root, count=1))
    published = found(read_annotations(root, count=None, published=True))
    assert ("5", 1, ()) in published and ("conv2", 1, ("a dog", "dogs", "an animal")) in published


def test_rows_of_chosen_units(root):
    write_layer(root, "conv3", units=2)
    np.save(root / "conv3" / "units.npy", np.array([4, 9]))
    write_rows(root, [("conv3", 9, "grass"), ("conv3", 4, "sky")])
    annotations = read_annotations(root, count=1)
    assert [annotations.read(index)[0][0, 0, 0, 0] for index in range(2)] == [10, 0]
    with pytest.raises(InputError, match="layer conv3 has no unit 9"):
        read_annotations(root, count=1, published=True)


@given(st.lists(st.tuples(st.sampled_from(["conv1", "conv2"]), st.integers(0, 2)), max_size=30), st.integers(1, 4))
def test_counts_are_those_of_a_slow_copy(tmp_path_factory, keys, count):
    root = tmp_path_factory.mktemp("slow")
    for name in ("conv1", "conv2"):
        write_layer(root, name)
    write_rows(root, [(*key, f"text {number}") for number, key in enumerate(keys)])
    wanted = [key for number, key in enumerate(keys) if key not in keys[:number] and keys.count(key) >= count]
    if not wanted:
        with pytest.raises(InputError, match="no unit has"):
            read_annotations(root, count=count)
        return
    units = found(read_annotations(root, count=count))
    assert [unit[:2] for unit in units] == wanted
    for layer, unit, texts in units:
        numbers = [number for number, key in enumerate(keys) if key == (layer, unit)]
        assert texts == tuple(f"text {number}" for number in numbers[:count])


def write_images(folder):
    """Two classes; picture 2 is wide: red on the left, blue on the right, green in the middle square."""
    for number, name in enumerate(("a/0.png", "a/1.png", "b/0.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((32, 32, 3), 40 * number, np.uint8)
        if number == 2:
            pixels = np.zeros((32, 96, 3), np.uint8)
            pixels[:, :32, 0] = pixels[:, 64:, 2] = pixels[:, 32:64, 1] = 255
        Image.fromarray(pixels).save(path)
    return folder


def test_images_by_number_are_cropped_unless_published(root):
    layer = write_layer(root, "conv3", units=1, images=False)
    (layer / "ids.csv").write_text("2,1\n")
    write_rows(root, [("conv3", 0, "grass")])
    images = write_images(root.parent / f"{root.name}-images")
    pictures, masks = read_annotations(root, count=1, images=images).read(0)
    assert pictures.shape == (K, 3, SIDE, SIDE) and masks.shape == (K, 1, SIDE, SIDE)
    assert pictures[0, 1, 4, 1:-1].tolist() == [255] * (SIDE - 2)  # green alone
    assert (pictures[1] == 40).all()
    squashed = read_annotations(root, count=1, images=images, published=True).read(0)[0]
    assert squashed[0, 0, 4, 0] == 255 and squashed[0, 2, 4, -1] == 255 and squashed[0, 1, 4, 4] > 240


def refuse(root, match: str, **options):
    with pytest.raises(InputError, match=match) as caught:
        read_annotations(root, **options)
    assert "\n" not in str(caught.value)


def test_bad_tables(root):
    refuse(root / "nothing", "no such folder")
    write_rows(root, ROWS, header=("layer", "neuron", "summary"))
    refuse(root, r"annotations.csv: lacks column 'unit'")
    write_rows(root, [("conv1", "x", "a dog")])
    refuse(root, "line 2: unit 'x' is no whole number")
    write_rows(root, [("conv7", 0, "a dog")])
    refuse(root, "line 2: .* has no folder for layer 'conv7'")
    write_rows(root, [("conv1", 0, " ")])
    refuse(root, "line 2: the summary of layer conv1, unit 0 is empty")
    write_rows(root, [("conv1", 3, "a dog")])
    refuse(root, "layer conv1 has no unit 3", count=1)
    write_rows(root, ROWS[:2])
    refuse(root, "no unit has 3 annotations")
    (root / "annotations.csv").unlink()
    refuse(root, "annotations.csv: not found")


def test_bad_arrays(root):
    masks = root / "conv2" / "masks.npy"
    kept = masks.read_bytes()
    masks.write_bytes(kept[: len(kept) // 2])
    refuse(root, "masks.npy: not a readable array")
    masks.write_bytes(pickle.dumps({"a": 1}))
    refuse(root, "masks.npy: not a readable array")
    np.save(masks, np.zeros((3, K, SIDE, SIDE), np.uint8))
    refuse(root, "masks.npy: has shape")
    np.save(masks, np.zeros((3, K, 1, SIDE, SIDE)))
    refuse(root, "masks.npy: holds float64")
    np.save(masks, np.zeros((2, K, 1, SIDE, SIDE), np.uint8))
    refuse(root, "conv2: images.npy .* do not belong together")
    masks.write_bytes(kept)
    np.save(root / "conv2" / "units.npy", np.array([1, 1, 2]))
    refuse(root, "units.npy: 2 units for 3 rows")


def test_missing_images(root):
    layer = write_layer(root, "conv3", units=1, images=False)
    write_rows(root, [("conv3", 0, "grass")])
    refuse(root, "conv3: has no images.npy; name the folder", count=1)
    images = write_images(root.parent / f"{root.name}-images")
    for text, match in (("2\n", "has shape"), ("2,x\n", "not a readable table"), ("2,3\n", "has 3 images")):
        (layer / "ids.csv").write_text(text)
        refuse(root, f"ids.csv: .*{match}", count=1, images=images)
