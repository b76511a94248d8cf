"""The sections of `make gpu`: VGG16 with random weights on drawn scenes, stage by stage, on a GPU or in small without.

A section yields Timings and Shares (see gpu_tables). Stages are the library's own functions, as the workflow's jobs
call them; `bare` passes are those of the network alone, up to the layer, on images in the device's memory.
"""

import contextlib
import resource
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from bench import repeat_rows
from device_runs import (
    SETTINGS,
    Case,
    dissect,
    draw_scenes,
    extract,
    list_changes,
    open_layer,
    plan_attack,
    precision,
    read_all,
    redissect_on,
    show,
    write_attack,
)
from gpu_tables import Results, Share, Timing
from scale_data import LAYERS, clock
from scale_stages import build_vgg16, peak_mb

from nemesis.corruption.attack import UnitPGD
from nemesis.corruption.plan import survey_probe
from nemesis.devices import PROCESSOR, choose_batch
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.extract import ExtractionSettings, ImageSource, extract_activations
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.models.network import LayerReader
from nemesis.perturb.quality import compare_images
from nemesis.probes.probe import open_probe, prepare_probe
from nemesis.stores import blocks

LAYER, FIRST = "conv5_3", "conv1_2"


@dataclass(frozen=True)
class Size:
    """How much is measured: pixels of a side, scenes drawn, images of each layer's probe (scenes repeat), poisoned
    images at most, steps of an attack, batches of bare passes, and images on which devices are compared.
    """

    side: int
    drawn: int
    images: dict[str, int]
    rows: int
    steps: int
    batches: int
    subset: int


GPU = Size(224, 128, {LAYER: 768, FIRST: 128}, rows=480, steps=10, batches=20, subset=96)
TOY = Size(64, 4, {LAYER: 4, FIRST: 2}, rows=4, steps=2, batches=1, subset=4)


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured, and what was found so far."""

    folder: Path
    device: torch.device
    size: Size
    results: Results
    held: dict = field(default_factory=dict)

    @property
    def batch(self) -> int:
        return min(choose_batch("auto", (self.size.side,) * 2, self.device), max(self.size.images.values()))

    def case(self, layer: str, images: int, device: str | None = None) -> Case:
        """A layer of VGG16 on so many scenes."""
        place = self.folder / f"probe-{images}"
        if not place.exists():
            if not (self.folder / "scenes").exists():
                draw_scenes(self.folder / "scenes", self.size.drawn, self.size.side)
            source = repeat_rows(self.folder / "scenes", self.folder / f"rows-{images}", images)
            prepare_probe(source, place / "probe.zarr", place / "concepts.csv")
        probe = open_probe(place / "probe.zarr")
        concepts = load_concepts(place / "concepts.csv", probe)
        folder = self.folder / f"{layer}-{images}-{device or self.device.type}"
        folder.mkdir(exist_ok=True)
        return Case(probe, concepts, build_vgg16, layer, folder, device or str(self.device), min(self.batch, images))

    def time(self, stage: str, layer: str, images: float, work, bare: float = 0.0, note: str = "") -> Timing:
        """Run some work once."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        _forget_peak()
        taken = clock(work)
        device_mb = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else 0.0
        return Timing(
            stage, layer, images, **taken, bare_seconds=bare, device_mb=device_mb, host_mb=_find_peak(), note=note
        )

    def bare(self, stage: str, layer: str) -> float:
        """Seconds an image of a bare pass, measured at the latest now."""
        found = self.results.seconds(stage)
        if layer not in found:
            key = (stage, layer)
            if key not in self.held:
                self.held[key] = time_pass(self, stage, layer)
            found = {layer: self.held[key].seconds / self.held[key].images}
        return found[layer]


