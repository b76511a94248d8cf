"""All tables and figures of a run: which rule makes each, from what, and when a config has something for it.

The rules, the report and Snakemake's own report (--report) take their names from here. A new one is an entry below,
a function in the module of its rule, and a caption in report/captions. It is read whenever Snakemake starts:
standard library and nemesis.config only.
"""

from collections.abc import Callable
from dataclasses import dataclass

from nemesis.entries import has_masks, list_designs, list_exemplar_designs, list_noises

TABLE, FIGURE = "table", "figure"
# What stands above the tables and figures of a rule in Snakemake's report.
CATEGORIES = {
    "plot_tables": "Network Dissection",
    "plot_designed": "Designed corruption",
    "plot_unit": "Designed corruption",
    "plot_milan": "Descriptions",
    "plot_milan_units": "Descriptions",
    "plot_milan_example": "Descriptions",
}


@dataclass(frozen=True)
class Asked:
    """What a checked config asks for; sections that it leaves out are empty."""

    config: dict

    @property
    def masks(self) -> bool:
        """Is there a probe with masks, so that units get labels?"""
        return any(has_masks(self.config, one["probe"]) for one in self.config.get("experiments") or [])

    @property
    def noise(self) -> bool:
        """Are labels compared under noise?"""
        return self.masks and bool(list_noises(self.config))

    @property
    def designed(self) -> dict:
        """The section of the attacks on labels."""
        return self.config.get("designed") or {}

    @property
    def modes(self) -> set[str]:
        """The modes of the attacks on labels."""
        return {design.mode for design in list_designs(self.config)}

    @property
    def milan(self) -> dict:
        """The section of descriptions."""
        return self.config.get("milan") or {}

    @property
    def fractions(self) -> list[float]:
        """The shares of noisy images under which units are described."""
        return (self.milan.get("noise") or {}).get("fractions", []) if list_noises(self.config) else []

    @property
    def exemplar_modes(self) -> set[str]:
        """The modes of the attacks on descriptions."""
        return {design.mode for design in list_exemplar_designs(self.config)}

    @property
    def described(self) -> bool:
        """Are descriptions compared with any others?"""
        return bool(self.fractions or self.exemplar_modes)


@dataclass(frozen=True)
class Entry:
    """A table or a figure; a figure is drawn from `table` (by name), or without one from images and maps."""

    name: str
    kind: str
    rule: str
    when: Callable[[Asked], object]
    table: str = ""

    @property
    def category(self) -> str:
        """Where it stands in Snakemake's report."""
        return f"{CATEGORIES[self.rule]}: {self.kind}s"


def _tables(rule: str, **when) -> list[Entry]:
    return [Entry(name, TABLE, rule, test) for name, test in when.items()]


def _figures(rule: str, tables: list[Entry], **sources: str) -> list[Entry]:
    """Figures by name, each with the name of its table; there is one where there is the table."""
    tests = {entry.name: entry.when for entry in tables}
    return [Entry(name, FIGURE, rule, tests[table], table) for name, table in sources.items()]


def _pictures(rule: str, **when) -> list[Entry]:
    return [Entry(name, FIGURE, rule, test) for name, test in when.items()]


_LABELS = _tables(
    "plot_tables",
    labels=lambda asked: asked.masks,
    margin=lambda asked: asked.masks,
    noise=lambda asked: asked.noise,
    figure_2a=lambda asked: asked.noise,
    figure_2b=lambda asked: asked.noise,
    noise_kinds=lambda asked: asked.noise,
)
_DESIGNED = _tables(
    "plot_designed",
    designed=lambda asked: asked.designed,
    table_2=lambda asked: (
        asked.modes & {"untargeted", "targeted"}
        and "pgd" in asked.designed["methods"]
        and "segmentation" in asked.designed["masks"]
    ),
    figure_4=lambda asked: asked.modes & {"untargeted", "targeted"},
    figure_6=lambda asked: "untargeted" in asked.modes,
    targeted=lambda asked: "targeted" in asked.modes,
    budget=lambda asked: asked.designed.get("budgets"),
    minimum_epsilon=lambda asked: "minimum_epsilon" in asked.designed,
    minimum_epsilon_curve=lambda asked: "minimum_epsilon" in asked.designed,
    storage=lambda asked: "compare_storage" in asked.designed,
    collateral=lambda asked: "collateral" in asked.designed,
    shared=lambda asked: "shared" in asked.modes,
)
_DESCRIPTIONS = _tables(
    "plot_milan",
    table_1=lambda asked: asked.fractions,
    table_3=lambda asked: asked.exemplar_modes,
    table_4=lambda asked: asked.described,
    milan_figure_2a=lambda asked: asked.fractions,
    milan_figure_2b=lambda asked: len(asked.fractions) > 1,
    milan_figure_6=lambda asked: "untargeted" in asked.exemplar_modes,
    figure_5=lambda asked: asked.exemplar_modes,
)
ENTRIES = [
    *_LABELS,
    *_figures("plot_tables", _LABELS, null_churn="labels", margin="margin", figure_2a="noise", figure_2b="noise"),
    *_DESIGNED,
    *_figures(
        "plot_designed",
        _DESIGNED,
        figure_4="figure_4",
        figure_6="figure_6",
        targeted="targeted",
        budget="budget",
        minimum_epsilon="minimum_epsilon_curve",
        storage="storage",
        collateral="collateral",
        shared="shared",
    ),
    *_pictures("plot_unit", figure_3=lambda asked: asked.modes),
    *_DESCRIPTIONS,
    *_figures(
        "plot_milan",
        _DESCRIPTIONS,
        milan_figure_2a="milan_figure_2a",
        milan_figure_2b="milan_figure_2b",
        milan_figure_6="milan_figure_6",
        figure_5="figure_5",
    ),
    *_pictures("plot_milan_units", milan_units=lambda asked: asked.milan),
    *_pictures("plot_milan_example", figure_3_milan=lambda asked: asked.described),
]
# The table of each figure that is drawn from one.
DRAWN_FROM = {entry.name: entry.table for entry in ENTRIES if entry.table}


def list_entries(config: dict, kind: str | None = None, rule: str | None = None) -> list[Entry]:
    """The tables and figures that a checked config has something for, all or of one kind or rule."""
    asked = Asked(config)
    entries = [entry for entry in ENTRIES if kind in (None, entry.kind) and rule in (None, entry.rule)]
    return [entry for entry in entries if entry.when(asked)]


def list_tables(config: dict, rule: str | None = None) -> list[str]:
    """Names of the tables that a checked config has something for, all or of one rule."""
    return [entry.name for entry in list_entries(config, TABLE, rule)]


def list_figures(config: dict, rule: str | None = None) -> list[str]:
    """The same for figures."""
    return [entry.name for entry in list_entries(config, FIGURE, rule)]
