"""Which layers and designs the designed stage is about. Standard library only: it runs at every start."""

FIRST = {
    "mode": ("untargeted", "targeted", "shared"),
    "method": ("pgd", "fgsm"),
    "masks": ("segmentation", "baseline", "exemplars"),
}


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
