"""Figure 3 of the paper: one unit before and after its label was changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from nemesis.corruption.poisoned import Poisoned, read_poisoned
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tables import read_table
from nemesis.dissection.tops import TOP, rank_images
from nemesis.dissection.upsample import upsample
from nemesis.figures.attacks import read_outcomes
from nemesis.figures.escape import to_figure_text
from nemesis.figures.style import BLUE, DIMMED, POISONED, STYLE, VERMILLION, YELLOW, write_message
from nemesis.probes.probe import Probe, open_probe
from nemesis.stores import open_store, read


@dataclass(frozen=True)
class UnitFiles:
    """What one layer's unit is shown from: clean files, those after one kind of attack, and `tables` by eps, ascending.

    `poison` and `poisoned_maps` are those of the largest eps. A store is named by the zarr.json in it; `maps` has
    those of all layers.
    """

    layer: str
    probe: str
    maps: str
    tally: str
    clean: str
    tables: Mapping[float, str]
    poison: str
    poisoned_maps: str


@dataclass(frozen=True)
class Picture:
    """An image (H, W, 3) in [0, 1] and the unit's mask on it (H, W)."""

    number: int
    image: np.ndarray
    mask: np.ndarray
    poisoned: bool


@dataclass(frozen=True)
class Example:
    """A unit whose label was changed; `rows` are (title, pictures), `curve` has eps, source_iou, iou and label."""

    unit: int
    row: pd.Series
    poisoned: int
    images: int
    rows: list[tuple[str, list[Picture]]]
    curve: pd.DataFrame


def choose_task(table: pd.DataFrame) -> int | None:
    """Line of the manipulated unit with the highest clean IoU in a designed/.../dissection.csv; None without one."""
    changed = table.reset_index(drop=True)
    changed = changed[changed["manipulated"] == 1]
    return int(changed["clean_iou"].idxmax()) if len(changed) else None


def gather_example(files: UnitFiles) -> Example | None:
    """Read what the figure shows; None when no unit was manipulated at the largest eps.

    The differences are those that the attack stored in 8 bits.
    """
    tables = {eps: read_outcomes(path) for eps, path in files.tables.items()}
    largest = list(tables.values())[-1]
    task = choose_task(largest)
    if task is None:
        return None
    row, probe = largest.iloc[task], open_probe(Path(files.probe).parent)
    unit, maps = int(row["unit"]), open_maps(Path(files.maps).parent, files.layer)
    poisoned = read_poisoned(*(open_store(Path(path).parent) for path in (files.poison, files.poisoned_maps)), task)
    clean_max = read(maps.max, slice(unit, unit + 1))[0].astype(np.float32)
    new_max = clean_max.copy()
    new_max[poisoned.image] = poisoned.maps.max(axis=(1, 2))
    before, after = rank_images(clean_max), rank_images(new_max)
    pictures = UnitPictures(unit, probe, maps, poisoned)
    rows = [
        (f"its {len(before)} strongest images, clean", pictures.clean(before, row["clean_threshold"])),
        ("the same images in the corrupted probe", pictures.corrupted(before, row["threshold"])),
        (f"its {len(after)} strongest images in the corrupted probe", pictures.corrupted(after, row["threshold"])),
    ]
    curve = trace_iou(Path(files.tally).parent, files.clean, tables, task)
    return Example(unit, row, len(poisoned.image), probe.count, rows, curve)


@dataclass(frozen=True)
class UnitPictures:
    """Pictures of a unit's images."""

    unit: int
    probe: Probe
    maps: object
    poisoned: Poisoned

    def clean(self, numbers, threshold: float) -> list[Picture]:
        """Images as they are, with the mask above the threshold."""
        return [self._picture(int(number), threshold, None) for number in numbers]

    def corrupted(self, numbers, threshold: float) -> list[Picture]:
        """Images of the corrupted probe: the poisoned ones changed, the others as they are."""
        return [self._picture(int(number), threshold, self.poisoned.place(int(number))) for number in numbers]

    def _picture(self, number: int, threshold: float, place: int | None) -> Picture:
        image = self.probe.images(number, number + 1)[0].astype(np.int16)
        if place is None:
            cells = self.maps.read(slice(number, number + 1), slice(self.unit, self.unit + 1))[0, 0]
        else:
            image, cells = image + self.poisoned.delta[place], self.poisoned.maps[place]
        mask = upsample(cells, tuple(self.probe.size)) > np.float32(threshold)
        pixels = image.clip(0, 255).transpose(1, 2, 0) / 255
        return Picture(number, pixels, mask, place is not None)


