"""What a run needs and is not there, as far as that can be seen before it starts."""

from pathlib import Path

from nemesis.config.limits import list_shortages
from nemesis.errors import InputError
from nemesis.probes.scan import check_folder
from nemesis.sources import find_source

WEIGHTED = ("torchvision", "vgg16_places365", "resnet50_imagenet")  # kinds that come without weights


def list_absent(config: dict, where: str = "config") -> list[str]:
    """What the run needs and is not there, a line each.

    Folders of probes without an index.csv or an image, probes with fewer images than are asked for, weight files
    and loaders, and the files of the milan section.
    """
    models = {experiment["model"] for experiment in config["experiments"]}
    probes = {experiment["probe"] for experiment in config["experiments"]}
    probes |= {config["models"][model].get("probe") for model in models} - {None}
    faults = {name: _find_fault(config["probes"][name]) for name in config["probes"] if name in probes}
    lines = [f"probes.{name}.path: {fault}" for name, fault in faults.items() if fault]
    lines += list_shortages(config, [name for name, fault in faults.items() if not fault])
    for name in [name for name in config["models"] if name in models]:
        fetched = bool(find_source(config["models"][name]["kind"]))
        lines += _list_model(f"models.{name}", config["models"][name], "; `weights: download` fetches it" * fetched)
    lines += _list_milan(config["milan"]) if "milan" in config else []
    return [f"{where}: {line}" for line in lines]


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


def _list_model(place: str, model: dict, hint: str = "") -> list[str]:
    """The weight file and the loader of a network, where they are not there."""
    weights, loader = model.get("weights"), model.get("loader", "").rpartition(":")[0]
    lines = []
    if weights is None and model["kind"] in WEIGHTED:
        lines.append(f"{place}.weights: is missing; give the path of the weight file, or random (untrained){hint}")
    if weights not in (None, "random", "download") and not Path(weights).is_file():
        lines.append(f"{place}.weights: no weight file {weights}{hint}")
    if loader and not Path(loader).is_file():
        lines.append(f"{place}.loader: no Python file {loader}")
    return lines


def _list_milan(milan: dict) -> list[str]:
    captioner, scorer, threshold = milan["captioner"], milan["scorer"], milan["threshold"]
    lines, path = [], captioner.get("path")
    if captioner["kind"] == "annotations" and not Path(path, "annotations.csv").is_file():
        lines.append(f"milan.captioner.path: {path} has no annotations.csv; expected a folder of MILANNOTATIONS")
    if captioner["kind"] == "checkpoint" and not Path(path).exists():
        lines.append(f"milan.captioner.path: {path} is not there; `kind: download` fetches a published one")
    if "images" in captioner and not Path(captioner["images"]).is_dir():
        lines.append(f"milan.captioner.images: {captioner['images']} is no folder")
    if "encoder" in captioner:
        lines += _list_model("milan.captioner.encoder", captioner["encoder"])
    if scorer["kind"] == "folder" and not Path(scorer["path"]).is_dir():
        lines.append(f"milan.scorer.path: {scorer['path']} is no folder; expected one that transformers saved")
    baseline = Path(scorer.get("baseline", "roberta-large"))  # a file, or the name of a model
    if (baseline.suffix in (".csv", ".tsv") or len(baseline.parts) > 2) and not baseline.is_file():
        lines.append(f"milan.scorer.baseline: no file {baseline}; expected a table with columns LAYER,P,R,F")
    if isinstance(threshold, dict) and not Path(threshold["pairs"]).is_file():
        lines.append(f"milan.threshold.pairs: no file {threshold['pairs']}; expected columns first, second, same")
    return lines
