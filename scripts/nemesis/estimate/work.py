"""The work that a config asks for, rule by rule: seconds on a device and on cores, bytes on disk and in
memory.

Upper bounds where the data decide: every attacked unit is taken to fill its budget of images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nemesis.entries import Extraction, list_designs, list_exemplar_designs, list_noises
from nemesis.estimate.networks import LayerWork
from nemesis.estimate.rates import Rates
from nemesis.perturb.poison import budget_images
from nemesis.probes.sizes import ProbeSize

REFERENCE_PIXELS = 224 * 224
COUNT_BYTES = 8 * 65536  # counts of a streamed unit's values
CORES = 4  # that load ahead and write behind while a GPU works
LABELLED = 0.5  # share of a layer's units that have a label, for collateral


@dataclass(frozen=True)
class Work:
    """A part of a rule's work, without starting jobs.

    network: seconds of the device, in passes of the network and measuring images. Seconds of a core: beside: on any
    number of cores while the network runs, loading ahead and writing behind; follows: on one core while it runs;
    alone: while it waits. gpu: a job holds a GPU meanwhile.

    disk: bytes that stay; temporary: bytes that are removed again; host, device: bytes of memory at a time.
    """

    rule: str
    network: float = 0.0
    beside: float = 0.0
    follows: float = 0.0
    alone: float = 0.0
    gpu: bool = False
    disk: float = 0.0
    temporary: float = 0.0
    host: float = 0.0
    device: float = 0.0

    @property
    def core(self) -> float:
        """Seconds of one core."""
        return self.beside + self.follows + self.alone

    @property
    def held(self) -> float:
        """Seconds for which a job holds the GPU, with CORES working beside it."""
        return max(self.network, self.beside / CORES, self.follows) + self.alone if self.gpu else 0.0


@dataclass(frozen=True)
class Site:
    """One network on one probe: what it takes, by layer, and the whole network's operations on an image."""

    extraction: Extraction
    probe: ProbeSize
    layers: dict[str, LayerWork]
    whole: float
    weights: float  # bytes
    batch: int


@dataclass(frozen=True)
class Prices:
    """Seconds of pieces of work at a device's rates."""

    rates: Rates

    def forward(self, layer: LayerWork, images: float) -> float:
        """Images through the network up to a layer."""
        seconds = layer.flops / self.rates.flat("forward_flops") + layer.traffic / self.rates.flat("forward_traffic")
        return images * seconds

    def whole(self, site: Site, images: float) -> float:
        """Images through the whole network."""
        deepest = deepest_layer(site)
        return self.forward(deepest, images) * max(1.0, site.whole / deepest.flops)

    def step(self, layer: LayerWork, images: float) -> float:
        """Images through the network up to a layer and back to the image."""
        seconds = layer.flops / self.rates.flat("step_flops") + layer.traffic / self.rates.flat("step_traffic")
        return 2 * images * seconds

    def maps(self, stage: str, layer: LayerWork, units: float, images: float) -> float:
        """A stage that takes every unit's map of every image once."""
        return units * images / self.rates.of_maps(stage, math.prod(layer.shape[1:]))

    def images(self, stage: str, probe: ProbeSize, images: float) -> float:
        """A stage that takes images alone, at a rate for 224 px."""
        return images * math.prod(probe.size) / REFERENCE_PIXELS / self.rates.flat(stage)

    def runs(self, layer: LayerWork, count: int, images: float, stores: int = 1) -> float:
        """Thresholds and counts of more versions of a probe, whose maps are in so many stores, in one pass."""
        units = layer.shape[0]
        return stores * self.maps("pass", layer, units, images) + count * self.maps("run", layer, units, images)

    def memory(self, stage: str, layer: LayerWork) -> float:
        return self.rates.memory(stage, layer.values)


