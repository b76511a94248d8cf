"""From what `make scale` measured (docs/scale.csv) to the rates of `make estimate` and the tables of docs/scale.md."""

import csv
import re
from pathlib import Path

import numpy as np
import torch
from scale_data import LAYERS, SIDE

from nemesis.config import check_config
from nemesis.devices import choose_batch
from nemesis.estimate import rates as rate_table
from nemesis.estimate.cost import find_sites
from nemesis.estimate.networks import LayerWork, build_meta, measure_layers
from nemesis.estimate.rates import load_rates
from nemesis.estimate.work import Prices, Site, attack_bytes, forward_bytes, list_work

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS, DOCUMENT = ROOT / "docs" / "scale.csv", ROOT / "docs" / "scale.md"
HOST_LIMIT, DEVICE_LIMIT, HOURS_LIMIT = 16e9, 11e9, 24
MAPS = ("store", "read_maps", "thresholds", "tally", "runs_2", "runs_10", "redissect", "survey")
PRICED = {"store": "store", "thresholds": "thresholds", "tally": "tally", "redissect": "redissect", "survey": "survey"}
FLAT = ("decode", "noise", "poison_row", "show_row", "measure_row", "copy_row")
MEMORY = {
    "extract": "extract",
    "thresholds": "thresholds",
    "runs_10": "tally",
    "redissect": "redissect",
    "attack": "attack",
}
# What an H100-class GPU (SXM) is taken to sustain: shares of its published peaks. The same shares of an A100's
# (156 TFLOP/s, 2.0 TB/s) are checked against a published rate below.
H100_FLOPS, H100_BYTES = 494e12, 3.35e12
A100_FLOPS, A100_BYTES, A100_TRAINING = 156e12, 2.04e12, 938
SHARE_FLOPS, SHARE_BYTES = 0.25, 0.75
MEASURE_TRAFFIC, MEASURE_FLOPS = 40 * 3 * SIDE**2 * 4, 2 * 12 * 2 * 42 * SIDE**2  # of an image: see show_measure
H100_FLOAT32 = 67e12
HOURS = {
    "held": "GPU hours held",
    "network": "in the network",
    "beside": "core hours beside it",
    "follows": "of one core following it",
    "alone": "of one core alone",
    "elsewhere": "core hours without a GPU",
}
H100 = f"{SHARE_FLOPS:.0%} of 494 TFLOP/s (TF32) and {SHARE_BYTES:.0%} of 3.35 TB/s"
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


def read_measurements(path: Path = MEASUREMENTS) -> list[dict]:
    numbers = ("images", "amount", "seconds", "cpu_seconds", "peak_mb", "device_mb")
    with open(path, newline="", encoding="utf-8") as stream:
        return [row | {name: float(row[name]) for name in numbers} for row in csv.DictReader(stream)]


# --- rates ----------------------------------------------------------------------------------------


def derive_rates(rows: list[dict]) -> list[dict]:
    """Rows of rates.csv: the largest number of images of each stage and layer counts."""
    about = {"device": rows[0]["device"], "basis": "measured", "name": rows[0]["name"], "date": rows[0]["date"]}
    found = []

    def add(stage, value, unit, layer="", **other):
        units, height, width = LAYERS.get(layer, (0, 0, 0))
        shape = {"units": units, "height": height, "width": width}
        found.append({"stage": stage, "value": f"{value:.4g}", "unit": unit} | shape | about | other)

    last = largest(rows)
    for stage, name in PRICED.items():
        for layer in layers_of(rows, stage):
            add(name, rate(last[stage, layer]), "unit-images/s", layer)
    for layer in layers_of(rows, "runs_10"):
        for name, seconds in split_runs(last, layer).items():
            add(name, last["runs_10", layer]["amount"] / seconds, "unit-images/s", layer)
    for stage in FLAT:
        add(stage, rate(next(row for (name, _), row in last.items() if name == stage)), "images/s")
    add("start", last["start", ""]["seconds"], "s a job")
    for stage, (flops, traffic) in fit_network(rows).items():
        add(f"{stage}_flops", flops, "FLOP/s")
        add(f"{stage}_traffic", traffic, "bytes/s")
    for stage, name in MEMORY.items():
        for layer in layers_of(rows, stage):
            peak = max(row["peak_mb"] for row in rows if (row["stage"], row["layer"]) == (stage, layer))
            add(f"memory_{name}", peak * 1e6, "bytes", layer)
    for name in ("start", "decode"):
        add(f"memory_{name}", last[name, ""]["peak_mb"] * 1e6, "bytes")
    if about["device"] == "cpu":
        flops, traffic = SHARE_FLOPS * H100_FLOAT32, SHARE_BYTES * H100_BYTES
        gpu = {"device": "h100", "basis": "extrapolated", "name": f"H100-class GPU: {H100}", "date": ""}
        for stage in ("forward", "step"):
            add(f"{stage}_flops", SHARE_FLOPS * H100_FLOPS, "FLOP/s", **gpu)
            add(f"{stage}_traffic", SHARE_BYTES * H100_BYTES, "bytes/s", **gpu)
        add("measure_row", 1 / (MEASURE_TRAFFIC / traffic + MEASURE_FLOPS / flops), "images/s", **gpu)
    return found


