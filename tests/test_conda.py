"""`snakemake --use-conda` itself: every environment deploys and runs rules of its own. Conda is a stand-in with uv.

Snakemake runs from an environment of its own that has nothing but Snakemake: a script sees the packages of
Snakemake's environment behind those of its own, and would find there what its own lacks.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from environments import ENVS, MODULES, ROOT, imports_of, list_rule_environments, read_pins, scripts_of
from workflow_runs import CONFIG, LITE, MILAN, OF_RUN, Ended, Place, copy_workflow, new_place

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
STAND_IN = Path(__file__).parent / "support" / "stand_in_conda"
NO_NETWORK = re.compile(
    r"network was disabled|error sending request|dns error|failed to lookup|connect(ion)? (error|refused)|timed out",
    re.I,
)
# The smallest run that has a job in every environment.
SMALL = {
    "probes": CONFIG["probes"] | {"regions": {"kind": "minibroden", "images": 32, "size": 64, "draw": 1}},
    "models": {"lite": CONFIG["models"]["lite"]},
    "experiments": [{"probe": "drawn", "model": "lite", "layers": ["blocks.4"]}],
    "dissection": {"null_replicates": 0},
    "noise": None,
    "designed": {"eps": [6], "modes": ["untargeted"], "units": 1, "budgets": []},
    "milan": {name: MILAN[name] for name in ("layers", "units", "exemplars", "size", "beam", "scorer")}
    | {"captioner": MILAN["captioner"] | {"units": 32}, "null_replicates": 0},
}


@dataclass(frozen=True)
class Deployment:
    """Snakemake in an environment of its own, and a folder for the environments that it deploys."""

    python: Path
    folder: Path

    def run(self, place: Place, *options) -> Ended:
        command = place.command("--use-conda", "--conda-prefix", self.folder, *options)
        path = [str(STAND_IN / "bin"), str(self.python.parent), os.environ["PATH"]]
        environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        environment |= {"PATH": os.pathsep.join(path), "UV": find_uv()}
        environment |= {"PYTHON{}{}".format(*sys.version_info): sys._base_executable}
        if not share_device(self.folder.parent):
            environment["UV_LINK_MODE"] = "symlink"  # three copies of torch take 15 GB
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else every job compiles torch anew
        done = subprocess.run(
            [self.python, *command[1:]],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode and "Could not create conda environment" in done.stdout and NO_NETWORK.search(done.stdout):
            pytest.skip("uv has not every package of envs/*.yaml in its cache, and reaches no registry")
        return Ended(done.returncode, done.stdout)

    def find(self, env: str, workflow: Path) -> Path:
        """The folder of a deployed environment: the one beside a copy of the environment's file."""
        content = (workflow / "envs" / f"{env}.yaml").read_bytes()
        (found,) = [path for path in self.folder.glob("*.yaml") if path.read_bytes() == content]
        return found.with_suffix("")

    def jobs(self, env: str, workflow: Path) -> list[dict]:
        """What the Pythons of an environment noted; those that ran a script of the workflow."""
        notes = Path(f"{self.find(env, workflow)}.jobs.jsonl").read_text().splitlines()
        return [note for note in map(json.loads, notes) if note["script"].endswith(".py")]


def find_uv() -> str:
    """Path of uv: in this Python's environment, or on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or pytest.skip("uv is not installed")


def share_device(folder: Path) -> bool:
    """Can uv link files of its cache into this folder?"""
    cache = subprocess.run([find_uv(), "cache", "dir"], capture_output=True, text=True, check=True).stdout.strip()
    return os.stat(cache).st_dev == os.stat(folder).st_dev


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    """An environment with the lock file's Snakemake and what it depends on."""
    folder = tmp_path_factory.mktemp("conda")
    lock = ROOT / "requirements.lock"
    (snakemake,) = re.findall(r"^snakemake==\S+", lock.read_text(), re.M)
    uv, python = find_uv(), folder / "snakemake" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys._base_executable, python.parents[1]], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, snakemake, "--constraint", lock]
    for offline in (["--offline"], []):
        done = subprocess.run([*install, *offline], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Deployment(python, folder / "environments")
    assert NO_NETWORK.search(done.stderr), done.stderr
    pytest.skip("uv has not Snakemake in its cache, and reaches no registry")


@pytest.fixture(scope="module")
def deployed(deployment, workflow, tmp_path_factory):
    """A finished run of SMALL: its place and what it printed."""
    place = new_place(tmp_path_factory.mktemp("place"), workflow, **SMALL)
    ended = deployment.run(place)
    assert ended.code == 0, ended.text
    return place, ended


def test_the_run_is_whole(deployed):
    place, ended = deployed
    assert place.exists(f"{OF_RUN}/report/index.html") and place.exists(f"{LITE}/blocks.4/clean/milan/descriptions.csv")
    assert ended.text.count("Creating conda environment") == len(ENVS)


def test_every_job_ran_in_the_environment_of_its_rule(deployment, deployed):
    place, ended = deployed
    scripts = {script: env for env, script in list_rule_environments()}
    found = {}
    for env in ENVS:
        prefix = str(deployment.find(env, place.workflow))
        for job in deployment.jobs(env, place.workflow):
            script = Path(job["script"]).suffixes[0].removeprefix(".")
            assert (job["prefix"], scripts[script]) == (prefix, env)
            found[script] = found.get(script, 0) + 1
    assert {scripts[script] for script in found} == set(ENVS)
    assert sum(found.values()) == sum(ended.jobs.values())


def test_no_job_took_a_package_from_elsewhere(deployment, deployed):
    place, _ = deployed
    for env in ENVS:
        prefix = str(deployment.find(env, place.workflow))
        pinned = set(read_pins(env))
        for job in deployment.jobs(env, place.workflow):
            taken = {name: file for name, file in job["modules"].items() if MODULES.get(name, name) in pinned and file}
            assert taken and [file for file in taken.values() if not file.startswith(prefix)] == []


@pytest.mark.parametrize("env", ENVS)
def test_whatever_its_scripts_import_can_be_imported(deployment, deployed, env):
    """Also what no job of this small run needed."""
    names = sorted(set().union(*map(imports_of, scripts_of(env))))
    python = deployment.find(env, deployed[0].workflow) / "bin" / "python"
    done = subprocess.run(
        [python, "-I", "-c", f"import {', '.join(names)}"], capture_output=True, text=True, check=False
    )
    assert names and done.returncode == 0, done.stderr


def test_an_environment_that_lacks_a_package_ends_the_run(deployment, tmp_path):
    (tmp_path / "workflow").mkdir()
    workflow = copy_workflow(tmp_path / "workflow")
    file = workflow / "envs" / "data.yaml"
    content = yaml.safe_load(file.read_text())
    content["dependencies"][-1]["pip"] = [
        pin for pin in content["dependencies"][-1]["pip"] if not pin.startswith("pillow")
    ]
    file.write_text(yaml.safe_dump(content))
    place = new_place(tmp_path / "place", workflow, **SMALL)
    ended = replace(deployment, folder=tmp_path / "environments").run(place, "results/probes/drawn/broden/index.csv")
    assert ended.code != 0 and "No module named 'PIL'" in ended.text
