"""The corruptions of a layer as the page offers them: what each did to every unit, and what is shown of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from nemesis.corruption.poisoned import read_poisoned
from nemesis.dissection.stored import StoredMaps, open_maps
from nemesis.dissection.tops import open_tops
from nemesis.figures.attacks import read_outcomes
from nemesis.milan.exemplar_store import open_exemplars
from nemesis.pages.strongest import StrongestImages, show_attack, show_exemplars, show_tops
from nemesis.perturb.noise import choose_images, draw_seed, name_kind
from nemesis.probes.probe import Probe, open_probe
from nemesis.scoring.descriptions import read_scores
from nemesis.stores import open_store

NOISE = ["unit", "label", "category", "iou", "manipulated", "linf", "rms"]
DESIGNED = ["unit", "source", "target", "label", "category", "iou", "source_iou", "target_iou", "manipulated"]
DESIGNED += ["target_hit", "n_poisoned", "fraction_poisoned", "linf", "psnr", "ssim", "threshold", "clean_threshold"]
DESIGNED += ["noise_label", "noise_iou", "noise_manipulated"]
MILAN = {"corrupted": "description", "f1": "f1", "manipulated": "redescribed"}
AIMED = {"target": "target", "target_f1": "target_f1", "target_hit": "target_hit"}
WHOLE = ["manipulated", "redescribed", "target_hit", "noise_manipulated", "n_poisoned"]
PARTS = ("", "second target", "third target")

Pictures = Callable[[], Iterator[StrongestImages]]


@dataclass(frozen=True)
class Setting:
    """One corruption at one size: `rows` has one row per unit; `pictures` yields its strongest images.

    `size` is a std, or an eps in 1/255. `noisy` names the noise {kind, std, draw}, of which the page has pictures.
    """

    corruption: str
    measure: str
    size: float
    part: str
    rows: pd.DataFrame
    pictures: Pictures
    noisy: dict | None = None


@dataclass(frozen=True)
class LayerFiles:
    """The files of which the report shows a layer; a store is named by its zarr.json. None: there is none.

    Mappings are by noise (kind, std), by design (method, eps, mode, masks), and for attacks on exemplars by
    (method, eps, mode). `scores` is the table of all layers of the network on the probe.
    """

    probe: str
    maps: str
    thresholds: str
    clean: str | None = None
    null_churn: str | None = None
    minimum: str | None = None
    descriptions: str | None = None
    scores: str | None = None
    noise: Mapping[tuple, str] = field(default_factory=dict)
    tops: Mapping[tuple, str] = field(default_factory=dict)
    noise_exemplars: Mapping[tuple, str] = field(default_factory=dict)
    designed: Mapping[tuple, str] = field(default_factory=dict)
    poison: Mapping[tuple, str] = field(default_factory=dict)
    poisoned_maps: Mapping[tuple, str] = field(default_factory=dict)
    attack_exemplars: Mapping[tuple, str] = field(default_factory=dict)
    attack_poison: Mapping[tuple, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportLayer:
    """A layer, opened: its place (probe, model, layer), its files, the probe and the clean maps.

    `scores` are those of its descriptions, by corruption as `read_scores` names it, without the place.
    """

    place: tuple[str, str, str]
    files: LayerFiles
    probe: Probe
    clean: StoredMaps
    scores: dict[tuple, pd.DataFrame]
    seed: int


def open_report_layer(files: LayerFiles, place: tuple[str, str, str], seed: int) -> ReportLayer:
    """Open what the report shows of a layer; InputError when a store is missing or damaged."""
    probe, clean = open_probe(Path(files.probe).parent), open_maps(Path(files.maps).parent, place[-1])
    scores = read_scores({place[:2]: files.scores}) if files.scores else {}
    scores = {key[len(place) :]: rows for key, rows in scores.items() if key[: len(place)] == place}
    return ReportLayer(place, files, probe, clean, scores, seed)


def list_settings(layer: ReportLayer) -> Iterator[Setting]:
    """Every setting of a layer: noise by fraction and draw, designed corruption, attacks on exemplars."""
    for noise in layer.files.noise or layer.files.noise_exemplars:
        yield from _list_noise(layer, noise)
    for design in layer.files.designed:
        yield from _list_designed(layer, design)
    for attack in layer.files.attack_exemplars:
        yield from _list_attacks(layer, attack)


def _list_noise(layer: ReportLayer, noise: tuple) -> Iterator[Setting]:
    kind, std = noise
    labels = read_outcomes(layer.files.noise[noise]) if layer.files.noise else None
    described = layer.scores.get(noise)
    known = labels if labels is not None else described
    for (fraction, draw), part in known.groupby(["fraction", "seed"], sort=True):
        rows = part[NOISE] if labels is not None else part[["unit"]]
        if described is not None:
            same = described[(described["fraction"] == fraction) & (described["seed"] == draw)]
            rows = rows.merge(_name(same, MILAN), on="unit", how="left")
        text = f"{100 * fraction:g}% of the images, draw {draw:g}"
        noisy = {"kind": kind, "std": std, "draw": int(draw)}
        pictures = _show_noise(layer, noise, fraction, int(draw))
        yield Setting(name_kind(kind), "std", std, text, _whole(rows), pictures, noisy)


def _show_noise(layer: ReportLayer, noise: tuple, fraction: float, draw: int) -> Pictures:
    chosen = choose_images(layer.probe.count, fraction, draw_seed(layer.seed, draw))
    if layer.files.tops:
        tops = open_tops(Path(layer.files.tops[noise]).parent)
        return partial(show_tops, tops, tops.find(fraction=fraction, seed=draw), layer.probe.size, chosen)
    exemplars = open_exemplars(Path(layer.files.noise_exemplars[noise]).parent)
    return partial(show_exemplars, layer.probe, exemplars, {"fraction": fraction, "seed": draw}, chosen=chosen)


def _list_designed(layer: ReportLayer, design: tuple) -> Iterator[Setting]:
    (method, eps, mode, masks), table = design, read_outcomes(layer.files.designed[design])
    stores = [open_store(Path(files[design]).parent) for files in (layer.files.poison, layer.files.poisoned_maps)]
    turn = table.groupby("unit").cumcount()
    for place, part in table.groupby(turn):
        read_task = partial(_read_task, stores, part.index.to_numpy())
        pictures = partial(show_attack, layer.probe, layer.clean, part, read_task)
        text = PARTS[place] if place < len(PARTS) else f"target {place + 1}"
        yield Setting(f"{method}, {mode}, {masks} masks", "eps", eps, text, _whole(part[DESIGNED]), pictures)


def _read_task(stores, tasks, place: int):
    return read_poisoned(*stores, int(tasks[place]))


def _list_attacks(layer: ReportLayer, attack: tuple) -> Iterator[Setting]:
    method, eps, mode = attack
    scores = layer.scores.get((*attack, "exemplars"))
    if scores is None:
        return
    exemplars = open_exemplars(Path(layer.files.attack_exemplars[attack]).parent)
    poison = open_store(Path(layer.files.attack_poison[attack]).parent)
    for (control, count), part in scores.groupby(["control", "count"], sort=True):
        rows = _name(part, MILAN | AIMED)
        rows["n_poisoned"] = count
        name = f"{'noise instead of ' if control else ''}{method}, {mode}, exemplars"
        setting = {"control": control, "count": count}
        text = f"at most {count:g} images"
        pictures = partial(show_exemplars, layer.probe, exemplars, setting, poison=None if control else poison)
        yield Setting(name, "eps", eps, text, _whole(rows), pictures)


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
