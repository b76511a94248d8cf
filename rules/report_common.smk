import yaml

from nemesis.config import has_masks
from nemesis.files import sha256_file, sha256_json

# The page's own files and the captions; by their content, so that a moved project runs nothing again.
REPORT = Path(workflow.basedir) / "report"
REPORT_HASH = sha256_json(
    {
        str(path.relative_to(REPORT)): sha256_file(path)
        for path in sorted(REPORT.rglob("*"))
        if path.is_file()
    }
)
REPORTED = [
    {"probe": extraction.probe, "model": extraction.model, "layer": layer}
    for extraction in EXTRACTIONS
    for layer in extraction.layers
]
REPORT_TABLES = LABEL_TABLES + DESIGNED_TABLES + MILAN_TABLES
REPORT_FIGURES = LABEL_FIGURES + DESIGNED_FIGURES + ["figure_3"] * bool(DESIGNS)
REPORT_FIGURES += MILAN_FIGURES + MILAN_PICTURES
REPORT_PAGE = ["results/report/index.html"] if REPORTED else []


def select_places(places, wildcards):
    """Those of some places that are of a job's layer."""
    return [
        place
        for place in places
        if all(place[name] == wildcards[name] for name in ("probe", "model", "layer"))
    ]


def attacked_designs(wildcards):
    """The designed corruptions of a job's layer."""
    found = any(
        (one["probe"], one["model"]) == (wildcards.probe, wildcards.model)
        and wildcards.layer in one["layers"]
        for one in ATTACKED
    )
    return describe_designs(DESIGNS) if found else []


def layer_noises(wildcards):
    """The kinds and sizes of noise that are compared in a job's layer."""
    dissected = has_masks(config, wildcards.probe)
    return NOISES if dissected or select_places(NOISE_PLACES, wildcards) else []


def find_shown(wildcards):
    """What is shown of a layer's units."""
    folder = "results/{probe}/{model}/{layer}".format(**wildcards)
    noises, designs = layer_noises(wildcards), attacked_designs(wildcards)
    dissected = has_masks(config, wildcards.probe)
    described = select_places(PLACES, wildcards)
    noisy = select_places(NOISE_PLACES, wildcards)
    attacks = select_places(DESIGN_PLACES, wildcards)
    bisected = BISECTED[:1] if designs else []
    files = {
        "probe": "results/probes/{probe}/probe.zarr/zarr.json".format(**wildcards),
        "maps": f"{folder}/clean/activations.zarr/zarr.json",
        "thresholds": f"{folder}/clean/thresholds.csv",
        "clean": f"{folder}/clean/dissection.csv" if dissected else [],
        "null_churn": f"{folder}/clean/null_churn.csv" if dissected else [],
        "minimum": [
            f"{folder}/designed/minimum_epsilon-{one['method']}-{one['masks']}.csv"
            for one in bisected
        ],
    }
    for name, file in (("noise", "dissection.csv"), ("tops", "tops.zarr/zarr.json")):
        files[name] = [
            f"{folder}/noise/{noise.name}/{file}" for noise in noises if dissected
        ]
    for name, file in (
        ("designed", "dissection.csv"),
        ("poison", "poison.zarr/zarr.json"),
        ("poisoned_maps", "activations.zarr/zarr.json"),
    ):
        files[name] = [f"{folder}/designed/{one['name']}/{file}" for one in designs]
    files["descriptions"] = place_paths(described, "clean/milan/descriptions.csv")
    files["null_scores"] = place_paths(
        described if NULL else [], "clean/milan/null_scores.csv"
    )
    for name, places, file in (
        ("noise_scores", noisy, "milan/scores.csv"),
        ("noise_exemplars", noisy, "milan/exemplars.zarr/zarr.json"),
        ("attack_scores", attacks, "milan/scores.csv"),
        ("attack_exemplars", attacks, "milan/exemplars.zarr/zarr.json"),
        ("attack_poison", attacks, "poison.zarr/zarr.json"),
    ):
        files[name] = place_paths(places, f"{{name}}/{file}")
    return files
