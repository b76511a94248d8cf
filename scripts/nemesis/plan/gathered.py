"""What the rules that look at many places together are made from."""

from collections.abc import Callable

from nemesis.entries import Design
from nemesis.figures.catalogue import TABLE, list_entries, list_figures, list_tables
from nemesis.plan import paths
from nemesis.plan.inputs import Inputs
from nemesis.plan.paths import fill
from nemesis.plan.plan import BISECTION, DESIGN, NOISE, Place, Plan


def labels(plan: Plan) -> Inputs:
    """plot_tables: the clean labels, their null churn, and the labels under noise."""
    noises = [(*place, noise.kind, noise.std) for place in plan.dissected for noise in plan.noises]
    return Inputs(
        {
            "clean": at_places(paths.DISSECTION, plan.dissected),
            "null_churn": at_places(paths.NULL_CHURN, plan.dissected),
            "noise": {key: fill(paths.NOISY_DISSECTION, key, NOISE) for key in noises},
        }
    )


def attacks(plan: Plan) -> Inputs:
    """plot_designed: the tables of plot_tables that it continues, and the outcome of every attack."""
    places, tables = plan.attacked, ["labels", "noise"] if plan.noises else ["labels"]
    compared, watched = plan.controlled("compare_storage"), plan.controlled("collateral")
    bisections = [(*place, *one) for one in plan.bisections for place in places]
    return Inputs(
        {name: plan.of_run(fill(paths.TABLE, table=f"{name}.csv")) for name in tables if plan.designs}
        | {
            "null_churn": at_places(paths.NULL_CHURN, places),
            "dissection": at_designs(paths.DESIGNED_DISSECTION, places, plan.designs),
            "budget": at_designs(paths.BUDGET, places, plan.designs),
            "storage": at_designs(paths.STORAGE, places, compared),
            "collateral": at_designs(paths.COLLATERAL, places, watched),
            "minimum": {key: fill(paths.MINIMUM_EPSILON, key, BISECTION) for key in bisections},
        }
    )


def shown_unit(plan: Plan) -> Inputs:
    """plot_unit: one layer's clean labels and maps, and those after one kind of attack at every eps."""
    place, designs = shown_place(plan), plan.shown_designs
    if not place:
        return Inputs({})
    last = (*place, designs[-1].method, designs[-1].eps, designs[-1].mode, designs[-1].masks)
    clean = {"probe": paths.PROBE, "maps": paths.MAPS, "tally": paths.TALLY, "clean": paths.DISSECTION}
    poisoned = {"poison": paths.POISON, "poisoned_maps": paths.POISONED_MAPS}
    tables = {
        design.eps: path
        for design, path in zip(designs, at_designs(paths.DESIGNED_DISSECTION, [place], designs).values(), strict=True)
    }
    return Inputs(
        {name: fill(path, place) for name, path in clean.items()}
        | {"tables": tables}
        | {name: fill(path, last, DESIGN) for name, path in poisoned.items()}
    )


def shown_place(plan: Plan) -> Place | None:
    """The last attacked layer of the first (probe, model) with one, whose unit is shown."""
    first = plan.attacked[0][:2] if plan.designs and plan.attacked else None
    return next((place for place in reversed(plan.attacked) if place[:2] == first), None)


def compared_descriptions(plan: Plan, probe: str, model: str) -> Inputs:
    """score_milan: a network's clean descriptions, and those of resampled and corrupted probes."""
    places = [place for place in plan.described if place[:2] == (probe, model)]
    corrupted = {(*place, "null"): fill(paths.NULL_DESCRIPTIONS, place) for place in places if plan.has_null}
    for corruption in dict.fromkeys(one for place in places for one in plan.described_corruptions(place)):
        for place in places:
            corrupted[(*place, corruption)] = fill(paths.DESCRIPTIONS, place, corruption=corruption)
    return Inputs({"clean": at_places(paths.DESCRIPTIONS, places, corruption="clean"), "corrupted": corrupted})


def described_pairs(plan: Plan) -> list[tuple[str, str]]:
    """Every (probe, model) with a layer whose units are described."""
    return list(dict.fromkeys(place[:2] for place in plan.described))


