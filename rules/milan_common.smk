from nemesis.figures.outputs import (
    list_milan_figures,
    list_milan_pictures,
    list_milan_tables,
)

MILAN = config.get("milan", {})
POISONING = MILAN.get("designed", {})
EXEMPLAR_DESIGNS = list_exemplar_designs(config)
CAPTIONER = {
    "captioner": "results/milan/captioner.safetensors",
    "card": "results/milan/captioner.json",
}
# The F1 up to which descriptions count as different, and the pairs behind it.
JUDGE = {
    "threshold": "results/milan/threshold.json",
    "pairs": "results/milan/pairs.csv",
}
NULL = MILAN.get("null_replicates", 0) > 0
CAPTIONER_IS_TRAINED = bool(MILAN) and MILAN["captioner"]["kind"] in (
    "regions",
    "annotations",
)
# The largest part of a path of an attack on exemplars, without its eps.
EXEMPLAR_SETTING = (
    "results/{probe}/{model}/{layer}/designed/{method}-{eps}-{mode}-exemplars"
)
EXEMPLAR_ATTACK = "{probe}/{model}/{layer}/{method}-{mode}-exemplars"
# What the clean descriptions are compared with, as it stands in a path.
MILAN_CORRUPTIONS = [f"noise/{noise.name}" for noise in NOISES if "noise" in MILAN]
MILAN_CORRUPTIONS += [f"designed/{design.name}" for design in EXEMPLAR_DESIGNS]


def described_layers(extraction):
    """The layers of an extraction whose units are described."""
    if MILAN.get("probes", "all") != "all" and extraction.probe not in MILAN["probes"]:
        return []
    wanted = MILAN.get("layers", [])
    return [layer for layer in extraction.layers if wanted == "all" or layer in wanted]


def compared_paths(extraction, layers, kind, ending="csv"):
    """Every `descriptions` or `scores` of an extraction that belongs to a resampled or corrupted probe."""
    found = (
        layer_paths(extraction, f"clean/milan/null_{kind}.{ending}", layers)
        if NULL
        else []
    )
    for corruption in MILAN_CORRUPTIONS:
        found += layer_paths(extraction, f"{corruption}/milan/{kind}.{ending}", layers)
    return found


def find_captioner_data(wildcards):
    """What a captioner is trained on: a probe with described regions, or annotated exemplars."""
    spec = MILAN["captioner"]
    if spec["kind"] == "annotations":
        return {"annotations": if_there(Path(spec["path"]) / "annotations.csv")}
    return {
        "probe": f"results/probes/{spec['probe']}/probe.zarr/zarr.json",
        "concepts": f"results/probes/{spec['probe']}/concepts.csv",
        "descriptions": f"results/probes/{spec['probe']}/broden/descriptions.csv",
    }


def find_checkpoint():
    """The user's own checkpoint, if the config names one."""
    path = MILAN["captioner"].get("path")
    return if_there(path) if path else []


def find_pairs():
    """What the threshold is calibrated on: the user's labelled pairs, or described regions."""
    threshold = MILAN["threshold"]
    if isinstance(threshold, dict):
        return if_there(threshold["pairs"])
    if threshold == "calibrated":
        return find_captioner_data(None)["descriptions"]
    return []


# Extractions with a layer whose units are described.
DESCRIBED = [
    (extraction, described_layers(extraction))
    for extraction in EXTRACTIONS
    if described_layers(extraction)
]
# What every job that makes exemplars is told.
EXEMPLARS = {
    "milan": {
        name: MILAN.get(name)
        for name in (
            "exemplars",
            "quantile",
            "size",
            "published",
            "null_replicates",
        )
    },
    "seed": config["seed"],
}
# How descriptions are made.
DECODING = {
    "milan": {
        name: MILAN.get(name)
        for name in ("strategy", "beam", "temperature", "published")
    },
    "batch": config["batch_size"],
    "device": config["device"],
    "seed": config["seed"],
}


def for_each_exemplar_eps(path):
    """A path for every eps of an attack on exemplars."""
    return [path.replace("{eps}", format_eps(eps)) for eps in POISONING.get("eps", [0])]


MILAN_NOISES = NOISES if "noise" in MILAN else []
MILAN_TABLES = list_milan_tables(MILAN, MILAN_NOISES, EXEMPLAR_DESIGNS)
MILAN_FIGURES = list_milan_figures(MILAN, MILAN_NOISES, EXEMPLAR_DESIGNS)
MILAN_PICTURES = list_milan_pictures(MILAN, MILAN_NOISES, EXEMPLAR_DESIGNS)
# Every described layer, and each with every noise and every design.
PLACES = [
    {
        "probe": extraction.probe,
        "model": extraction.model,
        "layer": layer,
        "labelled": extraction.dissected,
    }
    for extraction, layers in DESCRIBED
    for layer in layers
]
NOISE_PLACES = [
    place | {"kind": noise.kind, "std": noise.std, "name": f"noise/{noise.name}"}
    for place in PLACES
    for noise in MILAN_NOISES
]
DESIGN_PLACES = [
    place
    | {
        "method": design.method,
        "eps": design.eps,
        "mode": design.mode,
        "name": f"designed/{design.name}",
    }
    for place in PLACES
    for design in EXEMPLAR_DESIGNS
]
# Figure 3 shows a unit of the attacks if there are any, or of the noise.
CHANGED_PLACES = DESIGN_PLACES or NOISE_PLACES


def place_paths(places, path):
    """A path below results/probe/model/layer/, with {name} for the corruption, for each of some places."""
    return [
        f"results/{place['probe']}/{place['model']}/{place['layer']}/"
        + path.format(**place)
        for place in places
    ]


def describe_places(places, *names):
    """What the figures are told of places."""
    wanted = ("probe", "model", "layer", *names)
    return [{name: place[name] for name in wanted} for place in places]