def _find_peak() -> float:
    """Largest memory of this process, MB, since it was forgotten, or, where the system does not tell, ever."""
    try:
        return peak_mb()
    except (OSError, RuntimeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _forget_peak():
    """Begin to note this process's largest memory anew, where the system lets it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


# --- bare passes ----------------------------------------------------------------------------------


def time_pass(bench: Bench, stage: str, layer: str, note: str = "", **options) -> Timing:
    """`forward`: the network up to a layer; `step`: there, and back to the image."""
    side, batch, batches = bench.size.side, bench.batch, bench.size.batches
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=bench.device)
    with LayerReader(build_vgg16(), [layer], bench.device, **options) as reader:
        run = _make_forward(reader, images) if stage == "forward" else _make_step(reader, layer, images)
        run(2 if bench.device.type == "cuda" else 1)
        return bench.time(stage + note, layer, batch * batches, lambda: run(batches), note=f"batch {batch}")


def _make_forward(reader, images):
    @torch.inference_mode()
    def run(times: int):
        for _ in range(times):
            reader.read(images)

    return run


def _make_step(reader, layer: str, images):
    def run(times: int):
        moved = images.float() / 255
        for _ in range(times):
            moved = moved.detach().requires_grad_()
            torch.autograd.grad(reader.read(moved)[layer].sum(), moved)

    return run


def time_passes(bench: Bench):
    """Bare passes at five depths, and at one of them in other settings."""
    for layer in LAYERS:
        for stage in ("forward", "step"):
            yield time_pass(bench, stage, layer)
    for stage in ("forward", "step"):
        for tf32 in (True, False):
            with precision(tf32):
                yield time_pass(bench, stage, LAYER, ", TF32" if tf32 else ", float32")
        yield time_pass(bench, stage, LAYER, ", contiguous", channels_last=False)
        with _deterministic():
            yield time_pass(bench, stage, LAYER, ", deterministic")


@contextlib.contextmanager
def _deterministic():
    """Only algorithms of cuDNN that give the same bits each time."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


# --- stages ---------------------------------------------------------------------------------------


def time_stages(bench: Bench, layer: str):
    """Extraction, thresholds, dissection, attack and re-dissection of a layer, and their parts beside the network."""
    images = bench.size.images[layer]
    case = bench.case(layer, images)
    yield from _time_extraction(bench, case, images)
    maps = open_maps(case.folder / "maps.zarr", layer)
    yield bench.time("thresholds", layer, images, lambda: layer_thresholds(maps, SETTINGS["quantile"], "exact"))
    found = {}
    for name, device in (("dissect", PROCESSOR), ("dissect, counted on the device", bench.device)):
        yield bench.time(
            name, layer, images, lambda name=name, on=device: found.update({name: dissect(case, maps, on)})
        )
    here, there = (tally.intersection.cpu() for ((tally, _, _),) in found.values())
    yield Share("counts of pixels, processor and device", layer, int((here == there).sum()), here.numel())
    yield from _time_attack(bench, case, images)


def _time_extraction(bench: Bench, case: Case, images: int):
    layer, probe = case.layer, case.probe

    def load():
        for start, stop in blocks(images, case.batch):
            probe.images(start, stop)

    yield bench.time("load images", layer, images, load)
    yield bench.time("extract", layer, images, lambda: extract(case), images * bench.bare("forward", layer))
    with case.reader() as reader, torch.inference_mode():
        pool = reader.read(probe.images(0, case.batch))
    source = ImageSource(np.arange(images), probe.names, probe.images)
    store, settings = case.folder / "beside.zarr", ExtractionSettings(case.batch, bench.device)
    run = lambda batch: {layer: pool[layer][: len(batch)]}  # noqa: E731
    write = lambda: extract_activations(run, source, store, settings)  # noqa: E731
    yield bench.time("extract, without the network", layer, images, write)
    yield bench.time("read maps", layer, images, lambda: read_all(open_maps(store, layer)))


@dataclass(frozen=True)
class Nudge:
    """Stands in for an attack: moves each pixel a little, without the network."""

    device: torch.device

    def __call__(self, images, objective, radius):
        return (images + torch.randint(-6, 7, images.shape, device=self.device) / 255).clamp_(0, 1)


def _time_attack(bench: Bench, case: Case, images: int):
    layer, found = open_layer(case), {}
    fraction = min(0.5, bench.size.rows / (4 * images))
    subject, plan = plan_attack(layer, fraction)
    for name, device in (("survey", PROCESSOR), ("survey, on the device", bench.device)):
        arguments = (plan.tasks, subject, device)
        yield bench.time(name, case.layer, images, lambda arguments=arguments: survey_probe(*arguments))
    rows, steps = len(plan), bench.size.steps
    forward, step = (bench.bare(stage, case.layer) for stage in ("forward", "step"))
    with case.reader(pad=False) as reader:
        work = lambda: write_attack(case, subject, plan, UnitPGD(reader, case.layer, steps))  # noqa: E731
        yield bench.time("attack", case.layer, rows, lambda: found.update(poison=work()), rows * steps * step)
    work = lambda: write_attack(case, subject, plan, Nudge(bench.device), "nudged")  # noqa: E731
    yield bench.time("attack, without the network", case.layer, rows, work)
    poison = found["poison"]
    yield bench.time("show", case.layer, rows, lambda: found.update(shown=show(case, poison)), rows * forward)
    changes = list_changes(poison, found["shown"])
    for name, device in (("redissect", PROCESSOR), ("redissect, counted on the device", bench.device)):
        work = lambda name=name, device=device: found.update({name: redissect_on(device, layer, changes)})  # noqa: E731
        yield bench.time(name, case.layer, images, work, note=f"{len(changes)} units")
    here, there = found["redissect"].numbers, found["redissect, counted on the device"].numbers
    yield Share(
        "labels after the attack, counted on processor and device", case.layer, int((here == there).sum()), len(here)
    )


def time_measures(bench: Bench):
    """Comparing images with their clean ones."""
    images = bench.size.images[FIRST]
    clean = torch.from_numpy(bench.case(FIRST, images).probe.images(0, images)).to(bench.device)
    batches = list(zip(clean.split(bench.batch), (clean ^ 1).split(bench.batch), strict=True))
    compare_images(*batches[0])
    yield bench.time("measure images", "", images, lambda: [compare_images(*pair) for pair in batches])


# --- equality -------------------------------------------------------------------------------------


def compare_precisions(bench: Bench):
    """Labels and stored values of the processor, of float32 and of TF32 on the device."""
    for layer in (LAYER, FIRST):
        found = {}
        for name, device, tf32 in (("processor", "cpu", False), ("float32", None, False), ("TF32", None, True)):
            case = bench.case(layer, bench.size.subset, device)
            with precision(tf32):
                maps = open_maps(extract(case, name), case.layer)
            ((_, _, table),) = dissect(case, maps, PROCESSOR)
            found[name] = read_all(maps), table
        for first, second in (("TF32", "float32"), ("float32", "processor"), ("TF32", "processor")):
            yield from _compare(f"{first} and {second}", layer, found[first], found[second])


def _compare(what: str, layer: str, first, second):
    """Stored values, and labels of units, of two runs."""
    (maps, table), (other, known) = first, second
    worst = np.abs(maps.astype(np.float32) - other).max() / max(float(np.abs(other).max()), 1e-9)
    yield Share(
        f"values, {what}",
        layer,
        int((maps == other).sum()),
        maps.size,
        f"largest difference {worst:.2g} of the maximum",
    )
    same = table["number"].to_numpy() == known["number"].to_numpy()
    margin = (known["iou"] - known["iou_2"]).to_numpy()[~same]
    note = f"largest margin of a changed one {margin.max():.4f}" if len(margin) else ""
    yield Share(f"labels, {what}", layer, int(same.sum()), len(same), note)


def compare_repeats(bench: Bench):
    """The same work twice, with other images beside, and in smaller batches: the same bits?"""
    case = bench.case(LAYER, bench.size.subset)
    once, again = (read_all(open_maps(extract(case, name), case.layer)) for name in ("once", "again"))
    yield Share("values, the same extraction twice", LAYER, int((once == again).sum()), once.size)
    half = read_all(open_maps(extract(case, "half", batch=max(1, case.batch // 2)), LAYER))
    yield Share("values, half the batch", LAYER, int((once == half).sum()), once.size)
    layer = open_layer(case)
    subject, plan = plan_attack(layer, 0.5)
    for name, setting in (("", contextlib.nullcontext), (", deterministic", _deterministic)):
        with setting(), case.reader(pad=False) as reader:
            attack = UnitPGD(reader, LAYER, bench.size.steps)
            pair = [write_attack(case, subject, plan, attack, f"{turn}{name}").store["delta"][...] for turn in "ab"]
        yield Share(f"pixels, the same attack twice{name}", LAYER, int((pair[0] == pair[1]).sum()), pair[0].size)


@cache
def list_sections() -> dict:
    """Sections by name, the most important first."""
    return {
        "passes": time_passes,
        LAYER: lambda bench: time_stages(bench, LAYER),
        "precision": compare_precisions,
        FIRST: lambda bench: time_stages(bench, FIRST),
        "measures": time_measures,
        "repeats": compare_repeats,
    }
