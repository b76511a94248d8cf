"""From what `make scale` and `make gpu` measured (docs/scale.csv, gpu_rates.csv) to the rates of `make estimate`."""

import csv
from pathlib import Path

import numpy as np
from scale_data import LAYERS, SIDE

from nemesis.estimate.networks import LayerWork, build_meta, measure_layers

ROOT = Path(__file__).resolve().parents[2]
MEASUREMENTS = ROOT / "docs" / "scale.csv"
GPU_RATES = ROOT / "docs" / "gpu_rates.csv"  # what `make gpu` measured, where somebody kept it; else there is none
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
H100 = f"{SHARE_FLOPS:.0%} of 494 TFLOP/s (TF32) and {SHARE_BYTES:.0%} of 3.35 TB/s"


def read_measurements(path: Path = MEASUREMENTS) -> list[dict]:
    numbers = ("images", "amount", "seconds", "cpu_seconds", "peak_mb", "device_mb")
    with open(path, newline="", encoding="utf-8") as stream:
        return [row | {name: float(row[name]) for name in numbers} for row in csv.DictReader(stream)]


def derive_rates(rows: list[dict], kept: list[dict] | None = None) -> list[dict]:
    """Rows of rates.csv: the largest number of images of each stage and layer counts.

    kept: rows that `make gpu` measured (default: those of docs/gpu_rates.csv); they replace what is extrapolated.
    """
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
    kept = read_gpu_rates() if kept is None else kept
    known = {(row["device"], row["stage"]) for row in kept}
    return [row for row in found if (row["device"], row["stage"]) not in known] + kept


def read_gpu_rates(path: Path = GPU_RATES) -> list[dict]:
    """The rows that `make gpu` measured; none where nobody kept any. ValueError for any that no GPU gave."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if any(row["device"] == "cpu" or row["basis"] != "measured" for row in rows):
        raise ValueError(f"{path}: holds rates that were not measured on a GPU")
    return rows


def derive_gpu_rates(forward: dict, step: dict, measure: float, about: dict) -> list[dict]:
    """Rows of rates.csv of a GPU from seconds an image: of passes and of passes there and back, by layer of VGG16.

    measure: seconds to compare an image with its clean one; 0: not measured. about: device, name, date.
    """
    seconds = {"forward": forward, "step": {layer: both / 2 for layer, both in step.items()}}
    found = []
    for stage, of in seconds.items():
        if of:
            work = measure_vgg16(of)
            flops, traffic = _fit([work[layer] for layer in of], list(of.values()))
            found += [(f"{stage}_flops", flops, "FLOP/s"), (f"{stage}_traffic", traffic, "bytes/s")]
    if measure:
        found.append(("measure_row", 1 / measure, "images/s"))
    shape = {"units": 0, "height": 0, "width": 0, "basis": "measured"}
    return [{"stage": stage, "value": f"{value:.4g}", "unit": unit} | shape | about for stage, value, unit in found]


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
