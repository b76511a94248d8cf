"""How fast each piece of work goes, as measured by `make scale` or, where so labelled, extrapolated."""

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from nemesis.errors import InputError

TABLE = Path(__file__).with_name("rates.csv")
COLUMNS = ("device", "stage", "units", "height", "width", "value", "unit", "basis", "name", "date")


@dataclass(frozen=True)
class Rate:
    """One row of rates.csv: a stage's rate, for maps of `units` x `height` x `width` where it depends on them (0: not).

    basis: measured | extrapolated. name: of the device, or the source of an extrapolation.
    """

    device: str
    stage: str
    units: int
    height: int
    width: int
    value: float
    unit: str
    basis: str
    name: str
    date: str

    @property
    def cells(self) -> int:
        return self.height * self.width

    @property
    def values(self) -> int:
        return self.units * self.cells


@dataclass(frozen=True)
class Rates:
    """The rates of a device; what only the processor does goes at the rates of `cpu`."""

    device: str
    rows: tuple[Rate, ...]

    def find(self, stage: str, device: str | None = None) -> list[Rate]:
        """Rows of a stage on this device, else on the processor; InputError when there is none."""
        for name in (device or self.device, "cpu"):
            found = [row for row in self.rows if (row.device, row.stage) == (name, stage)]
            if found:
                return found
        raise InputError(f"{TABLE.name}: no rate of '{stage}'; run `make scale`")

    def flat(self, stage: str) -> float:
        """The rate of a stage that does not depend on a layer's shape."""
        return self.find(stage)[0].value

    def of_maps(self, stage: str, cells: int) -> float:
        """Rate for maps of so many cells, between the measured ones on a logarithmic scale."""
        rows = sorted(self.find(stage), key=lambda row: row.cells)
        return math.exp(_interpolate(math.log(cells), [(math.log(row.cells), math.log(row.value)) for row in rows]))

    def memory(self, stage: str, values: int) -> float:
        """Peak host memory in bytes of a stage on a layer of so many values an image."""
        rows = sorted(self.find(f"memory_{stage}", "cpu"), key=lambda row: row.values)
        return _interpolate(float(values), [(float(row.values), row.value) for row in rows])

    def name(self) -> str:
        """Where the device's own rates come from."""
        row = self.find("forward_flops")[0]
        return f"{row.name} ({row.basis}{', ' + row.date if row.date else ''})"


def load_rates(device: str, path: Path = TABLE) -> Rates:
    """The rates of `cpu`, or of a GPU; InputError lists those that there are."""
    with open(path, newline="", encoding="utf-8") as stream:
        rows = tuple(_parse(row) for row in csv.DictReader(stream))
    known = list(dict.fromkeys(row.device for row in rows))
    if device not in known:
        raise InputError(f"RATES={device}: there are no rates of this device; there are {', '.join(known)}")
    return Rates(device, rows)


def _parse(row: dict) -> Rate:
    whole = {name: int(row[name] or 0) for name in ("units", "height", "width")}
    return Rate(**row | whole | {"value": float(row["value"])})


def _interpolate(x: float, points: list[tuple[float, float]]) -> float:
    """Linear between points in ascending order; constant beyond them."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0) if x1 > x0 else y1
    return points[-1][1]
