"""The library's work on one device, stage by stage, for tests that compare a device with the processor.

Nothing is imported that a machine without the development packages lacks.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nemesis.corruption.attack import UnitPGD, attack_rows
from nemesis.corruption.attacked import AttackedLayer
from nemesis.corruption.collateral import measure_collateral
from nemesis.corruption.minimum import find_minimum, open_brackets
from nemesis.corruption.plan import Plan, Subject, plan_rows, survey_probe
from nemesis.corruption.redissect import Change, Redissected, redissect
from nemesis.corruption.shown import (
    ForwardPass,
    Shown,
    StoredAttack,
    change_of,
    poisoned_images,
    random_images,
    show_rows,
)
from nemesis.corruption.targets import Task
from nemesis.dissection.clean import resample_runs
from nemesis.dissection.dissect import Concepts, Run, dissect_layer
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.rerun import Recipe, Rerun, rerun_probe
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.models.network import LayerReader, Network
from nemesis.models.predictions import find_head
from nemesis.perturb.pgd import round_rows
from nemesis.perturb.poison import Poison, open_poison, write_poison
from nemesis.probes.probe import Probe

SETTINGS = {"quantile": 0.01, "threshold": "exact", "iou": "published", "min_iou": 0.0, "null_replicates": 3}
STEPS, EPS, SEED = 5, 8.0, 3


def draw_scenes(folder: Path, images: int, size: int):
    """Draw minibroden in a process of its own: it forks, which a process that uses CUDA and threads had better not."""
    call = "import sys; from nemesis.probes.minibroden import make_minibroden as make; "
    call += "make(sys.argv[1], images=int(sys.argv[2]), size=int(sys.argv[3]))"
    command = [sys.executable, "-c", call, folder, images, size]
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    subprocess.run(list(map(str, command)), check=True, env=os.environ | {"PYTHONPATH": _before(scripts)})


def _before(folder: Path) -> str:
    """PYTHONPATH with a folder before what it has."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


@dataclass(frozen=True)
class Case:
    """A layer of a network on a probe, and where it runs; `network()` makes it anew. batch: images in a pass."""

    probe: Probe
    concepts: Concepts
    network: Callable[[], Network]
    layer: str
    folder: Path
    device: str = "cpu"
    batch: int = 7

    def reader(self, pad: bool = True, **options) -> LayerReader:
        return LayerReader(self.network(), [self.layer], self.device, pad_to=self.batch if pad else 0, **options)

    def on(self, device: str) -> "Case":
        """The same on another device, in a folder of its own."""
        folder = self.folder / device.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        return replace(self, device=device, folder=folder)


def extract(case: Case, name: str = "maps", limit: float | None = None, batch: int | None = None, **options) -> Path:
    """Store the layer's maps; `limit` 0: stream them."""
    path, batch = case.folder / f"{name}.zarr", batch or case.batch
    with replace(case, batch=batch).reader(**options) as reader:
        settings = ExtractionSettings(batch, reader.device, max_store_gb=limit)
        extract_activations(reader.read, probe_images(case.probe), path, settings)
    return path


def read_all(maps) -> np.ndarray:
    return maps.read(slice(0, maps.count))


def dissect(case: Case, maps, device=None, replicates: int = 0) -> list:
    """Tally, IoU and table of a map source and its replicates, counted on the case's device or another."""
    settings = SETTINGS | {"null_replicates": replicates}
    runs = [Run(maps, layer_thresholds(maps, settings["quantile"], settings["threshold"]).threshold)]
    runs += resample_runs(maps, case.probe.count, settings, SEED)
    return dissect_layer(runs, case.probe, case.concepts, torch.device(device or case.device), settings["iou"])


def open_streamed(case: Case):
    """The maps of a streamed layer, made again by the network on the case's device."""
    recipe = Recipe("streamed", {}, Path(), "float16", case.batch, "cpu")
    vars(recipe)["network"] = case.network()  # it is cached
    again = rerun_probe(recipe, case.probe)
    vars(again)["device"] = torch.device(case.device)
    assert isinstance(again, Rerun)
    return open_maps(extract(case, "streamed", limit=0.0), case.layer, again)


def count_streamed(case: Case) -> list:
    """The same dissection of the layer streamed: masks are counted on the device, at the thresholds of its counts."""
    maps = open_streamed(case)
    stored = open_maps(extract(case), case.layer)
    threshold = layer_thresholds(stored, SETTINGS["quantile"], SETTINGS["threshold"]).threshold
    return dissect_layer([Run(maps, threshold)], case.probe, case.concepts, torch.device(case.device), "published")


