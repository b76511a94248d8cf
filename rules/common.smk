import re
import sys
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from nemesis.config import (
    check_config,
    format_eps,
    list_absent,
    list_designs,
    list_exemplar_designs,
    list_extractions,
    list_noises,
    read_config,
    wants_gpu,
)
from nemesis.errors import InputError
from nemesis.files import check_writable
from nemesis.interpreter import check_interpreter
from nemesis.locks import clear_dead_lock
from nemesis.provenance import code_hash as hash_imports
from nemesis.resources import grow, if_streamed

files = list(workflow.config_settings.configfiles) or ["config.yaml"]
where = ", ".join(map(str, files))
try:
    # Snakemake took the last of two equal keys; jobs of this run have the same files.
    for file in files if workflow.is_main_process else []:
        read_config(file)
    config = check_config(
        config, Path(workflow.basedir) / "schemas" / "config.schema.yaml", where
    )
    absent = list_absent(config, where)
    if absent and not workflow.output_settings.dryrun:
        raise InputError(absent[0])
    if not (
        workflow.output_settings.dryrun
        or workflow.deployment_settings.deployment_method
    ):
        check_interpreter()
except InputError as error:
    print(f"nemesis: {error}", file=sys.stderr)
    raise SystemExit(1) from None

# A plan can be looked at before everything is there.
for line in absent:
    print(f"nemesis: {line}", file=sys.stderr)

# After kill -9 the next call goes on; jobs on a cluster are not runs of their own.
if workflow.is_main_process:
    clear_dead_lock()


onstart:
    try:
        check_writable("results")
    except InputError as error:
        print(f"nemesis: {error}", file=sys.stderr)
        raise SystemExit(1) from None


EXTRACTIONS = list_extractions(config)
# Units are dissected only where the probe has masks.
DISSECTED = [extraction for extraction in EXTRACTIONS if extraction.dissected]
NOISES = list_noises(config)
DESIGNED = config.get("designed", {})
DESIGNS = list_designs(config)
DRAWS = config["noise"]["seeds"] if NOISES else []
SETTING = "results/{probe}/{model}/{layer}/designed/{method}-{eps}-{mode}-{masks}"
ATTACK = "{probe}/{model}/{layer}/{method}-{mode}-{masks}"
CLEAN = "results/{probe}/{model}/{layer}/clean"
# A machine with one GPU runs one such job at a time (profiles/default sets gpu=1).
GPU = int(wants_gpu(config["device"]))
# Stored maps are counted by the processor; a streamed layer's network runs again.
GPU_IF_STREAMED = if_streamed(GPU) if GPU else 0
# What every job that runs a network again is told.
RUN = {
    "model": lambda wildcards: wildcards.model,
    "spec": lambda wildcards: config["models"][wildcards.model],
    "settings": config["dissection"],
    "batch": config["batch_size"],
    "device": config["device"],
    "seed": config["seed"],
}
# What every job that stores maps is told.
EXTRACTION = {
    "dtype": config["dissection"]["dtype"],
    "max_store_gb": config["dissection"]["max_store_gb"],
    "batch": config["batch_size"],
    "device": config["device"],
    "shards": config["extraction"]["shards"],
}
# With several shards an extraction is as many jobs, whose parts are gathered.
SHARD = "" if EXTRACTION["shards"] == 1 else "-{shard}"


wildcard_constraints:
    probe="[^/]+",
    model="[^/]+",
    layer="[^/]+",
    kind="[a-z]+",
    std="[0-9.e-]+",
    draw="[0-9]+",
    method="pgd|fgsm",
    eps="[0-9.e-]+",
    mode="untargeted|targeted|shared",
    masks="segmentation|baseline",
    shard="[0-9]+",


def code_hash(script):
    """Hash of the library modules behind a script: editing one reruns the rules that use it."""
    return hash_imports(SCRIPTS / f"{script}.py")


def names_where(section, test):
    """Regular expression for the names of the config's probes or models whose kind passes a test."""
    names = [
        re.escape(name) for name, spec in config[section].items() if test(spec["kind"])
    ]
    return "|".join(names) or "(?!)"


def layer_paths(extraction, path, layers=None):
    """A path below results/probe/model/layer/ for every layer of an extraction, or for some."""
    return [
        f"results/{extraction.probe}/{extraction.model}/{layer}/{path}"
        for layer in layers or extraction.layers
    ]


def dissected_layers(path):
    """A path below results/probe/model/layer/ for every layer on a probe with masks."""
    return [
        found for extraction in DISSECTED for found in layer_paths(extraction, path)
    ]


def attacked_layers(path):
    """A path below results/probe/model/layer/ for every layer whose units are attacked."""
    wanted = DESIGNED.get("layers", [])
    return [
        found
        for extraction in DISSECTED
        for layer, found in zip(extraction.layers, layer_paths(extraction, path))
        if wanted == "all" or layer in wanted
    ]


def find_attack_files(wildcards):
    """What a job needs to attack or dissect again the units of a layer."""
    place = {name: wildcards[name] for name in ("probe", "model", "layer")}
    paths = {
        "probe": "results/probes/{probe}/probe.zarr/zarr.json",
        "concepts": "results/probes/{probe}/concepts.csv",
        "weights": "results/models/{model}/weights.safetensors",
        "maps": f"{CLEAN}/activations.zarr/zarr.json",
        "clean": f"{CLEAN}/dissection.csv",
        "thresholds": f"{CLEAN}/thresholds.csv",
        "tally": f"{CLEAN}/tally.zarr/zarr.json",
    }
    return {name: path.format(**place) for name, path in paths.items()}


def for_each_eps(path):
    """A path for every eps of an attack."""
    return [path.replace("{eps}", format_eps(eps)) for eps in DESIGNED.get("eps", [0])]


def choose_units(wildcards):
    """The units of the experiment that a layer belongs to."""
    return next(
        extraction.units[wildcards.layer]
        for extraction in EXTRACTIONS
        if (extraction.probe, extraction.model) == (wildcards.probe, wildcards.model)
        and wildcards.layer in extraction.layers
    )


def attack_settings(*names):
    """The keys of the designed section on which a job depends."""
    return {name: DESIGNED[name] for name in names if name in DESIGNED}


def reported(paths, category):
    """Tables (CSV) and figures (SVG) that snakemake --report shows, each with its caption; the rest as it is."""
    mark = report
    found = []
    for path in paths:
        stem = Path(path).stem
        about = {"caption": f"../report/captions/{stem}.rst", "category": category}
        shown = path.endswith((".csv", ".svg"))
        found.append(mark(path, **about, labels={"name": stem}) if shown else path)
    return found
