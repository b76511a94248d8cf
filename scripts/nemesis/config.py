"""Check a config and list what it asks for. Standard library, yaml and jsonschema only: it runs at every start."""

import copy
import difflib
import itertools
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import yaml

from nemesis.errors import InputError
from nemesis.probes.scan import check_folder
from nemesis.sources import find_source

TAKEN = ("downloads", "figures", "milan", "models", "probes", "report", "tables")  # below results/


@dataclass(frozen=True)
class Extraction:
    """One network on one probe: the layers of all experiments that share them."""

    probe: str
    model: str
    layers: tuple[str, ...]
    units: dict  # layer -> all | number | list
    dissected: bool = True  # the probe has masks


@dataclass(frozen=True)
class Noise:
    """One kind and size of noise; `name` is its part of a path, e.g. gaussian-0.02."""

    kind: str
    std: float

    @property
    def name(self) -> str:
        return f"{self.kind}-{float(self.std)!r}".removesuffix(".0")


@dataclass(frozen=True)
class Design:
    """One setting of the designed corruption; `name` is its part of a path, e.g. pgd-4-untargeted-segmentation."""

    method: str
    eps: float
    mode: str
    masks: str

    @property
    def name(self) -> str:
        return f"{self.method}-{format_eps(self.eps)}-{self.mode}-{self.masks}"


def format_eps(eps: float) -> str:
    """eps (in 1/255) as it stands in a path: 4, 0.5."""
    return f"{float(eps)!r}".removesuffix(".0")


def check_config(config: dict, schema_path, where: str = "config") -> dict:
    """Return a copy of `config` with every default filled in.

    Raises InputError, one line that names the first bad key, what was expected and what to do.
    """
    schema = yaml.safe_load(Path(schema_path).read_text())
    config = copy.deepcopy(config)
    validator = jsonschema.Draft202012Validator(schema)
    errors = sorted(validator.iter_errors(config), key=_order)
    if errors:
        raise InputError(f"{where}: {_explain(_deepest(errors[0]), schema)}")
    _fill_defaults(config, schema, schema)
    _check_names(config, where)
    _check_experiments(config, where)
    _check_downloads(config, where)
    _check_folder_probes(config, where)
    _check_designed(config, where)
    _check_milan(config, where)
    return config


def list_absent(config: dict, where: str = "config") -> list[str]:
    """What the run needs and is not there, a line each.

    Folders of probes without an index.csv or an image, weight files, a captioner's checkpoint.
    """
    models = {experiment["model"] for experiment in config["experiments"]}
    probes = {experiment["probe"] for experiment in config["experiments"]}
    probes |= {config["models"][model].get("probe") for model in models}
    lines = []
    for name in [name for name in config["probes"] if name in probes]:
        fault = _find_fault(config["probes"][name])
        lines += [f"{where}: probes.{name}.path: {fault}"] if fault else []
    for name in [name for name in config["models"] if name in models]:
        path = config["models"][name].get("weights") or ""
        if path not in ("", "random", "download") and not Path(path).is_file():
            hint = "; `weights: download` fetches it" if find_source(config["models"][name]["kind"]) else ""
            lines.append(f"{where}: models.{name}.weights: no weight file {path}{hint}")
    path = config.get("milan", {}).get("captioner", {}).get("path")
    if path and not Path(path).exists():
        lines.append(f"{where}: milan.captioner.path: {path} is not there; `kind: download` fetches a published one")
    return lines


def _find_fault(probe: dict) -> str | None:
    """Why the folder of a probe cannot be read; None if it can, or is not the user's."""
    if probe["kind"] == "broden" and not Path(probe["path"], "index.csv").is_file():
        return f"{probe['path']} has no index.csv; expected a folder in Broden's layout"
    if probe["kind"] == "folder":
        try:
            check_folder(probe["path"])
        except InputError as error:
            return str(error)
    return None


def has_masks(config: dict, probe: str) -> bool:
    """Does this probe have masks? A folder of images has none, so no unit is dissected on it."""
    return config["probes"][probe]["kind"] != "folder"


def list_extractions(config: dict) -> list[Extraction]:
    """The (probe, model) pairs of all experiments, each with the union of its layers."""
    pairs: dict = {}
    for experiment in config["experiments"]:
        units = pairs.setdefault((experiment["probe"], experiment["model"]), {})
        units.update(dict.fromkeys(experiment["layers"], experiment["units"]))
    return [
        Extraction(probe, model, tuple(units), units, has_masks(config, probe))
        for (probe, model), units in pairs.items()
    ]


def list_noises(config: dict) -> list[Noise]:
    """Every kind and size of noise; `none` has no size."""
    noise = config.get("noise")
    if not noise:
        return []
    found = [Noise(kind, 0.0 if kind == "none" else std) for kind in noise["kinds"] for std in noise["std"]]
    return list(dict.fromkeys(found))


def list_designs(config: dict) -> list[Design]:
    """Every setting of the designed corruption."""
    designed = config.get("designed")
    if not designed:
        return []
    parts = [designed[key] for key in ("methods", "eps", "modes", "masks")]
    return [Design(*values) for values in itertools.product(*parts)]


