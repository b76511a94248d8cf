"""A made-up layer and the report of it: as many units as wanted, under names that a page must survive."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection.stored import open_maps
from nemesis.dissection.tops import find_mixed_tops, write_tops
from nemesis.files import write_csv
from nemesis.pages.settings import LayerFiles, open_report_layer
from nemesis.pages.site import Site, write_site
from nemesis.pages.units import write_layer
from nemesis.pages.views import Units, view_units
from nemesis.perturb.noise import choose_images, draw_seed
from nemesis.probes.probe import unlabelled_rows, write_arrays
from nemesis.stores import save_array, write_root, write_store

ROOT = Path(__file__).resolve().parents[2]
IMAGES, SIDE, CELLS, SEED = 24, 32, 4, 0
HOSTILE = "<script>window.broken = true</script>"
LONG = "a very long label " * 17
LABELS = ["cat", HOSTILE, LONG, "dog & \"cat\" | 'mouse'", "π ∧ \u2028 line"]
CATEGORIES = ["object", "part", "texture", "object", "color"]
GAUSSIAN = ("gaussian", 0.1)
ATTACKED = (1, 3)
POISONED = 4  # images of an attacked unit


@dataclass(frozen=True)
class Made:
    """A report on disk: its folder, the files of its first layer, and the layer's place (probe, model, layer)."""

    report: Path
    files: LayerFiles
    place: tuple[str, str, str]

    @property
    def address(self) -> str:
        return "/".join(self.place)

    def read(self, name: str, address: str | None = None):
        """What a data file hands to the page."""
        text = (self.report / "layers" / (address or self.address) / f"{name}.js").read_text()
        assert "<" not in text
        return read_script(text)


def read_script(text: str):
    """The data of a script that calls nemesis.receive."""
    inside = text.strip().removeprefix("nemesis.receive(").removesuffix(");")
    return json.loads(f"[{inside}]")[1]


def make_report(
    folder: Path, units: int = 7, labelled: bool = True, layers=("conv<1>",), figure: bool = True, remarks=None
) -> Made:
    """Make the inputs of the report of one network's layers and the report itself below a folder.

    `remarks` are what was assumed of the network and the notes of the probe; None: stores of old, which have none.
    """
    results = folder / "results"
    make_probe(results / "probe.zarr", {} if remarks is None else {"notes": remarks})
    places, report = [("scenes", "net #1", layer) for layer in layers], results / "report"
    folders, inputs = {place: report.joinpath("layers", *place) for place in places}, []
    for number, place in enumerate(places):
        inputs.append(make_files(folder / "inputs" / str(number), results / "probe.zarr", place, units, labelled))
        write_layer(folders[place], open_report_layer(inputs[-1], place, SEED), "all", 0.04)
    make_tables(results, figure)
    probes = {"scenes": results / "probe.zarr"}
    card = make_card(folder, {} if remarks is None else {"assumed": remarks})
    site = make_site(results, [view_units(Units(folders, probes, "lossless", SEED))], probes, {"net #1": card})
    write_site(site, report / "index.html", report / "page", report / "headline.txt")
    return Made(report, inputs[0], places[0])


def make_site(results: Path, views: list, probes: dict, cards: dict, template: Path = ROOT / "report") -> Site:
    """A report with one table and one figure."""
    tables = {"labels": {ending: results / "tables" / f"labels{ending}" for ending in (".csv", ".md", ".tex")}}
    figures = {"figure_2a": {ending: results / "figures" / f"figure_2a{ending}" for ending in (".svg", ".png")}}
    return Site(views, probes, cards, tables, figures, f"probes: {HOSTILE}", SEED, template)


def design(eps: int) -> tuple:
    return ("pgd", eps, "untargeted", "segmentation")


def make_probe(path: Path, attrs: dict):
    pixels = np.random.default_rng(1).integers(0, 256, (IMAGES, 3, SIDE, SIDE), np.uint8)
    rows = unlabelled_rows([f"{number}.png" for number in range(IMAGES)], (SIDE, SIDE))
    with write_store(path, categories=["object", "part"], **attrs) as group:
        write_arrays(
            group,
            rows,
            lambda start, stop, pool: (pixels[start:stop], np.zeros((stop - start, 0, SIDE, SIDE), np.uint16)),
        )


def make_maps(path: Path, layer: str, maps: np.ndarray, image: np.ndarray):
    """A store of one layer's maps."""
    with write_store(path / layer) as group:
        save_array(group, "maps", maps, ("unit", "image", "y", "x"), "activation", (8, 5, CELLS, CELLS))
        save_array(group, "max", maps.max(axis=(2, 3)), ("unit", "image"), "activation")
        save_array(group, "image", image.astype(np.uint32), ("image",), "number")
    write_root(path)


