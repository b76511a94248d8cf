"""What designed corruption costs: the attack over a bare forward and backward pass, re-dissection of
one unit over a full dissection, and many units at once over one at a time.

`make bench` runs it after tests/benchmarks/bench.py. All ratios are medians over rounds in which both sides run
one after the other.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nemesis.arithmetic import fix_products

ROOT = Path(__file__).resolve().parents[2]
BRODEN_IMAGES = 63_296


def main():
    fix_products()  # as in every job
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare_attack(folder / "attack", options)
        compare_redissection(folder / "redissect", options)
        compare_runs(folder / "runs", options)
        if options.vgg16:
            extrapolate_vgg16(options)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--single-runs", type=int, default=8, help="runs of one unit that are timed, of 32")
    parser.add_argument("--vgg16", action="store_true", help="units an hour of a VGG16 at 224 px (wants a GPU)")
    return parser.parse_args()


class Bench:
    """A probe, one layer of a network, its clean dissection, and how long that took."""

    def __init__(self, folder: Path, kind: str, layer: str, images: int, size: int, options):
        from nemesis.corruption.attacked import AttackedLayer
        from nemesis.devices import choose_batch, choose_device
        from nemesis.dissection.dissect import load_concepts
        from nemesis.models.registry import build_network
        from nemesis.probes.minibroden import make_minibroden
        from nemesis.probes.probe import open_probe, prepare_probe

        if not (folder / "probe.zarr").exists():
            make_minibroden(folder / "broden", images=images, size=size)
            prepare_probe(folder / "broden", folder / "probe.zarr", folder / "concepts.csv")
        probe = open_probe(folder / "probe.zarr")
        concepts = load_concepts(folder / "concepts.csv", probe)
        self.folder, self.device = folder, choose_device(options.device)
        self.batch = choose_batch("auto", probe.size, self.device)
        spec = {"kind": kind} | ({"weights": "random", "classes": 10} if kind == "tinyvgg" else {})
        self.network = build_network(kind, spec)
        self.settings = {"quantile": 0.005, "threshold": "exact", "iou": "published", "min_iou": 0.0}
        self.layer = AttackedLayer(layer, None, None, None, None, probe, concepts, self.device, self.settings)
        self.dissect()

    def dissect(self) -> float:
        """The whole clean dissection of the layer, seconds: extraction, thresholds, counting."""
        import dataclasses

        from nemesis.dissection.dissect import Run, dissect_layer
        from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
        from nemesis.dissection.stored import open_maps
        from nemesis.dissection.thresholds import layer_thresholds

        probe, name = self.layer.probe, self.layer.name
        start = time.perf_counter()
        with self.reader(pad=True) as reader:
            settings = ExtractionSettings(self.batch, self.device)
            extract_activations(reader.read, probe_images(probe), self.folder / "maps.zarr", settings)
        maps = open_maps(self.folder / "maps.zarr", name)
        found = layer_thresholds(maps, 0.005, "exact")
        run = Run(maps, found.threshold)
        ((tally, _, table),) = dissect_layer([run], probe, self.layer.concepts, self.device, "published")
        seconds = time.perf_counter() - start
        areas = tally.concept_area.cpu().numpy()
        parts = {"maps": maps, "table": table, "thresholds": found.threshold, "areas": areas}
        self.layer = dataclasses.replace(self.layer, **parts)
        return seconds

    def reader(self, pad: bool):
        from nemesis.models.network import LayerReader

        return LayerReader(self.network, [self.layer.name], self.device, pad_to=self.batch if pad else 0)

    def plan(self, count: int):
        """An untargeted attack on the `count` units of the highest IoU."""
        from nemesis.corruption.plan import Subject, plan_rows, survey_probe
        from nemesis.corruption.targets import Task

        table = self.layer.table.sort_values("iou", ascending=False).head(count).sort_values("unit")
        tasks = [Task(int(row.unit), int(row.number)) for row in table.itertuples() if row.number]
        layer = self.layer
        subject = Subject(layer.probe, layer.maps, layer.thresholds, "segmentation", "equation7")
        return subject, plan_rows(tasks, survey_probe(tasks, subject, self.device), 0.1)

    def attack(self, subject, plan, eps: float, path: Path):
        """Attack and store, as the workflow's job does."""
        from nemesis.corruption.attack import UnitPGD, attack_rows
        from nemesis.perturb.pgd import round_rows
        from nemesis.perturb.poison import write_poison

        with self.reader(pad=False) as reader:
            attack = UnitPGD(reader, self.layer.name)
            attacked = attack_rows(attack, plan, subject, np.full(len(plan), eps), self.batch)
            write_poison(path, plan, round_rows(attacked, eps), subject.probe.size)

    def bare_passes(self, images: np.ndarray, steps: int = 10):
        """`steps` forward and backward passes over images in full batches, and nothing else."""
        import torch

        with self.reader(pad=False) as reader:
            for start in range(0, len(images), self.batch):
                batch = torch.from_numpy(images[start : start + self.batch]).to(self.device).float() / 255
                for _ in range(steps):
                    batch.requires_grad_()
                    maps = reader.read(batch)[self.layer.name]
                    batch = batch.detach() + torch.autograd.grad(maps.sum(), batch)[0] * 0

    def clock(self, work) -> float:
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter() - start


