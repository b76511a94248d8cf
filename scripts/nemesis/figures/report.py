"""The tables and figures of the designed stage by name."""

from pathlib import Path

from nemesis.figures.attacks import Attacks
from nemesis.figures.control_tables import (
    collateral_table,
    minimum_curve,
    minimum_table,
    show_collateral,
    show_minimum,
    storage_table,
)
from nemesis.figures.controls import plot_collateral, plot_minimum, plot_storage
from nemesis.figures.designed import plot_budget, plot_categories, plot_designed, plot_shared, plot_targeted
from nemesis.figures.designed_tables import (
    budget_table,
    category_table,
    designed_table,
    shared_table,
    show_shares,
    show_table_2,
    table_2,
)
from nemesis.figures.noise import save_figure
from nemesis.figures.tables import write_table

# Name of a table: how it is made, and how it is shown to readers where that differs.
MAKERS = {
    "figure_4": category_table,
    "budget": budget_table,
    "minimum_epsilon": minimum_table,
    "minimum_epsilon_curve": minimum_curve,
    "storage": storage_table,
    "collateral": collateral_table,
    "shared": shared_table,
}
SHOWN = {"table_2": show_table_2, "minimum_epsilon": show_minimum, "collateral": show_collateral}
# Name of a figure: what draws it, from the table of this name or another.
PLOTS = {
    "figure_4": (plot_categories, "figure_4"),
    "figure_6": (plot_designed, "figure_6"),
    "budget": (plot_budget, "budget"),
    "minimum_epsilon": (plot_minimum, "minimum_epsilon_curve"),
    "storage": (plot_storage, "storage"),
    "collateral": (plot_collateral, "collateral"),
    "shared": (plot_shared, "shared"),
    "targeted": (plot_targeted, "targeted"),
}


def write_report(attacks: Attacks, tables, figures, folder="results"):
    """Write the named tables and figures below `folder`; returns the designed table."""
    designed = designed_table(attacks)
    makers = {"designed": lambda _: designed, "table_2": lambda _: table_2(designed)}
    makers |= {"figure_6": lambda _: select_mode(designed, "untargeted")}
    makers |= {"targeted": lambda _: select_mode(designed, "targeted")} | MAKERS
    made = {name: makers[name](attacks) for name in tables}
    for name, table in made.items():
        write_table(table, Path(folder, "tables", name), show=SHOWN.get(name, show_shares))
    for name in figures:
        plot, table = PLOTS[name]
        save_figure(plot(made[table]), *(Path(folder, "figures", f"{name}.{ending}") for ending in ("svg", "png")))
    return designed


def select_mode(designed, mode: str):
    """The rows of one mode."""
    return designed[designed["mode"] == mode]
