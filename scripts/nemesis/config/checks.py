"""Check a config: each key against the schema, and the sections against each other."""

import re
from pathlib import Path

from nemesis.config.paths import check_braces, expand_paths
from nemesis.config.schema import apply_schema, suggest
from nemesis.entries import has_masks
from nemesis.errors import InputError
from nemesis.sources import find_source, list_versions

# Folders below results/ beside those of probes, some of methods to come. No folder in results/<probe>/<model> is taken:
# a layer may be called clean or noise, as nothing in its folder has the name of a file of all layers there.
TAKEN = ("attribution", "audit", "downloads", "milan", "models", "probes", "runs", "trojans")
STORE_FILE = "zarr.json"  # in the store of maps, beside a group for every layer
NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+")  # a folder below results/runs


def check_config(config: dict, schema_path, where: str = "config") -> dict:
    """Return a copy of `config` with every default filled in.

    where: the config's file, or several ("a.yaml, b.yaml"); without a `name`, the run has that of the last.
    Raises InputError, one line that names the first bad key, what was expected and what to do.
    """
    config = apply_schema(config, schema_path, where)
    _name_run(config, where)
    expand_paths(config)
    check_braces(config, where)
    _check_names(config, where)
    _check_experiments(config, where)
    _check_versions(config, where)
    _check_models(config, where)
    _check_folder_probes(config, where)
    _check_designed(config, where)
    _check_milan(config, where)
    return config


def _name_run(config: dict, where: str):
    """Fill in the name of the run: a folder's name."""
    possible = "letters, digits, '.', '_' and '-' can be in it, and no '.' at the start"
    if "name" not in config:
        config["name"] = Path(where.rpartition(", ")[2]).stem
        if not NAME.fullmatch(config["name"]):
            raise InputError(
                f"{where}: the name of the file, {config['name']!r}, cannot be that of the run ({possible});"
                " set one in the file, `name: my_run`"
            )
    if not NAME.fullmatch(config["name"]):
        raise InputError(f"{where}: name: {config['name']!r} cannot be the name of a folder of results; {possible}")


def _check_experiments(config: dict, where: str):
    seen = {}
    for number, experiment in enumerate(config["experiments"]):
        for key in ("probe", "model"):
            known = config[f"{key}s"]
            if experiment[key] not in known:
                raise InputError(
                    f"{where}: experiments[{number}].{key}: there is no {key} '{experiment[key]}'"
                    f"{suggest(experiment[key], known)}; {key}s has {', '.join(known)}"
                )
        for layer in experiment["layers"]:
            place = (experiment["probe"], experiment["model"], layer)
            if place in seen:
                raise InputError(
                    f"{where}: experiments[{number}] repeats layer {layer} of experiments[{seen[place]}]"
                    f" ({experiment['probe']}, {experiment['model']}); name it once"
                )
            seen[place] = number
        if STORE_FILE in experiment["layers"]:
            raise InputError(
                f"{where}: experiments[{number}].layers: no layer can be called {STORE_FILE}, as a file in the store"
                " of maps is; give the module another name"
            )
    for name, model in config["models"].items():
        if "probe" in model and model["probe"] not in config["probes"]:
            raise InputError(
                f"{where}: models.{name}.probe: there is no probe '{model['probe']}'"
                f"{suggest(model['probe'], config['probes'])}"
            )


def _check_versions(config: dict, where: str):
    """A version of Broden needs a row in the table of sources."""
    known = list_versions("broden")
    versions = {f"downloads: key '{name}'": name for name in config["downloads"]}
    versions |= {f"probes.{name}.version": p["version"] for name, p in config["probes"].items() if "version" in p}
    for place, version in versions.items():
        if version not in known:
            raise InputError(
                f"{where}: {place}: there is no version '{version}' of Broden{suggest(version, known)};"
                f" known are {', '.join(known)}"
            )


def _check_models(config: dict, where: str):
    """`weights: download` needs a row in the table of sources, `seed` weights that are drawn."""
    models = {f"models.{name}": model for name, model in config["models"].items()}
    encoder = config.get("milan", {}).get("captioner", {}).get("encoder")
    models |= {"milan.captioner.encoder": encoder} if encoder else {}
    for place, model in models.items():
        weights = model.get("weights")
        if weights == "download" and (model is encoder or find_source(model["kind"]) is None):
            what = "those of an encoder are not fetched" if model is encoder else "none of this kind are published"
            raise InputError(f"{where}: {place}.weights: {what}; give the path of a file")
        if "seed" in model and weights != "random":
            raise InputError(f"{where}: {place}.seed: only `weights: random` is drawn with it; leave it out")


