"""Views: what a report shows beside its tables and figures, each in a section of the page of its own."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nemesis.figures.headline import write_headline
from nemesis.figures.tables import PLACE
from nemesis.pages.formats import save_data, save_pair, save_picture
from nemesis.perturb.noise import add_noise, draw_seed
from nemesis.perturb.storage import store_image
from nemesis.probes.probe import Probe, open_probe
from nemesis.progress import Progress

CHUNK = 256  # images read at once
SPREAD = 3  # standard deviations of noise that reach black or white in a magnified difference
TOLD = ("noise", "designed", "table_1", "table_3")  # tables of which the headline of units tells


@dataclass(frozen=True)
class View:
    """One view of a run.

    `name` is that of its section, as in the page's address (#units), and `title` what it shows, as the navigation has
    it. `template` makes the section and `assets` are its own files, all of them in report/page; `scripts` are those of
    its files that the page loads, in this order. `tell` makes its sentences of the headline from the run's tables (CSV
    files by name), and `write` writes its files into the page's folder and returns what its template is told.
    """

    name: str
    title: str
    template: str
    assets: tuple[str, ...]
    scripts: tuple[str, ...]
    tell: Callable[[Mapping[str, Path]], list[str]]
    write: Callable[[Path], dict]


@dataclass(frozen=True)
class Units:
    """The folders of layers by place (see pages.units), and the folder of each probe's store by name.

    `storage` is how images under noise were stored, `seed` the run's.
    """

    layers: Mapping[tuple[str, str, str], Path]
    probes: Mapping[str, Path]
    storage: str
    seed: int


def view_units(units: Units) -> View:
    """The browser of units: their labels, descriptions and strongest images before and after every corruption."""

    def write(folder: Path) -> dict:
        write_units(units, folder)
        return {}

    assets = ("report.js",)
    return View("units", "Units", "units.html.jinja2", assets, (*assets, "catalogue.js"), tell_units, write)


def tell_units(tables: Mapping[str, Path]) -> list[str]:
    """What happened to the units' labels and descriptions: three sentences."""
    names = dict.fromkeys(PLACE, str)
    return write_headline({name: pd.read_csv(tables[name], dtype=names) for name in TOLD if name in tables})


def write_units(units: Units, folder: Path):
    """Write the list of layers and every image that one of them shows; their own folders stay where they are."""
    wanted: dict[str, list[dict]] = {}
    for (probe, *_), path in units.layers.items():
        wanted.setdefault(probe, []).append(json.loads((path / "wanted.json").read_text(encoding="utf-8")))
    for name, parts in wanted.items():
        probe = open_probe(units.probes[name])
        save_clean(folder / "images" / name, probe, set().union(*(part["images"] for part in parts)))
        for key, noise in {key: noise for part in parts for key, noise in part["noisy"].items()}.items():
            numbers = set().union(*(part["noisy"][key]["numbers"] for part in parts if key in part["noisy"]))
            save_noisy(folder / "noisy" / name / key, probe, noise | {"numbers": sorted(numbers)}, units)
    save_data(folder, "catalogue", {"layers": [dict(zip(PLACE, place, strict=True)) for place in units.layers]})


def save_clean(folder: Path, probe: Probe, numbers: set[int]):
    """Write images of a probe by number."""
    folder.mkdir(parents=True)
    progress = Progress(f"images of {folder.name}", len(numbers))
    ordered = sorted(numbers)
    for start in range(0, len(ordered), CHUNK):
        part = ordered[start : start + CHUNK]
        for number, image in zip(part, probe.take_images(part), strict=True):
            save_picture(image, folder / f"{number}.jpg")
        progress.add(len(part))


def save_noisy(folder: Path, probe: Probe, noise: dict, units: Units):
    """Write images under noise {kind, std, draw, numbers} beside their difference to the clean ones."""
    folder.mkdir(parents=True)
    seed, numbers = draw_seed(units.seed, noise["draw"]), noise["numbers"]
    for number, clean in zip(numbers, probe.take_images(numbers), strict=True):
        stored = store_image(add_noise(clean, noise["kind"], noise["std"], seed, number), units.storage)
        shown = stored if stored.dtype == "uint8" else (255 * stored).round().astype("uint8")
        save_pair(shown, shown.astype("int16") - clean, SPREAD * 255 * noise["std"], folder, number)
