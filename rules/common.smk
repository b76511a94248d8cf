import re
import sys
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "scripts"
sys.path.insert(0, str(SCRIPTS))

from nemesis.config import check_config, list_extractions, list_noises
from nemesis.errors import InputError
from nemesis.provenance import code_hash as hash_imports

try:
    config = check_config(
        config,
        Path(workflow.basedir) / "schemas" / "config.schema.yaml",
        ", ".join(map(str, workflow.config_settings.configfiles)) or "config.yaml",
    )
except InputError as error:
    print(f"nemesis: {error}", file=sys.stderr)
    raise SystemExit(1) from None


EXTRACTIONS = list_extractions(config)
NOISES = list_noises(config)
DRAWS = config["noise"]["seeds"] if NOISES else []
# A machine with one GPU runs one such job at a time (profiles/default sets gpu=1).
GPU = int(
    config["device"].startswith("cuda")
    or (config["device"] == "auto" and Path("/dev/nvidiactl").exists())
)


wildcard_constraints:
    probe="[^/]+",
    model="[^/]+",
    layer="[^/]+",
    kind="[a-z]+",
    std="[0-9.e-]+",
    draw="[0-9]+",


def code_hash(script):
    """Hash of the library modules behind a script: editing one reruns the rules that use it."""
    return hash_imports(SCRIPTS / f"{script}.py")


def names_where(section, test):
    """Regular expression for the names of the config's probes or models whose kind passes a test."""
    names = [
        re.escape(name) for name, spec in config[section].items() if test(spec["kind"])
    ]
    return "|".join(names) or "(?!)"


def layer_paths(extraction, path):
    """A path below results/probe/model/layer/ for every layer of an extraction."""
    return [
        f"results/{extraction.probe}/{extraction.model}/{layer}/{path}"
        for layer in extraction.layers
    ]


def all_layers(path):
    """A path below results/probe/model/layer/ for every layer of the config."""
    return [
        found for extraction in EXTRACTIONS for found in layer_paths(extraction, path)
    ]