def trace_iou(tally_path, clean_path, tables: Mapping[float, pd.DataFrame], task: int) -> pd.DataFrame:
    """IoU of the clean label and of the label found, over eps; at 0 of the label found at the largest eps."""
    tally, rows = open_store(tally_path), [table.iloc[task] for table in tables.values()]
    unit, last = int(rows[0]["unit"]), rows[-1]["label"]
    clean = read_table(clean_path).set_index("unit").loc[unit]
    iou = read(tally["iou"], slice(unit, unit + 1))[0]
    new = list(tally.attrs["concepts"]).index(last) if last else 0
    lines = [{"eps": 0.0, "source_iou": iou[int(clean["number"])], "iou": iou[new], "label": last}]
    names = ("source_iou", "iou", "label")
    lines += [{"eps": size} | {name: row[name] for name in names} for size, row in zip(tables, rows, strict=True)]
    return pd.DataFrame(lines)


@style.context(STYLE)
def plot_example(example: Example | None, place, eps: float):
    """Draw the figure; one line of text when there is no example. `place` is (probe, model, layer)."""
    probe, model, layer = place
    where = f"{layer} of {model} on {probe}"
    if example is None:
        return write_message(f"{where}: no unit was manipulated at eps {eps:g}/255")
    row = example.row
    figure = Figure(figsize=(8.4, 4.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 2.6))
    for part, (title, pictures) in zip(left.subfigures(3, 1), example.rows, strict=True):
        part.suptitle(title, fontsize=8)
        for axes, picture in zip(part.subplots(1, TOP, squeeze=False)[0], pictures, strict=False):
            draw_picture(axes, picture)
    draw_iou(right.subplots(), example.curve, row["source"])
    names = [to_figure_text(name) or "no label" for name in (row["source"], row["label"])]
    title = f"Unit {example.unit}, {where}: {names[0]} (IoU {row['clean_iou']:.3f}) → {names[1]} ({row['iou']:.3f})"
    title += (
        f"\neps {eps:g}/255, {example.poisoned} of {example.images} images poisoned (framed); bright: the unit's mask"
    )
    figure.suptitle(title, fontsize=9)
    return figure


def draw_picture(axes, picture: Picture):
    """An image, dark outside of the unit's mask; a poisoned one has a frame."""
    shade = np.where(picture.mask, 1, DIMMED)[:, :, None]
    axes.imshow(picture.image * shade, interpolation="nearest")
    if picture.mask.any() and not picture.mask.all():
        axes.contour(picture.mask, [0.5], colors=YELLOW, linewidths=0.8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{picture.number}{', poisoned' if picture.poisoned else ''}", fontsize=6.5, labelpad=2)
    for spine in axes.spines.values():
        spine.set(visible=picture.poisoned, color=POISONED, linewidth=2)


def draw_iou(axes, curve: pd.DataFrame, source: str):
    """IoU over eps; a label found on the way that is not the last one is written beside its point."""
    last = curve["label"].iloc[-1]
    names = [to_figure_text(name) or "no label" for name in (source, last)]
    axes.plot(curve["eps"], curve["source_iou"], marker="o", color=BLUE, label=f"before: {names[0]}")
    axes.plot(curve["eps"], curve["iou"], marker="s", color=VERMILLION, label=f"after: {names[1]}")
    for _, point in curve.iterrows():
        if point["label"] != last:
            text = to_figure_text(point["label"]) or "no label"
            place = (point["eps"], point["iou"])
            axes.annotate(text, place, (5, -9), textcoords="offset points", fontsize=7)
    axes.set_ylim(bottom=0)
    axes.set_xticks(curve["eps"], [f"{eps:g}" for eps in curve["eps"]])
    axes.set_xlabel("eps (1/255), 0: clean")
    axes.set_title("IoU with its labels", fontsize=8)
    axes.legend(fontsize=7, loc="best")
