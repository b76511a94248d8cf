"""The user's own files and downloads behind a probe, a network and a captioner.

A dry run may come before they are there: then a rule has no such input.
"""

import re
from pathlib import Path

from nemesis.plan import paths
from nemesis.plan.paths import fill
from nemesis.plan.plan import Plan
from nemesis.probes.sizes import image_size
from nemesis.sources import find_source

NOTHING = "(?!)"  # a regular expression that nothing matches


def if_there(path) -> str | list:
    """A file or folder of the user's; nothing where it is not there."""
    return str(Path(path)) if Path(path).exists() else []


def match_if(wanted: bool) -> str:
    """Regular expression for a wildcard of a rule that is there, or not, whatever its value."""
    return ".+" if wanted else NOTHING


def match_kinds(specs: dict[str, dict], *kinds: str) -> str:
    """Regular expression for the names of a config's probes or models of these kinds; one that nothing matches."""
    return "|".join(re.escape(name) for name, spec in specs.items() if spec["kind"] in kinds) or NOTHING


def match_other_kinds(specs: dict[str, dict], *kinds: str) -> str:
    """The same for all kinds but these."""
    return match_kinds(specs, *{spec["kind"] for spec in specs.values()} - set(kinds))


def find_probe_index(plan: Plan, probe: str) -> str | list:
    """The index.csv of a probe's folder in Broden's layout."""
    spec = plan.config["probes"][probe]
    if spec["kind"] == "minibroden":
        return fill(paths.DRAWN_INDEX, probe=probe)
    if spec["kind"] == "download":
        return fill(paths.BRODEN_INDEX, version=spec["version"])
    return if_there(Path(spec["path"]) / "index.csv")


def find_model_files(plan: Plan, model: str) -> list[str]:
    """The files behind a model, the user's own or downloaded: weights and loader."""
    spec = plan.config["models"][model]
    if spec.get("weights") == "download":
        return [weights_path(spec["kind"])]
    files = [spec.get("weights"), spec.get("loader", "").rpartition(":")[0]]
    return [if_there(path) for path in files if path not in ("", None, "random") and if_there(path)]


def weights_path(kind: str) -> str:
    """Where the downloaded weights of a kind of network lie."""
    return fill(paths.DOWNLOADED_WEIGHTS, kind=kind, file=find_source(kind).file)


def describe_model(plan: Plan, model: str) -> dict:
    """A model's entry in the config, with the path of its weights where they are downloaded."""
    spec = plan.config["models"][model]
    return spec | {"weights": weights_path(spec["kind"])} if spec.get("weights") == "download" else spec


def shown_sizes(plan: Plan, model: str) -> dict[str, tuple[int, int]]:
    """(H, W) of the images that a model is shown, by probe: what its card and its checks are made for.

    Each size stands once, so that a second probe of the same size is no reason to prepare the model again.
    """
    found = {}
    for extraction in plan.extractions:
        size = image_size(plan.config["probes"][extraction.probe])
        if extraction.model == model and size and size not in found.values():
            found[extraction.probe] = size
    return found


def find_captioner_data(plan: Plan) -> dict[str, str | list]:
    """What a captioner is trained on: a probe with described regions, or annotated exemplars."""
    spec = plan.milan.get("captioner", {})
    if spec.get("kind") == "annotations":
        return {"annotations": if_there(Path(spec["path"]) / "annotations.csv")}
    files = {"probe": paths.PROBE, "concepts": paths.CONCEPTS, "descriptions": paths.DRAWN_DESCRIPTIONS}
    return {name: fill(path, probe=spec.get("probe", "none")) for name, path in files.items()}


def find_checkpoint(plan: Plan) -> str | list:
    """The user's own checkpoint of a captioner, if the config names one."""
    path = plan.milan.get("captioner", {}).get("path")
    return if_there(path) if path else []


def find_pairs(plan: Plan) -> str | list:
    """What the threshold is calibrated on: the user's labelled pairs, or described regions."""
    threshold = plan.milan.get("threshold")
    if isinstance(threshold, dict):
        return if_there(threshold["pairs"])
    return find_captioner_data(plan)["descriptions"] if threshold == "calibrated" else []
