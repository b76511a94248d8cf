"""A dead run's lock goes, a living run's stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from nemesis import locks

SCRIPTS = Path(locks.__file__).parents[1]
CALL = "import sys; from nemesis.locks import clear_dead_lock; clear_dead_lock(sys.argv[1])"


def call(folder, then="", **settings):
    """clear_dead_lock in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", CALL + then, folder], cwd=SCRIPTS, **settings)


@pytest.fixture
def folder(tmp_path):
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("results/a\n")
    return tmp_path / ".snakemake"


def is_locked(folder):
    return (folder / "locks").exists()


def test_a_dead_runs_lock_goes(folder):
    assert call(folder).wait() == 0
    assert not is_locked(folder)


def test_a_new_folder(tmp_path):
    assert call(tmp_path / ".snakemake").wait() == 0
    assert not is_locked(tmp_path / ".snakemake")


def test_a_living_runs_lock_stays_until_it_is_killed(folder):
    wait = "; print('ready', flush=True); sys.stdin.read()"
    runs = [call(folder, wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        assert run.stdout.readline() == b"ready\n"
    (folder / "locks").mkdir()
    for run in runs:  # the second one still lives when the first is dead
        assert call(folder).wait() == 0
        assert is_locked(folder)
        run.kill()
        run.communicate()
    assert call(folder).wait() == 0
    assert not is_locked(folder)


def test_without_file_locks_nothing_is_removed(folder, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    locks.clear_dead_lock(folder)
    assert is_locked(folder)
    monkeypatch.setattr(locks, "fcntl", None)
    locks.clear_dead_lock(folder)
    assert is_locked(folder)
