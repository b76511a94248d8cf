"""What several test files share: the shared folder, a tiny probe, and the golden CamVid probe."""

import csv
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from http_server import running_server
from hypothesis import settings
from tiny_probe import tiny_rows, write_broden
from workflow_runs import copy_workflow, run_killed, run_shaken, run_undisturbed

from nemesis.arithmetic import fix_products
from nemesis.dissection.dissect import load_concepts
from nemesis.memory import return_memory
from nemesis.probes.probe import open_probe, prepare_probe

LONG_RUNS = {"finished": run_undisturbed, "killed": run_killed, "shaken": run_shaken}
SHARED = Path(__file__).resolve().parents[1].parent / "shared"

fix_products()  # as in every job
if "PYTEST_XDIST_WORKER_COUNT" in os.environ and "OMP_NUM_THREADS" not in os.environ:  # processes share the cores
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))
settings.register_profile("nemesis", deadline=None, derandomize=True)
settings.load_profile("nemesis")


def pytest_collection_modifyitems(items):
    """The files that look at long runs of the workflow come first: they take longest."""
    for item in items:
        if set(LONG_RUNS) & set(item.fixturenames) and not _uses_long_runs(item.path.name):
            raise pytest.UsageError(f"{item.nodeid}: only files test_workflow*.py and test_slurm.py may use long runs")
    items.sort(key=lambda item: not _uses_long_runs(item.path.name))


def pytest_xdist_make_scheduler(config, log):
    """What may run beside what (`make test` has a process a core): a file's tests stay together, as do long runs."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "long runs" if _uses_long_runs(Path(file).name) else file

    return Scheduling(config, log)


def _uses_long_runs(file: str) -> bool:
    return file.startswith("test_workflow") or file == "test_slurm.py"


@pytest.fixture(scope="module", autouse=True)
def _memory_of_one_module():
    """What a module's fixtures held goes back to the system when it ends."""
    yield
    gc.collect()
    return_memory()


@pytest.fixture(scope="session")
def shared():
    """shared(path) gives a file or folder of the shared folder, or skips the test where it is absent."""

    def find(path: str) -> Path:
        found = SHARED / path
        if not found.exists():
            pytest.skip(f"needs {path} of the shared folder beside the repository; {SHARED} has none")
        return found

    return find


@pytest.fixture(scope="session")
def golden(shared):
    """golden(path) gives a file or folder of the published code's Network Dissection outputs."""
    return lambda path: shared(f"golden/netdissect/{path}")


@pytest.fixture(scope="session")
def decoded(shared):
    """What the published code decoded with the golden captioner, arrays by name."""
    return np.load(shared("golden/milan/decode.npz"))


@pytest.fixture(scope="session")
def captioner(shared):
    """The golden captioner."""
    from nemesis.milan.checkpoint import load_published

    return load_published(shared("golden/milan/decoder.pth"))


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine; see http_server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running_server() as running:
        yield running


@pytest.fixture
def broden(tmp_path):
    """A tiny made-up probe in Broden's layout, for a test that changes it."""
    return write_broden(tmp_path / "broden", tiny_rows())


@pytest.fixture(scope="session")
def prepare(tmp_path_factory):
    """prepare(root) decodes a Broden folder: its probe, its concepts and where they are stored."""

    def run(root, **options):
        out = tmp_path_factory.mktemp("prepared")
        prepare_probe(root, out / "probe.zarr", out / "concepts.csv", **options)
        probe = open_probe(out / "probe.zarr")
        return SimpleNamespace(probe=probe, concepts=load_concepts(out / "concepts.csv", probe), out=out)

    return run


@pytest.fixture(scope="session")
def tiny(prepare, tmp_path_factory):
    """The tiny probe, decoded; `rows` are the rows that have a label, as the test code made them."""
    rows = tiny_rows()
    prepared = prepare(write_broden(tmp_path_factory.mktemp("tiny") / "broden", rows))
    prepared.rows = [row for row in rows if row.is_labelled]
    return prepared


@pytest.fixture(scope="session")
def synthetic(golden, prepare):
    """The golden set's made-up probe, decoded."""
    return prepare(golden("synthetic/dataset"))


@pytest.fixture(scope="session")
def camvid(golden, shared, prepare, tmp_path_factory):
    """The 48 street photographs of the golden set, decoded."""
    source, index = shared("data/camvid_dev"), golden("index_48.csv")
    root = tmp_path_factory.mktemp("camvid") / "broden"
    root.mkdir()
    (root / "images").symlink_to(source / "images")
    for table in source.glob("*.csv"):
        text = (index if table.name == "index.csv" else table).read_text()
        (root / table.name).write_text(text)
    prepared = prepare(root)
    with open(index, newline="") as stream:
        assert prepared.probe.names == [row["image"] for row in csv.DictReader(stream)]
    return prepared


@pytest.fixture(scope="session")
def workflow(tmp_path_factory):
    """The workflow as it is when the tests start."""
    return copy_workflow(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="session")
def long_runs(request, workflow, tmp_path_factory):
    """Whole runs of the workflow, started together: those that a selected test asks for, by fixture."""
    wanted = {name for item in request.session.items for name in item.fixturenames}
    with ThreadPoolExecutor(len(LONG_RUNS)) as pool:
        yield {
            name: pool.submit(run, tmp_path_factory.mktemp(name), workflow)
            for name, run in LONG_RUNS.items()
            if name in wanted
        }


@pytest.fixture(scope="session")
def finished(long_runs):
    """A finished run: its place and what it printed. Tests copy it before they change anything."""
    return long_runs["finished"].result()


@pytest.fixture(scope="session")
def killed(long_runs):
    """A run that was killed in every rule and called again each time."""
    return long_runs["killed"].result()


@pytest.fixture(scope="session")
def shaken(long_runs):
    """A run that was killed at random moments and called again each time."""
    return long_runs["shaken"].result()
