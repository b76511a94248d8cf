"""What `make gpu` measured: its records, and the files and tables made of them. Needs no GPU and no torch."""

import csv
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

TIMING = ("stage", "layer", "images", "seconds", "images_per_s", "bare_seconds", "ratio", "waits", "cores", "device_mb")
TIMING += ("host_mb", "note")
SHARE = ("what", "layer", "equal", "n", "share", "low", "high", "note")


@dataclass(frozen=True)
class Timing:
    """One stage: seconds on the wall, of the process's threads on a core, and of the bare passes of the network in it
    (0: it runs none), for so many images; peak memory of the device and of this process, MB (1e6 bytes).
    """

    stage: str
    layer: str
    images: float
    seconds: float
    cpu_seconds: float
    bare_seconds: float = 0.0
    device_mb: float = 0.0
    host_mb: float = 0.0
    note: str = ""

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds

    @property
    def ratio(self) -> float:
        """Over the bare passes; nan where there are none."""
        return self.seconds / self.bare_seconds if self.bare_seconds else math.nan

    @property
    def waits(self) -> float:
        """Share of the time in which the device has no pass to run."""
        return max(0.0, 1 - self.bare_seconds / self.seconds) if self.bare_seconds else math.nan

    @property
    def cores(self) -> float:
        """Cores that worked, on average."""
        return self.cpu_seconds / self.seconds


@dataclass(frozen=True)
class Share:
    """How many of n things (units' labels, values) are equal in two runs."""

    what: str
    layer: str
    equal: int
    n: int
    note: str = ""

    @property
    def share(self) -> float:
        return self.equal / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson score interval."""
        from nemesis.scoring.intervals import wilson_interval

        return wilson_interval(self.equal, self.n)

    @property
    def low(self) -> float:
        return self.interval[0]

    @property
    def high(self) -> float:
        return self.interval[1]


@dataclass
class Results:
    """Everything of a run: the machine, what became of each section, and what was measured."""

    about: dict
    sections: dict[str, str] = dataclasses.field(default_factory=dict)
    timings: list[Timing] = dataclasses.field(default_factory=list)
    shares: list[Share] = dataclasses.field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [name for name, outcome in self.sections.items() if outcome.startswith("failed")]

    def add(self, records):
        """Note Timings and Shares."""
        for record in records:
            (self.timings if isinstance(record, Timing) else self.shares).append(record)

    def seconds(self, stage: str) -> dict[str, float]:
        """Seconds an image of a bare pass, by layer."""
        return {one.layer: one.seconds / one.images for one in self.timings if one.stage == stage}


def write_results(results: Results, folder: Path):
    """results.json (everything), timings.csv, shares.csv and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(results), indent=1)
    (folder / "results.json").write_text(text + "\n", encoding="utf-8")
    write_table(folder / "timings.csv", TIMING, results.timings)
    write_table(folder / "shares.csv", SHARE, results.shares)
    (folder / "gpu.md").write_text(show_results(results), encoding="utf-8")


def read_results(folder: Path) -> Results:
    """What an earlier process of the same run wrote."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    timings, shares = (
        [kind(**part) for part in found[name]] for kind, name in ((Timing, "timings"), (Share, "shares"))
    )
    return Results(found["about"], found["sections"], timings, shares)


def write_table(path: Path, columns, records):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_cell(getattr(record, name)) for name in columns] for record in records])


def _cell(value):
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value


def write_rates(path: Path, rows: list[dict], columns):
    """Rates in the format of `make estimate`."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def name_device(name: str) -> str:
    """How `make estimate` calls a device: NVIDIA H100 80GB HBM3 is h100, NVIDIA GeForce RTX 3090 is rtx3090."""
    words = [word for word in name.lower().split() if word not in ("nvidia", "geforce", "tesla")]
    named = [word for word in words if any(letter.isdigit() for letter in word) and not word.endswith("gb")]
    short = "".join(words[: words.index(named[0]) + 1]) if named else "".join(words)
    return "".join(letter for letter in short.partition("-")[0] if letter.isalnum()) or "gpu"


def show_results(results: Results) -> str:
    """The run in Markdown."""
    about = results.about
    title = f"# {about['name']}: what it does\n" if about["device"] == "cuda" else "# A trial without a GPU\n"
    lines = [title, ", ".join(f"{key} {value}" for key, value in about.items()) + ".", ""]
    lines += ["Times are of one run each, after a warm-up. `over bare`: over the bare passes of the network in it (of"]
    lines += [
        "images in its memory); `waits`: share of the time in which it has no pass to run; `cores`: of the processor"
    ]
    lines += ["that work, on average.", ""]
    lines += _table(("section", "outcome"), [(name, outcome) for name, outcome in results.sections.items()])
    header = ("stage", "layer", "images", "s", "images/s", "over bare", "waits", "cores", "device MB", "host MB", "")
    lines += ["", *_table(header, [_show_timing(one) for one in results.timings])]
    header = ("equal", "layer", "n", "share", "95% interval", "")
    lines += ["", *_table(header, [_show_share(one) for one in results.shares])]
    return "\n".join(lines) + "\n"


def _show_timing(one: Timing) -> tuple[str, ...]:
    ratio, waits = ("" if math.isnan(value) else value for value in (one.ratio, one.waits))
    shown = (f"{ratio:.2f}" if ratio else "", f"{waits:.0%}" if waits != "" else "", f"{one.cores:.1f}")
    memory = (f"{one.device_mb:,.0f}" if one.device_mb else "", f"{one.host_mb:,.0f}")
    rate = f"{one.images_per_s:,.1f}"
    return (one.stage, one.layer, f"{one.images:,.0f}", f"{one.seconds:.3f}", rate, *shown, *memory, one.note)


def _show_share(one: Share) -> tuple[str, ...]:
    low, high = one.interval
    return (one.what, one.layer, f"{one.n:,}", f"{one.share:.4f}", f"{low:.4f} to {high:.4f}", one.note)


def _table(header, rows) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    ]


def read_tests(path: Path) -> tuple[int, int, int]:
    """Passed, failed and skipped tests in a JUnit file of pytest."""
    from xml.etree import ElementTree

    suite = next(ElementTree.parse(path).getroot().iter("testsuite"))
    total, failed, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    return total - failed - errors - skipped, failed + errors, skipped
