"""The cost of a config: work at measured rates, jobs from the plan."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from nemesis.devices import choose_batch
from nemesis.entries import list_extractions
from nemesis.estimate.networks import build_meta, measure_layers, measure_whole
from nemesis.estimate.rates import Rates
from nemesis.estimate.work import Prices, Site, list_work
from nemesis.probes.sizes import size_probe


@dataclass(frozen=True)
class Line:
    """What one rule costs. Hours: gpu: for which its jobs hold a GPU; network: in passes of the network, on
    the GPU or, without one, on a core; cpu: of one core.

    disk, temporary, host, device: bytes; the last two of one job. priced: False where only the jobs' start is known.
    """

    rule: str
    jobs: int
    gpu: float = 0.0
    network: float = 0.0
    cpu: float = 0.0
    disk: float = 0.0
    temporary: float = 0.0
    host: float = 0.0
    device: float = 0.0
    priced: bool = False


@dataclass(frozen=True)
class Estimate:
    """Lines in the order of the plan, and what was assumed."""

    lines: list[Line]
    notes: list[str]

    def total(self, name: str) -> float:
        """Sum of a column; of memory the largest."""
        values = [getattr(line, name) for line in self.lines]
        return max(values, default=0) if name in ("host", "device") else sum(values)


def find_sites(config: dict, device: torch.device) -> list[Site]:
    """Every network on every probe of the experiments, with the work of its layers."""
    networks = {}
    sites = []
    for extraction in list_extractions(config):
        model = extraction.model
        if model not in networks:
            networks[model] = build_meta(model, config["models"][model])
        network, probe = networks[model], size_probe(extraction.probe, config["probes"][extraction.probe])
        weights = 4.0 * sum(part.numel() for part in network.module.parameters())
        layers = measure_layers(network, extraction.layers, probe.size)
        batch = choose_batch(config["batch_size"], probe.size, device)
        sites.append(Site(extraction, probe, layers, measure_whole(network, probe.size), weights, batch))
    return sites


def estimate(config: dict, sites: list[Site], jobs: Mapping[str, int], rates: Rates) -> Estimate:
    """Price a checked config; `jobs` are those of each rule, in the order of the plan."""
    work = list(list_work(config, sites, Prices(rates)))
    start = rates.flat("start") / 3600
    lines = []
    for rule, count in jobs.items():
        parts = [part for part in work if part.rule == rule]
        on_gpu = rates.device != "cpu" and any(part.gpu for part in parts)
        network = sum(part.network for part in parts) / 3600
        held = sum(part.held for part in parts) / 3600 + count * start
        core = sum(part.core for part in parts) / 3600 + count * start
        lines.append(
            Line(
                rule,
                count,
                held if on_gpu else 0.0,
                network,
                core + (network if rates.device == "cpu" else 0.0),
                sum(part.disk for part in parts),
                sum(part.temporary for part in parts),
                max([rates.memory("start", 0), *(part.host for part in parts)]),
                max((part.device for part in parts), default=0.0) if on_gpu else 0.0,
                bool(parts),
            )
        )
    lost = {part.rule for part in work} - set(jobs)
    notes = [site.probe.note for site in sites]
    notes += [f"{rule} is no rule of the plan; its cost is left out" for rule in sorted(lost)]
    return Estimate(lines, list(dict.fromkeys(notes)))


def show_hours(hours: float) -> str:
    """Hours to three figures, as 0.02, 1.46 or 213."""
    return f"{hours:.2f}" if hours < 10 else f"{hours:.{0 if hours >= 100 else 1}f}"


def show_bytes(size: float) -> str:
    """GB (1e9 bytes) to a sensible number of figures."""
    gigabytes = size / 1e9
    return f"{gigabytes:.1f}" if gigabytes < 100 else f"{math.ceil(gigabytes):,}"
