"""Every job that a config asks for, nothing being there yet: what a dry run in an empty folder lists."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

from nemesis.entries import Design, format_number
from nemesis.figures.catalogue import list_figures, list_tables
from nemesis.plan import user_files
from nemesis.plan.gathered import described_noises, scores
from nemesis.plan.plan import DESIGN, NOISE, Place, Plan

PAIR = ("probe", "model")


@dataclass(frozen=True)
class Job:
    """A job: its rule, and the values of the rule's wildcards as they stand in a path."""

    rule: str
    wildcards: dict[str, str] = field(default_factory=dict)


def list_jobs(plan: Plan) -> Iterator[Job]:
    """All jobs, stage by stage, without `all`."""
    yield from _prepare(plan)
    yield from _label(plan)
    yield from _attack(plan)
    yield from _describe(plan)
    yield from _show(plan)


def count_jobs(plan: Plan) -> dict[str, int]:
    """Jobs by rule."""
    found: dict[str, int] = {}
    for job in list_jobs(plan):
        found[job.rule] = found.get(job.rule, 0) + 1
    return found


def _prepare(plan: Plan) -> Iterator[Job]:
    """Probes, networks and the captioner."""
    models = {name: plan.config["models"][name] for name in dict.fromkeys(one.model for one in plan.extractions)}
    regions = plan.milan.get("captioner", {}).get("kind") == "regions"
    names = [one.probe for one in plan.extractions]
    names += [spec["probe"] for spec in models.values() if spec["kind"] == "tinyvgg"]
    names += [plan.milan["captioner"]["probe"]] if regions else []
    probes = {name: plan.config["probes"][name] for name in dict.fromkeys(names)}
    for version in dict.fromkeys(spec["version"] for spec in probes.values() if spec["kind"] == "download"):
        yield Job("download_broden", {"version": version})
    for kind in dict.fromkeys(spec["kind"] for spec in models.values() if spec.get("weights") == "download"):
        yield Job("download_weights", {"kind": kind, "file": user_files.weights_path(kind).rpartition("/")[2]})
    for name, spec in probes.items():
        if spec["kind"] == "minibroden":
            yield Job("make_minibroden", {"probe": name})
        yield Job("prepare_folder" if spec["kind"] == "folder" else "prepare_probe", {"probe": name})
    for name, spec in models.items():
        yield Job("train_tinyvgg" if spec["kind"] == "tinyvgg" else "prepare_model", {"model": name})


def _label(plan: Plan) -> Iterator[Job]:
    """Maps, labels, and labels under noise."""
    pairs = [(one.probe, one.model) for one in plan.extractions]
    yield from _extract(plan, "extract_activations", "gather_activations", pairs, PAIR)
    yield from (Job("compute_thresholds", _name(place)) for place in plan.places)
    yield from (Job("dissect", _name(place)) for place in plan.dissected)
    noisy = [pair for pair in pairs if any(plan.noises_of(place) for place in plan.places if place[:2] == pair)]
    keys = [(*pair, one.kind, one.std, draw) for pair in noisy for one in plan.noises for draw in plan.draws]
    yield from _extract(plan, "extract_noisy", "gather_noisy", keys, (*PAIR, "kind", "std", "draw"))
    for place, one in product(plan.dissected, plan.noises):
        yield Job("dissect_noise", _name((*place, one.kind, one.std), NOISE))


def _extract(plan: Plan, extract: str, gather: str, keys, names) -> Iterator[Job]:
    for key in keys:
        shards = [{"shard": str(shard)} for shard in range(plan.shards)] if plan.shards > 1 else [{}]
        yield from (Job(extract, _name(key, names) | shard) for shard in shards)
    yield from (Job(gather, _name(key, names)) for key in keys if plan.shards > 1)


def _attack(plan: Plan) -> Iterator[Job]:
    """The designed corruption and its controls."""
    attacks = {(one.method, one.mode, one.masks): None for one in plan.designs}
    names = ("probe", "model", "layer", "method", "mode", "masks")
    every = [(*place, *attack) for place in plan.attacked for attack in attacks]
    several = plan.attack_shards > 1
    shards = [{"shard": str(shard)} for shard in range(plan.attack_shards)] if several else [{}]
    yield from (Job("poison_images", _name(key, names) | shard) for key in every for shard in shards)
    for place, design in product(plan.attacked, plan.designs if several else ()):
        yield Job("gather_poison", _name_design(place, design))
    yield from (Job("dissect_designed", _name(key, names)) for key in every)
    for rule, section in (("compare_storage", "compare_storage"), ("measure_collateral", "collateral")):
        for place, design in product(plan.attacked, plan.controlled(section)):
            yield Job(rule, _name_design(place, design))
    for place, bisection in product(plan.attacked, plan.bisections):
        yield Job("minimum_epsilon", _name((*place, *bisection), ("probe", "model", "layer", "method", "masks")))


def _describe(plan: Plan) -> Iterator[Job]:
    """Exemplars, descriptions and their scores."""
    if not plan.milan:
        return
    captioner = {"captioner": plan.milan["captioner"]["kind"]}
    yield Job("train_milan" if plan.trains_captioner else "prepare_captioner", captioner)
    compared = bool(list_tables(plan.config, "plot_milan"))
    if compared or plan.trains_captioner:
        yield Job("calibrate_threshold")
    yield from (Job("score_captioner", captioner) for _ in range(plan.trains_captioner))
    yield from (Job("compute_exemplars", _name(place)) for place in plan.described)
    yield from (Job("compute_noisy_exemplars", _name(key, NOISE)) for key in described_noises(plan))
    attacks = {(one.method, one.mode): None for one in plan.exemplar_designs}
    for rule in ("poison_exemplars", "compute_poisoned_exemplars", "predict_poisoned"):
        for place, attack in product(plan.described, attacks):
            yield Job(rule, _name((*place, *attack), ("probe", "model", "layer", "method", "mode")))
    yield from (Job("describe_milan", _name(place)) for place in plan.described)
    for place in plan.described:
        for corruption in plan.described_corruptions(place):
            yield Job("describe_corrupted", _name(place) | {"corruption": corruption})
    yield from (Job("score_milan", _name(pair)) for pair in scores(plan))


def _show(plan: Plan) -> Iterator[Job]:
    """Tables, figures and the report."""
    for rule in ("plot_tables", "plot_designed", "plot_unit", "plot_milan", "plot_milan_example", "plot_milan_units"):
        if list_tables(plan.config, rule) or list_figures(plan.config, rule):
            yield Job(rule)
    yield from (Job("show_units", _name(place)) for place in plan.places)
    yield from (Job("write_report") for _ in range(bool(plan.places)))


def _name(key: tuple, names=("probe", "model", "layer")) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else format_number(value) for name, value in zip(names, key, strict=False)
    }


def _name_design(place: Place, design: Design) -> dict[str, str]:
    return _name((*place, design.method, design.eps, design.mode, design.masks), DESIGN)