def set_threads(options):
    import torch

    torch.set_num_threads(options.threads)


def compare_attack(folder: Path, options):
    """Attack time over steps x (forward + backward) of the same images."""
    set_threads(options)
    for kind, layer, units in (("efficientnet_lite0", "blocks.10", 8), ("tinyvgg", "conv5", 32)):
        bench = Bench(folder, kind, layer, 600, 128, options)
        subject, plan = bench.plan(units)
        images = subject.probe.take_images(plan.image)
        ratios = []
        for _ in range(options.repeats):
            bare = bench.clock(lambda bench=bench, images=images: bench.bare_passes(images))
            ours = bench.clock(
                lambda bench=bench, subject=subject, plan=plan: bench.attack(subject, plan, 6, folder / "poison.zarr")
            )
            ratios.append(ours / bare)
        print(
            f"attack, {kind} {layer}: {len(plan.tasks)} units, {len(plan)} poisoned images, {ours:.1f} s;"
            f" over 10 bare forward and backward passes {describe(ratios)}"
        )


def compare_redissection(folder: Path, options):
    """Dissecting one attacked unit again over a full clean dissection of the layer."""
    from nemesis.corruption.redissect import redissect
    from nemesis.corruption.shown import ForwardPass, change_of, poisoned_images, show_rows
    from nemesis.corruption.targets import Task
    from nemesis.perturb.poison import open_poison

    set_threads(options)
    bench = Bench(folder, "tinyvgg", "conv5", 1200, 128, options)
    subject, plan = bench.plan(16)
    bench.attack(subject, plan, 6, folder / "poison.zarr")
    poison, layer = open_poison(folder / "poison.zarr", Task), bench.layer
    sizes = [len(poison.rows_of(task)) for task in range(len(poison.tasks))]

    def again(tasks: range):
        span, corrupt = poison.span_of(tasks), poisoned_images(poison, "lossless")
        with bench.reader(pad=True) as reader:
            forward = ForwardPass(reader, layer.name, layer.probe, bench.batch, layer.maps.dtype)
            shown = show_rows(forward, poison, span, corrupt)
        redissect([change_of(poison, shown, span.start, task) for task in tasks], layer)

    every, together, alone = range(len(poison.tasks)), [], []
    for _ in range(options.repeats):
        full = bench.dissect()
        together.append(bench.clock(lambda: again(every)) / len(every) / full)
        alone += [bench.clock(lambda task=task: again(range(task, task + 1))) / full for task in every]
    print(
        f"re-dissection of one attacked unit, tinyvgg conv5, {layer.probe.count} images (full: {full:.2f} s,"
        f" {statistics.mean(sizes):.0f} poisoned images a unit), over a full one: {describe(together)} in a run of"
        f" {len(every)} units, {describe(alone)} alone"
    )


