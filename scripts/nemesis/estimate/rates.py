"""How fast each piece of work goes, as measured by `make scale` or, where so labelled, extrapolated."""

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from nemesis.errors import InputError

TABLE = Path(__file__).with_name("rates.csv")
NETWORK = ("forward_flops", "forward_traffic", "step_flops", "step_traffic", "measure_row")
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

    def sources(self) -> list[str]:
        """Where the rates of the network come from: one line, or, where they differ, each with its stages."""
        stages = {stage: self.find(stage)[0] for stage in NETWORK}
        names = {
            stage: f"{row.name} ({row.basis}{', ' + row.date if row.date else ''})" for stage, row in stages.items()
        }
        if len(set(names.values())) == 1:
            return [names[NETWORK[0]]]
        return [
            f"{name}: {', '.join(stage for stage in NETWORK if names[stage] == name)}"
            for name in dict.fromkeys(names.values())
        ]


def load_rates(device: str, path: Path = TABLE) -> Rates:
    """The rates of `cpu`, of a GPU, or of the GPU whose rates `make gpu` wrote to a file (a path that ends in .csv).

    InputError lists those that there are.
    """
    rows = _read(path)
    if device.endswith(".csv"):
        own = _read(Path(device))
        names = {row.device for row in own}
        if len(names) != 1:
            raise InputError(f"RATES={device}: expected the rates of one device, as `make gpu` writes them")
        (device,) = names
        known = {(row.device, row.stage) for row in own}
        rows = [*own, *(row for row in rows if (row.device, row.stage) not in known)]
    known = list(dict.fromkeys(row.device for row in rows))
    if device not in known:
        found = ", ".join(known)
        raise InputError(
            f"RATES={device}: there are no rates of this device; there are {found}, or a .csv of `make gpu`"
        )
    return Rates(device, tuple(rows))


def _read(path: Path) -> list[Rate]:
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            return [_parse(row) for row in csv.DictReader(stream)]
    except OSError as error:
        raise InputError(f"RATES={path}: cannot be read ({error.strerror})") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"RATES={path}: expected the columns {', '.join(COLUMNS)}, with numbers") from None


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
