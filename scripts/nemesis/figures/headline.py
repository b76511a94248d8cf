"""What a run found, in three texts: noise, designed corruption, descriptions.

Each says first what was found, in plain words, then the numbers. It claims only what they carry: one share is more
or less than another where their 95% intervals lie apart, and a change is too weak to see where the PSNR of the stored
images is at least `UNSEEN` dB.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from nemesis.figures.attacks import choose_setting
from nemesis.figures.tables import NULL, PLACE
from nemesis.perturb.noise import name_noise
from nemesis.scoring.intervals import wilson_interval

UNSEEN = 40  # dB; noise of std 0.01, 2.55 of 255 levels
MORE, LESS, NO_MORE = "more than", "less than", "not measurably more than"
RESAMPLING = "resampling alone"
SAME_NOISE = "noise of the same size on the same images"


@dataclass(frozen=True)
class Share:
    """A share of so many `units` with its 95% interval; NaN where it was not measured."""

    value: float
    low: float
    high: float
    units: int

    @property
    def known(self) -> bool:
        """Was it measured?"""
        return not math.isnan(self.value)

    @property
    def interval(self) -> str:
        """As `54 to 66%`."""
        return f"{100 * self.low:.0f} to {100 * self.high:.0f}%"

    @property
    def count(self) -> str:
        """As `8 of 9` or `none of 9`; a mean over several draws is rounded."""
        found = round(self.value * self.units) or "under 1"
        return f"{found if self.value else 'none'} of {self.units}"


def write_headline(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Three texts from the tables by name: noise, designed, table_1 and table_3; one that is absent says so."""
    return [
        _tell_noise(tables.get("noise")),
        _tell_designed(tables.get("designed")),
        _tell_descriptions(tables.get("table_1"), tables.get("table_3")),
    ]


def compare(share: Share, control: Share) -> str:
    """Is a share more than that of a control, less, or not measurably more; empty where one was not measured."""
    if not (share.known and control.known):
        return ""
    if share.low > control.high:
        return MORE
    return LESS if share.high < control.low else NO_MORE


def pool(rows: pd.DataFrame, name: str) -> Share:
    """The share of all units of some rows, with Wilson's interval; unknown where a row lacks it."""
    units = int(rows["units"].sum())
    if not units or rows[name].isna().any():
        return Share(math.nan, math.nan, math.nan, units)
    found = (rows[name] * rows["units"]).sum()
    return Share(found / units, *wilson_interval(found, units), units)


def _tell_noise(noise: pd.DataFrame | None) -> str:
    rows = _choose_noise(noise)
    if rows is None:
        return "Random noise: no labels were compared."
    rows = rows.assign(verdict=[compare(_read_share(row), _read_share(row, NULL)) for _, row in rows.iterrows()])
    row = _choose_layer(rows)
    found, psnr = _read_share(row), _psnr(row)
    share = _percent(found.value) if found.value else "none"
    return (
        f"{_name_noise(row, psnr)} renames {share} of the labelled units of {_name_layer(row, rows)} (95% interval"
        f" {found.interval}, n = {found.units}){_compare_all(found, {RESAMPLING: _read_share(row, NULL)})}."
        f" {_name_setting(row)}{_name_quality(psnr)}{_tell_layers(rows)}."
    )


def _tell_designed(designed: pd.DataFrame | None) -> str:
    rows = _choose_attack(designed)
    if rows is None:
        return "Designed corruption: no unit was attacked."
    chosen = _choose_mode(rows)
    psnr = (chosen["psnr"] * chosen["units"]).sum() / chosen["units"].sum()
    weak = " too weak to see" if UNSEEN <= psnr < math.inf else ""
    text = f"Designed changes{weak} rename {_tell_share(chosen, 'attacked units')}."
    hit = pool(rows[rows["mode"] == "targeted"], "target_hit")
    if hit.known:
        text += f" Aimed at another concept, they give {hit.count} its name ({_percent(hit.value)}, {hit.interval})."
    images = f"at most {100 * chosen['fraction_poisoned'].max():.3g}% of the images"
    return f"{text} {_name_attack(chosen)}, in {images}{_name_quality(psnr)}."


def _tell_descriptions(noise: pd.DataFrame | None, designed: pd.DataFrame | None) -> str:
    texts, what = [], "MILAN descriptions"
    rows = _choose_noise(noise)
    if rows is not None:
        found, row = pool(rows, "manipulated"), rows.iloc[0]
        compared = _compare_all(found, {RESAMPLING: pool(rows, NULL[0])})
        texts.append(f"{_name_noise(row)} changes {_show_count(found, what)}{compared}. {_name_setting(row)}.")
        what = "descriptions"
    rows = _choose_attack(designed)
    if rows is not None:
        largest = rows.groupby([*PLACE, "mode"], sort=False).tail(1)  # number of images
        chosen = _choose_mode(largest)
        text = f"Designed changes to {chosen['images'].max():.0f} images change {_tell_share(chosen, what)}."
        texts.append(f"{text} {_name_attack(chosen)}.")
    return " ".join(texts) or "Descriptions (MILAN): none were compared."


