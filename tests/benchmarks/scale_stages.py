"""The stages that `make scale` measures: the library's own functions on made-up data at VGG16's real shapes.

Each function gets a Place and returns {"seconds": ..., "amount": ...}; it runs in a process of its own.
"""

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from scale_data import BATCH, BUDGETS, SEED, SETTINGS, SIDE, SOURCE, TASKS, Place, clock, make_maps, make_probe

ROOT = Path(__file__).resolve().parents[2]


def less(taken: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(taken[name] - other[name], 1e-6) for name in ("seconds", "cpu_seconds")}


def store(place: Place) -> dict:
    """Storing the maps of a layer, less the time in which the stand-in for the network makes them."""
    import torch

    from nemesis.dissection.extract import ExtractionSettings, ImageSource, extract_activations

    probe, _, device = place.open()
    pool, spent = make_maps(place.shape, place.batch), []

    def run(images):
        turned = []
        spent.append(clock(lambda: turned.append(torch.roll(pool, len(spent), dims=1))))
        return {place.layer: turned[0][: len(images)]}

    source = ImageSource(np.arange(place.images), probe.names[: place.images], probe.images)
    settings = ExtractionSettings(place.batch, device, SETTINGS["dtype"])
    taken = clock(lambda: extract_activations(run, source, place.maps, settings))
    made = {name: sum(part[name] for part in spent) for name in taken}
    return less(taken, made) | {"amount": place.images * place.shape[0]}


def read_maps(place: Place) -> dict:
    """Reading the stored maps, as every stage after extraction does."""
    from nemesis.dissection.stored import open_maps
    from nemesis.stores import blocks

    maps = open_maps(place.maps, place.layer)

    def read_all():
        for start, stop in blocks(maps.count, maps.block):
            maps.read(slice(start, stop))

    return clock(read_all) | {"amount": maps.units * maps.count}


def thresholds(place: Place) -> dict:
    from nemesis.dissection.thresholds import write_thresholds

    path = place.folder / f"{place.layer}-thresholds.csv"
    rule = SETTINGS["quantile"], SETTINGS["threshold"]
    taken = clock(lambda: write_thresholds(place.maps, place.layer, path, *rule))
    return taken | {"amount": place.images * place.shape[0]}


def tally(place: Place) -> dict:
    return _dissect(place, 0)


def runs_2(place: Place) -> dict:
    """The same, and thresholds and counts of the probe resampled twice, as for the null churn."""
    return _dissect(place, 2)


def runs_10(place: Place) -> dict:
    """The same, with ten replicates."""
    return _dissect(place, 10)


def _dissect(place: Place, replicates: int) -> dict:
    import pandas as pd

    from nemesis.dissection.clean import dissect_clean, write_dissection
    from nemesis.dissection.stored import open_maps

    probe, concepts, _ = place.open()
    outputs = {
        "dissection": place.folder / f"{place.layer}.csv",
        "null_churn": place.folder / f"{place.layer}-null.csv",
    }
    outputs["tally"] = place.folder / f"{place.layer}-tally.zarr"
    settings = SETTINGS | {"null_replicates": replicates, "seed": SEED}
    limits = place.folder / f"{place.layer}-thresholds.csv"

    def dissect():
        maps, thresholds = open_maps(place.maps, place.layer), pd.read_csv(limits)["threshold"].to_numpy()
        found = dissect_clean(maps, thresholds, probe, concepts, settings)
        write_dissection(found, concepts, outputs, settings)

    taken = clock(dissect)
    return taken | {"amount": place.images * place.shape[0]}


def open_layer(place: Place):
    """The layer as an attack opens it."""
    from nemesis.corruption.attacked import CleanFiles, open_attacked_layer

    names = ("probe.zarr", "concepts.csv", f"{place.layer}.zarr", f"{place.layer}.csv")
    names += (f"{place.layer}-thresholds.csv", f"{place.layer}-tally.zarr")
    files = CleanFiles(*(place.folder / name for name in names))
    return open_attacked_layer(place.layer, files, SETTINGS, place.device)


def redissect(place: Place) -> dict:
    """Dissecting TASKS units again after a tenth of the images changed, in all versions of an attack's three tables."""
    from nemesis.corruption.redissect import Change
    from nemesis.corruption.redissect import redissect as redissect_changes

    layer = open_layer(place)
    images = np.arange(0, place.images, 10)
    maps = make_maps((6, *place.shape[1:]), len(images)).half().transpose(0, 1).contiguous().numpy()
    changes, chosen = [], [np.arange(len(images)) < place.images * part for part in BUDGETS]
    for unit, eps in itertools.product(range(TASKS), range(3)):
        clean, poisoned, noisy = float(layer.thresholds[unit]), maps[2 * eps], maps[2 * eps + 1]
        changes += [Change(unit, images, poisoned), Change(unit, images, noisy), Change(unit, images, poisoned, clean)]
        changes += [Change(unit, images, poisoned, chosen=few) for few in chosen]
    return clock(lambda: redissect_changes(changes, layer)) | {"amount": TASKS * place.images}


