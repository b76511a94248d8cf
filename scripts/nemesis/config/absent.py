"""What a run needs and is not there."""

from pathlib import Path

from nemesis.errors import InputError
from nemesis.probes.scan import check_folder
from nemesis.sources import find_source


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
