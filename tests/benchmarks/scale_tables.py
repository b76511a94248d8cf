"""From what `make scale` measured (docs/scale.csv) to the rates of `make estimate` and the tables of docs/scale.md.

`scale_tables.py FOLDER` first keeps the rates that `make gpu` left in a folder: see docs/gpu_rates.csv.
"""

import csv
import re
import shutil
import sys
from itertools import groupby
from pathlib import Path

import torch
from scale_data import LAYERS, SIDE
from scale_rates import (
    A100_BYTES,
    A100_FLOPS,
    A100_TRAINING,
    FLAT,
    GPU_RATES,
    MEASUREMENTS,
    SHARE_BYTES,
    SHARE_FLOPS,
    derive_rates,
    largest,
    layers_of,
    measure_vgg16,
    rate,
    read_gpu_rates,
    read_measurements,
)

from nemesis.config import check_config
from nemesis.devices import choose_batch
from nemesis.estimate import rates as rate_table
from nemesis.estimate.cost import find_sites
from nemesis.estimate.networks import build_meta, measure_layers
from nemesis.estimate.rates import load_rates
from nemesis.estimate.work import Prices, Site, attack_bytes, forward_bytes, list_work

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "scale.md"
HOST_LIMIT, DEVICE_LIMIT, HOURS_LIMIT = 16e9, 11e9, 24
MAPS = ("store", "read_maps", "thresholds", "tally", "runs_2", "runs_10", "redissect", "survey")
HOURS = {
    "held": "GPU hours held",
    "network": "in the network",
    "beside": "core hours beside it",
    "follows": "of one core following it",
    "alone": "of one core alone",
    "elsewhere": "core hours without a GPU",
}
GRID = {
    "device": "cuda",
    "probes": {"broden": {"kind": "download", "version": "broden1_224"}},
    "models": {"vgg16": {"kind": "vgg16_places365"}, "resnet50": {"kind": "resnet50_imagenet"}},
    "experiments": [
        {"probe": "broden", "model": "vgg16", "layers": list(LAYERS), "units": "all"},
        {"probe": "broden", "model": "resnet50", "layers": ["layer1", "layer2", "layer3", "layer4"], "units": "all"},
    ],
    "dissection": {"null_replicates": 10, "max_store_gb": 450},
    "noise": {"kinds": ["gaussian"], "std": [0.02, 0.05], "fractions": [0.2, 0.6, 1.0]},
    "designed": {"eps": [2, 4, 6], "modes": ["untargeted", "targeted"], "units": 50, "max_fraction": 0.1},
}


def write_documents(measurements: Path = MEASUREMENTS, rates: Path = rate_table.TABLE, document: Path = DOCUMENT):
    """Rewrite the rates and the document's tables from the measurements."""
    rows = read_measurements(measurements)
    with open(rates, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rate_table.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(derive_rates(rows))
    document.write_text(fill(document.read_text(), tables(rows, rates)))


def keep_rates(folder: Path, kept: Path = GPU_RATES):
    """Take over what `make gpu` measured on a GPU; ValueError when there is none."""
    if not read_gpu_rates(folder / "rates.csv"):
        raise ValueError(f"{folder} has no rates.csv: `make gpu` writes one where there is a GPU")
    shutil.copyfile(folder / "rates.csv", kept)


# --- tables ---------------------------------------------------------------------------------------


def tables(rows: list[dict], rates: Path = rate_table.TABLE) -> dict[str, str]:
    """The tables of docs/scale.md by name, in Markdown."""
    prices = Prices(load_rates("h100", rates))
    config = check_config(GRID, ROOT / "schemas" / "config.schema.yaml")
    sites = find_sites(config, torch.device("cuda"))
    return {
        "conditions": show_conditions(rows),
        "sources": show_sources(rates),
        "rates": show_rates(rows),
        "network": show_network(rows),
        "memory": show_memory(rows),
        "device": show_device(sites),
        "grid": show_grid(config, sites, prices),
        "check": show_check(),
    }


def fill(text: str, parts: dict[str, str]) -> str:
    """Put each table between its markers."""
    for name, part in parts.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
        if not pattern.search(text):
            raise ValueError(f"docs/scale.md has no markers of {name}")
        text = pattern.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)
    return text


