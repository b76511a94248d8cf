"""A decoded probe holds the labels that its folder holds."""

import csv

import numpy as np
import pytest
from PIL import Image
from tiny_probe import CATEGORIES, CONCEPTS, PRIMARY, TinyRow, tiny_rows, write_broden

from nemesis import __version__
from nemesis.files import sha256_file
from nemesis.probes.probe import NO_CATEGORY, open_probe, prepare_probe, present_concepts, read_concepts
from nemesis.stores import read


def labels_of(probe, number):
    """Non-empty label planes of an image (scalars as whole planes), in any order."""
    planes = list(probe.labels(number, number + 1)[0].astype(int))
    planes += [np.full(planes[0].shape, value) for value in probe.scalars[number].astype(int)]
    return sorted((plane.tolist() for plane in planes if plane.any()), key=str)


def test_images_and_labels_are_those_of_the_folder(tiny):
    assert tiny.probe.count == 12
    assert tiny.probe.names == [row.name for row in tiny.rows]
    assert tiny.probe.splits.tolist() == [row.split for row in tiny.rows]
    for number, row in enumerate(tiny.rows):
        np.testing.assert_array_equal(tiny.probe.images(number, number + 1)[0], row.pixels.transpose(2, 0, 1))
        expected = sorted((plane.tolist() for plane in row.planes() if plane.any()), key=str)
        assert labels_of(tiny.probe, number) == expected


def test_labels_above_255_are_there(tiny):
    labels = tiny.probe.labels(0, 12)
    assert labels.dtype == np.uint16
    assert (labels == 300).any()
    assert 301 in tiny.probe.scalars


def test_planes_and_scalars_know_their_category(tiny):
    planes = read(tiny.probe.store["plane_category"])
    scalars = read(tiny.probe.store["scalar_category"])
    for number, row in enumerate(tiny.rows):
        cells = [
            (CATEGORIES.index(category), piece) for category in CATEGORIES for piece in row.cells.get(category, [])
        ]
        in_planes = [category for category, piece in cells if not isinstance(piece, int)]
        in_scalars = [category for category, piece in cells if isinstance(piece, int)]
        assert planes[number].tolist() == in_planes + [NO_CATEGORY] * (planes.shape[1] - len(in_planes))
        assert scalars[number].tolist() == in_scalars + [NO_CATEGORY] * (scalars.shape[1] - len(in_scalars))


def test_concepts_table_counts_images_and_pixels(tiny):
    rows = {row["number"]: row for row in read_concepts(tiny.out / "concepts.csv")}
    assert {number: row["category"] for number, row in rows.items()} == PRIMARY
    assert [rows[n]["name"] for n in CONCEPTS] == [name for name, _ in CONCEPTS.values()]
    for number, row in rows.items():
        shares = [min(1.0, sum((p == number).mean() for p in image.planes())) for image in tiny.rows]
        assert row["frequency"] == sum(share > 0 for share in shares)
        assert float(row["coverage"]) == pytest.approx(sum(shares), abs=1e-12)
    assert rows[1]["frequency"] == 4  # images 0, 3, 6 and 12; 9 has the scalar 0 only
    assert float(rows[1]["coverage"]) == 4.0


def test_present_concepts(tiny):
    present, numbers = present_concepts(tiny.probe)
    assert numbers == sorted(CONCEPTS)
    for image, row in enumerate(tiny.rows):
        expected = {int(n) for plane in row.planes() for n in np.unique(plane)} - {0}
        assert {numbers[c] for c in present[image].nonzero()[0]} == expected


def test_store_says_what_it_was_made_from(broden, tmp_path):
    prepare_probe(broden, tmp_path / "probe.zarr", tmp_path / "concepts.csv", config_hash="abc")
    attrs = open_probe(tmp_path / "probe.zarr").store.attrs
    assert (attrs["nemesis_version"], attrs["config_hash"]) == (__version__, "abc")
    assert attrs["categories"] == list(CATEGORIES)
    assert attrs["created_from"][str(broden / "index.csv")] == sha256_file(broden / "index.csv")
    for _, array in open_probe(tmp_path / "probe.zarr").store.arrays():
        assert len(array.attrs["dimensions"]) == array.ndim
        assert array.attrs["units"]


def test_grey_and_transparent_images_become_rgb(tmp_path):
    row = tiny_rows(1)[0]
    root = write_broden(tmp_path / "broden", [row])
    grey = row.pixels[..., 0]
    Image.fromarray(grey).save(root / "images" / row.name)
    prepare_probe(root, tmp_path / "probe.zarr", tmp_path / "concepts.csv")
    images = open_probe(tmp_path / "probe.zarr").images(0, 1)
    np.testing.assert_array_equal(images[0], np.stack([grey] * 3))


def test_a_probe_of_scalars_alone(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    rows = [TinyRow(f"t/{n}.png", "train", pixels, {"scene": [1 + 300 * n]}) for n in range(2)]
    prepare_probe(write_broden(tmp_path / "b", rows), tmp_path / "probe.zarr", tmp_path / "concepts.csv")
    probe = open_probe(tmp_path / "probe.zarr")
    assert probe.scalars.tolist() == [[1], [301]]
    assert not probe.labels(0, 2).any()


def test_splits_are_kept(broden, tmp_path):
    prepare_probe(broden, tmp_path / "p.zarr", tmp_path / "c.csv", splits=["val"], max_images=2)
    assert open_probe(tmp_path / "p.zarr").names == ["t/000.png", "t/005.png"]


def test_golden_synthetic_probe(synthetic, golden):
    expected = np.load(golden("synthetic/expected.npz"))
    root = golden("synthetic/dataset")
    with open(root / "index.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    probe, kept = synthetic.probe, [lines[row] for row in expected["kept_rows"]]
    assert probe.names == [line["image"] for line in kept]
    assert probe.categories == ["color", "object", "part", "scene", "texture"]
    listed = [row["number"] for row in read_concepts(synthetic.out / "concepts.csv")]
    assert len(synthetic.concepts.category_of) == len(expected["primary_category"])
    for number in listed:
        assert synthetic.concepts.category_of[number] == expected["primary_category"][number]
    for image, line in enumerate(kept):
        pieces = [piece for category in probe.categories for piece in line[category].split(";") if piece]
        planes = []
        for piece in pieces:
            if piece.isdigit():
                planes.append(np.full((112, 112), int(piece)))
            else:
                rgb = np.asarray(Image.open(root / "images" / piece)).astype(int)
                planes.append(rgb[..., 0] + 256 * rgb[..., 1])
        assert labels_of(probe, image) == sorted((plane.tolist() for plane in planes if plane.any()), key=str)


def test_golden_street_probe(camvid, golden):
    baseline = np.load(golden("block10/baseline.npz"))
    assert camvid.probe.names == baseline["files"].tolist()
    assert camvid.probe.categories == baseline["categories"].tolist()
    assert camvid.concepts.names[1:] == baseline["label_names"].tolist()[1:]
    assert camvid.concepts.category_of[1:].tolist() == baseline["primary_category"].tolist()[1:]