CONFIG = """
device: {device}
threads: {threads}
probes: {{scenes: {{kind: minibroden, images: 600, size: 128}}}}
models: {{vgg: {{kind: tinyvgg, probe: scenes, epochs: 3}}}}
experiments: [{{probe: scenes, model: vgg, layers: [conv5], units: all}}]
dissection: {{null_replicates: 0}}
designed: {{eps: [6], modes: [untargeted], units: {units}, budgets: []}}
"""


def compare_runs(folder: Path, options):
    """32 units in one run of the workflow over 32 runs of one unit each; the clean dissection is there."""
    place = "results/scenes/vgg/conv5"
    call_workflow(folder, options, [0], f"{place}/clean/dissection.csv")
    with open(folder / place / "clean/dissection.csv", newline="") as stream:
        units = [int(row["unit"]) for row in csv.DictReader(stream) if int(row["number"])][:32]
    target = f"{place}/designed/pgd-6-untargeted-segmentation/dissection.csv"
    together = call_workflow(folder, options, units, target)
    many = peak_mb(folder)
    call_workflow(folder, options, units[:8], target)
    few = peak_mb(folder)
    singles = [call_workflow(folder, options, [unit], target) for unit in units[: options.single_runs]]
    alone = statistics.mean(singles) * len(units)
    print(
        f"{len(units)} units of tinyvgg conv5 in one run of the workflow: {together:.1f} s; as {len(units)} runs of"
        f" one unit: {alone:.1f} s ({len(singles)} of them timed), {alone / together:.1f} times as long"
    )
    for rule, peak in few.items():
        print(f"peak memory of {rule}: {peak:.0f} MB for 8 units, {many[rule]:.0f} MB for {len(units)}")


def peak_mb(folder: Path) -> dict[str, float]:
    """Peak memory of the jobs of the last run, from their benchmark files."""
    peaks = {}
    for rule in ("poison_images", "dissect_designed"):
        (path,) = (folder / "benchmarks" / rule).rglob("*.tsv")
        with open(path, newline="") as stream:
            peaks[rule] = float(next(csv.DictReader(stream, delimiter="\t"))["max_rss"])
    return peaks


def call_workflow(folder: Path, options, units: list[int], target: str) -> float:
    """Seconds of one call of snakemake for some units."""
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG.format(device=options.device, threads=options.threads, units=units))
    command = [sys.executable, "-m", "snakemake", target, "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--configfile", folder / "config.yaml", "--workflow-profile", ROOT / "profiles" / "default"]
    start = time.perf_counter()
    subprocess.run([*command, "--cores", "2"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def extrapolate_vgg16(options, rows: int = 256):
    """Units of VGG16's conv5_3 an hour at 224 px, from the rate over made-up images, for Broden's size."""
    import torch

    from nemesis.corruption.attack import UnitPGD
    from nemesis.corruption.objective import MeanActivation
    from nemesis.devices import choose_batch, choose_device
    from nemesis.models.network import LayerReader
    from nemesis.models.registry import build_network

    device = choose_device(options.device)
    batch = choose_batch("auto", (224, 224), device)
    network = build_network("vgg16", {"kind": "torchvision", "arch": "vgg16", "weights": "random"})
    images = torch.rand(batch, 3, 224, 224, device=device)
    entries = torch.arange(batch, device=device)
    objective = MeanActivation(entries, entries, torch.full((batch, 14, 14), 1 / 196, device=device))
    with LayerReader(network, ["features.28"], device) as reader:
        attack = UnitPGD(reader, "features.28")
        radius = torch.full((batch,), 6 / 255)
        attack(images, objective, radius)
        start = time.perf_counter()
        for _ in range(-(-rows // batch)):
            attack(images, objective, radius).cpu()
        seconds = (time.perf_counter() - start) / (-(-rows // batch) * batch)
    poisoned = int(0.1 * BRODEN_IMAGES)
    print(
        f"VGG16 conv5_3, 224 px, {device}: {seconds * 1000:.2f} ms a poisoned image (10 steps);"
        f" {poisoned} images (10% of Broden's {BRODEN_IMAGES}) x that = {poisoned * seconds:.0f} s a unit,"
        f" {3600 / (poisoned * seconds):.1f} units an hour"
    )


def describe(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})"


if __name__ == "__main__":
    main()
