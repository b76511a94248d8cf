"""Tables of labels: of clean units, under noise, and of how stable they were to begin with."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.dissection.draws import select_units
from nemesis.dissection.tables import read_table
from nemesis.figures.style import PAIR
from nemesis.figures.tables import NULL, PLACE
from nemesis.perturb.noise import name_noise
from nemesis.scoring.intervals import bootstrap_interval
from nemesis.scoring.shares import summarise_noise, summarise_null

PUBLISHED = Path(__file__).parent / "published" / "noise_claims.csv"
RESAMPLED = "null churn (no corruption)"
QUARTERS = 4  # groups of units with as many units each
CHANGED = ("changed", "low", "high")

Place = tuple[str, str, str]


@dataclass(frozen=True)
class Labels:
    """The files about the labels of a run's units, by what each is about.

    `clean` has dissection.csv and `null_churn` null_churn.csv by place, (probe, model, layer); `noise` has
    dissection.csv by (*place, kind, std). `units` is the setting of units by place, as nemesis.dissection.draws
    takes it; a label counts from an IoU of `min_iou` on.
    """

    clean: Mapping[Place, str]
    null_churn: Mapping[Place, str]
    noise: Mapping[tuple, str]
    units: Mapping[Place, str | int | list[int]]
    min_iou: float
    seed: int

    def read_clean(self, place: Place) -> pd.DataFrame:
        """The clean labels of the units that an experiment is about, in one layer."""
        rows = read_table(self.clean[place])
        units = select_units(self.units[place], rows, self.min_iou, self.seed, place[-1])
        return rows[rows["unit"].isin(units)]

    def read_labelled(self, place: Place) -> pd.DataFrame:
        """Those of them that have a label."""
        rows = self.read_clean(place)
        return rows[rows["iou"] >= self.min_iou]


def label_table(labels: Labels) -> pd.DataFrame:
    """One line per layer: its units, how many have a label, in which categories, and the null churn."""
    lines = []
    for place in labels.clean:
        chosen = labels.read_clean(place)
        labelled = chosen[chosen["iou"] >= labels.min_iou]
        line = dict(zip(PLACE, place, strict=True))
        line |= {"units": len(chosen), "labelled": len(labelled), "concepts": labelled["label"].nunique()}
        line |= {"mean_iou": labelled["iou"].mean(), "margin": (labelled["iou"] - labelled["iou_2"]).mean()}
        lines.append(line | summarise_null(read_table(labels.null_churn[place]), labelled["unit"], labels.seed))
    return pd.DataFrame(lines)


def noise_table(labels: Labels) -> pd.DataFrame:
    """One line per (layer, kind, std, fraction): share of manipulated units beside null churn and published value."""
    parts = []
    for key, path in labels.noise.items():
        part = summarise_noise(read_table(path), labels.min_iou)
        for column, value in reversed(list(zip([*PLACE, "kind", "std"], key, strict=True))):
            part.insert(0, column, value)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    table = table.merge(label_table(labels)[[*PLACE, *NULL]], on=PLACE, how="left")
    return add_published(table)


def add_published(table: pd.DataFrame) -> pd.DataFrame:
    """Set `published` (text) where the paper states a value for this probe, model and noise."""
    claims = pd.read_csv(PUBLISHED, comment="#", keep_default_na=False)
    keys = ["probe", "model", "kind", "std", "fraction"]
    return table.merge(claims[[*keys, "published"]], on=keys, how="left").fillna({"published": ""})


def select_by_layer(noise: pd.DataFrame) -> pd.DataFrame:
    """The first kind of noise on most images."""
    return noise[(noise["kind"] == noise["kind"].iloc[0]) & (noise["fraction"] == noise["fraction"].max())]


def select_by_fraction(noise: pd.DataFrame) -> pd.DataFrame:
    """The first kind of noise at the largest std."""
    return noise[(noise["kind"] == noise["kind"].iloc[0]) & (noise["std"] == noise["std"].max())]


def select_kinds(noise: pd.DataFrame) -> pd.DataFrame:
    """The kinds of noise side by side: all at the largest fraction, sorted by layer and size."""
    whole = noise[noise["fraction"] == noise["fraction"].max()]
    order = whole.assign(place=whole.groupby(PLACE, sort=False).ngroup())
    return order.sort_values(["place", "std", "kind"], kind="stable").drop(columns="place")


def margin_table(labels: Labels) -> pd.DataFrame:
    """One line per (probe, model, corruption, quarter of the units by margin): mean share of changed labels.

    The margin is the label's IoU minus the second label's; quarters are of all units with a label of all layers of
    the network. A corruption is the resampled clean probe (null churn), or noise on its largest share of the images.
    """
    lines = []
    for pair in dict.fromkeys(place[:2] for place in labels.clean):
        margins = {place: _read_margins(labels, place) for place in labels.clean if place[:2] == pair}
        known = np.concatenate([part.to_numpy() for part in margins.values()])
        edges = np.quantile(known, np.linspace(0, 1, QUARTERS + 1)) if len(known) else np.full(QUARTERS + 1, np.nan)
        named = [(RESAMPLED, labels.null_churn, (), "changed")]
        for noise in dict.fromkeys(key[3:] for key in labels.noise if key[:2] == pair):
            named.append((name_noise(*noise), labels.noise, noise, "manipulated"))
        for corruption, files, setting, column in named:
            parts = [_join_flips(read_table(files[place + setting]), column, part) for place, part in margins.items()]
            line = dict(zip(PAIR, pair, strict=True)) | {"corruption": corruption}
            lines += [line | quarter for quarter in _group_quarters(pd.concat(parts), edges, labels.seed)]
    return pd.DataFrame(lines)


def _read_margins(labels: Labels, place: Place) -> pd.Series:
    """Margin of each labelled unit of an experiment, by unit."""
    rows = labels.read_labelled(place).set_index("unit")
    return rows["iou"] - rows["iou_2"].fillna(0)


def _join_flips(rows: pd.DataFrame, column: str, margins: pd.Series) -> pd.DataFrame:
    """Margin and share of changes of each labelled unit, over replicates or draws."""
    if "fraction" in rows:
        rows = rows[rows["fraction"] == rows["fraction"].max()]
    changed = rows.groupby("unit")[column].mean()
    found = pd.DataFrame({"margin": margins, "changed": changed})
    return found.dropna()


def _group_quarters(units: pd.DataFrame, edges: np.ndarray, seed: int) -> list[dict]:
    quarter = np.searchsorted(edges[1:-1], units["margin"].to_numpy(), side="right")
    lines = []
    for number in range(QUARTERS):
        part = units[quarter == number]
        low, high = bootstrap_interval(part["changed"], seed)
        mean = part["changed"].mean() if len(part) else float("nan")
        line = {"quarter": number + 1, "margin_from": edges[number], "margin_to": edges[number + 1], "units": len(part)}
        lines.append(line | dict(zip(CHANGED, (mean, low, high), strict=True)))
    return lines


# Name of a table: how it is made from the files, or from which other table it is chosen.
MAKERS = {"labels": label_table, "margin": margin_table, "noise": noise_table}
CHOSEN = {
    "figure_2a": ("noise", select_by_layer),
    "figure_2b": ("noise", select_by_fraction),
    "noise_kinds": ("noise", select_kinds),
}