def list_exemplar_designs(config: dict) -> list[Design]:
    """Every setting of the designed corruption of exemplars (MILAN)."""
    designed = config.get("milan", {}).get("designed")
    if not designed:
        return []
    parts = [designed[key] for key in ("methods", "eps", "modes")]
    return [Design(*values, "exemplars") for values in itertools.product(*parts)]


def wants_gpu(device: str) -> bool:
    """Does a job on this `device` take a GPU? With auto: where this machine has an NVIDIA driver."""
    return device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())


def _check_experiments(config: dict, where: str):
    seen = {}
    for number, experiment in enumerate(config["experiments"]):
        for key in ("probe", "model"):
            known = config[f"{key}s"]
            if experiment[key] not in known:
                raise InputError(
                    f"{where}: experiments[{number}].{key}: there is no {key} '{experiment[key]}'"
                    f"{_suggest(experiment[key], known)}; {key}s has {', '.join(known)}"
                )
        for layer in experiment["layers"]:
            place = (experiment["probe"], experiment["model"], layer)
            if place in seen:
                raise InputError(
                    f"{where}: experiments[{number}] repeats layer {layer} of experiments[{seen[place]}]"
                    f" ({experiment['probe']}, {experiment['model']}); name it once"
                )
            seen[place] = number
    for name, model in config["models"].items():
        if "probe" in model and model["probe"] not in config["probes"]:
            raise InputError(
                f"{where}: models.{name}.probe: there is no probe '{model['probe']}'"
                f"{_suggest(model['probe'], config['probes'])}"
            )


def _check_downloads(config: dict, where: str):
    """`weights: download` needs a row in the table of sources."""
    for name, model in config["models"].items():
        if model.get("weights") == "download" and find_source(model["kind"]) is None:
            raise InputError(
                f"{where}: models.{name}.weights: no weights of kind {model['kind']} are published;"
                " give the path of a file"
            )


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
                f"{where}: {section}.layers: no {kind} has layer '{layer}'{_suggest(layer, layers)};"
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
            f"{_suggest(name, config['probes'])}; only its regions come with descriptions"
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
                f"{where}: milan.probes: no experiment has probe '{probe}'{_suggest(probe, known)};"
                f" they have {', '.join(sorted(known))}"
            )
    described = [one for one in config["experiments"] if probes == "all" or one["probe"] in probes]
    if layers != "all" and not any(set(layers) & set(one["layers"]) for one in described):
        raise InputError(f"{where}: milan.layers: no experiment on {', '.join(probes)} has {', '.join(layers)}")


def _order(error):
    """By place; an unknown key comes first, as it often explains the missing one."""
    return [str(part) for part in error.absolute_path], error.validator != "additionalProperties"


def _deepest(error):
    while error.validator == "allOf" and error.context:
        error = error.context[0]
    return error


def _explain(error, schema) -> str:
    place = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in error.absolute_path)
    place = place.replace(".[", "[")
    prefix = f"{place}: " if place else ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))[0]
        key = f"{place}.{unknown}" if place else unknown
        return f"key '{key}' is not known{_suggest(unknown, known)}; expected one of {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return f"{prefix}key '{missing}' is missing; add it"
    if error.validator == "enum":
        options = [str(option) for option in error.validator_value]
        return f"{prefix}'{error.instance}' is not one of {', '.join(options)}{_suggest(str(error.instance), options)}"
    described = error.schema.get("description") if isinstance(error.schema, dict) else None
    expected = f" ({described})" if described else ""
    return f"{prefix}{_plain(error)}{expected}"


def _plain(error) -> str:
    value, limit = error.instance, error.validator_value
    texts = {
        "minimum": f"{value} is below {limit}",
        "maximum": f"{value} is above {limit}",
        "exclusiveMinimum": f"{value} must be above {limit}",
        "exclusiveMaximum": f"{value} must be below {limit}",
        "type": f"{value!r} is not of type {limit}",
        "oneOf": f"{value!r} is none of the accepted forms",
        "pattern": f"'{value}' does not match {limit}",
    }
    return texts.get(error.validator, error.message)


def _suggest(name: str, known) -> str:
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _fill_defaults(value, schema: dict, root: dict):
    schema = _resolve(schema, root)
    if isinstance(value, list) and "items" in schema:
        for item in value:
            _fill_defaults(item, schema["items"], root)
    if not isinstance(value, dict):
        return
    for branch in schema.get("allOf", []):
        if _applies(branch, value):
            _fill_defaults(value, branch["then"], root)
    for key, part in schema.get("properties", {}).items():
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            _fill_defaults(value[key], part, root)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        for key in set(value) - set(schema.get("properties", {})):
            _fill_defaults(value[key], others, root)


def _applies(branch: dict, value: dict) -> bool:
    return all(value.get(key) == part.get("const") for key, part in branch["if"]["properties"].items())


def _resolve(schema: dict, root: dict) -> dict:
    if "$ref" in schema:
        return root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema
