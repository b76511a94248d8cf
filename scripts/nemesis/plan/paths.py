"""Where every artifact lies, from the working directory on. {braces} are the wildcards of rules.

A zarr store is named by the zarr.json in it, which is written last; a temporary one, or one that a rule writes as a
whole folder, by its folder.
"""

from nemesis.entries import format_number

# Probes and networks.
ARCHIVE = "results/downloads/{version}.zip"
BRODEN_INDEX = "results/downloads/{version}/index.csv"
DOWNLOADED_WEIGHTS = "results/downloads/{kind}/{file}"
WEIGHTS_ARCHIVE = "results/downloads/{file}"
DRAWN_INDEX = "results/probes/{probe}/broden/index.csv"
DRAWN_DESCRIPTIONS = "results/probes/{probe}/broden/descriptions.csv"
CONTACT_SHEET = "results/probes/{probe}/contact_sheet.png"
PROBE = "results/probes/{probe}/probe.zarr/zarr.json"
CONCEPTS = "results/probes/{probe}/concepts.csv"
WEIGHTS = "results/models/{model}/weights.safetensors"
CARD = "results/models/{model}/card.json"

# Activation maps of a network on a probe, all layers in one store.
PAIR = "results/{probe}/{model}"
MAPS = f"{PAIR}/clean/activations.zarr/zarr.json"
MAPS_SHARD = f"{PAIR}/clean/shards/{{shard}}.zarr"
NOISY_MAPS = f"{PAIR}/noise/{{kind}}-{{std}}/activations-{{draw}}.zarr"
NOISY_MAPS_SHARD = f"{PAIR}/noise/{{kind}}-{{std}}/shards/{{draw}}-{{shard}}.zarr"

# Labels of a layer's units, clean and under noise.
LAYER = f"{PAIR}/{{layer}}"
CLEAN = f"{LAYER}/clean"
THRESHOLDS = f"{CLEAN}/thresholds.csv"
DISSECTION = f"{CLEAN}/dissection.csv"
TALLY = f"{CLEAN}/tally.zarr/zarr.json"
NULL_CHURN = f"{CLEAN}/null_churn.csv"
NOISE = f"{LAYER}/noise/{{kind}}-{{std}}"
NOISY_DISSECTION = f"{NOISE}/dissection.csv"
NOISY_TOPS = f"{NOISE}/tops.zarr/zarr.json"

# The designed corruption of a layer's units.
DESIGNED = f"{LAYER}/designed"
DESIGN = f"{DESIGNED}/{{method}}-{{eps}}-{{mode}}-{{masks}}"
POISON = f"{DESIGN}/poison.zarr/zarr.json"
POISON_SHARD = f"{DESIGN}/shards/{{shard}}.zarr/zarr.json"
DESIGNED_DISSECTION = f"{DESIGN}/dissection.csv"
BUDGET = f"{DESIGN}/budget.csv"
POISONED_MAPS = f"{DESIGN}/activations.zarr/zarr.json"
EXPORTED = f"{DESIGN}/broden"
STORAGE = f"{DESIGN}/storage.csv"
COLLATERAL = f"{DESIGN}/collateral.csv"
MINIMUM_EPSILON = f"{DESIGNED}/minimum_epsilon-{{method}}-{{masks}}.csv"

# Descriptions of a layer's units (MILAN), clean, resampled (null) and corrupted.
CAPTIONER = "results/milan/{captioner}/captioner.safetensors"
CAPTIONER_CARD = "results/milan/{captioner}/captioner.json"
HELD_OUT = "results/milan/{captioner}/held_out.csv"
QUALITY = "results/milan/{captioner}/quality.csv"
CAPTIONER_ARCHIVE = "results/downloads/milan-{published}.pth"
THRESHOLD = "results/milan/threshold.json"
PAIRS = "results/milan/pairs.csv"
EXEMPLARS = f"{LAYER}/{{corruption}}/milan/exemplars.zarr/zarr.json"
DESCRIPTIONS = f"{LAYER}/{{corruption}}/milan/descriptions.csv"
NULL_EXEMPLARS = f"{CLEAN}/milan/null.zarr/zarr.json"
NULL_DESCRIPTIONS = f"{CLEAN}/milan/null_descriptions.csv"
# A design of exemplars: its part of the path, and what stands in it.
EXEMPLAR_DESIGN = "designed/{method}-{eps}-{mode}-exemplars"
EXEMPLAR_POISON = f"{LAYER}/{EXEMPLAR_DESIGN}/poison.zarr/zarr.json"
EXEMPLAR_MAPS = f"{LAYER}/{EXEMPLAR_DESIGN}/activations.zarr/zarr.json"
PREDICTIONS = f"{LAYER}/{EXEMPLAR_DESIGN}/predictions.csv"

# What belongs to one config.
RUN = "results/runs/{run}"
SCORES = f"{RUN}/milan/{{probe}}/{{model}}/scores.csv"
SCORE_FACTS = f"{RUN}/milan/{{probe}}/{{model}}/scores.json"
TABLE = f"{RUN}/tables/{{table}}"
FIGURE = f"{RUN}/figures/{{figure}}"
SUMMARY = f"{RUN}/tables/summary.txt"
MILAN_SUMMARY = f"{RUN}/tables/milan.txt"
LAYER_PAGE = f"{RUN}/report/layers/{{probe}}/{{model}}/{{layer}}"
REPORT_PAGE = f"{RUN}/report/page"
REPORT_INDEX = f"{RUN}/report/index.html"
HEADLINE = f"{RUN}/report/headline.txt"

TABLE_ENDINGS = (".csv", ".md", ".tex")
FIGURE_ENDINGS = (".svg", ".png")
PLACE = ("probe", "model", "layer")


def fill(pattern: str, key=(), names=PLACE, **values) -> str:
    """A pattern with some of its wildcards filled in: `names` with the values of `key`, and those given by name."""
    for name, value in (dict(zip(names, key, strict=False)) | values).items():
        pattern = pattern.replace(f"{{{name}}}", format_number(value) if isinstance(value, int | float) else value)
    return pattern
