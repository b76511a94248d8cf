"""Time of each stage over a bare forward pass, images a second, peak memory, bytes written.

`make bench` draws minibroden; `make bench ARGS="--probe FOLDER --layers blocks.10 blocks.15"`
takes any folder in Broden's layout. Ratios are medians over `--repeats` rounds, each of which
runs all stages one after the other, so that a drift of the machine's speed cancels.
"""

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nemesis.arithmetic import fix_products

STAGES = ("extract", "thresholds", "dissect")


def main():
    fix_products()  # as in every job
    options = parse_arguments()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(options.probe) if options.probe else draw_minibroden(Path(folder) / "minibroden")
        print(f"{options.model}, {', '.join(options.layers)}, {probe.name}, {options.threads} threads")
        first = run_apart(options, probe, options.images, options.repeats, naive=True)
        print_stages(first)
        if options.grow > 1:
            images = first["images"]
            small, large = (run_apart(options, probe, count, 1) for count in (600, 600 * options.grow))
            growth = large["peak_mb"] / small["peak_mb"] - 1
            print(
                f"\npeak memory: {small['peak_mb']:.0f} MB for {small['images']} images,"
                f" {large['peak_mb']:.0f} MB for {large['images']} ({100 * growth:+.1f}%);"
                f" {first['peak_mb']:.0f} MB for {images}, of which {first['start_mb']:.0f} MB are imports"
            )


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probe", help="a folder in Broden's layout (default: minibroden)")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--layers", nargs="+", default=["blocks.10", "blocks.15"])
    parser.add_argument("--images", type=int, help="so many images, repeated if need be (default: all)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--grow", type=int, default=4, help="also 600 and GROW * 600 images, for memory; 1: not")
    parser.add_argument("--naive", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def draw_minibroden(target: Path) -> Path:
    from nemesis.probes.minibroden import make_minibroden

    make_minibroden(target)
    return target


def run_apart(options, probe: Path, images, repeats: int, naive: bool = False) -> dict:
    """Measure in a process of its own, so that its peak memory is that of the stages alone."""
    command = [sys.executable, __file__, "--measure", str(probe), "--model", options.model, "--repeats", str(repeats)]
    command += ["--threads", str(options.threads), "--device", options.device, "--dtype", options.dtype]
    command += ["--layers", *options.layers] + (["--images", str(images)] if images else [])
    command += ["--naive"] if naive else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(options) -> dict:
    """Rounds of bare forward pass, extraction, thresholds, dissection; all times in seconds."""
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(options, Path(folder))
        start_mb = peak_mb()
        rounds = [job.run_round() for _ in range(options.repeats)]
        found = {
            "images": job.probe.count,
            "start_mb": start_mb,
            "peak_mb": peak_mb(),
            "device": str(job.device),
            "batch": job.batch,
            "rounds": rounds,
            "bytes": sum(path.stat().st_size for path in Path(folder).glob("*/**/*") if path.is_file()),
        }
        if job.device.type == "cuda":
            found["device_mb"] = torch.cuda.max_memory_allocated() / 2**20
        return found | ({"naive": job.compare_naive()} if options.naive else {})


class Job:
    """One network on one probe."""

    def __init__(self, options, folder: Path):
        from nemesis.devices import choose_batch, choose_device
        from nemesis.dissection.dissect import load_concepts
        from nemesis.models.registry import build_network
        from nemesis.probes.probe import open_probe, prepare_probe

        source = repeat_rows(Path(options.measure), folder / "source", options.images)
        prepare_probe(source, folder / "probe.zarr", folder / "concepts.csv")
        self.folder, self.options = folder, options
        self.probe = open_probe(folder / "probe.zarr")
        self.concepts = load_concepts(folder / "concepts.csv", self.probe)
        self.device = choose_device(options.device)
        self.batch = choose_batch("auto", self.probe.images(0, 1).shape[2:], self.device)
        self.network = build_network(options.model, {"kind": options.model})
        self.store = folder / "maps" / "activations.zarr"

    def run_round(self) -> dict[str, float]:
        """Seconds of each stage; the images are in memory for the bare pass alone."""
        from nemesis.models.network import LayerReader

        times = {}
        with LayerReader(self.network, self.options.layers, self.device, pad_to=self.batch) as reader:
            times["bare"] = self.clock(lambda: self.forward(reader))
            times["extract"] = self.clock(lambda: self.extract(reader))
        times["thresholds"] = self.clock(self.find_thresholds)
        times["dissect"] = self.clock(self.dissect)
        return times

    def clock(self, work) -> float:
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize()
        return time.perf_counter() - start

    def forward(self, reader):
        """The network up to the last layer, and nothing else: images decoded, results dropped."""
        import torch

        with torch.inference_mode():
            for start in range(0, self.probe.count, self.batch):
                reader.read(self.probe.images(start, min(start + self.batch, self.probe.count)))

    def extract(self, reader):
        from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images

        settings = ExtractionSettings(self.batch, self.device, self.options.dtype)
        extract_activations(reader.read, probe_images(self.probe), self.store, settings)

    def find_thresholds(self):
        from nemesis.dissection.stored import open_maps
        from nemesis.dissection.thresholds import layer_thresholds

        self.thresholds = {
            layer: layer_thresholds(open_maps(self.store, layer), 0.005, "exact").threshold
            for layer in self.options.layers
        }

    def dissect(self):
        from nemesis.dissection.dissect import Run, dissect_layer
        from nemesis.dissection.stored import open_maps

        for layer in self.options.layers:
            run = Run(open_maps(self.store, layer), self.thresholds[layer])
            dissect_layer([run], self.probe, self.concepts, self.device, "published")

    def compare_naive(self, images: int = 48) -> dict[str, float]:
        """Dissection of some images by whole masks and one-hot labels: its time over ours, same counts."""
        import torch

        from nemesis.dissection.stored import open_maps
        from nemesis.dissection.tally import Weighted, empty_tally, label_block, tally_images

        images = min(images, self.probe.count)
        category_of = self.concepts.on.to(self.device)
        ratios = {}
        for layer in self.options.layers:
            maps = torch.from_numpy(open_maps(self.store, layer).read(slice(0, images))).to(self.device)
            limits = torch.from_numpy(self.thresholds[layer].astype(np.float32)).to(self.device)
            labels, scalars = self.probe.labels(0, images), self.probe.scalars[:images]
            regions = self.probe.take_regions(np.arange(images))
            tally = empty_tally(1, len(maps), category_of, len(self.concepts.categories))
            once = torch.ones(1, images, dtype=torch.int64, device=self.device)
            place = torch.arange(images, device=self.device)

            def ours(tally=tally, maps=maps, limits=limits, regions=regions, scalars=scalars, once=once, place=place):
                block = label_block(regions, scalars, self.device)
                tally_images(tally, maps, place, Weighted(limits[None], once), block, category_of)

            fast = self.clock(ours)
            arguments = (maps, limits, labels, scalars, len(category_of))
            slow = self.clock(lambda arguments=arguments: count_naively(*arguments))
            off = int((count_naively(*arguments).long() - tally.intersection[0]).abs().sum())
            if off:
                total = int(tally.intersection.sum())
                print(f"{layer}: naive counts differ by {off} pixels of {total}", file=sys.stderr)
            ratios[layer] = slow / fast
        return ratios


def count_naively(maps, thresholds, labels, scalars, length: int):
    """Intersections (U, L) the plain way: upsample every map, multiply masks with one-hot labels."""
    import torch
    import torch.nn.functional as F

    total = torch.zeros((len(maps), length), dtype=torch.float64, device=maps.device)
    for image, (planes, whole) in enumerate(zip(labels, scalars, strict=True)):
        size = planes.shape[1:]
        up = F.interpolate(maps[:, image].float()[None], size=size, mode="bilinear", align_corners=False)[0]
        mask = (up > thresholds[:, None, None]).flatten(1).float()  # (U, Hs * Ws)
        numbers = torch.from_numpy(planes.astype(np.int64)).flatten(1).to(maps.device)  # (K, Hs * Ws)
        hot = F.one_hot(numbers, length).sum(0).float()  # (Hs * Ws, L)
        for number in whole:
            hot[:, int(number)] += 1
        total += mask @ hot
    total[:, 0] = 0
    return total


def repeat_rows(probe: Path, target: Path, images: int | None) -> Path:
    """The probe itself, or a folder beside it whose index repeats its rows up to `images`."""
    if not images:
        return probe
    target.mkdir()
    for path in probe.resolve().iterdir():
        if path.name != "index.csv":
            (target / path.name).symlink_to(path)
    with open(probe / "index.csv", newline="") as stream:
        header, *rows = csv.reader(stream)
    with open(target / "index.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([header, *(rows[number % len(rows)] for number in range(images))])
    return target


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_stages(found: dict):
    rounds, images = found["rounds"], found["images"]
    print(f"{images} images, batch {found['batch']}, {found['device']}, {len(rounds)} rounds (medians)\n")
    print(f"{'stage':<12}{'seconds':>9}{'images/s':>10}{'over bare pass':>16}")
    for stage in ("bare", *STAGES):
        seconds = statistics.median(part[stage] for part in rounds)
        ratio = statistics.median(part[stage] / part["bare"] for part in rounds)
        print(f"{stage:<12}{seconds:>9.2f}{images / seconds:>10.1f}{ratio:>16.3f}")
    sums = [sum(part[stage] for stage in STAGES) / part["bare"] for part in rounds]
    print(f"{'all three':<12}{'':>19}{statistics.median(sums):>16.3f}  (min {min(sums):.3f}, max {max(sums):.3f})")
    print(f"\nwritten: {found['bytes'] / 1e6:.1f} MB (probe and maps); peak memory {found['peak_mb']:.0f} MB")
    if "device_mb" in found:
        print(f"peak device memory: {found['device_mb']:.0f} MB")
    for layer, ratio in found.get("naive", {}).items():
        print(f"counting {layer}: whole masks times one-hot labels take {ratio:.1f} times as long")


if __name__ == "__main__":
    main()