def scores(plan: Plan) -> dict[tuple[str, str], str]:
    """The scores of descriptions, a table a (probe, model), where there is something to compare."""
    if not list_tables(plan.config, "plot_milan"):
        return {}
    return {pair: plan.of_run(fill(paths.SCORES, pair)) for pair in described_pairs(plan)}


def descriptions(plan: Plan) -> Inputs:
    """plot_milan: all scores, and what the network says of poisoned images."""
    return Inputs(
        {
            "threshold": paths.THRESHOLD,
            "scores": scores(plan),
            "predictions": at_designs(paths.PREDICTIONS, plan.described, plan.exemplar_designs),
        }
    )


def described_noises(plan: Plan) -> list[tuple]:
    """Every noise under which a layer's units are described."""
    return [(*place, one.kind, one.std) for place in plan.described for one in plan.described_noises(place)]


def changed_descriptions(plan: Plan) -> Inputs:
    """plot_milan_example: exemplars before and after the attacks if there are any, or the noise."""
    designs = at_designs(paths.EXEMPLARS, plan.described, plan.exemplar_designs, corruption=paths.EXEMPLAR_DESIGN)
    pattern = fill(paths.EXEMPLARS, corruption="noise/{kind}-{std}")
    noises = {key: fill(pattern, key, NOISE) for key in described_noises(plan)}
    return Inputs(
        {
            "threshold": paths.THRESHOLD,
            "scores": scores(plan),
            "clean": at_places(paths.EXEMPLARS, plan.described, corruption="clean"),
            "corrupted": designs or noises,
            "poison": at_designs(paths.EXEMPLAR_POISON, plan.described, plan.exemplar_designs),
        }
    )


def clean_descriptions(plan: Plan) -> Inputs:
    """plot_milan_units: clean exemplars and descriptions, and labels where there are masks."""
    labelled = [place for place in plan.described if place in plan.dissected]
    return Inputs(
        {
            "exemplars": at_places(paths.EXEMPLARS, plan.described, corruption="clean"),
            "descriptions": at_places(paths.DESCRIPTIONS, plan.described, corruption="clean"),
            "dissections": at_places(paths.DISSECTION, labelled),
        }
    )


def layer_page(plan: Plan, place: Place) -> Inputs:
    """show_units: everything that is shown of a layer's units."""
    noises, designs = plan.noises_of(place), plan.designs_of(place)
    files = {"probe": fill(paths.PROBE, place), "maps": fill(paths.MAPS, place)}
    files["thresholds"] = fill(paths.THRESHOLDS, place)
    if place in plan.dissected:
        files["clean"], files["null_churn"] = fill(paths.DISSECTION, place), fill(paths.NULL_CHURN, place)
    if designs and plan.bisections:
        key = plan.bisections[0]
        files["minimum"] = fill(paths.MINIMUM_EPSILON, (*place, *key), BISECTION)
    for name, path in (("noise", paths.NOISY_DISSECTION), ("tops", paths.NOISY_TOPS)):
        files[name] = _of_noises(path, place, noises if place in plan.dissected else [])
    for name, path in (
        ("designed", paths.DESIGNED_DISSECTION),
        ("poison", paths.POISON),
        ("poisoned_maps", paths.POISONED_MAPS),
    ):
        files[name] = _of_designs(path, place, designs)
    if place in plan.described:
        files["descriptions"] = fill(paths.DESCRIPTIONS, place, corruption="clean")
        if place[:2] in scores(plan):
            files["scores"] = scores(plan)[place[:2]]
    exemplars = {
        (noise.kind, noise.std): fill(paths.EXEMPLARS, place, corruption=f"noise/{noise.name}")
        for noise in plan.described_noises(place)
    }
    attacked = plan.described_designs(place)
    return Inputs(
        files
        | {
            "noise_exemplars": exemplars,
            "attack_exemplars": _of_attacks(fill(paths.EXEMPLARS, corruption=paths.EXEMPLAR_DESIGN), place, attacked),
            "attack_poison": _of_attacks(paths.EXEMPLAR_POISON, place, attacked),
        }
    )


