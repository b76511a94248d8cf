"""The workflow on a real SLURM of one node: the same files as locally, and what fails is sent again with more."""

import shutil
import sys

import pytest
from slurm_node import running_node, wait_until, why_not
from workflow_runs import LITE, NOISE, ROOT, UNTARGETED, Ended, Place, assert_same, new_place, start_stopped

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]
# The test's cluster keeps no accounts, and its jobs are short: it is asked often.
OPTIONS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1")
TARGETS = (f"{UNTARGETED}/dissection.csv", f"{LITE}/blocks.2/{NOISE}/dissection.csv")
# Jobs of the workflow's own memory helper, and two that end only if both run at the same time.
SMALL = """
import sys
sys.path.insert(0, {scripts!r})
from nemesis.resources import grow

rule all:
    input: "hungry", "gpu-0", "gpu-1"

rule hungry:
    output: "hungry"
    resources: mem_mb=grow(1000), runtime=grow(5)
    shell: "echo {{resources.mem_mb}} >> asked; "
        "{python} -c 'import time; held = bytearray(900 * 2**20); time.sleep(4)'; touch hungry"

rule meet:
    output: "gpu-{{one}}"
    resources: gpu=1, mem_mb=grow(1000), runtime=grow(5)
    params: other=lambda wildcards: 1 - int(wildcards.one)
    shell: "touch here-{{wildcards.one}}; timeout 90 sh -c 'until [ -e here-{{params.other}} ]; do sleep 0.2; done'; "
        "echo $CUDA_VISIBLE_DEVICES > {{output}}"
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def options(place: Place, *others) -> tuple:
    """The cluster's profile, beside the one that is loaded by itself."""
    return ("--profile", place.workflow / "profiles" / "slurm", "--latency-wait", "5", *OPTIONS, *others)


def send(node, place: Place, *others) -> Ended:
    return place.run(*options(place, *others), env=place.environment() | node.environment)


def test_the_same_files_as_locally(node, workflow, finished, tmp_path):
    place = new_place(tmp_path / "place", workflow)
    ended = send(node, place, *TARGETS)
    assert ended.code == 0, ended.text
    found = place.bytes_of("**/*.csv")
    assert {f"{name.removeprefix('results/')}" for name in TARGETS} <= set(found)
    expected = finished.place.bytes_of("**/*.csv")
    assert_same(found, {name: expected[name] for name in found})
    assert place.rests() == []
    # The size of the layers' maps is not known before they are stored; each job is asked anew before it is sent.
    asked = [line.split() for line in node.call("squeue", "--states=all", "-h", "-o", "%k %m %l").splitlines()]
    assert ["rule_dissect_wildcards_drawn_lite_blocks.4", "4001M", "2:01:00"] in asked


def test_a_job_over_its_memory_is_sent_again_with_more_and_gpus_are_shared_out(node, tmp_path):
    workflow = tmp_path / "workflow"
    shutil.copytree(ROOT / "profiles", workflow / "profiles")
    text = SMALL.format(scripts=str(ROOT / "scripts"), python=sys.executable)
    (workflow / "Snakefile").write_text(text)
    place = new_place(tmp_path / "place", workflow)
    ended = send(node, place)
    assert ended.code == 0, ended.text
    assert (place.folder / "asked").read_text().split() == ["1000", "2000"]
    assert "exceeded memory limit" in (node.folder / "slurmd.log").read_text()
    assert {(place.folder / f"gpu-{n}").read_text().strip() for n in (0, 1)} == {"0", "1"}


def test_a_node_that_dies_in_the_middle(node, finished, tmp_path, monkeypatch):
    """SLURM runs the job again when the node is back, from its start, and snakemake goes on."""
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    place = finished.place.copied(tmp_path / "place")
    store = f"{LITE}/clean/activations.zarr"
    place.remove(store)
    stopped = start_stopped(place, [f"{store}/blocks.4"], *options(place, f"{store}/zarr.json"))
    node.cut_power()
    stopped.let_go()
    assert not place.exists(f"{store}/blocks.4")
    wait_until(lambda: "RUNNING" not in node.call("squeue", "-h", "-o", "%T"), 60)
    node.start_slurmd()
    assert stopped.snakemake.wait(timeout=600) == 0, (place.folder / "run.log").read_text()
    assert place.rests() == []
    assert_same(place.bytes_of("**/*.zarr/**/*"), finished.place.bytes_of("**/*.zarr/**/*"))