def split_runs(last: dict, layer: str) -> dict[str, float]:
    """Seconds of one more version of a probe (`run`), and of the pass that all of them share (`pass`)."""
    none, few, many = (last[stage, layer]["seconds"] for stage in ("tally", "runs_2", "runs_10"))
    run = max((many - few) / 8, 1e-6)
    return {"pass": max(few - none - 2 * run, 1e-6), "run": run}


def fit_network(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """FLOP/s and bytes/s of a pass, and of a pass and back, from the layers of VGG16: seconds add up."""
    last = largest(rows)
    names = layers_of(rows, "forward")
    work = measure_vgg16(names)
    host = 1 / rate(last["poison_row", "conv5_3"])
    passes = {"forward": [1 / rate(last["forward", name]) for name in names]}
    passes["step"] = [(1 / rate(last["attack", name]) - host) / 2 for name in names]
    return {stage: _fit([work[name] for name in names], seconds) for stage, seconds in passes.items()}


def _fit(work: list[LayerWork], seconds: list[float]) -> tuple[float, float]:
    """Least squares on relative errors, neither part negative."""
    parts = np.array([[layer.flops, layer.traffic] for layer in work]) / np.array(seconds)[:, None]
    both = np.linalg.lstsq(parts, np.ones(len(parts)), rcond=None)[0]
    if (both > 0).all():
        return 1 / both[0], 1 / both[1]
    alone = float((parts[:, 0] @ np.ones(len(parts))) / (parts[:, 0] @ parts[:, 0]))
    return 1 / alone, 1e15  # memory traffic hides behind the arithmetic


def measure_vgg16(names) -> dict[str, LayerWork]:
    return measure_layers(build_meta("vgg16", {"kind": "vgg16_places365"}), names, (SIDE, SIDE))


def largest(rows: list[dict]) -> dict:
    """The measurement with the most images, by (stage, layer)."""
    found: dict = {}
    for row in rows:
        key = (row["stage"], row["layer"])
        if key not in found or row["images"] >= found[key]["images"]:
            found[key] = row
    return found


def layers_of(rows: list[dict], stage: str) -> list[str]:
    names = {row["layer"] for row in rows if row["stage"] == stage}
    return [layer for layer in LAYERS if layer in names]


def rate(row: dict) -> float:
    return row["amount"] / row["seconds"]


# --- tables ---------------------------------------------------------------------------------------


def tables(rows: list[dict], rates: Path = rate_table.TABLE) -> dict[str, str]:
    """The tables of docs/scale.md by name, in Markdown."""
    prices = Prices(load_rates("h100", rates))
    config = check_config(GRID, ROOT / "schemas" / "config.schema.yaml")
    sites = find_sites(config, torch.device("cuda"))
    return {
        "conditions": show_conditions(rows),
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
    """Hours of each family over the grid (see HOURS), without the start of jobs."""
    found: dict = {}
    for part in list_work(config, sites, prices):
        hours = found.setdefault(part.family, dict.fromkeys(HOURS, 0.0))
        now = {"held": part.held, "network": part.network, "elsewhere": 0.0 if part.gpu else part.core}
        now |= {name: getattr(part, name) if part.gpu else 0.0 for name in ("beside", "follows", "alone")}
        for name, seconds in now.items():
            hours[name] += seconds / 3600
    return found


def show_grid(config, sites, prices: Prices) -> str:
    hours = grid_hours(config, sites, prices)
    lines = [[family, *(f"{part[name]:.2f}" if part[name] else "" for name in HOURS)] for family, part in hours.items()]
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
    write_documents()