def list_work(config: dict, sites: list[Site], prices: Prices) -> Iterator[Work]:
    """All priced work of a config with its defaults filled in."""
    for name in dict.fromkeys(site.extraction.probe for site in sites):
        yield from _prepare(next(site for site in sites if site.extraction.probe == name), prices)
    for site in sites:
        yield from _explain(config, site, prices)
        if config.get("noise"):
            yield from _noise(config, site, prices)
        if config.get("designed") and site.extraction.dissected:
            yield from _designed(config, site, prices)
        if config.get("milan") and list_exemplar_designs(config):
            yield from _poison_exemplars(config, site, prices)


def deepest_layer(site: Site) -> LayerWork:
    """The layer that costs a pass most: all layers are read in it."""
    return max(site.layers.values(), key=lambda layer: layer.flops)


def store_bytes(config: dict, site: Site, layer: LayerWork) -> float:
    """Bytes of a layer's clean maps, uncompressed."""
    return layer.values * site.probe.images * _itemsize(config)


def is_streamed(config: dict, site: Site, layer: LayerWork) -> bool:
    """Are the maps of this layer too large to be stored?"""
    limit = config["dissection"].get("max_store_gb")
    return limit is not None and store_bytes(config, site, layer) > limit * 1e9


def attacked_layers(section: dict, site: Site) -> dict[str, LayerWork]:
    """The layers that a section of the config names."""
    wanted = section["layers"]
    return {name: layer for name, layer in site.layers.items() if wanted == "all" or name in wanted}


def _prepare(site: Site, prices: Prices) -> Iterator[Work]:
    probe, planes = site.probe, site.probe.planes
    disk = probe.images * (3 * math.prod(probe.size) + 2 * (planes + 1) * math.prod(probe.label_size))
    rule = "prepare_probe" if site.extraction.dissected else "prepare_folder"
    host = prices.rates.memory("decode", 0)
    yield Work(rule, alone=prices.images("decode", probe, probe.images), disk=disk, host=host)


def _explain(config: dict, site: Site, prices: Prices) -> Iterator[Work]:
    """Extraction, thresholds and dissection of the clean probe."""
    images, deepest = site.probe.images, deepest_layer(site)
    kept = sum(_kept_bytes(config, site, layer) for layer in site.layers.values())
    stored = [layer for layer in site.layers.values() if not is_streamed(config, site, layer)]
    seconds = sum(prices.maps("store", layer, layer.shape[0], images) for layer in stored)
    host = max(prices.memory("extract", layer) for layer in site.layers.values())
    memory = {"host": host, "device": forward_bytes(site, deepest)}
    network = prices.forward(deepest, images)
    yield Work("extract_activations", network, seconds, gpu=True, disk=kept, **memory)
    for layer in site.layers.values():
        units = layer.shape[0]
        seconds = prices.maps("thresholds", layer, units, images)
        yield Work("compute_thresholds", alone=seconds, host=prices.memory("thresholds", layer))
        if site.extraction.dissected:
            seconds = prices.maps("tally", layer, units, images)
            seconds += prices.runs(layer, config["dissection"]["null_replicates"], images)
            streamed = is_streamed(config, site, layer)
            network = prices.forward(layer, images) if streamed else 0.0
            yield Work("dissect", network, alone=seconds, gpu=streamed, host=prices.memory("tally", layer))