def markdown(header, lines) -> str:
    every = [header, ["---", *["---:"] * (len(header) - 1)], *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in every)


def show_conditions(rows: list[dict]) -> str:
    first = rows[0]
    return (
        f"Measured on {first['date']}: {first['name']}, one thread, torch {first['torch']}, device {first['device']}."
    )


def show_sources(rates: Path) -> str:
    """Which rates of `make estimate` were measured, and where."""
    with open(rates, newline="", encoding="utf-8") as stream:
        found = sorted(csv.DictReader(stream), key=lambda row: (row["device"], row["basis"], row["name"], row["date"]))
    lines = []
    for key, rows in groupby(found, key=lambda row: (row["device"], row["basis"], row["name"], row["date"])):
        stages = [row["stage"] for row in rows]
        named = ", ".join(dict.fromkeys(stages)) if key[0] != "cpu" else "all stages on the processor, and its passes"
        lines.append([*key, named])
    return markdown(["rates of", "basis", "from", "date", "which"], lines)


def show_rates(rows: list[dict]) -> str:
    """Seconds of each stage for growing numbers of images, and unit-images a second."""
    lines = []
    for stage in MAPS:
        for layer in layers_of(rows, stage):
            for row in sorted(_of(rows, stage, layer), key=lambda row: row["images"]):
                per_image = 1000 * row["seconds"] / row["images"]
                cells = [f"{row['seconds']:.2f}", f"{per_image:.2f}", f"{rate(row):,.0f}", f"{row['peak_mb']:,.0f}"]
                lines.append([f"{stage} {layer}", f"{row['images']:,.0f}", *cells])
    for stage in FLAT:
        (row,) = [row for row in rows if row["stage"] == stage]
        cells = [f"{row['seconds']:.2f}", f"{1000 / rate(row):.2f}", f"{rate(row):,.1f}", f"{row['peak_mb']:,.0f}"]
        lines.append([stage, f"{row['amount']:,.0f}", *cells])
    return markdown(["stage", "images", "s", "ms an image", "unit-images (images) a second", "peak host MB"], lines)


def show_network(rows: list[dict]) -> str:
    lines, work = [], measure_vgg16(layers_of(rows, "forward"))
    for layer, of in work.items():
        cells = [f"{of.flops / 1e9:.2f}", f"{of.traffic / 1e6:.0f}"]
        for stage in ("forward", "extract", "attack"):
            row = largest(rows)[stage, layer]
            cells += [f"{rate(row):.2f}"]
        peaks = [max(row["peak_mb"] for row in _of(rows, stage, layer)) for stage in ("extract", "attack")]
        lines.append([layer, *cells, *(f"{peak:,.0f}" for peak in peaks)])
    header = ["layer", "GFLOP an image", "MB an image", "forward images/s", "extract images/s"]
    return markdown([*header, "one PGD step images/s", "extract peak host MB", "attack peak host MB"], lines)


def show_memory(rows: list[dict]) -> str:
    """Peak memory and time of the most images over those of the fewest."""
    lines = []
    for stage, layer, first, last in growth(rows):
        times = last["images"] / first["images"]
        memory = last["peak_mb"] / first["peak_mb"] - 1
        span = f"{first['images']:,.0f} to {last['images']:,.0f}"
        lines.append([f"{stage} {layer}", span, f"{memory:+.1%}", f"{last['seconds'] / first['seconds'] / times:.2f}"])
    return markdown(["stage", "images", "peak memory", "time over linear"], lines)