def open_layer(case: Case) -> AttackedLayer:
    """The clean dissection of the case's layer, as an attack opens it."""
    maps = open_maps(extract(case), case.layer)
    ((tally, _, table),) = dissect(case, maps, "cpu")
    table["dead"] = False
    found = layer_thresholds(maps, SETTINGS["quantile"], SETTINGS["threshold"]).threshold
    areas = tally.concept_area.numpy()
    device = torch.device(case.device)
    return AttackedLayer(case.layer, maps, table, found, areas, case.probe, case.concepts, device, SETTINGS)


def choose(layer: AttackedLayer, units: int = 4) -> list[Task]:
    """Units with a label, and another concept to be called by."""
    labelled = layer.table[layer.table["number"] > 0].head(units)
    names = labelled["number"].tolist()
    return [
        Task(int(unit), int(number), int(next((other for other in names if other != number), 0)))
        for unit, number in zip(labelled["unit"], names, strict=True)
    ]


def plan_attack(layer: AttackedLayer, fraction: float = 0.5, objective: str = "equation7") -> tuple[Subject, Plan]:
    """An attack on some units, on at most this share of the images."""
    tasks = choose(layer)
    subject = Subject(layer.probe, layer.maps, layer.thresholds, "segmentation", objective)
    return subject, plan_rows(tasks, survey_probe(tasks, subject, layer.device), fraction, layer=layer.name)


def poison(case: Case, layer: AttackedLayer, name: str = "poison", objective: str = "equation7") -> Poison:
    """Attack and store."""
    with case.reader(pad=False) as reader:
        return write_attack(case, *plan_attack(layer, objective=objective), UnitPGD(reader, layer.name, STEPS), name)


def write_attack(case: Case, subject: Subject, plan: Plan, attack, name: str = "poison") -> Poison:
    """Let an attack, inside its reader's `with` block, work, and store what it makes."""
    path = case.folder / f"{name}.zarr"
    attacked = attack_rows(attack, plan, subject, np.full(len(plan), EPS), case.batch)
    write_poison(path, plan, round_rows(attacked, EPS), case.probe.size)
    return open_poison(path, Task)


def show(case: Case, poison: Poison) -> Shown:
    """The maps and measures of all poisoned images."""
    rows = slice(0, len(poison.image))
    with case.reader() as reader:
        return show_rows(forward(case, reader), poison, rows, poisoned_images(poison, "lossless"))


def forward(case: Case, reader: LayerReader) -> ForwardPass:
    """How the case's images pass through its network."""
    return ForwardPass(reader, case.layer, case.probe, case.batch, np.dtype(np.float16))


def list_changes(poison: Poison, found: Shown) -> list[Change]:
    return [change_of(poison, found, 0, task) for task in range(len(poison.tasks))]


def redissect_on(device, layer: AttackedLayer, changes: list[Change]) -> Redissected:
    """Dissect the units again, counting on a device."""
    return redissect(changes, layer, torch.device(device))


@contextlib.contextmanager
def precision(tf32: bool):
    """TF32 or float32 in convolutions and products on CUDA: the settings of torch 2.9 and later, which do not warn."""
    parts = [torch.backends.cuda.matmul, torch.backends.cudnn.conv]
    parts += [part for part in [torch.backends.cudnn.rnn] if hasattr(part, "fp32_precision")]  # as the convolutions
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        for part, value in zip(parts, before, strict=True):
            part.fp32_precision = value


def find_smallest(case: Case, layer: AttackedLayer) -> pd.DataFrame:
    """The minimum epsilon of some units."""
    subject, plan = plan_attack(layer)
    attack, brackets = UnitPGD(case.reader(pad=False), layer.name, 2), open_brackets(plan.tasks, {}, 8)
    return find_minimum(layer, subject, plan, attack, case.batch, brackets)


def count_collateral(case: Case, layer: AttackedLayer, poison: Poison) -> pd.DataFrame:
    classifies = find_head(case.network(), case.probe.size) is not None
    noise = random_images(poison.attrs["eps"], SEED, "lossless")
    attack = StoredAttack(poison, poisoned_images(poison, "lossless"), noise)
    return measure_collateral(layer, forward(case, case.reader()), attack, classifies)
