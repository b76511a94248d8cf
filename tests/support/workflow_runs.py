"""Real runs of the workflow in a folder of their own, and what the tests ask about them."""

import contextlib
import copy
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
STOPPING = ROOT / "tests" / "support" / "stopping"
PARTS = ("Snakefile", "rules", "scripts", "schemas", "profiles", "envs", "report")
LITE = "results/drawn/lite"
NOISE = "noise/gaussian-0.05"
DESIGNED = f"{LITE}/blocks.4/designed"
UNTARGETED = f"{DESIGNED}/pgd-6-untargeted-segmentation"
OF_RUN = "results/runs/config"  # named after config.yaml
TRAINED = "results/models/vgg/weights.safetensors"  # no experiment needs it, so runs ask for it by name
CONFIG = {
    "seed": 3,
    "device": "cpu",
    "batch_size": 7,
    "threads": 1,
    "probes": {"drawn": {"kind": "minibroden", "images": 24, "size": 64}},
    "models": {
        "lite": {"kind": "efficientnet_lite0"},
        "vgg": {"kind": "tinyvgg", "probe": "drawn", "epochs": 2},
    },
    "experiments": [{"probe": "drawn", "model": "lite", "layers": ["blocks.2", "blocks.4"]}],
    "extraction": {"shards": 2},
    "dissection": {"null_replicates": 2},
    "noise": {"kinds": ["gaussian"], "std": [0.05], "fractions": [0.5, 1.0], "seeds": [0]},
    "designed": {
        "eps": [6],
        "modes": ["untargeted", "shared"],
        "layers": ["blocks.4"],
        "units": 2,
        "budgets": [0.05, 0.1],
        "compare_storage": {"kinds": ["lossless", "jpeg-75"], "eps": [6]},
        "collateral": {"eps": [6]},
        "minimum_epsilon": {"highest": 8},
        "shards": 2,
    },
}


@dataclass(frozen=True)
class Ended:
    """A finished call of snakemake: exit code and everything that it printed."""

    code: int
    text: str

    @property
    def complaints(self) -> list[str]:
        """The different lines that start with `nemesis:`; a shown log repeats the terminal's."""
        lines = (re.sub(r"^[-0-9]+ [0-9:,]+ (?=nemesis: )", "", line.strip()) for line in self.text.splitlines())
        return sorted({line for line in lines if line.startswith("nemesis: ")})

    @property
    def jobs(self) -> dict[str, int]:
        """Jobs of each rule, as listed before the first one starts; without `all`."""
        table = self.text.partition("Job stats:")[2].partition("\ntotal ")[0]
        return {name: int(count) for name, count in re.findall(r"^(\w\S*) +(\d+)$", table, re.M) if name != "all"}


@dataclass(frozen=True)
class Place:
    """A copy of the workflow and a working directory with its config.yaml."""

    workflow: Path
    folder: Path

    def command(self, *options, cores: int = 2) -> list[str]:
        return [
            *(sys.executable, "-m", "snakemake", "--snakefile", self.workflow / "Snakefile"),
            *("--directory", self.folder, "--configfile", self.folder / "config.yaml"),
            *("--workflow-profile", self.workflow / "profiles" / "default", "--cores", str(cores), *options),
        ]

    def environment(self) -> dict[str, str]:
        """This process's; where it forbids compiled modules beside the sources, they are kept beside the workflow.

        Without them every job compiles torch anew, which doubles the time of these tests.
        """
        found = dict(os.environ)
        if found.pop("PYTHONDONTWRITEBYTECODE", ""):
            found["PYTHONPYCACHEPREFIX"] = str(self.workflow.parent / "compiled")
        return found

    def run(self, *options, cores: int = 2, **settings) -> Ended:
        """Call snakemake and wait for it."""
        command = self.command(*options, cores=cores)
        done = subprocess.run(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **settings,
        )
        return Ended(done.returncode, done.stdout)

    def finish(self, *options, cores: int = 2) -> Ended:
        """Call snakemake; fail the test when it fails."""
        ended = self.run(*options, cores=cores)
        assert ended.code == 0, ended.text
        return ended

    def start(self, *options, cores: int = 2, env=None) -> subprocess.Popen:
        """Start snakemake as the leader of a process group of its own; its output goes to run.log."""
        with open(self.folder / "run.log", "w") as log:
            return subprocess.Popen(
                list(map(str, self.command(*options, cores=cores))),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment() | (env or {}),
            )

    def copied(self, folder: Path, workflow: Path | None = None) -> "Place":
        """The same state in another folder; also with another copy of the workflow when a path for it is given."""
        shutil.copytree(self.folder, folder, symlinks=True)
        if workflow:
            shutil.copytree(self.workflow, workflow)
        return Place(workflow or self.workflow, folder)

    def configure(self, **changes):
        """Write CONFIG with some sections replaced, or left out (None)."""
        config = {name: part for name, part in (copy.deepcopy(CONFIG) | changes).items() if part is not None}
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def remove(self, *names: str):
        """Remove files, and folders whole, below the working directory."""
        for name in names:
            path = self.folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def exists(self, name: str) -> bool:
        return (self.folder / name).exists()

    def bytes_of(self, pattern: str) -> dict[str, bytes]:
        """The content of files below results/, by their names."""
        results = self.folder / "results"
        return {str(p.relative_to(results)): p.read_bytes() for p in sorted(results.glob(pattern)) if p.is_file()}

    def rests(self) -> list[str]:
        """Temporary files that were left below results/."""
        return [str(path) for path in (self.folder / "results").rglob(".*.partial-*")]


