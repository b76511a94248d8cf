"""How many jobs of each rule a config asks for: what a dry run in an empty folder lists."""

import copy
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from nemesis.config import Extraction
from nemesis.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def count_jobs(config: dict, root: Path = ROOT) -> dict[str, int]:
    """Jobs by rule for a config as the user wrote it, nothing being there yet; without `all`.

    Files and folders of the user are stood in for, so they need not exist. Raises InputError with the
    dry run's own words when it fails.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = folder / "config.yaml"
        written.write_text(yaml.safe_dump(stand_in(config, folder), sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1"]
        command += ["--snakefile", root / "Snakefile", "--directory", folder, "--configfile", written]
        command += ["--workflow-profile", root / "profiles" / "default", "--nolock"]
        done = subprocess.run(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    jobs = parse_jobs(done.stdout)
    if done.returncode or not jobs:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        said = next((line for line in lines if "nemesis:" in line or "Exception" in line), lines[-1])
        raise InputError(f"the plan cannot be made: {said.strip()}")
    return jobs


def parse_jobs(text: str) -> dict[str, int]:
    """The last table of jobs that Snakemake printed, without `all`."""
    table = text.rpartition("Job stats:")[2].partition("\ntotal ")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w\S*) +(\d+)$", table, re.M) if name != "all"}


def count_families(jobs: dict[str, int], extractions: list[Extraction]) -> dict[str, int]:
    """Jobs by family: rules that are named after a probe and a model are one."""
    endings = {f"_{extraction.probe}_{extraction.model}" for extraction in extractions}
    found: dict[str, int] = {}
    for name, count in jobs.items():
        ending = max((end for end in endings if name.endswith(end)), key=len, default="")
        family = name.removesuffix(ending)
        found[family] = found.get(family, 0) + count
    return found


def stand_in(config: dict, folder: Path) -> dict:
    """The config with stand-ins below `folder` for the user's own files and folders."""
    config = copy.deepcopy(config)

    def make(name: str) -> str:
        path = folder / "user" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return str(path)

    for name, probe in config["probes"].items():
        inside = {"broden": "index.csv", "folder": "image.png"}.get(probe["kind"])
        if inside:
            probe["path"] = str(Path(make(f"probes/{name}/{inside}")).parent)
    for name, model in config["models"].items():
        if "/" in model.get("weights", ""):
            model["weights"] = make(f"models/{name}")
    milan = config.get("milan") or {}
    captioner, threshold = milan.get("captioner") or {}, milan.get("threshold")
    if "path" in captioner:
        annotated = captioner["kind"] == "annotations"
        path = make("captioner/annotations.csv" if annotated else "captioner.pth")
        captioner["path"] = str(Path(path).parent) if annotated else path
    if isinstance(threshold, dict):
        threshold["pairs"] = make("pairs.csv")
    return config
