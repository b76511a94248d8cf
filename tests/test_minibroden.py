"""minibroden: the folder it writes is reproducible, consistent, and as varied as promised."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from nemesis.errors import InputError
from nemesis.probes.minibroden import contact_sheet, drawing_seed, make_minibroden
from nemesis.probes.minibroden.canvas import SHAPES, rasterise, trace_shape
from nemesis.probes.minibroden.catalogue import CATALOGUE, CATEGORIES, concept_names, load_catalogue, name_colours
from nemesis.probes.minibroden.patterns import PATTERNS, draw_pattern

IMAGES, SIZE = 40, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    target = tmp_path_factory.mktemp("minibroden") / "probe"
    make_minibroden(target, images=IMAGES, size=SIZE, seed=3, workers=1)
    return target


def read_table(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def hash_files(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_labels(path):
    """Label numbers of a mask PNG, (h, w)."""
    rgb = np.asarray(Image.open(path)).astype(int)
    return rgb[..., 0] + 256 * rgb[..., 1]


def read_planes(folder, row, category):
    """The label planes of one cell, scalars as full planes."""
    shape = (int(row["sh"]), int(row["sw"]))
    pieces = filter(None, row[category].split(";"))
    return [np.full(shape, int(p)) if p.isdigit() else read_labels(folder / "images" / p) for p in pieces]


def test_same_bytes_with_two_workers(folder, tmp_path):
    make_minibroden(tmp_path / "again", images=IMAGES, size=SIZE, seed=3, workers=2)
    assert hash_files(tmp_path / "again") == hash_files(folder)


def test_other_seed_gives_other_pictures(folder, tmp_path):
    make_minibroden(tmp_path / "other", images=4, size=SIZE, seed=4, workers=1)
    ours, other = hash_files(folder), hash_files(tmp_path / "other")
    for number in range(4):
        name = f"images/minibroden/{number:06d}.png"
        assert ours[name] != other[name]


def test_another_draw_gives_other_pictures(folder, tmp_path):
    make_minibroden(tmp_path / "other", images=4, size=SIZE, seed=drawing_seed(3, 1), workers=1)
    ours, other = hash_files(folder), hash_files(tmp_path / "other")
    for number in range(4):
        name = f"images/minibroden/{number:06d}.png"
        assert ours[name] != other[name]


def test_the_first_draw_has_the_seed_itself():
    assert [drawing_seed(seed, 0) for seed in (0, 3)] == [0, 3]
    seeds = {drawing_seed(seed, draw) for seed in range(20) for draw in range(20)}
    assert len(seeds) == 20 * 20
    assert all(seed < 20 or seed > 2**32 for seed in seeds)  # no user's own, nearly surely


def test_a_picture_does_not_depend_on_how_many_there_are(folder, tmp_path):
    make_minibroden(tmp_path / "few", images=3, size=SIZE, seed=3, workers=1)
    ours, few = hash_files(folder), hash_files(tmp_path / "few")
    for number in range(3):
        name = f"images/minibroden/{number:06d}.png"
        assert ours[name] == few[name]


def test_index_and_masks(folder):
    rows = read_table(folder / "index.csv")
    known = {int(row["number"]) for row in read_table(folder / "label.csv")}
    assert len(rows) == IMAGES
    assert {row["split"] for row in rows} == {"train", "val"}
    named = {"index.csv"}
    for row in rows:
        assert [int(row[key]) for key in ("ih", "iw", "sh", "sw")] == [SIZE, SIZE, SIZE // 2, SIZE // 2]
        picture = Image.open(folder / "images" / row["image"])
        assert picture.size == (SIZE, SIZE)
        assert picture.mode == "RGB"
        named.add(row["image"])
        for category in CATEGORIES:
            for plane in read_planes(folder, row, category):
                assert plane.shape == (SIZE // 2, SIZE // 2)
                assert plane.any()
                assert set(np.unique(plane).tolist()) <= known | {0}
            named.update(piece for piece in row[category].split(";") if piece.endswith(".png"))
    stored = {str(path.relative_to(folder / "images")) for path in folder.glob("images/*/*.png")}
    assert stored == named - {"index.csv"}


def test_index_has_every_kind_of_cell(folder):
    rows = read_table(folder / "index.csv")
    cells = [row[category] for row in rows for category in CATEGORIES]
    assert any(cell.count(".png") >= 2 for cell in cells)
    assert any(cell == "" for cell in cells)
    assert any(cell.isdigit() for cell in cells)
    assert any(row["texture"].isdigit() for row in rows)
    assert any(row["texture"].endswith(".png") for row in rows)


def test_label_tables_agree_with_the_masks(folder):
    rows = read_table(folder / "index.csv")
    for category in CATEGORIES:
        frequency, coverage = {}, {}
        for row in rows:
            seen = {}
            for plane in read_planes(folder, row, category):
                for number in set(np.unique(plane).tolist()) - {0}:
                    seen[number] = seen.get(number, False) | (plane == number)
            for number, mask in seen.items():
                frequency[number] = frequency.get(number, 0) + 1
                coverage[number] = coverage.get(number, 0.0) + mask.mean()
        table = read_table(folder / f"c_{category}.csv")
        assert {int(r["number"]): int(r["frequency"]) for r in table} == frequency
        for line in table:
            assert float(line["coverage"]) == pytest.approx(coverage[int(line["number"])], abs=1e-9)


def test_labels_are_numbered_by_frequency(folder):
    labels = read_table(folder / "label.csv")
    assert [int(row["number"]) for row in labels] == list(range(1, len(labels) + 1))
    frequencies = [int(row["frequency"]) for row in labels]
    assert frequencies == sorted(frequencies, reverse=True)
    by_category = {c: {r["name"]: r for r in read_table(folder / f"c_{c}.csv")} for c in CATEGORIES}
    for row in labels:
        for piece in row["category"].split(";"):
            category, count = piece.rstrip(")").split("(")
            assert by_category[category][row["name"]]["frequency"] == count
            assert by_category[category][row["name"]]["number"] == row["number"]


def test_categories_sum_up_their_labels(folder):
    rows = read_table(folder / "category.csv")
    assert {row["name"] for row in rows} == set(CATEGORIES)
    for row in rows:
        table = read_table(folder / f"c_{row['name']}.csv")
        numbers = [int(line["number"]) for line in table]
        assert [int(line["code"]) for line in table] == list(range(1, len(table) + 1))
        assert (int(row["first"]), int(row["last"])) == (min(numbers), max(numbers))
        assert (int(row["count"]), int(row["frequency"])) == (
            len(table),
            sum(int(line["frequency"]) for line in table),
        )


def test_a_pixel_never_has_one_label_twice(folder):
    for row in read_table(folder / "index.csv"):
        planes = [plane for category in CATEGORIES for plane in read_planes(folder, row, category)]
        for i, plane in enumerate(planes):
            for other in planes[:i]:
                assert not ((plane == other) & (plane > 0)).any()


def test_descriptions_refer_to_existing_regions(folder):
    rows = {row["image"]: row for row in read_table(folder / "index.csv")}
    names = {row["number"]: row["name"] for row in read_table(folder / "label.csv")}
    descriptions = read_table(folder / "descriptions.csv")
    assert {line["category"] for line in descriptions} == set(CATEGORIES) - {"color"}
    for line in descriptions:
        assert names[line["number"]] == line["name"]
        x0, y0, x1, y1 = (int(line[key]) for key in ("x0", "y0", "x1", "y1"))
        planes = read_planes(folder, rows[line["image"]], line["category"])
        box = [plane[y0:y1, x0:x1] == int(line["number"]) for plane in planes]
        found = np.any(box, axis=0)
        if line["category"] != "object":  # an instance's box may hold several nested objects
            assert found.any(axis=0)[[0, -1]].all()
            assert found.any(axis=1)[[0, -1]].all()
        assert found.any()
        assert "None" not in line["description"]
        plural = load_catalogue().plurals.get(line["name"], line["name"])
        assert line["name"][:-1] in line["description"] or plural in line["description"]


def test_catalogue_is_as_large_as_promised():
    names = concept_names(load_catalogue())
    assert len(names["object"]) >= 55
    assert len(names["texture"]) >= 12
    assert len(names["material"]) >= 10
    assert len(names["scene"]) >= 12
    assert len(names["color"]) == 11
    assert len(load_catalogue().concepts) >= 150


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[rect, 0.9, 0.9", "[square, 0.9, 0.9", "is not a shape"),
        ("place: sky", "place: moon", "is not one of"),
        ("colour: second", "colour: secnd", "neither a colour nor a colour role"),
        ("material: brick", "material: bricks", "is not known"),
        ("of: crown", "of: leaf", "not drawn before it"),
        ("size: [0.3, 0.4]", "size: 0.3", "expected two numbers"),
        ("swatches: 0.1", "swatchs: 0.1", "unknown key"),
        ("'#101010'", "'#10101'", "is not a colour like"),
    ],
)
def test_a_wrong_catalogue_is_named_in_one_line(tmp_path, old, new, message):
    text = """
