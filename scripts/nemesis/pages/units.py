"""A layer's part of the page: tables of its units and of each corruption, and their strongest images in pieces."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.dissection.draws import select_units
from nemesis.dissection.tables import read_table
from nemesis.dissection.tops import find_tops
from nemesis.figures.attacks import read_outcomes
from nemesis.files import atomic_directory
from nemesis.pages.formats import draw_overlay, save_data, save_pair, to_columns
from nemesis.pages.settings import ReportLayer, Setting, list_settings
from nemesis.pages.strongest import StrongestImages, show_tops
from nemesis.progress import Progress

PIECE = 64  # units whose images are loaded together
LABELS = ["label", "category", "iou", "label_2", "iou_2", "label_3", "iou_3"]


def write_layer(folder, layer: ReportLayer, units, min_iou: float):
    """Write the folder of a layer; `units` is the experiment's setting.

    `units.js` holds the tables. `top-s-p.js` holds the images of piece p of setting s (0: clean), and
    `wanted.json` what the page needs of the probe: numbers of images, clean and under each noise.
    """
    address = "/".join(layer.place)
    table = make_units(layer, units, min_iou)
    settings = list(list_settings(layer))
    wanted = {"images": set(), "noisy": {}}
    progress = Progress(f"page of {address}", len(settings) + 1, "corruptions")
    with atomic_directory(folder) as partial:
        thresholds = pd.read_csv(layer.files.thresholds)["threshold"].to_numpy(float)
        tops = find_tops(layer.clean, table["unit"], thresholds)
        part = _Part(partial, 0, address, wanted)
        pieces = [_save_tops(part, show_tops(tops, 0, layer.probe.size, ()))]
        progress.add(1)
        for number, setting in enumerate(settings, 1):
            pieces.append(_save_tops(_Part(partial, number, address, wanted, setting), setting.pictures()))
            progress.add(1)
        described = [
            _describe(setting) | {"pieces": found} for setting, found in zip(settings, pieces[1:], strict=True)
        ]
        place = dict(zip(("probe", "model", "layer"), layer.place, strict=True))
        data = place | {"min_iou": min_iou, "units": to_columns(table), "pieces": pieces[0], "settings": described}
        save_data(partial, "units", data, address)
        _save_wanted(partial / "wanted.json", wanted)


def make_units(layer: ReportLayer, units, min_iou: float) -> pd.DataFrame:
    """One row per unit: its clean labels, threshold, null churn, smallest eps and clean description, where known."""
    files = layer.files
    table = pd.read_csv(files.thresholds)[["unit", "threshold", "dead"]]
    if files.clean:
        clean = read_table(files.clean)
        table = table.merge(clean[["unit", *LABELS]], on="unit")
        table = table[table["unit"].isin(select_units(units, clean, min_iou, layer.seed, layer.place[-1]))]
        table["margin"] = table["iou"] - pd.to_numeric(table["iou_2"], errors="coerce")
        table["null_churn"] = table["unit"].map(pd.read_csv(files.null_churn).groupby("unit")["changed"].mean())
    if files.minimum:
        table["minimum_epsilon"] = table["unit"].map(read_outcomes(files.minimum).set_index("unit")["minimum_epsilon"])
    if files.descriptions:
        found = read_table(files.descriptions).set_index("unit")["description"]
        table["description"] = table["unit"].map(found)
    if ("null",) in layer.scores:
        table["null_f1"] = table["unit"].map(layer.scores[("null",)].groupby("unit")["f1"].mean())
    return table.reset_index(drop=True)


def _describe(setting: Setting) -> dict:
    names = ("corruption", "measure", "size", "part")
    return {name: getattr(setting, name) for name in names} | {"rows": to_columns(setting.rows)}


@dataclass(frozen=True)
class _Part:
    """Where the images of a setting go: `number` is the setting's (0: clean), `address` the layer's.

    What the page needs of the probe is added to `wanted`.
    """

    folder: Path
    number: int
    address: str
    wanted: dict
    setting: Setting | None = None


def _save_tops(part: _Part, shown: Iterable[StrongestImages]) -> list[list[int]]:
    """Write the images of a setting in pieces; returns the units of each piece."""
    shown, pieces = iter(shown), []
    while piece := list(islice(shown, PIECE)):
        data = {str(one.unit): _save_one(part, one) for one in piece}
        save_data(part.folder, f"top-{part.number}-{len(pieces)}", data, part.address)
        pieces.append([one.unit for one in piece])
    return pieces


def _save_one(part: _Part, one: StrongestImages) -> dict:
    """A unit's entry: tops are [image, mask, changed]; beside are the images shown beside the clean ones."""
    tops = zip(one.ids.tolist(), map(draw_overlay, one.masks), one.changed.tolist(), strict=True)
    part.wanted["images"].update(one.ids.tolist(), one.poisoned)
    entry = {"tops": [list(top) for top in tops]}
    if one.poisoned:
        name = f"poisoned-{part.number}-{one.unit}"
        (part.folder / name).mkdir()
        for image, (poisoned, difference) in one.poisoned.items():
            save_pair(poisoned, difference, part.setting.size, part.folder / name, image)
        entry |= {"beside": list(one.poisoned), "folder": name}
    elif part.setting and part.setting.noisy and one.changed.any():
        image, noisy = int(one.ids[np.argmax(one.changed)]), part.setting.noisy
        name = "{kind}-{std:g}-{draw}".format(**noisy)
        part.wanted["noisy"].setdefault(name, noisy | {"numbers": set()})["numbers"].add(image)
        entry |= {"beside": [image], "noisy": name}
    return entry


def _save_wanted(path: Path, wanted: dict):
    noisy = {name: noise | {"numbers": sorted(noise["numbers"])} for name, noise in wanted["noisy"].items()}
    path.write_text(json.dumps({"images": sorted(wanted["images"]), "noisy": noisy}), encoding="utf-8")