def make_files(folder: Path, probe: Path, place: tuple, units: int, labelled: bool) -> LayerFiles:
    """The files of a layer, under one noise and two designs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    maps = rng.normal(size=(units, IMAGES, CELLS, CELLS)).astype(np.float16)
    thresholds = rng.uniform(0.5, 1, units)
    make_maps(folder / "activations.zarr", place[-1], maps, np.arange(IMAGES))
    unit = np.arange(units)
    label = [LABELS[n % len(LABELS)] if labelled else "" for n in unit]
    iou = np.sort(rng.uniform(0.05, 0.3, units)) if labelled else np.zeros(units)
    clean = pd.DataFrame(
        {"unit": unit, "label": label, "category": [CATEGORIES[n % 5] if labelled else "" for n in unit], "iou": iou}
    )
    clean["label_2"], clean["iou_2"], clean["label_3"], clean["iou_3"] = "tree", iou / 2, "", 0.0
    found = {
        "thresholds": folder / "thresholds.csv",
        "clean": folder / "dissection.csv",
        "null_churn": folder / "null.csv",
    }
    write_csv(pd.DataFrame({"unit": unit, "threshold": thresholds, "dead": False}), found["thresholds"])
    write_csv(clean, found["clean"])
    churn = {"replicate": np.repeat([0, 1], units), "unit": np.tile(unit, 2), "changed": rng.random(2 * units) < 0.3}
    write_csv(pd.DataFrame(churn), found["null_churn"])
    noise, tops = make_noise(folder, place[-1], maps, clean, thresholds)
    attacks = {design(eps): make_attack(folder / str(eps), maps, clean, eps) for eps in (2, 6)}
    designed, poison, poisoned_maps = ({key: files[n] for key, files in attacks.items()} for n in range(3))
    return LayerFiles(
        probe=probe / "zarr.json",
        maps=folder / "activations.zarr" / "zarr.json",
        **found,
        noise={GAUSSIAN: noise},
        tops={GAUSSIAN: tops},
        designed=designed,
        poison=poison,
        poisoned_maps=poisoned_maps,
    )


def make_noise(folder: Path, layer: str, maps: np.ndarray, clean: pd.DataFrame, thresholds: np.ndarray):
    """Noise on half of the images and on all of them: labels, and the strongest images."""
    chosen = {fraction: choose_images(IMAGES, fraction, draw_seed(SEED, 0)) for fraction in (0.5, 1.0)}
    make_maps(folder / "noisy.zarr", layer, maps[::-1].copy(), np.arange(IMAGES))
    stores = [open_maps(folder / name, layer) for name in ("activations.zarr", "noisy.zarr")]
    runs = [mix_maps(*stores, numbers) for numbers in chosen.values()]
    columns = {"fraction": np.array(list(chosen)), "seed": np.zeros(2, int)}
    write_tops(
        folder / "tops.zarr", find_mixed_tops(runs, clean["unit"], np.stack([thresholds, thresholds + 0.1]), columns)
    )
    parts = []
    for fraction in chosen:
        part = pd.DataFrame({"fraction": fraction, "seed": 0, "unit": clean["unit"], "clean_label": clean["label"]})
        part["clean_iou"], part["label"] = clean["iou"], np.roll(clean["label"], 1)
        part["category"], part["iou"] = clean["category"], clean["iou"] * fraction
        part["manipulated"], part["linf"], part["rms"] = part["label"] != part["clean_label"], 50.0, 12.5
        parts.append(part)
    write_csv(pd.concat(parts), folder / "noise.csv")
    return folder / "noise.csv", folder / "tops.zarr" / "zarr.json"


def make_attack(folder: Path, maps: np.ndarray, clean: pd.DataFrame, eps: int):
    """A designed corruption of two units: its table, its poisoned images and their maps."""
    units = [unit for unit in ATTACKED if unit < len(clean)]
    rng, rows = np.random.default_rng(eps), len(units) * POISONED
    task, unit = np.repeat(np.arange(len(units)), POISONED), np.repeat(units, POISONED)
    image = np.tile(np.arange(POISONED) * 5, len(units)).astype(np.int32)
    with write_store(folder / "poison.zarr", eps=eps) as group:
        for name, values in (
            ("task", task),
            ("unit", unit),
            ("image", image),
            ("rank", np.tile(np.arange(POISONED), len(units))),
        ):
            save_array(group, name, values.astype(np.int32), ("row",), "number")
        delta = rng.integers(-eps, eps + 1, (rows, 3, SIDE, SIDE)).astype(np.int8)
        save_array(group, "delta", delta, ("row", "channel", "y", "x"), "1/255")
    with write_store(folder / "activations.zarr") as group:
        save_array(group, "maps", 2 * maps[unit, image], ("row", "y", "x"), "activation")
        save_array(group, "image", image, ("row",), "number")
    table = clean.iloc[units][["unit"]].assign(clean_iou=clean["iou"].iloc[units], source=clean["label"].iloc[units])
    table = table.assign(target="", label="zebra", category="object", iou=0.2, source_iou=0.01 * eps, target_iou="")
    table = table.assign(manipulated=True, target_hit=False, n_poisoned=POISONED, fraction_poisoned=POISONED / IMAGES)
    table = table.assign(linf=float(eps), psnr=40.0, ssim=0.99, threshold=0.9, clean_threshold=0.8)
    write_csv(table.assign(noise_label="tree", noise_iou=0.1, noise_manipulated=False), folder / "dissection.csv")
    return folder / "dissection.csv", folder / "poison.zarr" / "zarr.json", folder / "activations.zarr" / "zarr.json"


def make_tables(results: Path, figure: bool):
    """One table and (if wanted) one figure."""
    from nemesis.figures.tables import write_table

    line = {
        "probe": "scenes",
        "model": "net #1",
        "layer": "conv<1>",
        "units": 7,
        "null_churn": 0.123456789,
        "label": HOSTILE,
    }
    write_table(pd.DataFrame([line]), [results / "tables" / f"labels{ending}" for ending in (".csv", ".md", ".tex")])
    if figure:
        path = results / "figures" / "figure_2a.svg"
        path.parent.mkdir(parents=True)
        path.write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40"><rect width="80" height="40"/></svg>'
        )


def make_card(folder: Path, more: dict) -> Path:
    path = folder / "card.json"
    path.write_text(json.dumps({"kind": "file", "source": HOSTILE, "sha256": "0" * 64} | more))
    return path