colours: {black: ['#101010'], white: ['#f0f0f0']}
materials: {brick: brick}
textures: [striped]
swatches: 0.1
objects:
  tree:
    box: [1, 1]
    size: [0.3, 0.4]
    place: sky
    colours: {main: [black], second: [white]}
    draw:
      - {name: crown, material: brick, draw: [[circle, 0.5, 0.5, 0.5]]}
      - {name: leaf, of: crown, colour: second, draw: [[rect, 0.9, 0.9, 1, 1]]}
scenes:
  park:
    {weight: 1, count: [1, 2], layers: [{object: sky, top: [0, 0], looks: [{colours: [white]}]}], objects: {tree: 1}}
"""
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(text)
    assert load_catalogue(good).concepts
    assert old in text
    bad.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        load_catalogue(bad)


@pytest.mark.parametrize(
    "arguments", [{"images": 0}, {"size": 31}, {"size": 65}, {"seed": -1}, {"workers": 0}, {"images": 1.5}]
)
def test_wrong_arguments_are_named(tmp_path, arguments):
    (name,) = arguments
    with pytest.raises(InputError, match=name):
        make_minibroden(tmp_path / "never", **arguments)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("kind", sorted(PATTERNS))
def test_patterns_mix_two_colours(kind):
    y, x = np.arange(96)[:, None], np.arange(90)[None, :]
    field = draw_pattern(kind, y, x, 16.0, 0.3, np.random.default_rng(0))
    assert field.shape == (96, 90)
    assert field.min() >= 0
    assert field.max() <= 1
    assert field.std() > 0.1


def test_shapes_cover_their_area():
    rng = np.random.default_rng(0)
    areas = {
        ("circle", 70, 70, 50): 2500 * np.pi,
        ("rect", 4, 5, 124, 65): 7200,
        ("line", 40, 40, 120, 40, 40): 3200 + 400 * np.pi,
    }
    for shape, area in areas.items():
        mask, _, _ = rasterise([trace_shape(shape, rng)], 160)
        assert mask.sum() == pytest.approx(area, rel=0.1)
    assert rasterise([trace_shape(("circle", -30, -30, 5), rng)], 160) is None
    assert set(SHAPES) >= {shape[0] for shape in areas}


def test_prototypes_are_named_after_themselves():
    colours = load_catalogue(CATALOGUE).colours
    for i, shades in enumerate(colours.values()):
        assert (name_colours(colours, np.array([shades])) == i).all()


def test_contact_sheet(folder, tmp_path):
    sheet = contact_sheet(folder, 6, tmp_path / "sheets" / "sheet.png")
    assert Image.open(tmp_path / "sheets" / "sheet.png").size == sheet.size
    with pytest.raises(InputError, match="not found"):
        contact_sheet(tmp_path / "nowhere", 6)


@pytest.mark.slow
def test_long_tail_of_600_images(tmp_path):
    make_minibroden(tmp_path / "probe", images=600, size=128, seed=0, workers=2)
    frequencies = [int(row["frequency"]) for row in read_table(tmp_path / "probe" / "label.csv")]
    assert len(frequencies) >= 150
    assert sum(frequency < 30 for frequency in frequencies) >= 100
    assert np.mean([frequency >= 3 for frequency in frequencies]) > 0.95
