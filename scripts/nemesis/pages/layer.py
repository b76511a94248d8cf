"""A layer's part of the page: a table of its units, a table a corruption, and their strongest images in pieces."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.dissection.select import select_units
from nemesis.dissection.tables import read_table
from nemesis.dissection.tops import find_tops
from nemesis.figures.attacks import read_rows
from nemesis.figures.milan_tables import read_scores
from nemesis.files import atomic_directory
from nemesis.pages.pictures import draw_overlay, save_pair
from nemesis.pages.scripts import save_data, to_columns
from nemesis.pages.seen import Seen, see_tops
from nemesis.pages.settings import Layer, Setting, list_settings
from nemesis.progress import Progress

PIECE = 64  # units whose images are loaded together
LABELS = ["label", "category", "iou", "label_2", "iou_2", "label_3", "iou_3"]


def write_layer(folder, place: dict, layer: Layer, units, min_iou: float):
    """Write the folder of a layer {probe, model, layer}; `units` is the experiment's setting.

    `units.js` holds the tables. `top-s-p.js` holds the images of piece p of setting s (0: clean), and
    `wanted.json` what the page needs of the probe: numbers of images, clean and under each noise.
    """
    address = "/".join((place["probe"], place["model"], place["layer"]))
    table = make_units(layer, units, min_iou, place["layer"])
    settings = list(list_settings(layer))
    wanted = {"images": set(), "noisy": {}}
    progress = Progress(f"page of {address}", len(settings) + 1, "corruptions")
    with atomic_directory(folder) as partial:
        thresholds = pd.read_csv(layer.files.thresholds)["threshold"].to_numpy(float)
        tops = find_tops(layer.clean, table["unit"], thresholds)
        pieces = [_save_tops(partial, 0, address, see_tops(tops, 0, layer.probe.size, ()), wanted, None)]
        progress.add(1)
        for number, setting in enumerate(settings, 1):
            pieces.append(_save_tops(partial, number, address, setting.show(), wanted, setting))
            progress.add(1)
        described = [
            _describe(setting) | {"pieces": found} for setting, found in zip(settings, pieces[1:], strict=True)
        ]
        data = place | {"min_iou": min_iou, "units": to_columns(table), "pieces": pieces[0], "settings": described}
        save_data(partial, "units", data, address)
        _save_wanted(partial / "wanted.json", wanted)


def make_units(layer: Layer, units, min_iou: float, name: str) -> pd.DataFrame:
    """One row a unit: its clean labels, threshold, null churn, smallest eps and clean description, where known."""
    files = layer.files
    table = pd.read_csv(files.thresholds)[["unit", "threshold", "dead"]]
    if files.clean:
        clean = read_table(files.clean)
        table = table.merge(clean[["unit", *LABELS]], on="unit")
        table = table[table["unit"].isin(select_units(units, clean, min_iou, layer.seed, name))]
        table["margin"] = table["iou"] - pd.to_numeric(table["iou_2"], errors="coerce")
        table["null_churn"] = table["unit"].map(pd.read_csv(files.null_churn).groupby("unit")["changed"].mean())
    if files.minimum:
        table["minimum_epsilon"] = table["unit"].map(read_rows(files.minimum[0]).set_index("unit")["minimum_epsilon"])
    if files.descriptions:
        found = read_table(files.descriptions[0]).set_index("unit")["description"]
        table["description"] = table["unit"].map(found)
    if files.null_scores:
        table["null_f1"] = table["unit"].map(read_scores(files.null_scores[0]).groupby("unit")["f1"].mean())
    return table.reset_index(drop=True)


def _describe(setting: Setting) -> dict:
    names = ("corruption", "measure", "size", "part")
    return {name: getattr(setting, name) for name in names} | {"rows": to_columns(setting.rows)}


def _save_tops(
    folder: Path, number: int, address: str, seen: Iterable[Seen], wanted: dict, setting: Setting | None
) -> list[list[int]]:
    """Write the images of a setting in pieces; returns the units of each piece."""
    seen, pieces = iter(seen), []
    while part := list(islice(seen, PIECE)):
        data = {str(one.unit): _save_one(folder, number, one, wanted, setting) for one in part}
        save_data(folder, f"top-{number}-{len(pieces)}", data, address)
        pieces.append([one.unit for one in part])
    return pieces


def _save_one(folder: Path, number: int, one: Seen, wanted: dict, setting: Setting | None) -> dict:
    """A unit's entry: tops are [image, mask, changed]; beside are the images shown beside the clean ones."""
    tops = zip(one.ids.tolist(), map(draw_overlay, one.masks), one.changed.tolist(), strict=True)
    wanted["images"].update(one.ids.tolist(), one.poisoned)
    entry = {"tops": [list(top) for top in tops]}
    if one.poisoned:
        name = f"poisoned-{number}-{one.unit}"
        (folder / name).mkdir()
        for image, (poisoned, difference) in one.poisoned.items():
            save_pair(poisoned, difference, setting.size, folder / name, image)
        entry |= {"beside": list(one.poisoned), "folder": name}
    elif setting and setting.noisy and one.changed.any():
        image = int(one.ids[np.argmax(one.changed)])
        name = "{kind}-{std:g}-{draw}".format(**setting.noisy)
        wanted["noisy"].setdefault(name, setting.noisy | {"numbers": set()})["numbers"].add(image)
        entry |= {"beside": [image], "noisy": name}
    return entry


def _save_wanted(path: Path, wanted: dict):
    noisy = {name: noise | {"numbers": sorted(noise["numbers"])} for name, noise in wanted["noisy"].items()}
    path.write_text(json.dumps({"images": sorted(wanted["images"]), "noisy": noisy}), encoding="utf-8")
