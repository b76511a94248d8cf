"""Which tables and figures of the designed stage there are. Standard library only: it runs at every start."""

NOT_DRAWN = ("designed", "table_2", "minimum_epsilon_curve")
FIRST = {
    "mode": ("untargeted", "targeted", "shared"),
    "method": ("pgd", "fgsm"),
    "masks": ("segmentation", "baseline", "exemplars"),
}


def list_tables(designed: dict) -> list[str]:
    """Names of the tables that a config's designed section (empty: none) has something for."""
    if not designed:
        return []
    modes = set(designed["modes"])
    each = modes & {"untargeted", "targeted"}
    wanted = {
        "designed": True,
        "table_2": each and "pgd" in designed["methods"] and "segmentation" in designed["masks"],
        "figure_4": each,
        "figure_6": "untargeted" in modes,
        "targeted": "targeted" in modes,
        "budget": designed["budgets"],
        "minimum_epsilon": "minimum_epsilon" in designed,
        "minimum_epsilon_curve": "minimum_epsilon" in designed,
        "storage": "compare_storage" in designed,
        "collateral": "collateral" in designed,
        "shared": "shared" in modes,
    }
    return [name for name, found in wanted.items() if found]


def list_figures(designed: dict) -> list[str]:
    """Names of the figures that are drawn from these tables."""
    return [name for name in list_tables(designed) if name not in NOT_DRAWN]


def list_milan_tables(milan: dict, noises, designs) -> list[str]:
    """Names of the tables that a config's milan section (empty: none) has something for.

    `noises` and `designs` are those of which descriptions were scored.
    """
    fractions = milan.get("noise", {}).get("fractions", []) if noises else []
    wanted = {
        "table_1": fractions,
        "table_3": designs,
        "table_4": fractions or designs,
        "milan_figure_2a": fractions,
        "milan_figure_2b": len(fractions) > 1,
        "milan_figure_6": any(design.mode == "untargeted" for design in designs),
        "figure_5": designs,
    }
    return [name for name, found in wanted.items() if milan and found]


def list_milan_figures(milan: dict, noises, designs) -> list[str]:
    """Names of the figures that are drawn from these tables."""
    return [name for name in list_milan_tables(milan, noises, designs) if "figure" in name]


def list_milan_pictures(milan: dict, noises, designs) -> list[str]:
    """Names of the figures that show exemplars: a sheet of clean units, and one unit before and after."""
    if not milan:
        return []
    return ["milan_units"] + (["figure_3_milan"] if list_milan_tables(milan, noises, designs) else [])


def list_attacked(extractions, designed: dict) -> list[dict]:
    """{probe, model, layers} of every extraction with an attacked layer."""
    found = []
    for extraction in extractions:
        wanted = designed.get("layers", [])
        layers = [layer for layer in extraction.layers if wanted == "all" or layer in wanted]
        if layers:
            found.append({"probe": extraction.probe, "model": extraction.model, "layers": layers})
    return found


def controlled_designs(designs, designed: dict, section: str) -> list:
    """The designs that `compare_storage` (untargeted) or `collateral` (shared, too) looks at; without them, all."""
    wanted = {"compare_storage": {"untargeted"}, "collateral": {"untargeted", "shared"}}[section]
    modes = wanted & set(designed.get("modes", ())) or designed.get("modes", ())
    sizes = designed.get(section, {}).get("eps", ())
    return [design for design in designs if design.mode in modes and design.eps in sizes]


def list_bisected(designed: dict) -> list[dict]:
    """{method, masks} of every search for the minimum epsilon."""
    if "minimum_epsilon" not in designed:
        return []
    return [{"method": method, "masks": masks} for method in designed["methods"] for masks in designed["masks"]]


def choose_designs(designs) -> list:
    """One kind of attack at every eps, ascending: untargeted pgd with segmentation masks, if there is such."""
    chosen = sorted(designs, key=lambda design: design.eps)
    for name, values in FIRST.items():
        best = min((getattr(design, name) for design in chosen), key=values.index, default=None)
        chosen = [design for design in chosen if getattr(design, name) == best]
    return chosen


def describe_designs(designs) -> list[dict]:
    """Designs as a script takes them."""
    return [vars(design) | {"name": design.name} for design in designs]


def layer_folder(experiment: dict, layer: str) -> str:
    """The folder of a layer's results."""
    return f"results/{experiment['probe']}/{experiment['model']}/{layer}"


def design_files(attacked: list[dict], names, file: str = "") -> list[str]:
    """A file of each design (by name) of every attacked layer; without `file` the names are files themselves."""
    places = [layer_folder(experiment, layer) for experiment in attacked for layer in experiment["layers"]]
    return [f"{place}/designed/{name}{f'/{file}' if file else ''}" for name in names for place in places]


def table_files(names) -> list[str]:
    """The files of tables by name."""
    return [f"results/tables/{name}.{ending}" for name in names for ending in ("csv", "md", "tex")]


def figure_files(names) -> list[str]:
    """The files of figures by name."""
    return [f"results/figures/{name}.{ending}" for name in names for ending in ("svg", "png")]