def growth(rows: list[dict]):
    """(stage, layer, fewest images, most images) where several numbers of images were measured."""
    for stage in (*MAPS, "extract"):
        for layer in layers_of(rows, stage):
            found = sorted(_of(rows, stage, layer), key=lambda row: row["images"])
            if len(found) > 1:
                yield stage, layer, found[0], found[-1]


def show_device(sites: list[Site]) -> str:
    lines = []
    for site in sites:
        for name, layer in site.layers.items():
            sizes = (forward_bytes(site, layer), attack_bytes(site, layer))
            batch = choose_batch("auto", site.probe.size, torch.device("cuda"))
            lines.append([f"{site.extraction.model} {name}", batch, *(f"{size / 1e9:.1f}" for size in sizes)])
    return markdown(["layer", "batch", "extraction GB", "attack GB"], lines)


def grid_hours(config, sites, prices: Prices) -> dict[str, dict[str, float]]:
    """Hours of each rule over the grid (see HOURS), without the start of jobs."""
    found: dict = {}
    for part in list_work(config, sites, prices):
        hours = found.setdefault(part.rule, dict.fromkeys(HOURS, 0.0))
        now = {"held": part.held, "network": part.network, "elsewhere": 0.0 if part.gpu else part.core}
        now |= {name: getattr(part, name) if part.gpu else 0.0 for name in ("beside", "follows", "alone")}
        for name, seconds in now.items():
            hours[name] += seconds / 3600
    return found


def show_grid(config, sites, prices: Prices) -> str:
    hours = grid_hours(config, sites, prices)
    lines = [[rule, *(f"{part[name]:.2f}" if part[name] else "" for name in HOURS)] for rule, part in hours.items()]
    lines.append(["**total**", *(f"**{sum(part[name] for part in hours.values()):.1f}**" for name in HOURS)])
    return markdown(["stage", *HOURS.values()], lines) + "\n\n" + _show_attack(sites, prices)


def _show_attack(sites, prices: Prices) -> str:
    lines = []
    for site in sites:
        budget = int(0.1 * site.probe.images)
        rows = 50 * budget * 3 * 2
        for name, layer in site.layers.items():
            forward, step = (1000 * of(layer, 1) for of in (prices.forward, prices.step))
            hours = rows * 10 * step / 3.6e6
            cells = [f"{layer.flops / 1e9:.1f}", f"{layer.traffic / 1e6:.0f}", f"{forward:.2f}", f"{step:.2f}"]
            lines.append([f"{site.extraction.model} {name}", *cells, f"{rows:,}", f"{hours:.2f}"])
    header = [
        "layer",
        "GFLOP",
        "MB",
        "forward ms an image",
        "step ms an image",
        "poisoned images",
        "10 steps, GPU hours",
    ]
    return markdown(header, lines)


def show_check() -> str:
    """The same shares of an A100's peaks against the published rate of training a ResNet50 on it."""
    layer = measure_layers(build_meta("r", {"kind": "resnet50_imagenet"}), ["layer4"], (SIDE, SIDE))["layer4"]
    seconds = 3 * (layer.flops / (SHARE_FLOPS * A100_FLOPS) + layer.traffic / (SHARE_BYTES * A100_BYTES))
    return (
        f"3 x ({layer.flops / 1e9:.2f} GFLOP / ({SHARE_FLOPS} x 156 TFLOP/s) + {layer.traffic / 1e6:.0f} MB /"
        f" ({SHARE_BYTES} x 2.04 TB/s)) = {1000 * seconds:.2f} ms, {1 / seconds:.0f} images/s; published:"
        f" {A100_TRAINING} images/s."
    )


def _of(rows: list[dict], stage: str, layer: str) -> list[dict]:
    return [row for row in rows if (row["stage"], row["layer"]) == (stage, layer)]


if __name__ == "__main__":
    if sys.argv[1:]:
        try:
            keep_rates(Path(sys.argv[1]))
        except ValueError as error:
            sys.exit(str(error))
    write_documents()