def survey(place: Place) -> dict:
    """What an attack on TASKS units reads before it chooses images."""
    from nemesis.corruption.plan import Subject, survey_probe

    layer = open_layer(place)
    subject = Subject(layer.probe, layer.maps, layer.thresholds, "segmentation", "equation7")
    return clock(lambda: survey_probe(make_tasks(), subject, layer.device)) | {"amount": TASKS * place.images}


def make_tasks():
    """Units whose source is a made-up label that one image in seven has."""
    from nemesis.corruption.targets import Task

    return [Task(unit, SOURCE, 0, -1) for unit in range(TASKS)]


def noise(place: Place) -> dict:
    from nemesis.corruption.noisy import noisy_images
    from nemesis.perturb.noise import StoredNoise

    probe, _, _ = place.open()
    source = noisy_images(probe, StoredNoise("gaussian", 0.05, "lossless"), 1.0, SEED)

    def load_all():
        for start in range(0, place.images, BATCH):
            source.load(start, min(start + BATCH, place.images))

    return clock(load_all) | {"amount": place.images}


def make_plan(place: Place, rows: int):
    """A plan of TASKS units and so many rows, with made-up labels as sources."""
    from nemesis.corruption.plan import Plan

    tasks = make_tasks()
    task = np.sort(np.arange(rows) % TASKS)
    image = np.concatenate([np.arange((task == one).sum()) for one in range(TASKS)])
    return Plan(tasks, image, task, image, image // 64, np.ones(TASKS))


def poison_row(place: Place) -> dict:
    """What an attack does beside the network: load, weigh regions, round, store."""
    import torch

    spent = []

    class Nudge:
        """Stands in for PGD."""

        device = torch.device("cpu")

        def __call__(self, images, objective, radius):
            moved = []
            spent.append(clock(lambda: moved.append(images + torch.randint(-6, 7, images.shape) / 255)))
            return moved[0].clamp_(0, 1)

    taken = clock(lambda: _poison(place, Nudge(), place.images))
    made = {name: sum(part[name] for part in spent) for name in taken}
    return less(taken, made) | {"amount": place.images}


def _poison(place: Place, attack, rows: int):
    from nemesis.corruption.attack import attack_rows
    from nemesis.corruption.plan import Subject
    from nemesis.perturb.pgd import round_rows
    from nemesis.perturb.poison import write_poison

    probe, _, _ = place.open()
    holder = SimpleNamespace(shape=(place.shape[0], probe.count, *place.shape[1:]))
    subject = Subject(probe, holder, np.zeros(place.shape[0]), "segmentation", "equation7")
    plan = make_plan(place, rows)
    attacked = attack_rows(attack, plan, subject, np.full(rows, 6.0), place.batch)
    write_poison(place.folder / "poison.zarr", plan, round_rows(attacked, 6.0), probe.size)


def show_row(place: Place) -> dict:
    """What showing poisoned images does beside the network: read them, and draw noise of the same size."""
    import torch

    from nemesis.corruption.shown import ForwardPass, poisoned_images, random_images, show_rows
    from nemesis.corruption.targets import Task
    from nemesis.perturb.poison import open_poison

    class Reader:
        """Stands in for the network."""

        device = torch.device("cpu")

        def read(self, images):
            return {place.layer: torch.zeros(len(images), *place.shape)}

    probe, _, _ = place.open()
    poison = open_poison(place.folder / "poison.zarr", Task)
    forward = ForwardPass(Reader(), place.layer, probe, BATCH, np.dtype(np.float16))

    def show():
        span = slice(0, len(poison.image))
        show_rows(forward, poison, span, poisoned_images(poison, "lossless"), measure=False)
        show_rows(forward, poison, span, random_images(6.0, SEED, "lossless"), measure=False)

    return clock(show) | {"amount": len(poison.image)}


def measure_row(place: Place) -> dict:
    """How far stored images are from clean ones: largest difference, SSIM and the like."""
    import torch

    from nemesis.perturb.quality import compare_images

    probe, _, device = place.open()
    clean = torch.from_numpy(probe.images(0, place.images)).to(device)
    stored = (clean ^ 1).contiguous()
    compare_images(clean[:1], stored[:1])
    batches = list(zip(clean.split(place.batch), stored.split(place.batch), strict=True))
    return clock(lambda: [compare_images(*pair) for pair in batches]) | {"amount": place.images}


def copy_row(place: Place) -> dict:
    """Joining two shards of poisoned images."""
    from nemesis.perturb.poison import join_poison, open_poison

    rows = 2 * len(open_poison(place.folder / "poison.zarr").image)
    shards = [place.folder / "poison.zarr"] * 2
    return clock(lambda: join_poison(shards, place.folder / "joined.zarr")) | {"amount": rows}


@functools.cache
def build_vgg16():
    from nemesis.models.registry import build_network

    return build_network("vgg16_places365", {"kind": "vgg16_places365", "weights": "random"})


def open_network(place: Place, pad: bool = True):
    """VGG16 with random weights, read at the layer."""
    from nemesis.models.network import LayerReader

    return LayerReader(build_vgg16(), [place.layer], place.open()[2], pad_to=place.batch if pad else 0)


def forward(place: Place) -> dict:
    import torch

    images = torch.randint(0, 256, (place.batch, 3, SIDE, SIDE), dtype=torch.uint8)
    with open_network(place) as reader, torch.inference_mode():
        reader.read(images)
        taken = clock(lambda: [reader.read(images) for _ in range(place.images // place.batch)])
    return taken | {"amount": place.images // place.batch * place.batch}


def extract(place: Place) -> dict:
    """Extraction with the network itself."""
    from nemesis.dissection.extract import ExtractionSettings, ImageSource, extract_activations

    probe, _, device = place.open()
    source = ImageSource(np.arange(place.images), probe.names[: place.images], probe.images)
    store, settings = place.folder / "extracted.zarr", ExtractionSettings(place.batch, device)
    with open_network(place) as reader:
        taken = clock(lambda: extract_activations(reader.read, source, store, settings))
    return taken | {"amount": place.images}


def attack(place: Place) -> dict:
    """One step of PGD with the network itself, and everything around it; `amount` are images and steps."""
    from nemesis.corruption.attack import UnitPGD

    with open_network(place, pad=False) as reader:
        taken = clock(lambda: _poison(place, UnitPGD(reader, place.layer, steps=1), place.images))
    return taken | {"amount": place.images}


def decode(place: Place) -> dict:
    """Decoding a probe in Broden's layout, at 224 px."""
    from nemesis.probes.minibroden import make_minibroden
    from nemesis.probes.probe import prepare_probe

    make_minibroden(place.folder / "broden", images=place.images, size=SIDE)
    out = place.folder / "decoded"
    taken = clock(lambda: prepare_probe(place.folder / "broden", out / "probe.zarr", out / "concepts.csv"))
    return taken | {"amount": place.images}


def start(place: Place) -> dict:
    """What every job costs before it works: reading the workflow, and the imports of an attack."""
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", place.folder, "--configfile", ROOT / "config.yaml", "--quiet", "all"]
    found = [command, [sys.executable, "-c", "import nemesis.corruption.attacked, nemesis.corruption.attack"]]
    taken = clock(lambda: [subprocess.run(list(map(str, part)), check=True, capture_output=True) for part in found])
    import nemesis.corruption.attack
    import nemesis.corruption.attacked  # noqa: F401

    return taken | {"amount": 1}


STAGES = (make_probe, store, read_maps, thresholds, tally, runs_2, runs_10, redissect, survey, noise, poison_row)
STAGES += (show_row, measure_row, copy_row, forward, extract, attack, decode, start)
BY_NAME = {stage.__name__: stage for stage in STAGES}


def measure(name: str, place: Place) -> dict:
    """Run one stage: seconds, amount, and this process's peak memory."""
    import torch

    found = BY_NAME[name](place)
    device = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0
    return found | {"peak_mb": peak_mb(), "device_mb": device}


def main(name: str, folder: str, layer: str, images: str, device: str):
    """Run one stage as a job runs, on one core, and print what it took as one line of JSON."""
    import torch  # noqa: F401 - before the job limits its threads

    from nemesis.job import job

    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # its helping threads, too
    place = Place(Path(folder), layer, int(images), device)
    with job(place.folder / "stage.log", 1):
        print(json.dumps(measure(name, place)))


def peak_mb() -> float:
    """Largest resident memory of this process so far, MB (1e6 bytes); unlike getrusage's, none of the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("/proc/self/status has no VmHWM; run on Linux")


if __name__ == "__main__":
    main(*sys.argv[1:])
