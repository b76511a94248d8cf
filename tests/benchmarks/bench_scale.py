"""Rates and peak memory of every stage at VGG16's real layer shapes, on made-up images at 224 px with 1,197 concepts.

`make scale` measures on this machine (some 20 quiet minutes on two cores) and rewrites docs/scale.csv, the tables
of docs/scale.md and the rates of `make estimate`. `--quick` takes few images and writes nothing unless `--out` says
where. Each measurement runs in a process of its own, on one thread; with `--quick` all run in this one, so that their
memory says nothing.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scale_data import Place
from scale_rates import MEASUREMENTS
from scale_stages import measure
from scale_tables import write_documents

from nemesis.arithmetic import fix_products

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    "stage",
    "layer",
    "images",
    "amount",
    "seconds",
    "cpu_seconds",
    "peak_mb",
    "device_mb",
    "device",
    "name",
    "torch",
    "date",
)
COUNTS = {
    "conv1_2": (64, 128),
    "conv2_2": (128, 256),
    "conv3_3": (256, 512),
    "conv4_3": (1024, 4096),
    "conv5_3": (1024, 4096, 16384),
}
QUICK = {"conv1_2": (2,), "conv5_3": (4, 8)}
# Each needs what one before it wrote.
NEEDED = ("make_probe", "store", "thresholds", "tally")
STORED = ("store", "read_maps", "thresholds", "tally", "runs_2", "runs_10", "redissect", "survey")


def main():
    fix_products()  # as in every job
    options = parse_arguments()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = list(measure_all(Path(folder), options))
    if options.stages:
        measured = {(row["stage"], row["layer"], str(row["images"])): row for row in rows}
        rows = [measured.get((row["stage"], row["layer"], row["images"]), row) for row in read_rows(MEASUREMENTS)]
    if options.out:
        write_rows(options.out, rows)
    elif not options.quick:
        write_rows(MEASUREMENTS, rows)
        write_documents()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images and two layers: does it run at all?")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", help="where the made-up data lie for a while, some 15 GB (default: as TMPDIR says)")
    parser.add_argument(
        "--stages", nargs="+", help="measure these alone, and what they need; the others stay as they are"
    )
    parser.add_argument("--out", type=Path, help="write the measurements there and nothing else")
    return parser.parse_args()


def measure_all(folder: Path, options):
    """Run every measurement; yields its row."""
    about = describe_machine(options.device)
    counts = QUICK if options.quick else COUNTS
    for stage, layer, images, place in list_measurements(counts, options.quick):
        if options.stages and stage not in (*options.stages, *NEEDED):
            continue
        (folder / place).mkdir(exist_ok=True)
        run = run_here if options.quick else run_apart
        found = run(stage, folder / place, layer, images, options.device)
        row = {"stage": stage, "layer": layer, "images": images} | found | about
        print(
            f"{stage:<12} {layer:<8} {images:>6} images {found['seconds']:9.2f} s {found['peak_mb']:7.0f} MB",
            flush=True,
        )
        if not options.stages or stage in options.stages:
            yield {name: row[name] for name in COLUMNS}
        if stage == STORED[-1]:
            shutil.rmtree(folder / place / f"{layer}.zarr")


def read_rows(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def list_measurements(counts: dict, quick: bool):
    """(stage, layer, images, folder) of every measurement, in an order in which each finds what it needs."""
    rows, batches = (4, (1, 2)) if quick else (256, (32, 128))
    yield "start", "", 1, "apart"
    yield "decode", "", 4 if quick else 128, "apart"
    for images in sorted({number for numbers in counts.values() for number in numbers}):
        yield "make_probe", "", images, f"probe-{images}"
        for layer, wanted in counts.items():
            if images in wanted:
                yield from ((stage, layer, images, f"probe-{images}") for stage in STORED)
    place = f"probe-{max(number for numbers in counts.values() for number in numbers)}"
    for stage in ("noise", "poison_row", "show_row", "measure_row", "copy_row"):
        yield stage, "conv5_3", rows, place
    for layer in counts:
        yield "forward", layer, batches[0], place
        yield "attack", layer, batches[0], place
        for images in batches if layer in ("conv1_2", "conv5_3") else batches[:1]:
            yield "extract", layer, images, place


def run_apart(stage: str, folder: Path, layer: str, images: int, device: str) -> dict:
    """One measurement in a process of its own, so that its peak memory is its own."""
    command = [sys.executable, Path(__file__).with_name("scale_stages.py"), stage, folder, layer, str(images), device]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"bench_scale: {stage} of {layer or 'no layer'}, {images} images failed, see above")
    return json.loads(done.stdout.splitlines()[-1])


def run_here(stage: str, folder: Path, layer: str, images: int, device: str) -> dict:
    return measure(stage, Place(folder, layer, images, device))


def describe_machine(device: str) -> dict:
    """Device, its name, torch's version, the day."""
    import torch

    from nemesis.devices import choose_device

    chosen = choose_device(device)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"one core of {find_processor()}"
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"device": chosen.type, "name": name, "torch": torch.__version__.partition("+")[0], "date": date}


def find_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_rows(path: Path, rows: list[dict]):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