def _choose_noise(noise: pd.DataFrame | None) -> pd.DataFrame | None:
    """The layers with units, under the first kind of noise at its largest size and fraction; None without any."""
    if noise is None or noise.empty:
        return None
    rows = noise[noise["kind"] == noise["kind"].iloc[0]]
    rows = rows[rows["std"] == rows["std"].max()]
    rows = rows[(rows["fraction"] == rows["fraction"].max()) & (rows["units"] > 0)]
    return None if rows.empty else rows


def _choose_layer(rows: pd.DataFrame) -> pd.Series:
    """The layer with the largest share, of those where it is more than without noise if there are any."""
    more = rows[rows["verdict"] == MORE]
    if not rows["manipulated"].any():
        return rows.loc[rows["units"].idxmax()]
    part = more if len(more) else rows
    return part.loc[part["manipulated"].idxmax()]


def _choose_attack(designed: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows with units of one method (with one kind of masks) at its largest eps; None without any."""
    if designed is None or not designed["units"].sum():
        return None
    rows = designed[designed["units"] > 0]
    rows = choose_setting(rows if "masks" in rows else rows.assign(masks=""))
    return rows[rows["eps"] == rows["eps"].max()]


def _choose_mode(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the untargeted attack, or else of the first one."""
    modes = rows["mode"].unique().tolist()
    return rows[rows["mode"] == ("untargeted" if "untargeted" in modes else modes[0])]


def _read_share(row: pd.Series, names=("manipulated", "low", "high")) -> Share:
    return Share(*(float(row[name]) for name in names), int(row["units"]))


def _show_count(found: Share, what: str) -> str:
    return f"{found.count} {what} ({_percent(found.value)}, 95% interval {found.interval})"


def _tell_share(rows: pd.DataFrame, what: str) -> str:
    """What a designed corruption changed, beside its controls."""
    found = pool(rows, "manipulated")
    controls = {SAME_NOISE: pool(rows, "noise_manipulated"), RESAMPLING: pool(rows, NULL[0])}
    return _show_count(found, what) + _compare_all(found, controls)


def _compare_all(found: Share, controls: Mapping[str, Share]) -> str:
    """As `, more than A (12%, 8 to 17%), but not measurably more than B (40%, 31 to 50%)`."""
    parts: dict[str, list[str]] = {}
    for name, control in controls.items():
        shown = f"{name} ({_percent(control.value)}, {control.interval})" if control.known else ""
        parts.setdefault(compare(found, control), []).append(shown)
    parts.pop("", None)
    told = [f"{verdict} {(' or ' if verdict == NO_MORE else ' and ').join(shown)}" for verdict, shown in parts.items()]
    return f", {', but '.join(told)}" if told else "; no control was measured"


def _tell_layers(rows: pd.DataFrame) -> str:
    """The range over several layers, and in how many of them noise was told apart from resampling."""
    if len(rows) == 1:
        return ""
    shares = dict.fromkeys(_percent(share) for share in (rows["manipulated"].min(), rows["manipulated"].max()))
    text = f"; by layer {' to '.join(shares)}"
    if (rows["verdict"] == "").any():
        return text
    more, less = ((rows["verdict"] == verdict).sum() or "none" for verdict in (MORE, LESS))
    return f"{text}, more than resampling in {more} of {len(rows)} layers, less in {less}"


def _psnr(row: pd.Series) -> float:
    """PSNR of the images as they were stored, in dB, from the root mean square of the difference (1/255)."""
    return 20 * math.log10(255 / row["rms"]) if row["rms"] > 0 else math.nan


def _name_noise(row: pd.Series, psnr: float = math.nan) -> str:
    if row["kind"] == "none":
        return "Storing the images anew"
    return "Noise too weak to see" if psnr >= UNSEEN else f"Noise of std {row['std']:g}"


def _name_setting(row: pd.Series) -> str:
    name = name_noise(row["kind"], row["std"])
    images = "every image" if row["fraction"] == 1 else f"{100 * row['fraction']:g}% of the images"
    return f"{name[0].upper()}{name[1:]}, in {images}"


def _name_attack(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"{first['method'].upper()}, {first['mode']}, eps {first['eps']:g}/255"


def _name_quality(psnr: float) -> str:
    return f" (PSNR {psnr:.0f} dB)" if math.isfinite(psnr) else ""


def _name_layer(row: pd.Series, rows: pd.DataFrame) -> str:
    """A layer, with its network and probe where there are several."""
    words = [f"{word} {row[name]}" for name, word in (("model", "of"), ("probe", "on")) if rows[name].nunique() > 1]
    return " ".join([row["layer"], *words])


def _percent(share: float) -> str:
    if 0 < share < 0.005 or 0.995 <= share < 1:
        return "under 1%" if share < 0.5 else "over 99%"
    return f"{100 * share:.0f}%"