def _noise(config: dict, site: Site, prices: Prices) -> Iterator[Work]:
    noise, deepest = config["noise"], deepest_layer(site)
    images = round(max(noise["fractions"]) * site.probe.images)
    for _ in list_noises(config):
        draws, runs = len(noise["seeds"]), len(noise["seeds"]) * len(noise["fractions"])
        seconds, network = prices.images("noise", site.probe, images), prices.forward(deepest, images)
        stored = [layer for layer in site.layers.values() if not is_streamed(config, site, layer)]
        seconds += sum(prices.maps("store", layer, layer.shape[0], images) for layer in stored)
        space = sum(_kept_bytes(config, site, layer) for layer in site.layers.values()) * max(noise["fractions"])
        host = max(prices.memory("extract", layer) for layer in site.layers.values())
        device = forward_bytes(site, deepest)
        memory = {"temporary": draws * space, "host": host, "device": device}
        yield Work("extract_noisy", draws * network, draws * seconds, gpu=True, **memory)
        for layer in site.layers.values() if site.extraction.dissected else ():
            seconds = (1 + draws) * prices.maps("tally", layer, layer.shape[0], site.probe.images)
            seconds += prices.runs(layer, runs, site.probe.images, 1 + draws)
            streamed = is_streamed(config, site, layer)
            network = prices.forward(layer, site.probe.images + draws * images) if streamed else 0.0
            yield Work("dissect_noise", network, alone=seconds, gpu=streamed, host=prices.memory("tally", layer))


def _designed(config: dict, site: Site, prices: Prices) -> Iterator[Work]:
    """The designed corruption of every layer: attack, dissection, and what is asked for beside it."""
    designed, probe = config["designed"], site.probe
    budget = budget_images(designed["max_fraction"], probe.images)
    for layer in attacked_layers(designed, site).values():
        host, device = prices.memory("attack", layer), attack_bytes(site, layer)
        again = {"gpu": True, "host": _redissect_bytes(config, prices, site, layer)}
        again["device"] = forward_bytes(site, layer)
        for design in list_designs(config):
            tasks, rows = _rows(designed, layer, design.mode, budget)
            steps = designed["steps"] if design.method == "pgd" else 1
            seconds, network = prices.images("poison_row", probe, rows), steps * prices.step(layer, rows)
            disk = rows * 3 * math.prod(probe.size)
            shards = disk if designed.get("shards", 1) > 1 else 0
            survey = prices.maps("survey", layer, tasks, probe.images) / len(designed["eps"])  # one for every eps
            memory = {"disk": disk + shards, "host": host, "device": device}
            yield Work("poison_images", network, seconds, alone=survey, gpu=True, **memory)
            if shards:
                yield Work("gather_poison", alone=prices.images("copy_row", probe, rows))
            network = prices.forward(layer, 2 * rows) + prices.images("measure_row", probe, rows)
            follows = _redissect(prices, site, layer, tasks) / len(designed["eps"])  # of all eps at once
            work = {"beside": prices.images("show_row", probe, rows), "follows": follows}
            maps = rows * (tasks if design.mode == "shared" else 1) * math.prod(layer.shape[1:]) * _itemsize(config)
            yield Work("dissect_designed", network, **work, disk=maps, **again)
            yield from _beside(designed, design, site, prices, Attacked(layer, tasks, rows, again))
        if "minimum_epsilon" in designed:
            tasks, rows = _rows(designed, layer, "untargeted", budget)
            rounds = 1 + math.ceil(math.log2(designed["minimum_epsilon"]["highest"]))
            network = prices.step(layer, designed["steps"] * rows) + prices.forward(layer, rows)
            times = rounds * len(designed["methods"]) * len(designed["masks"])
            work = {"beside": times * prices.images("poison_row", probe, rows)}
            work["alone"] = times * _redissect(prices, site, layer, tasks)
            yield Work("minimum_epsilon", times * network, **work, gpu=True, host=host, device=device)


@dataclass(frozen=True)
class Attacked:
    """A layer under one design: its tasks and poisoned images, and what a job on them takes beside time."""

    layer: LayerWork
    tasks: int
    rows: int
    takes: dict


