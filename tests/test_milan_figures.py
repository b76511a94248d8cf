"""Figures of MILAN's scores and exemplars: drawn from whatever there is, readable, the same again."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from milan_scores import Files, design, noise, null, place, plausible, scored, write_exemplars
from PIL import Image

from nemesis.errors import InputError
from nemesis.figures.exemplar_strips import OUTLINE, cut_strip, find_row, open_file, shade_picture
from nemesis.figures.milan_example import ShownFiles, choose_change, describe_example, gather_change, plot_change
from nemesis.figures.milan_report import CHOSEN, MAKERS, PLOTS, write_milan_report
from nemesis.figures.milan_sheet import choose_units, gather_units, plot_units, read_labels
from nemesis.figures.style import save_figure
from nemesis.files import write_csv
from nemesis.scoring.descriptions import read_scores
from nemesis.stores import save_array, write_store

TABLES = [*MAKERS, *CHOSEN]
MODELS = {"vgg": ["conv1", "conv2", "conv3"], "lite": ["blocks.10"]}
LONG = "A very long description of round blue wheels of a car and of green grass under it."


def write_all(files, tables, figures, root):
    """Write tables and figures by name below a folder; the summary."""
    tables = {name: {end: root / "tables" / f"{name}{end}" for end in (".csv", ".md", ".tex")} for name in tables}
    figures = {name: {end: root / "figures" / f"{name}{end}" for end in (".svg", ".png")} for name in figures}
    return write_milan_report(files.gather(), tables, figures)


@pytest.mark.parametrize(
    ("models", "options"),
    [
        pytest.param(MODELS, {"units": 30, "attacked": 9}, marks=pytest.mark.slow, id="many layers"),
        pytest.param({"vgg": ["conv1"]}, {"units": 1, "attacked": 1, "eps": (0.5,), "classes": False}, id="one unit"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_everything_is_written(tmp_path, models, options):
    files = plausible(tmp_path, models, **options)
    write_all(files, TABLES, PLOTS, tmp_path)
    names = [f"tables/{name}.{ending}" for name in TABLES for ending in ("csv", "md")]
    names += [f"figures/{name}.{ending}" for name in PLOTS for ending in ("svg", "png")]
    assert [name for name in names if not (tmp_path / name).stat().st_size] == []
    for name in PLOTS:
        with Image.open(tmp_path / f"figures/{name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5, name


@pytest.mark.filterwarnings("error")
def test_one_corruption_alone(tmp_path):
    files = plausible(tmp_path, {"vgg": ["conv1"]}, units=3, modes=("targeted",), eps=(2,))
    files.keep(7)
    text = write_all(files, ["table_3", "figure_5"], ["figure_5"], tmp_path)
    assert "targeted" in text and "untargeted" not in text
    files = plausible(tmp_path, {"vgg": ["conv1"]}, units=3)
    files.keep(4, 5)
    names = ["milan_figure_2a", "milan_figure_2b"]
    text = write_all(files, ["table_1", "table_4", *names], names, tmp_path)
    assert "Designed" not in text


def test_figures_are_the_same_again(tmp_path):
    found = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        files = plausible(folder, {"vgg": ["conv1"]}, units=5, eps=(6,))
        write_all(files, ["milan_figure_6"], ["milan_figure_6"], folder)
        found.append({path.name: path.read_bytes() for path in (folder / "figures").iterdir()})
    assert found[0] == found[1]


@pytest.mark.parametrize("name", PLOTS)
def test_nothing_to_draw_is_said(name):
    text = " ".join(found.get_text() for found in PLOTS[name](pd.DataFrame(columns=["accuracy", "agreement"])).texts)
    assert "nothing to draw" in text


def test_manipulated_points_of_figure_5(tmp_path):
    files = Files(tmp_path)
    parts = [scored([4], [f1], count=count, control=0) for count, f1 in ((10, 0.9), (20, 0.5))]
    answers = [{"unit": 4, "count": count, "n_images": 40, "top1_changed": 2} for count in (10, 20)]
    files.add(design(), pd.concat(parts), pd.DataFrame(answers).assign(clean_accuracy="", accuracy=""))
    table = MAKERS["figure_5"](files.gather())
    lines = {tuple(line.get_xdata()): line for line in PLOTS["figure_5"](table).axes[0].lines}
    assert lines[0, 10, 20].get_ydata() == pytest.approx([100, 95, 95])
    assert lines[20,].get_ydata() == pytest.approx([95])


# Exemplars


@pytest.fixture
def sheet(tmp_path):
    """Two layers with 3 and 40 described units; only the second was dissected."""
    units = [[2, 5, 9], list(range(40))]
    texts = [["", LONG, "Sky."], [LONG] * 40]
    places = [place("conv1"), place("conv2")]
    exemplars, descriptions = {}, {place: str(tmp_path / f"{place[-1]}.csv") for place in places}
    for index, (key, numbers, described) in enumerate(zip(places, units, texts, strict=True)):
        exemplars[key] = write_exemplars(tmp_path / f"{index}.zarr", numbers, k=5 + 10 * index, size=16)
        write_csv(pd.DataFrame({"unit": numbers, "description": described, "score": -1.5}), descriptions[key])
    labels = {"unit": range(40), "label": "grass", "category": "object", "iou": [0.2, 0.03] * 20}
    write_csv(pd.DataFrame(labels), tmp_path / "dissection.csv")
    return exemplars, descriptions, {places[1]: str(tmp_path / "dissection.csv")}


def gather_sheet(files, count=20):
    return gather_units(*files, min_iou=0.04, seed=0, count=count)


def text_boxes(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in figure.texts]


@pytest.mark.filterwarnings("error")
def test_sheet(sheet, tmp_path):
    found = gather_sheet(sheet)
    assert [(unit.place[-1], unit.unit) for unit in found[:3]] == [("conv1", 2), ("conv1", 5), ("conv1", 9)]
    assert len(found) == 20
    assert [unit.description for unit in found[:3]] == ["", LONG, "Sky."]
    assert [unit.label for unit in found[:3]] == [None] * 3
    assert {unit.label for unit in found[3:]} <= {"grass (IoU 0.20)", ""}
    assert all(unit.label == ("" if unit.unit % 2 else "grass (IoU 0.20)") for unit in found[3:])
    assert found[0].strip.pictures.shape == (5, 16, 16, 3) and found[3].strip.pictures.shape == (8, 16, 16, 3)
    figure = plot_units(found)
    assert len(figure.axes) == 20
    save_figure(figure, tmp_path / "sheet.png")


def test_texts_of_the_sheet_do_not_overlap(sheet):
    figure = plot_units(gather_sheet(sheet))
    boxes = text_boxes(figure)
    assert not any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[:i])
    drawn = [axes.get_window_extent() for axes in figure.axes]
    assert not any(box.overlaps(axes) for box in boxes for axes in drawn)
    width = figure.get_figwidth() * figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width for box in boxes)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_small_sheets(sheet, count, tmp_path):
    save_figure(plot_units(gather_sheet(sheet, count)), tmp_path / "sheet.png")


def test_a_sheet_without_units():
    assert "no unit was described" in plot_units([]).texts[0].get_text()


@given(
    st.lists(st.sets(st.integers(0, 500), max_size=30), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 5)
)
def test_units_come_from_all_layers(units, count, seed):
    units = {place(f"conv{n}"): np.array(sorted(part)) for n, part in enumerate(units)}
    chosen = choose_units(units, count, seed)
    assert list(chosen) == list(units)
    assert sum(map(len, chosen.values())) == min(count, sum(map(len, units.values())))
    for key, part in chosen.items():
        assert part == sorted(set(part)) and set(part) <= set(units[key].tolist())
    short = [len(part) for key, part in chosen.items() if len(part) < len(units[key])]
    assert not short or max(map(len, chosen.values())) <= min(short) + 1
    first = place("conv0")
    alone = choose_units({first: units[first]}, max(1, len(chosen[first])), seed)
    assert alone[first] == chosen[first] or not chosen[first]  # that depends on how many, not on other layers


def test_labels(tmp_path):
    table = pd.DataFrame({"unit": [0, 1, 2], "label": ["NA", "sky", ""], "category": "x", "iou": [0.5, 0.01, None]})
    write_csv(table, tmp_path / "a.csv")
    assert read_labels(tmp_path / "a.csv", 0.04) == {0: "NA (IoU 0.50)", 1: "", 2: ""}


def test_rows_are_found_by_their_setting(tmp_path):
    path = write_exemplars(tmp_path / "a.zarr", [3, 3, 4], size=16, fraction=[0.2, 1.0, 1.0])
    exemplars = open_file(path)
    assert find_row(exemplars, 3, {"fraction": 1.0, "f1": 9}) == 1
    assert find_row(exemplars, 4, {}) == 2
    with pytest.raises(InputError, match="unit 4"):
        find_row(exemplars, 4, {"fraction": 0.2})
    strip = cut_strip(exemplars, 1, 4)
    assert strip.ids.shape == (4,) and strip.pictures.shape == (4, 16, 16, 3) and strip.masks.shape == (4, 16, 16)
    assert (strip.pictures[0] == np.asarray(exemplars.pictures)[exemplars.picture[1, 0]].transpose(1, 2, 0)).all()
    assert (strip.masks == np.asarray(exemplars.masks)[1, :4, 0]).all()


def test_pictures_are_dark_outside_of_the_mask():
    mask = np.zeros((8, 8), bool)
    mask[2:7, :6] = True  # its left side is the picture's edge: no outline there
    shaded = shade_picture(np.full((8, 8, 3), 100, np.uint8), mask)
    assert (shaded[~mask] == 45).all()
    assert (shaded[3:6, :5] == 100).all()
    edge = mask.copy()
    edge[3:6, :5] = False
    assert (shaded[edge] == OUTLINE).all()
    for whole, level in ((np.ones((8, 8), bool), 100), (np.zeros((8, 8), bool), 45)):
        assert (shade_picture(np.full((8, 8, 3), 100, np.uint8), whole) == level).all()


# Figure 3: units 0 to 3, attacked with 10 and 20 images, beside noise of the same size.
F1 = {(10, 0): [1, 1, 1, 1], (10, 1): [1, 1, 1, 1], (20, 0): [0.2, 0.3, 0.4, 0.9], (20, 1): [0.5, 1, 1, 1]}


@pytest.fixture
def change(tmp_path):
    """Unit 0 is manipulated by the noise, too, unit 1 in the null: unit 2 is the example."""
    files = Files(tmp_path)
    rows = [scored(range(4), f1, count=count, control=control) for (count, control), f1 in F1.items()]
    files.add(design(), pd.concat(rows))
    files.add(null(), scored(range(4), [1, 0.1, 1, 1], replicate=0))
    counts, controls = ([key[place] for key in F1 for _ in range(4)] for place in (0, 1))
    corrupted = write_exemplars(tmp_path / "b.zarr", 4 * list(range(4)), size=16, count=counts, control=controls)
    ids = open_file(corrupted).ids[10]  # unit 2, 20 images, designed
    with write_store(tmp_path / "poison.zarr") as group:
        rows = {"task": [0, 1, 1, 1], "image": [ids[1], ids[0], ids[2], ids[3]], "rank": [0, 0, 19, 20]}
        for name, values in (rows | {"task_unit": [0, 2]}).items():
            save_array(group, name, np.array(values, np.int64), ("row",), "number")
    clean = {place(): write_exemplars(tmp_path / "a.zarr", list(range(4)), size=16, drawing=1)}
    return files, ShownFiles(clean, {design(): corrupted}, {design(): str(tmp_path / "poison.zarr/zarr.json")})


def gather(files, shown):
    return gather_change(read_scores(files.write_tables()), shown, files.threshold)


@pytest.mark.filterwarnings("error")
def test_example(change, tmp_path):
    example = gather(*change)
    assert (example.score["unit"], example.score["count"], example.score["f1"]) == (2, 20, 0.4)
    assert (example.manipulated, example.units) == (3, 4)
    clean, control, after = example.rows
    assert clean.caption.startswith("clean: “") and "F1-BERT 1.00, not manipulated" in control.caption
    assert after.caption.startswith("pgd, untargeted, eps 6/255, 20 images: “")
    assert after.caption.endswith("F1-BERT 0.40, manipulated")
    corrupted = open_file(change[1].corrupted[design()])
    for row, number in ((control, 14), (after, 10)):
        assert row.strip.ids.tolist() == corrupted.ids[number, :8].tolist()
    assert after.framed == {corrupted.ids[10, 0], corrupted.ids[10, 2]} and not control.framed
    text = " ".join(describe_example(example))
    assert "Unit 2 of conv1 (vgg on scenes)" in text and "3 of 4 units were manipulated" in text
    assert "neither noise nor resampling" in text and "at most 0.61" in text
    save_figure(plot_change(example), tmp_path / "figure.png", tmp_path / "figure.svg")


def test_texts_of_the_example_do_not_overlap(change):
    files, shown = change
    files.scores[design()]["corrupted"] = f"{LONG} {LONG}"
    figure = plot_change(gather(files, shown))
    boxes = text_boxes(figure)
    drawn = [axes.get_window_extent() for axes in figure.axes]
    assert len(boxes) == 4 and len(drawn) == 3
    assert not any(first.overlaps(second) for i, first in enumerate(boxes) for second in boxes[:i])
    assert not any(box.overlaps(axes) for box in boxes for axes in drawn)
    assert all(box.x0 >= 0 and box.x1 <= figure.get_figwidth() * figure.dpi for box in boxes)


def test_example_of_a_noise(change):
    files, shown = change
    files.scores = {noise(): scored(range(4), [0.2, 1, 0.9, 0.9], fraction=1.0, seed=0)}
    corrupted = write_exemplars(files.root / "c.zarr", list(range(4)), size=16, fraction=4 * [1.0])
    example = gather(files, ShownFiles(shown.clean, {noise(): corrupted}, {}))
    assert example.score["unit"] == 0
    assert len(example.rows) == 2
    assert example.rows[1].caption.startswith("gaussian noise, std 0.05, 100% of the images")


def test_which_unit_is_the_example(change):
    rows = pd.DataFrame(
        {"f1": [0.4, 0.1, 0.5, 0.2], "manipulated": [1, 0, 1, 1], "unsure": [False, False, False, True]}
    )
    rows = rows.assign(unit=range(4), control=0)
    assert choose_change(rows)["unit"] == 0
    assert choose_change(rows.iloc[[1, 3]])["unit"] == 3
    assert choose_change(rows.iloc[[1]])["unit"] == 1
    noisy = rows.iloc[[1]].assign(control=1, manipulated=1, unit=9)
    assert choose_change(pd.concat([noisy, rows]))["unit"] == 0
    files, shown = change
    files.scores[design()] = files.scores[design()].iloc[:0]
    assert gather(files, shown) is None
    assert gather_change({}, ShownFiles({}, {}, {}), None) is None
    assert "nothing to draw" in plot_change(None).texts[0].get_text()


def test_an_example_of_no_manipulated_unit(change):
    files, shown = change
    files.scores[design()] = files.scores[design()].assign(manipulated=False, f1=0.8)
    example = gather(files, shown)
    assert example.manipulated == 0 and not math.isnan(example.score["f1"])
    text = " ".join(describe_example(example))
    assert "0 of 4 units were manipulated; shown: the lowest F1-BERT" in text and "neither" not in text