def report(plan: Plan) -> Inputs:
    """write_report: the layers' pages, probes, networks, and all tables and figures."""
    probes, models = (dict.fromkeys(place[part] for place in plan.places) for part in (0, 1))
    tables, figures = list_tables(plan.config), list_figures(plan.config)
    return Inputs(
        {
            "layers": {place: plan.of_run(fill(paths.LAYER_PAGE, place)) for place in plan.places},
            "probes": {name: fill(paths.PROBE, probe=name) for name in probes},
            "cards": {name: fill(paths.CARD, model=name) for name in models},
            "tables": table_files(plan, tables),
            "figures": figure_files(plan, figures),
        }
    )


def drawn_files(plan: Plan, rule: str, mark: Callable) -> dict[str, list]:
    """The `tables` and `figures` of a rule; Snakemake's report() `mark`s CSV and SVG files, with their captions."""
    found: dict[str, list] = {"tables": [], "figures": []}
    for entry in list_entries(plan.config, rule=rule):
        files = table_files if entry.kind == TABLE else figure_files
        about = {"caption": f"../report/captions/{entry.name}.rst", "category": entry.category}
        about["labels"] = {"name": entry.name}
        for path in files(plan, [entry.name]):
            found[f"{entry.kind}s"].append(mark(path, **about) if path.endswith((".csv", ".svg")) else path)
    return found


def drawn_names(plan: Plan, rule: str | None = None) -> dict[str, list[str]]:
    """Names of the tables and figures that a rule's script makes, or of all."""
    return {"tables": list_tables(plan.config, rule), "figures": list_figures(plan.config, rule)}


def table_files(plan: Plan, names) -> list[str]:
    """The files of tables by name."""
    pattern, endings = plan.of_run(paths.TABLE), paths.TABLE_ENDINGS
    return [fill(pattern, table=f"{name}{ending}") for name in names for ending in endings]


def figure_files(plan: Plan, names) -> list[str]:
    """The files of figures by name."""
    pattern, endings = plan.of_run(paths.FIGURE), paths.FIGURE_ENDINGS
    return [fill(pattern, figure=f"{name}{ending}") for name in names for ending in endings]


def targets(plan: Plan) -> list[str]:
    """Everything that the config asks for."""
    found = [fill(paths.THRESHOLDS, place) for place in plan.places if place not in plan.dissected]
    found += table_files(plan, list_tables(plan.config)) + figure_files(plan, list_figures(plan.config))
    found += [plan.of_run(paths.SUMMARY)] if plan.dissected else []
    if plan.milan:
        found += [plan.of_captioner(paths.QUALITY)] if plan.trains_captioner else []
        found += [plan.of_run(paths.MILAN_SUMMARY)] if list_tables(plan.config, "plot_milan") else []
    return found + ([plan.of_run(paths.REPORT_INDEX)] if plan.places else [])


def at_places(pattern: str, places: list[Place], **values) -> dict[tuple, str]:
    """A path for every place."""
    return {place: fill(pattern, place, **values) for place in places}


def at_designs(pattern: str, places: list[Place], designs: list[Design], **values) -> dict[tuple, str]:
    """A path for every design at every place."""
    keys = [(*place, one.method, one.eps, one.mode, one.masks) for place in places for one in designs]
    pattern = fill(pattern, **values)
    return {key: fill(pattern, key, DESIGN) for key in keys}


def _of_noises(pattern: str, place: Place, noises) -> dict[tuple, str]:
    keys = [(noise.kind, noise.std) for noise in noises]
    return {key: fill(pattern, (*place, *key), NOISE) for key in keys}


def _of_designs(pattern: str, place: Place, designs: list[Design]) -> dict[tuple, str]:
    keys = [(one.method, one.eps, one.mode, one.masks) for one in designs]
    return {key: fill(pattern, (*place, *key), DESIGN) for key in keys}


def _of_attacks(pattern: str, place: Place, designs: list[Design]) -> dict[tuple, str]:
    """The same for attacks on exemplars, which have no masks to choose."""
    return {key[:3]: path for key, path in _of_designs(pattern, place, designs).items()}