def _beside(designed: dict, design, site: Site, prices: Prices, attacked: Attacked) -> Iterator[Work]:
    """Other storages and collateral of one design, where the config asks for them at its eps."""
    layer, tasks, rows, again = attacked.layer, attacked.tasks, attacked.rows, attacked.takes
    compared = designed.get("compare_storage", {"eps": (), "kinds": ()})
    if design.eps in compared["eps"]:
        kinds = len(compared["kinds"])
        network = kinds * (prices.forward(layer, 2 * rows) + prices.images("measure_row", site.probe, 2 * rows))
        work = {"beside": kinds * prices.images("show_row", site.probe, rows)}
        work["alone"] = kinds * _redissect(prices, site, layer, tasks)
        yield Work("compare_storage", network, **work, **again)
    if design.eps in designed.get("collateral", {"eps": ()})["eps"]:
        network = prices.forward(layer, 2 * rows) + prices.whole(site, 3 * rows)
        runs = 1 if design.mode == "shared" else tasks
        seconds = _redissect(prices, site, layer, runs * LABELLED * layer.shape[0])
        yield Work("measure_collateral", network, alone=seconds, **again)


def _poison_exemplars(config: dict, site: Site, prices: Prices) -> Iterator[Work]:
    """Attacks on descriptions, and what the network says of the images; decoding itself is not priced."""
    milan, probe = config["milan"], site.probe
    designed = milan["designed"]
    for layer in attacked_layers(milan, site).values():
        for design in list_exemplar_designs(config):
            units = _count(designed["units"], layer.shape[0])
            rows = units * min(designed["images"], probe.images)
            steps = designed["steps"] if design.method == "pgd" else 1
            seconds = prices.images("poison_row", probe, rows)
            network = steps * prices.step(layer, rows) + prices.forward(layer, rows)
            disk = rows * (3 * math.prod(probe.size) + math.prod(layer.shape[1:]) * _itemsize(config))
            host, device = prices.memory("attack", layer), attack_bytes(site, layer)
            yield Work("poison_exemplars", network, seconds, gpu=True, disk=disk, host=host, device=device)
            network = prices.whole(site, probe.images / len(designed["eps"]) + rows)
            device = forward_bytes(site, deepest_layer(site))
            yield Work("predict_poisoned", network, gpu=True, host=host, device=device)


def _rows(designed: dict, layer: LayerWork, mode: str, budget: int) -> tuple[int, int]:
    """Tasks and poisoned images of an attack on a layer, at most."""
    tasks = _count(designed["units"], layer.shape[0])
    if mode == "shared":
        return tasks, budget
    if mode == "targeted" and designed["targets"] != "random":
        tasks *= len(designed["targets"])
    return tasks, tasks * budget


def _count(units, of: int) -> int:
    if units == "all":
        return of
    return min(of, len(units) if isinstance(units, list) else units)


def _redissect(prices: Prices, site: Site, layer: LayerWork, units: float) -> float:
    """Dissecting attacked units again, each in all its versions (see `redissect` of `make scale`)."""
    return prices.maps("redissect", layer, units, site.probe.images)


def _redissect_bytes(config: dict, prices: Prices, site: Site, layer: LayerWork) -> float:
    """Host memory: all maps of one unit; they are counted in pieces."""
    unit = site.probe.images * math.prod(layer.shape[1:])
    return prices.memory("redissect", layer) + unit * _itemsize(config)


def _itemsize(config: dict) -> int:
    return 2 if config["dissection"]["dtype"] == "float16" else 4


def _kept_bytes(config: dict, site: Site, layer: LayerWork) -> float:
    if is_streamed(config, site, layer):
        return layer.shape[0] * (COUNT_BYTES + site.probe.images * _itemsize(config))
    return store_bytes(config, site, layer)


def forward_bytes(site: Site, layer: LayerWork) -> float:
    """Device memory of a batch up to a layer: the weights and what three neighbouring parts of the network hold."""
    return site.weights + site.batch * (3 * layer.largest + 4 * layer.values + 8 * 3 * math.prod(site.probe.size))


def attack_bytes(site: Site, layer: LayerWork) -> float:
    """The same with what the backward pass needs."""
    return forward_bytes(site, layer) + site.batch * layer.saved