def copy_workflow(target: Path) -> Path:
    """The workflow as it is now, so that an edit during the tests does not reach into them."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / part)
    return target


def new_place(folder: Path, workflow: Path, **changes) -> Place:
    """An empty working directory with CONFIG, some sections replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(workflow, folder)
    place.configure(**changes)
    return place


def assert_refused(ended: Ended, *parts: str):
    """It failed with one line, `nemesis: ...`, that has these parts, and without a traceback."""
    assert ended.code != 0, ended.text
    assert len(ended.complaints) == 1, ended.text
    for part in parts:
        assert part in ended.complaints[0], ended.text
    assert "Traceback" not in ended.text, ended.text


def assert_same(found: dict[str, bytes], expected: dict[str, bytes]):
    """Two collections of files have the same names and bytes."""
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@dataclass(frozen=True)
class Made:
    """A finished run: where, and what its last call printed; `killed` are the rules in which it was killed."""

    place: Place
    ended: Ended
    killed: tuple[str, ...] = ()


def run_undisturbed(folder: Path, workflow: Path) -> Made:
    """Everything in one call, on one core."""
    place = new_place(folder, workflow)
    return Made(place, place.finish("all", TRAINED, cores=1))


SHAKES = 30  # beside the kills in every rule of STOPS and MILAN_STOPS
SHAKEN_AFTER = (2.0, 12.0)  # seconds from the start of a call to its kill
# Rule: the name that a job of it is about to give when it is killed; some have given others by then.
STOPS = {
    "make_minibroden": "results/probes/drawn/broden",
    "prepare_probe": "results/probes/drawn/concepts.csv",
    "prepare_model": "results/models/lite/card.json",
    "train_tinyvgg": TRAINED,
    "extract_activations": f"{LITE}/clean/shards/1.zarr/blocks.2",
    "gather_activations": f"{LITE}/clean/activations.zarr/blocks.4",
    "compute_thresholds": f"{LITE}/blocks.2/clean/thresholds.csv",
    "dissect": f"{LITE}/blocks.4/clean/null_churn.csv",
    "extract_noisy": f"{LITE}/{NOISE}/shards/0-0.zarr/blocks.2",
    "gather_noisy": f"{LITE}/{NOISE}/activations-0.zarr/blocks.2",
    "dissect_noise": f"{LITE}/blocks.4/{NOISE}/dissection.csv",
    "poison_images": f"{UNTARGETED}/shards/1.zarr",
    "gather_poison": f"{UNTARGETED}/poison.zarr",
    "dissect_designed": f"{UNTARGETED}/budget.csv",
    "compare_storage": f"{UNTARGETED}/storage.csv",
    "measure_collateral": f"{UNTARGETED}/collateral.csv",
    "minimum_epsilon": f"{DESIGNED}/minimum_epsilon-pgd-segmentation.csv",
    "plot_tables": f"{OF_RUN}/tables/figure_2b.csv",
    "plot_designed": f"{OF_RUN}/tables/budget.csv",
    "plot_unit": f"{OF_RUN}/figures/figure_3.png",
    "show_units": f"{OF_RUN}/report/layers/drawn/lite/blocks.4",
    "write_report": f"{OF_RUN}/report/page",
}


