"""Dissect a layer: labels of its units from stored maps, thresholds and a stored probe."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from nemesis.dissection.stored import weigh_stores
from nemesis.dissection.tally import (
    Tally,
    Weighted,
    add_areas,
    best_labels,
    compute_iou,
    empty_tally,
    label_block,
    tally_images,
)
from nemesis.probes.probe import Probe, read_concepts
from nemesis.progress import Progress
from nemesis.stores import blocks, save_array, write_store


@dataclass(frozen=True)
class Concepts:
    """The concepts of a probe by number: names (L,), primary category index (L,), category names."""

    names: list[str]
    category_of: np.ndarray  # (L,) int64
    categories: list[str]

    @cached_property
    def on(self):
        """category_of as a tensor on the CPU."""
        return torch.from_numpy(self.category_of)

    def category(self, number: int) -> str:
        """Name of a concept's primary category; empty for 0."""
        return self.categories[self.category_of[number]] if number else ""


@dataclass(frozen=True)
class Run:
    """One dissection: whose maps, above which thresholds (U,), each image so many times (N,)."""

    maps: object
    thresholds: np.ndarray
    weights: np.ndarray | None = None


def load_concepts(path, probe: Probe) -> Concepts:
    """Read a concepts.csv for dissection."""
    rows = read_concepts(path)
    length = 1 + max((row["number"] for row in rows), default=0)
    names, category_of = [""] * length, np.zeros(length, np.int64)
    for row in rows:
        names[row["number"]] = row["name"]
        category_of[row["number"]] = probe.categories.index(row["category"])
    return Concepts(names, category_of, probe.categories)


def dissect_runs(runs: list[Run], probe: Probe, concepts: Concepts, device) -> list[Tally]:
    """Tally several runs over the same probe in one pass over its labels and over each store of maps behind them."""
    category_of = concepts.on.to(device)
    tally = empty_tally(len(runs), runs[0].maps.units, category_of, len(concepts.categories))
    thresholds = torch.from_numpy(np.stack([run.thresholds for run in runs]).astype(np.float32)).to(device)
    stores = weigh_stores([run.maps.sources(run.weights) for run in runs])
    progress = Progress("dissect", probe.count)
    for start, stop in blocks(probe.count, runs[0].maps.block):
        labels = label_block(probe.take_regions(np.arange(start, stop)), probe.scalars[start:stop], device)
        for store, weights in stores:
            first, last = np.searchsorted(store.image, [start, stop])
            times = torch.from_numpy(weights[:, first:last]).to(device)  # (R, B')
            if not times.any():
                continue
            place = torch.from_numpy(store.image[first:last] - np.int64(start)).to(device)
            add_areas(tally, labels, times, place)
            maps = torch.from_numpy(store.read(slice(int(first), int(last)))).to(device)
            tally_images(tally, maps, place, Weighted(thresholds, times), labels, category_of)
        progress.add(stop - start)
    return [tally.version(number) for number in range(len(runs))]


def tabulate_labels(tally: Tally, iou: np.ndarray, concepts: Concepts, rule: str) -> pd.DataFrame:
    """The dissection.csv of a layer: one row a unit, its five best labels."""
    numbers, scores = best_labels(iou)
    best, units = numbers[:, 0], np.arange(len(iou))
    both = tally.intersection.cpu().numpy()[units, best]
    if rule == "published":
        area = tally.unit_area.cpu().numpy()[units, concepts.category_of[best]]
    else:
        area = tally.unit_total.cpu().numpy()
    union = np.where(best > 0, area + tally.concept_area.cpu().numpy()[best] - both, 0)
    table = pd.DataFrame({"unit": units})
    table["label"] = [concepts.names[n] for n in best]
    table["category"] = [concepts.category(n) for n in best]
    table["iou"], table["intersection"], table["union"] = scores[:, 0], both, union
    for place in range(1, numbers.shape[1]):
        table[f"label_{place + 1}"] = [concepts.names[n] for n in numbers[:, place]]
        table[f"iou_{place + 1}"] = scores[:, place]
    table["number"] = best
    return table


def save_tally(path, tally: Tally, iou: np.ndarray, concepts: Concepts, config_hash: str, inputs):
    """Write a tally.zarr: intersection (U, C), unit_area (U, categories), concept_area (C), iou (U, C)."""
    attrs = {"concepts": concepts.names, "categories": concepts.categories}
    with write_store(path, config_hash, inputs, **attrs) as group:
        save_array(group, "intersection", tally.intersection.cpu(), ("unit", "concept"), "label map pixels")
        save_array(group, "unit_area", tally.unit_area.cpu(), ("unit", "category"), "label map pixels")
        save_array(group, "unit_total", tally.unit_total.cpu(), ("unit",), "label map pixels")
        save_array(group, "concept_area", tally.concept_area.cpu(), ("concept",), "label map pixels")
        save_array(group, "iou", iou, ("unit", "concept"), "1")


def dissect_layer(runs, probe, concepts, device, rule: str) -> list[tuple[Tally, np.ndarray, pd.DataFrame]]:
    """Tally, IoU and label table of each run."""
    results = []
    for tally in dissect_runs(runs, probe, concepts, device):
        iou = compute_iou(tally, concepts.on.to(device), rule)
        results.append((tally, iou, tabulate_labels(tally, iou, concepts, rule)))
    return results
