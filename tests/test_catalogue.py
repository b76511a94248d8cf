"""The catalogue of tables and figures: which there are for a config, and that each has a maker and a caption."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nemesis.config import check_config, read_config
from nemesis.figures import designed_figures, designed_tables, label_figures, labels, milan_report
from nemesis.figures.catalogue import (
    CATEGORIES,
    DRAWN_FROM,
    ENTRIES,
    FIGURE,
    TABLE,
    list_entries,
    list_figures,
    list_tables,
)

ROOT = Path(__file__).parent.parent
PROBES = {"scenes": {"kind": "minibroden"}, "photos": {"kind": "folder", "path": "photos"}}
NOISE = {"kinds": ["gaussian"], "std": [0.05], "fractions": [0.5, 1.0]}
DESIGNED = {"modes": ["untargeted"], "methods": ["pgd"], "masks": ["segmentation"], "eps": [6], "budgets": [0.1]}
WHOLE = DESIGNED | {"modes": ["untargeted", "targeted", "shared"]}
WHOLE |= {"minimum_epsilon": {}, "compare_storage": {}, "collateral": {}}
LABELLED = ["labels", "margin"]
# What makes the tables, and what draws the figures, of a rule.
MAKERS = {
    "plot_tables": [*labels.MAKERS, *labels.CHOSEN],
    "plot_designed": [*designed_tables.MAKERS, *designed_tables.CHOSEN],
    "plot_milan": [*milan_report.MAKERS, *milan_report.CHOSEN],
}
PLOTS = {
    "plot_tables": label_figures.PLOTS,
    "plot_designed": designed_figures.PLOTS,
    "plot_milan": milan_report.PLOTS,
    "plot_unit": ["figure_3"],
    "plot_milan_units": ["milan_units"],
    "plot_milan_example": ["figure_3_milan"],
}


def names(kind, rule):
    return [entry.name for entry in ENTRIES if (entry.kind, entry.rule) == (kind, rule)]


def config_of(probe="scenes", **sections):
    return {"probes": PROBES, "experiments": [{"probe": probe, "model": "m", "layers": ["l"]}]} | sections


@pytest.mark.parametrize("rule", CATEGORIES)
def test_every_entry_has_a_maker(rule):
    assert sorted(names(TABLE, rule)) == sorted(MAKERS.get(rule, []))
    assert sorted(names(FIGURE, rule)) == sorted(PLOTS[rule])


def test_every_name_has_a_caption():
    captions = {path.stem for path in (ROOT / "report" / "captions").glob("*.rst")}
    assert captions == {entry.name for entry in ENTRIES}


def test_names_are_unique():
    assert len({(entry.kind, entry.name) for entry in ENTRIES}) == len(ENTRIES)


def test_a_figure_is_drawn_from_a_table_of_its_rule():
    for entry in ENTRIES:
        assert not entry.table or (entry.kind == FIGURE and entry.table in names(TABLE, entry.rule))
    assert [name for name, table in DRAWN_FROM.items() if name != table] == [
        *("null_churn", "figure_2a", "figure_2b", "minimum_epsilon")
    ]


def test_labels_and_noise():
    assert list_tables(config_of()) == LABELLED
    assert list_figures(config_of()) == ["null_churn", "margin"]
    found = config_of(noise=NOISE)
    assert list_tables(found) == [*LABELLED, "noise", "figure_2a", "figure_2b", "noise_kinds"]
    assert list_figures(found, "plot_tables") == ["null_churn", "margin", "figure_2a", "figure_2b"]
    assert list_tables(config_of("photos", noise=NOISE)) == list_figures(config_of("photos", noise=NOISE)) == []


def test_the_designed_corruption():
    def listed(section):
        config = config_of(designed=section)
        return list_tables(config, "plot_designed"), list_figures(config, "plot_designed")

    tables, figures = listed(WHOLE)
    assert (tables, figures) == (names(TABLE, "plot_designed"), names(FIGURE, "plot_designed"))
    assert listed({}) == ([], []) and list_figures(config_of(), "plot_unit") == []
    assert listed(DESIGNED)[0] == ["designed", "table_2", "figure_4", "figure_6", "budget"]
    assert "table_2" not in listed(DESIGNED | {"methods": ["fgsm"]})[0]
    assert listed(DESIGNED | {"modes": ["shared"], "budgets": []})[0] == ["designed", "shared"]
    assert listed(DESIGNED | {"modes": ["targeted"]})[1] == ["figure_4", "targeted", "budget"]
    assert list_figures(config_of(designed=DESIGNED), "plot_unit") == ["figure_3"]


def test_the_order_is_that_of_the_report():
    milan = {"noise": {"fractions": [1.0]}, "designed": {"methods": ["pgd"], "eps": [6], "modes": ["untargeted"]}}
    found = config_of(noise=NOISE, designed=DESIGNED, milan=milan)
    assert list_figures(found) == [
        *("null_churn", "margin", "figure_2a", "figure_2b", "figure_4", "figure_6", "budget", "figure_3"),
        *("milan_figure_2a", "milan_figure_6", "figure_5", "milan_units", "figure_3_milan"),
    ]
    assert list_tables(found)[-6:] == ["table_1", "table_3", "table_4", "milan_figure_2a", "milan_figure_6", "figure_5"]


def test_categories_of_snakemakes_report():
    found = {entry.category for entry in list_entries(config_of(designed=DESIGNED), FIGURE)}
    assert found == {"Network Dissection: figures", "Designed corruption: figures"}


@pytest.mark.parametrize("name", ["config.yaml", "presets/quick.yaml", "presets/paper.yaml", "presets/own.yaml"])
def test_the_configs_that_are_there(name):
    read_config(ROOT / name)
    config = yaml.safe_load((ROOT / name).read_text())
    config = check_config(config, ROOT / "schemas" / "config.schema.yaml", name)
    assert set(LABELLED) < set(list_tables(config)) and set(DRAWN_FROM) >= set(list_figures(config, "plot_tables"))
    assert ("designed" in list_tables(config)) == ("designed" in config)
    assert ("milan_units" in list_figures(config)) == ("milan" in config)


def test_the_catalogue_imports_nothing_large():
    """It is read whenever Snakemake starts."""
    code = "import sys; import nemesis.figures.catalogue; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert not {"numpy", "pandas", "matplotlib", "torch", "zarr"} & set(run.stdout.split())
