"""The corruptions of a layer as the page offers them: what each did to every unit, and what is shown of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from nemesis.corruption.attacked import read_poisoned
from nemesis.corruption.noise import choose_images, draw_seed, name_kind
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.dissection.tops import open_tops
from nemesis.figures.attacks import read_rows
from nemesis.figures.milan_tables import read_scores
from nemesis.milan.exemplar_store import open_exemplars
from nemesis.pages.seen import Show, see_attack, see_exemplars, see_tops
from nemesis.probes.probe import Probe, open_probe
from nemesis.stores import open_store

NOISE = ["unit", "label", "category", "iou", "manipulated", "linf", "rms"]
DESIGNED = ["unit", "source", "target", "label", "category", "iou", "source_iou", "target_iou", "manipulated"]
DESIGNED += ["target_hit", "n_poisoned", "fraction_poisoned", "linf", "psnr", "ssim", "threshold", "clean_threshold"]
DESIGNED += ["noise_label", "noise_iou", "noise_manipulated"]
MILAN = {"corrupted": "description", "f1": "f1", "manipulated": "redescribed"}
AIMED = {"target": "target", "target_f1": "target_f1", "target_hit": "target_hit"}
WHOLE = ["manipulated", "redescribed", "target_hit", "noise_manipulated", "n_poisoned"]
PARTS = ("", "second target", "third target")


@dataclass(frozen=True)
class Setting:
    """One corruption at one size: `rows` has a row a unit; `show` yields its strongest images.

    `size` is a std, or an eps in 1/255. `noisy` names the noise {kind, std, draw}, of which the page has pictures.
    """

    corruption: str
    measure: str
    size: float
    part: str
    rows: pd.DataFrame
    show: Show
    noisy: dict | None = None


@dataclass(frozen=True)
class Layer:
    """What a layer's settings are read from: the job's inputs, and the places of the corruptions among them.

    `noises` are {kind, std}, `designs` and `attacks` (on exemplars) {method, eps, mode, masks}.
    """

    files: object
    probe: Probe
    clean: StoredMaps
    seed: int
    noises: list[dict]
    designs: list[dict]
    attacks: list[dict]


def list_settings(layer: Layer) -> Iterator[Setting]:
    """Every setting of a layer: noise by fraction and draw, designed corruption, attacks on exemplars."""
    for number, noise in enumerate(layer.noises):
        yield from _list_noise(layer, number, noise)
    for number, design in enumerate(layer.designs):
        yield from _list_designed(layer, number, design)
    for number, attack in enumerate(layer.attacks):
        yield from _list_attacks(layer, number, attack)


def _list_noise(layer: Layer, number: int, noise: dict) -> Iterator[Setting]:
    labels = read_rows(layer.files.noise[number]) if layer.files.noise else None
    described = read_scores(layer.files.noise_scores[number]) if layer.files.noise_scores else None
    known = labels if labels is not None else described
    for (fraction, draw), part in known.groupby(["fraction", "seed"], sort=True):
        rows = part[NOISE] if labels is not None else part[["unit"]]
        if described is not None:
            same = described[(described["fraction"] == fraction) & (described["seed"] == draw)]
            rows = rows.merge(_name(same, MILAN), on="unit", how="left")
        text = f"{100 * fraction:g}% of the images, draw {draw:g}"
        noisy = {"kind": noise["kind"], "std": noise["std"], "draw": int(draw)}
        show = _show_noise(layer, number, fraction, int(draw))
        yield Setting(name_kind(noise["kind"]), "std", noise["std"], text, _whole(rows), show, noisy)


def _show_noise(layer: Layer, number: int, fraction: float, draw: int) -> Show:
    chosen = choose_images(layer.probe.count, fraction, draw_seed(layer.seed, draw))
    if layer.files.tops:
        tops = open_tops(Path(layer.files.tops[number]).parent)
        return partial(see_tops, tops, tops.find(fraction=fraction, seed=draw), layer.probe.size, chosen)
    exemplars = open_exemplars(Path(layer.files.noise_exemplars[number]).parent)
    return partial(see_exemplars, layer.probe, exemplars, {"fraction": fraction, "seed": draw}, chosen=chosen)


def _list_designed(layer: Layer, number: int, design: dict) -> Iterator[Setting]:
    files, table = layer.files, read_rows(layer.files.designed[number])
    stores = [open_store(Path(paths[number]).parent) for paths in (files.poison, files.poisoned_maps)]
    turn = table.groupby("unit").cumcount()
    name = f"{design['method']}, {design['mode']}, {design['masks']} masks"
    for place, part in table.groupby(turn):
        show = partial(see_attack, layer.probe, layer.clean, part, partial(_read_task, stores, part.index.to_numpy()))
        text = PARTS[place] if place < len(PARTS) else f"target {place + 1}"
        yield Setting(name, "eps", design["eps"], text, _whole(part[DESIGNED]), show)


def _read_task(stores, tasks, place: int):
    return read_poisoned(*stores, int(tasks[place]))


def _list_attacks(layer: Layer, number: int, attack: dict) -> Iterator[Setting]:
    files = layer.files
    scores = read_scores(files.attack_scores[number])
    exemplars = open_exemplars(Path(files.attack_exemplars[number]).parent)
    poison = open_store(Path(files.attack_poison[number]).parent)
    for (control, count), part in scores.groupby(["control", "count"], sort=True):
        rows = _name(part, MILAN | AIMED)
        rows["n_poisoned"] = count
        name = f"{'noise instead of ' if control else ''}{attack['method']}, {attack['mode']}, exemplars"
        setting = {"control": control, "count": count}
        text = f"at most {count:g} images"
        show = partial(see_exemplars, layer.probe, exemplars, setting, poison=None if control else poison)
        yield Setting(name, "eps", attack["eps"], text, _whole(rows), show)


def _name(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    return rows[["unit", *names]].rename(columns=names)


def _whole(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with counts as whole numbers and yes or no as such."""
    rows = rows.copy()
    rows["unit"] = rows["unit"].astype(int)
    for name in rows.columns.intersection(WHOLE):
        kind = "Int64" if name == "n_poisoned" else "boolean"
        rows[name] = rows[name].astype("Float64" if rows[name].dtype.kind == "f" else rows[name].dtype).astype(kind)
    return rows.reset_index(drop=True)


def open_layer(files, name: str, seed: int, noises, designs, attacks) -> Layer:
    """Open what the settings of the layer `name` are read from; InputError when a store is missing or damaged."""
    probe, clean = open_probe(Path(files.probe).parent), open_maps(Path(files.maps).parent, name)
    return Layer(files, probe, clean, seed, noises, designs, attacks)
