"""The workflow on a real SLURM of one node: the same files as locally, and what fails is sent again with more."""

import os
import signal
import subprocess
import sys
import time

import pytest
from slurm_node import running_node, wait_until, why_not
from workflow_runs import LITE, NOISE, UNTARGETED, Ended, Place, assert_same, new_place

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]
# The test's cluster keeps no accounts, and its jobs are short: it is asked often.
OPTIONS = ("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with running_node(tmp_path_factory.mktemp("slurm")) as running:
        yield running


def send(node, place, *targets, **settings) -> Ended:
    """Call snakemake with the cluster's profile, beside the one that is loaded by itself."""
    profile = place.workflow / "profiles" / "slurm"
    options = ("--profile", profile, "--latency-wait", "5", *OPTIONS, *targets)
    return place.run(*options, env=place.environment() | node.environment, **settings)


def test_the_same_files_as_locally(node, workflow, finished, tmp_path):
    place = new_place(tmp_path / "place", workflow)
    start = time.time()
    ended = send(node, place, *TARGETS)
    print(ended.text, time.time() - start)
    assert ended.code == 0, ended.text
    for pattern in ("**/*.csv",):
        found = place.bytes_of(pattern)
        expected = finished.place.bytes_of(pattern)
        assert_same(found, {k: expected[k] for k in found})

TARGETS = ["results/tables/labels.csv", f"{UNTARGETED}/dissection.csv"]
