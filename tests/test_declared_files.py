"""What every rule declares, against what its script opened, in a run of the quick preset."""

import base64
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from workflow_runs import ROOT, new_place

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
OPENING = ROOT / "tests" / "support" / "opening"
# Inputs that a script does not open in this run (rule, how their names end), and why they are declared all the same.
UNREAD = {
    ("dissect", "weights.safetensors"): "a streamed layer's network runs again",
    ("dissect_noise", "weights.safetensors"): "a streamed layer's network runs again",
    ("compute_exemplars", "card.json"): "for `published: true`",
    ("compute_noisy_exemplars", "card.json"): "for `published: true`",
    ("compute_poisoned_exemplars", "card.json"): "for `published: true`",
    ("plot_milan_example", "milan/exemplars.zarr/zarr.json"): "only the corruption that is shown is opened",
    ("plot_milan_example", "poison.zarr/zarr.json"): "the same",
    ("show_units", "milan/exemplars.zarr/zarr.json"): "shown where a layer has no labels under noise",
}


@dataclass
class Job:
    """A job of the run: rule, files that it declares, and those that its script opened."""

    rule: str
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)


def read_jobs(folder: Path, notes: Path) -> dict[str, Job]:
    """Every job of a finished run, by its log."""
    jobs: dict[str, Job] = {}
    for path in (folder / ".snakemake" / "metadata").rglob("*"):
        if path.is_file():
            found = json.loads(path.read_text())
            (log,) = found["log"]
            job = jobs.setdefault(log, Job(found["rule"]))
            job.inputs.update(found["input"])
            name = str(path.relative_to(folder / ".snakemake" / "metadata")).replace("@", "").replace("/", "")
            job.outputs.add(base64.urlsafe_b64decode(name).decode())
    opened = defaultdict(set)
    for path in notes.iterdir():
        files = path.read_text().splitlines()
        log = next(file for file in files if file in jobs)
        opened[log].update(file for file in files if file.startswith("results/"))
    for log, job in jobs.items():
        job.opened = opened[log]
    return jobs


def covers(declared: str, file: str) -> bool:
    """Is a file a declared one, inside of a declared store or folder, or one that is about to get such a name?"""
    folder = declared.removesuffix("/zarr.json").removesuffix("/index.csv")
    name = re.sub(r"/\.([^/]*)\.partial-[^/]*", r"/\1", file)
    return name == declared or name.startswith(f"{folder}/") or (name == folder and declared != folder)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, workflow):
    place = new_place(tmp_path_factory.mktemp("quick") / "place", workflow)
    (place.folder / "config.yaml").write_text((ROOT / "presets/quick.yaml").read_text())
    notes = place.folder / "notes"
    notes.mkdir()
    running = place.start("--notemp", env={"PYTHONPATH": str(OPENING), "OPENED_IN": str(notes)})
    assert running.wait() == 0, (place.folder / "run.log").read_text()
    return read_jobs(place.folder, notes)


def test_every_rule_of_the_preset_ran(jobs):
    assert len({job.rule for job in jobs.values()}) == 33
    assert all(job.opened for job in jobs.values())


def test_nothing_is_opened_that_is_not_declared(jobs):
    stray = {
        (job.rule, file)
        for job in jobs.values()
        for file in job.opened
        if not any(covers(declared, file) for declared in job.inputs | job.outputs)
    }
    assert stray == set()


def test_everything_that_is_declared_is_opened(jobs):
    idle = {
        (job.rule, declared)
        for job in jobs.values()
        for declared in job.inputs | job.outputs
        if not any(covers(declared, file) for file in job.opened)
        and not any(rule == job.rule and declared.endswith(ending) for rule, ending in UNREAD)
    }
    assert idle == set()
