"""After kill -9 the next call goes on and ends with the same files, on one core or four."""

import os
import re
import signal

import pytest
from workflow_runs import LITE, MILAN_STOPS, SHAKES, STOPS, TRAINED, assert_same, start_stopped

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
FINAL = (
    "**/*.csv",
    "**/*.md",
    "**/*.txt",
    "models/**/*",
    "runs/*/figures/*",
    "**/*.zarr/**/*",
    "runs/*/report/**/*.*[a-z]",
)


def test_every_rule_was_killed(killed):
    assert sorted(killed.killed) == sorted(STOPS)
    text = "".join(path.read_text() for path in (killed.place.workflow / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.M))
    assert rules - set(STOPS | MILAN_STOPS) == {"download_broden", "download_weights", "prepare_captioner"}


def test_same_answer_killed_or_not_on_one_core_or_four(killed, finished):
    """The undisturbed run had one core; the one that was killed in every rule had four. Every file is the same."""
    for pattern in FINAL:
        expected = finished.place.bytes_of(pattern)
        assert expected
        assert_same(killed.place.bytes_of(pattern), expected)


def test_kills_at_random_moments_change_nothing(shaken, finished):
    assert SHAKES + len(STOPS) + len(MILAN_STOPS) > 50
    for pattern in FINAL:
        assert_same(shaken.place.bytes_of(pattern), finished.place.bytes_of(pattern))
    assert shaken.place.rests() == []


def test_no_rest_of_a_killed_job_is_left(killed):
    assert killed.place.rests() == []
    assert list((killed.place.folder / "results").rglob("activations-*")) == []


def test_a_killed_snakemake_whose_script_goes_on(finished, tmp_path):
    place = finished.place.copied(tmp_path / "place")
    store = f"{LITE}/clean/activations.zarr"
    target = f"{store}/zarr.json"
    place.remove(store)
    stopped = start_stopped(place, [f"{store}/blocks.2"], target)
    second = place.run(target)  # the first one is alive: it is not disturbed
    assert second.code != 0
    assert "cannot be locked" in second.text
    os.kill(stopped.snakemake.pid, signal.SIGKILL)
    stopped.snakemake.wait()
    place.finish(target)
    stopped.let_go()
    stopped.wait()
    assert place.rests() == []
    place.finish("all", TRAINED)
    for pattern in FINAL:
        assert_same(place.bytes_of(pattern), finished.place.bytes_of(pattern))
    assert "Nothing to be done" in place.finish("--dry-run", "all", TRAINED).text