# The milan section is tested on a copy of a finished run, with what is new in it.
MILAN = {
    "layers": ["blocks.4"],
    "units": 3,
    "exemplars": 4,
    "size": 32,
    "beam": 4,
    "captioner": {"kind": "regions", "probe": "regions", "units": 48},
    "scorer": {"kind": "minilm"},
    "noise": {"fractions": [1.0]},
    "designed": {"eps": [6], "modes": ["targeted"], "units": 2, "images": 4, "counts": [2]},
}
MILAN_CONFIG = {
    "probes": CONFIG["probes"]
    | {
        "regions": {"kind": "minibroden", "images": 40, "size": 64, "draw": 1},
        "photos": {"kind": "folder", "path": "photos", "size": 64},
    },
    "experiments": [*CONFIG["experiments"], {"probe": "photos", "model": "lite", "layers": ["blocks.4"]}],
    "milan": MILAN,
}
DESCRIBED = f"{LITE}/blocks.4"
POISONED = f"{DESCRIBED}/designed/pgd-6-targeted-exemplars"
MILAN_STOPS = {
    "prepare_folder": "results/probes/photos/probe.zarr",
    "train_milan": "results/milan/regions/held_out.csv",
    "calibrate_threshold": "results/milan/threshold.json",
    "score_captioner": "results/milan/regions/quality.csv",
    "compute_exemplars": f"{DESCRIBED}/clean/milan/exemplars.zarr",
    "compute_noisy_exemplars": f"{DESCRIBED}/{NOISE}/milan/exemplars.zarr",
    "poison_exemplars": f"{POISONED}/poison.zarr",
    "compute_poisoned_exemplars": f"{POISONED}/milan/exemplars.zarr",
    "predict_poisoned": f"{POISONED}/predictions.csv",
    "describe_milan": f"{DESCRIBED}/clean/milan/descriptions.csv",
    "describe_corrupted": f"{POISONED}/milan/descriptions.csv",
    "score_milan": f"{OF_RUN}/milan/drawn/lite/scores.csv",
    "plot_milan": f"{OF_RUN}/tables/table_1.csv",
    "plot_milan_example": f"{OF_RUN}/figures/figure_3_milan.png",
    "plot_milan_units": f"{OF_RUN}/figures/milan_units.png",
}


def run_killed(folder: Path, workflow: Path) -> Made:
    """Everything on four cores, killed in every rule: snakemake and its scripts at once; then called again."""
    place = new_place(folder, workflow)
    killed = kill_in_rules(place, STOPS, "all", TRAINED)
    return Made(place, place.finish("all", TRAINED, cores=4), killed)


def run_shaken(folder: Path, workflow: Path) -> Made:
    """Everything, killed at random moments; every third time only snakemake, so that its scripts go on meanwhile."""
    place, rng, snakemake = new_place(folder, workflow), random.Random(0), None
    for number in range(SHAKES):
        if snakemake and snakemake.returncode == 0:  # it was faster than the next kill: once more from the start
            place.remove("results")
        snakemake = place.start("all", TRAINED, cores=4)
        with contextlib.suppress(subprocess.TimeoutExpired):
            snakemake.wait(rng.uniform(*SHAKEN_AFTER))
        stop = os.kill if number % 3 == 2 else os.killpg
        with contextlib.suppress(ProcessLookupError):
            stop(snakemake.pid, signal.SIGKILL)
        snakemake.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(snakemake.pid, signal.SIGKILL)
    return Made(place, place.finish("all", TRAINED, cores=4))


def kill_in_rules(place: Place, stops: dict[str, str], *options) -> tuple[str, ...]:
    """Kill snakemake and its scripts in every rule of `stops`, calling it again each time; returns those rules."""
    left, killed = dict(stops), []
    while left:
        stopped = start_stopped(place, left.values(), *options, cores=4)
        os.killpg(stopped.snakemake.pid, signal.SIGKILL)
        stopped.wait()
        for name in [rule for rule, target in left.items() if target in stopped.scripts]:
            assert not place.exists(left.pop(name)), name
            killed.append(name)
    return tuple(killed)


@dataclass(frozen=True)
class Stopped:
    """A running snakemake, and its scripts that stand still just before they name an artifact."""

    snakemake: subprocess.Popen
    scripts: dict[str, int]  # target: process number
    folder: Path

    def let_go(self):
        (self.folder / "go").touch()

    def wait(self):
        """Until snakemake and the scripts have ended."""
        self.snakemake.wait()
        while any(is_alive(script) for script in self.scripts.values()):
            time.sleep(0.02)


def start_stopped(place: Place, targets, *options, cores: int = 2) -> Stopped:
    """Start snakemake and return when one of the targets is about to get its name."""
    targets = list(targets)
    folder = Path(tempfile.mkdtemp(dir=place.folder, prefix="stop-"))
    env = {"PYTHONPATH": str(STOPPING), "STOP_AT": os.pathsep.join(targets), "STOP_IN": str(folder)}
    snakemake = place.start(*options, cores=cores, env=env)
    while not (found := [path for path in folder.iterdir() if path.name.isdigit()]):
        assert snakemake.poll() is None, f"it ended before {targets}\n" + (place.folder / "run.log").read_text()
        time.sleep(0.05)
    return Stopped(snakemake, {targets[int(path.name)]: int(path.read_text()) for path in found}, folder)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_recipes(text: str, folder: Path, out: Path):
    """Run the Python of a document, one piece after another, on the layer that these tests have; files go to `out`."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    code = code.replace('"minibroden" / "efficientnet_lite0" / "blocks.10"', '"drawn" / "lite" / "blocks.4"')
    code = code.replace('"minibroden"', '"drawn"').replace('Path("results")', f"Path({str(folder / 'results')!r})")
    command, library = [sys.executable, "-c", code], os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    done = subprocess.run(command, cwd=out, env=library, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
