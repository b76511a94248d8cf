"""An estimate as text."""

from nemesis.estimate.cost import Estimate, Line, show_bytes, show_hours
from nemesis.estimate.rates import Rates
from nemesis.estimate.work import CORES

COLUMNS = ("stage", "jobs", "GPU h", "CPU h", "network h", "disk GB", "temp GB", "host GB", "device GB")


def show_estimate(found: Estimate, rates: Rates, where: str) -> list[str]:
    """The table by stage, totals, and where the rates and sizes come from."""
    rows = [_row(line) for line in found.lines]
    names = ("gpu", "cpu", "network", "disk", "temporary", "host", "device")
    shown = [show_hours(found.total(name)) for name in names[:3]]
    shown += [show_bytes(found.total(name)) for name in names[3:]]
    total = ("total (memory: largest)", f"{int(found.total('jobs'))}", *shown)
    rows = [COLUMNS, *rows, total]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = [
        "  ".join(_align(cell, width, place) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    rule = "-" * len(lines[0])
    text = [f"{where}: what it will cost from nothing (nothing was downloaded or computed)", "", lines[0], rule]
    text += [*lines[1:-1], rule, lines[-1], ""]
    text += [f"probe {note}" for note in found.notes]
    text += [f"rates of the network: {source}" for source in rates.sources()]
    text += [f"rates of what runs on the processor: {_host(rates)}"]
    if any(not line.priced for line in found.lines):
        text.append("* only the start of its jobs is counted: no rate of its work was measured")
    text.append(f"GPU h: hours that jobs hold a GPU, {CORES} cores working beside it; CPU h: of one core; network h:")
    text.append("of either, the passes of the network. Every attacked unit is taken to use its whole budget of images.")
    return text


def _row(line: Line) -> tuple[str, ...]:
    hours = [show_hours(value) if value else "" for value in (line.gpu, line.cpu, line.network)]
    sizes = [show_bytes(value) if value else "" for value in (line.disk, line.temporary, line.host, line.device)]
    return (line.rule + ("" if line.priced else " *"), str(line.jobs), *hours, *sizes)


def _align(cell: str, width: int, place: int) -> str:
    return cell.rjust(width) if place else cell.ljust(width)


def _host(rates: Rates) -> str:
    row = rates.find("start", "cpu")[0]
    return f"{row.name} ({row.basis}, {row.date})"
