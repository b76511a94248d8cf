"""Figure 3: which unit is shown, and what of it."""

import numpy as np
import pandas as pd
import pytest
from attacked_files import table

from nemesis.corruption.designed import COLUMNS as DISSECTION
from nemesis.dissection.tops import rank_images
from nemesis.dissection.upsample import upsample
from nemesis.figures.style import save_figure
from nemesis.figures.unit import UnitFiles, choose_task, gather_example, plot_example
from nemesis.files import write_csv
from nemesis.stores import save_array, write_root, write_store

# Figure 3: 4 images of 8 x 8, maps of 2 x 2, units 0 to 2; unit 2 is attacked on images 1 and 3.
MAX = np.array([[1, 2, 3, 4], [0, 0, 0, 0], [5, 9, 7, 8]], np.float16)


@pytest.fixture
def files(tmp_path):
    """The files of figure 3; `attack_files` writes those of the attack."""
    images = np.full((4, 3, 8, 8), 100, np.uint8)
    with write_store(tmp_path / "probe.zarr", categories=["object"]) as group:
        save_array(group, "images", images, ("image", "channel", "y", "x"), "", (2, 3, 8, 8))
    maps = np.zeros((3, 4, 2, 2), np.float16)
    maps[:, :, 0, 0] = MAX
    with write_store(tmp_path / "maps.zarr" / "conv1") as group:
        save_array(group, "maps", maps, ("unit", "image", "y", "x"), "")
        save_array(group, "max", MAX, ("unit", "image"), "")
        save_array(group, "image", np.arange(4), ("image",), "")
    write_root(tmp_path / "maps.zarr")
    with write_store(tmp_path / "tally.zarr", concepts=["", "cat", "dog"]) as group:
        save_array(group, "iou", np.array([[0, 0.1, 0.2]] * 2 + [[0, 0.3, 0.05]]), ("unit", "concept"), "")
    clean = pd.DataFrame({"unit": [0, 1, 2], "label": ["dog", "dog", "cat"], "number": [2, 2, 1]})
    write_csv(clean, tmp_path / "clean.csv")
    names = ("probe", "maps", "tally", "poison", "poisoned_maps")
    stores = {name: str(tmp_path / f"{name}.zarr" / "zarr.json") for name in names}
    tables = {eps: str(tmp_path / f"{eps}.csv") for eps in (2, 6)}
    return UnitFiles(layer="conv1", clean=str(tmp_path / "clean.csv"), tables=tables, **stores)


def attack_files(files, tmp_path, task=(0, 1, 1), shared=False, manipulated=(False, True)):
    """Two tasks, units 0 and 2; rows: image 0 of task 0, images 1 and 3 of task 1."""
    delta = np.zeros((3, 3, 8, 8), np.int8)
    delta[1], delta[2] = -6, 6
    shown = np.zeros((3, 2, 2), np.float16)
    shown[1:, 1, 1] = (1, 20)  # image 1 falls from 9 to 1, image 3 rises from 8 to 20
    with write_store(tmp_path / "poison.zarr") as group:
        save_array(group, "task", np.array(task, np.int32), ("row",), "")
        save_array(group, "image", np.array([0, 1, 3], np.int32), ("row",), "")
        save_array(group, "delta", delta, ("row", "channel", "y", "x"), "1/255")
    with write_store(tmp_path / "poisoned_maps.zarr") as group:
        maps = np.stack([np.zeros_like(shown), shown], axis=1) if shared else shown
        save_array(group, "maps", maps, ("row", "task", "y", "x") if shared else ("row", "y", "x"), "")
    for path, label, iou in zip(files.tables.values(), ("cat", "dog"), (0.2, 0.4), strict=True):
        rows = [
            {"unit": unit, "clean_iou": clean, "source": source, "label": label, "manipulated": changed, "iou": iou}
            | {"source_iou": 0.1, "threshold": 6.0, "clean_threshold": 6.5}
            for unit, clean, source, changed in zip((0, 2), (0.2, 0.3), ("dog", "cat"), manipulated, strict=True)
        ]
        write_csv(table(DISSECTION, *rows), path)


def test_the_example_is_the_manipulated_unit_with_the_highest_clean_iou():
    rows = pd.DataFrame({"clean_iou": [0.2, 0.5, 0.3], "manipulated": [1.0, 0.0, 1.0]}, index=[7, 7, 7])
    assert choose_task(rows) == 2
    assert choose_task(rows.assign(manipulated=0.0)) is None
    assert choose_task(rows[:0]) is None
    assert rank_images(np.array([1, 5, 3, 5, 2, 0])).tolist() == [1, 3, 2, 4, 0]


@pytest.mark.parametrize(("task", "shared"), [((0, 1, 1), False), ((-1, -1, -1), True)])
def test_example(files, tmp_path, task, shared):
    attack_files(files, tmp_path, task, shared)
    example = gather_example(files)
    assert (example.unit, example.poisoned, example.images) == (2, 3 if shared else 2, 4)
    clean, same, new = (pictures for _, pictures in example.rows)
    assert [p.number for p in clean] == [p.number for p in same] == [1, 3, 2, 0]
    assert [p.number for p in new] == [3, 2, 1, 0] if shared else [3, 2, 0, 1]
    assert not any(p.poisoned for p in clean)
    assert [p.number for p in same if p.poisoned] == ([1, 3, 0] if shared else [1, 3])
    assert [float(255 * p.image.max()) for p in same[:3]] == pytest.approx([94, 106, 100])
    maps = {"clean": [[9, 0], [0, 0]], "new": [[0, 0], [0, 20]]}
    assert (clean[0].mask == (upsample(np.array(maps["clean"], np.float32), (8, 8)) > 6.5)).all()
    assert (same[1].mask == (upsample(np.array(maps["new"], np.float32), (8, 8)) > 6)).all()
    assert not same[0].mask.any()
    assert example.curve["eps"].tolist() == [0, 2, 6]
    assert example.curve["source_iou"].tolist() == [0.3, 0.1, 0.1]
    assert example.curve["iou"].tolist() == [0.05, 0.2, 0.4]  # at 0 that of dog
    assert example.curve["label"].tolist() == ["dog", "cat", "dog"]
    figure = plot_example(example, ("scenes", "vgg", "conv1"), 6)
    assert "cat (IoU 0.300)" in figure.get_suptitle() and "dog (0.400)" in figure.get_suptitle()
    save_figure(figure, tmp_path / "figure_3.png", tmp_path / "figure_3.svg")


def test_no_example(files, tmp_path):
    attack_files(files, tmp_path, manipulated=(False, False))
    assert gather_example(files) is None
    for path in files.tables.values():
        write_csv(table(DISSECTION), path)
    assert gather_example(files) is None
    figure = plot_example(None, ("scenes", "vgg", "conv1"), 6)
    assert "no unit was manipulated at eps 6/255" in figure.texts[0].get_text()
    save_figure(figure, tmp_path / "figure_3.png", tmp_path / "figure_3.svg")
