"""The reader of Broden's layout: what it keeps, and one line for everything that can be wrong with a folder."""

import csv

import numpy as np
import pytest
from PIL import Image
from tiny_probe import CATEGORIES, CONCEPTS, PRIMARY, mask_pixels, save, tiny_rows, write_broden

from nemesis.errors import InputError
from nemesis.probes.broden import read_broden
from nemesis.probes.probe import prepare_probe


def edit_index(root, change):
    """Rewrite index.csv; change(lines) gets its rows as dicts and returns those to write."""
    path = root / "index.csv"
    with open(path, newline="") as stream:
        lines = list(csv.DictReader(stream))
    header = list(lines[0])
    lines = change(lines)
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(lines[0]) if lines else header)
        writer.writeheader()
        writer.writerows(lines)


def edit_text(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_cell(row, **values):
    def change(lines):
        lines[row].update(values)
        return lines

    return lambda root: edit_index(root, change)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def make_palette(path):
    Image.open(path).quantize(8).save(path)


def empty_cells(lines):
    return [line | dict.fromkeys(CATEGORIES, "") for line in lines]


IMAGE, MASK = "images/t/001.png", "images/t/001_object0.png"
# what is wrong: (how to break the folder, what the line must say)
BROKEN = {
    "missing image": (lambda root: (root / IMAGE).unlink(), [IMAGE, "image not found", "index.csv"]),
    "truncated image": (lambda root: truncate(root / IMAGE), [IMAGE, "cannot be decoded", "truncated?"]),
    "image is text": (lambda root: (root / IMAGE).write_text("hello"), [IMAGE, "cannot be decoded"]),
    "wrong image size": (
        lambda root: save(root / IMAGE, np.zeros((32, 30, 3), np.uint8)),
        [IMAGE, "image is 32x30", "index.csv says 32x32"],
    ),
    "missing mask": (lambda root: (root / MASK).unlink(), [MASK, "mask not found", "index.csv"]),
    "truncated mask": (lambda root: truncate(root / MASK), [MASK, "mask cannot be decoded", "truncated?"]),
    "wrong mask size": (
        lambda root: save(root / MASK, np.zeros((32, 32, 3), np.uint8)),
        [MASK, "mask is 32x32", "index.csv says 16x16"],
    ),
    "palette mask": (lambda root: make_palette(root / MASK), [MASK, "mode P", "R + 256 G"]),
    "grey mask": (lambda root: save(root / MASK, np.zeros((16, 16), np.uint8)), [MASK, "mode L"]),
    "unknown label in a mask": (
        lambda root: save(root / MASK, mask_pixels(np.full((16, 16), 299))),
        [MASK, "label number 299", "label.csv"],
    ),
    "unknown label as a scalar": (set_cell(1, scene="302"), ["index.csv", "t/001.png", "302", "label.csv"]),
    "label number too large": (set_cell(1, scene="65536"), ["index.csv", "t/001.png", "65536", "65535"]),
    "no index": (lambda root: (root / "index.csv").unlink(), ["index.csv: not found"]),
    "no labels": (lambda root: (root / "label.csv").unlink(), ["label.csv: not found"]),
    "no categories": (lambda root: (root / "category.csv").unlink(), ["category.csv: not found"]),
    "no concepts of a category": (lambda root: (root / "c_part.csv").unlink(), ["c_part.csv: not found"]),
    "no folder": (lambda root: root.rename(root.with_name("moved")), ["category.csv: not found"]),
    "misspelt column": (
        lambda root: edit_text(root / "index.csv", "object", "objcet"),
        ["index.csv", "lacks column 'object'", "did you mean 'objcet'?"],
    ),
    "missing column": (
        lambda root: edit_text(root / "c_color.csv", "coverage", "pixels"),
        ["c_color.csv", "lacks column 'coverage'", "it has code, number, name, frequency, pixels"],
    ),
    "empty file": (lambda root: (root / "index.csv").write_text(""), ["index.csv", "lacks column 'image'"]),
    "not UTF-8": (lambda root: (root / "label.csv").write_bytes(b"number,name\n1,caf\xe9\n"), ["label.csv", "UTF-8"]),
    "no rows": (lambda root: edit_index(root, lambda lines: []), ["index.csv", "has no rows"]),
    "no label": (lambda root: edit_index(root, empty_cells), ["index.csv", "none of its 14 images has a label"]),
    "mixed sizes": (set_cell(3, sw="32"), ["index.csv", "t/003.png) is 16x32", "first row is 16x16", "one size"]),
    "size is a word": (set_cell(2, ih="big"), ["index.csv", "t/002.png", "ih,iw must be positive integers"]),
    "size is 0": (set_cell(2, sh="0"), ["index.csv", "t/002.png", "sh,sw must be positive integers"]),
    "bad coverage": (
        lambda root: edit_text(root / "c_object.csv", "3.0", "much"),
        ["c_object.csv", "label 3", "coverage must be a number"],
    ),
    "bad label number": (
        lambda root: edit_text(root / "label.csv", "300,", "3OO,"),
        ["label.csv", "'3OO'", "integer from 0 to 65535"],
    ),
    "no known category": (
        lambda root: (root / "category.csv").write_text("name\nobjects\n"),
        ["category.csv", "0 of its 1 categories (objects)", "such as object, part"],
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_folder_is_one_line_and_leaves_nothing(broden, tmp_path, what):
    break_it, expected = BROKEN[what]
    break_it(broden)
    out = tmp_path / "out"
    with pytest.raises(InputError) as caught:
        prepare_probe(broden, out / "probe.zarr", out / "concepts.csv")
    line = str(caught.value)
    assert line.startswith(str(broden))
    assert "\n" not in line
    assert [part for part in expected if part not in line] == [], line
    assert not out.exists() or list(out.iterdir()) == []


def test_a_failure_keeps_the_earlier_probe(broden, tmp_path):
    prepare_probe(broden, tmp_path / "out/probe.zarr", tmp_path / "out/concepts.csv")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (broden / MASK).unlink()
    with pytest.raises(InputError):
        prepare_probe(broden, tmp_path / "out/probe.zarr", tmp_path / "out/concepts.csv")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_categories_keep_the_order_of_their_table(broden):
    assert read_broden(broden).categories == CATEGORIES  # index.csv has no column "weather"
    text = (broden / "category.csv").read_text().splitlines()
    (broden / "category.csv").write_text("\n".join([text[0], *reversed(text[1:])]))
    assert read_broden(broden).categories == CATEGORIES[::-1]


def test_primary_category_is_the_largest_coverage_then_the_later_one(broden):
    concepts = read_broden(broden).concepts
    assert {number: concept.category for number, concept in concepts.items()} == PRIMARY
    assert {number: concept.name for number, concept in concepts.items()} == {n: c[0] for n, c in CONCEPTS.items()}
    text = (broden / "category.csv").read_text().splitlines()
    (broden / "category.csv").write_text("\n".join([text[0], *reversed(text[1:])]))
    concepts = read_broden(broden).concepts
    assert concepts[8].category == "object"  # the tie of object and part goes to the later of the two
    assert concepts[9].category == "scene"  # in no table: the last one
    assert concepts[7].category == "part"  # the larger coverage does not move


def test_rows_without_any_label_are_dropped(broden):
    rows = read_broden(broden).rows
    assert [row.image for row in rows] == [f"t/{n:03d}.png" for n in range(14) if n not in (4, 9)]
    assert rows[0].scalars == ((0, 1),)
    assert rows[6].image == "t/007.png"
    eighth = rows[7]
    assert (eighth.image, eighth.scalars) == ("t/008.png", ((1, 6),))
    assert eighth.planes[0] == (1, "t/008_texture1.png")


def test_spaces_and_empty_pieces_in_a_cell_do_not_count(broden):
    set_cell(0, scene=" 1 ; ;301;;", object=" ", color="", part="")(broden)
    row = read_broden(broden).rows[0]
    assert (row.scalars, row.planes) == (((0, 1), (0, 301)), ())


def test_columns_of_unused_categories_are_ignored(broden):
    lines = (broden / "category.csv").read_text().splitlines()
    (broden / "category.csv").write_text("\n".join(line for line in lines if line != "material"))
    (broden / "c_material.csv").unlink()
    folder = read_broden(broden)
    assert folder.categories == CATEGORIES[:-1]
    assert folder.concepts[5].category == "part"  # now unlisted: the last category


def test_splits_and_number_of_images(broden):
    folder = read_broden(broden, splits=["val"])
    assert [row.image for row in folder.rows] == ["t/000.png", "t/005.png", "t/010.png"]
    assert len(read_broden(broden, max_images=3).rows) == 3
    assert len(read_broden(broden, splits=["val", "train"]).rows) == 12
    with pytest.raises(InputError, match=r"index\.csv: has no split 'test'; it has train, val"):
        read_broden(broden, splits=["val", "test"])


def test_a_byte_order_mark_is_no_part_of_the_first_column(broden):
    text = (broden / "index.csv").read_text()
    (broden / "index.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert len(read_broden(broden).rows) == 12


def test_image_size_is_height_by_width(tmp_path):
    root = write_broden(tmp_path / "wide", tiny_rows(3))
    edit_index(root, lambda lines: [line | {"ih": "20", "iw": "40"} for line in lines])
    for path in root.glob("images/t/???.png"):
        save(path, np.zeros((20, 40, 3), np.uint8))
    assert read_broden(root).image_size == (20, 40)
    prepare_probe(root, tmp_path / "p.zarr", tmp_path / "c.csv")
