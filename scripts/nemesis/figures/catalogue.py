"""Stub until the real one is merged."""

from nemesis.config import list_exemplar_designs, list_extractions, list_noises
from nemesis.figures import outputs


def _lists(config):
    designed, milan = config.get("designed") or {}, config.get("milan") or {}
    masks = any(one.dissected for one in list_extractions(config))
    noises, designs = list_noises(config), list_exemplar_designs(config)
    mn = noises if "noise" in milan else []
    lt = (
        (["labels", "margin"] + (["noise", "figure_2a", "figure_2b", "noise_kinds"] if noises else [])) if masks else []
    )
    lf = (["null_churn", "margin"] + (["figure_2a", "figure_2b"] if noises else [])) if masks else []
    return {
        "plot_tables": (lt, lf),
        "plot_designed": (outputs.list_tables(designed), outputs.list_figures(designed)),
        "plot_unit": ([], ["figure_3"] if designed else []),
        "plot_milan": (outputs.list_milan_tables(milan, mn, designs), outputs.list_milan_figures(milan, mn, designs)),
        "plot_milan_units": ([], outputs.list_milan_pictures(milan, mn, designs)[:1]),
        "plot_milan_example": ([], outputs.list_milan_pictures(milan, mn, designs)[1:]),
    }


def list_tables(config, rule=None):
    return [n for name, (tables, _) in _lists(config).items() if rule in (None, name) for n in tables]


def list_figures(config, rule=None):
    return [n for name, (_, figures) in _lists(config).items() if rule in (None, name) for n in figures]