def _check_names(config: dict, where: str):
    """A probe's results stand in results/<probe>, beside folders that have these names."""
    for name in config["probes"]:
        if name in TAKEN:
            raise InputError(f"{where}: probes.{name}: results/{name} has another purpose; give the probe another name")


def _check_folder_probes(config: dict, where: str):
    """On a folder of images without masks nothing can be dissected, and no network trained."""
    for name, probe in config["probes"].items():
        if probe["kind"] == "folder" and probe.get("resize", probe["size"]) < probe["size"]:
            raise InputError(f"{where}: probes.{name}.resize: {probe['resize']} is below size, {probe['size']}")
    for name, model in config["models"].items():
        if "probe" in model and not has_masks(config, model["probe"]):
            raise InputError(f"{where}: models.{name}.probe: probe '{model['probe']}' has no masks to learn from")
    if any(has_masks(config, experiment["probe"]) for experiment in config["experiments"]):
        return
    without = f"probe {config['experiments'][0]['probe']} has no masks"
    if "milan" not in config:
        raise InputError(f"{where}: nothing to do: {without}, so only the milan section can explain units on it")
    if "designed" in config:
        raise InputError(
            f"{where}: designed: {without}, so units have no labels to change; leave the section out"
            " (milan.designed attacks descriptions)"
        )


def _check_designed(config: dict, where: str):
    designed = config.get("designed")
    if not designed:
        return
    _check_layers(config, "designed", where)
    for key in ("compare_storage", "collateral"):
        for eps in designed.get(key, {}).get("eps", ()):
            if eps not in designed["eps"]:
                raise InputError(f"{where}: designed.{key}.eps: {eps:g} is not in designed.eps; add it there")
    if designed["objective"] == "soft_iou" and "shared" in designed["modes"]:
        raise InputError(f"{where}: designed.objective: soft_iou is for one unit; leave `shared` out of designed.modes")


def _check_layers(config: dict, section: str, where: str):
    """The layers that a section names must be those of an experiment."""
    every = config["experiments"]
    experiments = [one for one in every if section != "designed" or has_masks(config, one["probe"])]
    layers = {layer for experiment in experiments for layer in experiment["layers"]}
    kind = "experiment" if experiments == every else "experiment on a probe with masks"
    for layer in [] if config[section]["layers"] == "all" else config[section]["layers"]:
        if layer not in layers:
            raise InputError(
                f"{where}: {section}.layers: no {kind} has layer '{layer}'{suggest(layer, layers)};"
                f" they have {', '.join(sorted(layers))}"
            )


def _check_milan(config: dict, where: str):
    milan = config.get("milan")
    if not milan:
        return
    _check_layers(config, "milan", where)
    _check_milan_probes(config, where)
    name = milan["captioner"].get("probe")
    if name is not None and config["probes"].get(name, {}).get("kind") != "minibroden":
        raise InputError(
            f"{where}: milan.captioner.probe: '{name}' is not a probe of kind minibroden"
            f"{suggest(name, config['probes'])}; only its regions come with descriptions"
        )
    if name is not None and any(experiment["probe"] == name for experiment in config["experiments"]):
        raise InputError(
            f"{where}: milan.captioner.probe: units are explained on '{name}' too; train on one drawn differently"
            " (probes: {kind: minibroden, draw: 1})"
        )
    if "noise" in milan:
        if not config.get("noise"):
            raise InputError(f"{where}: milan.noise needs the section noise, for its kinds and sizes; add it")
        highest = max(config["noise"]["fractions"])
        if max(milan["noise"]["fractions"]) > highest:
            raise InputError(
                f"{where}: milan.noise.fractions: {max(milan['noise']['fractions']):g} is above the largest of"
                f" noise.fractions, {highest:g}; raise that"
            )
    if milan["threshold"] == "calibrated" and milan["captioner"]["kind"] != "regions":
        raise InputError(
            f"{where}: milan.threshold: only a captioner of kind regions brings pairs to calibrate on;"
            " give a number (0.642 with roberta-large, as published) or {pairs: your.csv}"
        )


def _check_milan_probes(config: dict, where: str):
    """The probes that the milan section names must be those of an experiment, with a layer to describe."""
    probes, layers = config["milan"]["probes"], config["milan"]["layers"]
    known = {experiment["probe"] for experiment in config["experiments"]}
    for probe in [] if probes == "all" else probes:
        if probe not in known:
            raise InputError(
                f"{where}: milan.probes: no experiment has probe '{probe}'{suggest(probe, known)};"
                f" they have {', '.join(sorted(known))}"
            )
    described = [one for one in config["experiments"] if probes == "all" or one["probe"] in probes]
    if layers != "all" and not any(set(layers) & set(one["layers"]) for one in described):
        raise InputError(f"{where}: milan.layers: no experiment on {', '.join(probes)} has {', '.join(layers)}")
