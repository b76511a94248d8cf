"""Snakemake's lock on the working directory, when the run that took it is dead.

Snakemake leaves its lock behind after `kill -9` or a power cut and then refuses every call until
`snakemake --unlock`. A file lock of the system goes away with its process, so it tells whether
any run is alive: each run holds it shared, and who gets it alone may clear what a dead run left.
"""

import contextlib
import os
import shutil
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on this system: Snakemake's lock stays, and --unlock removes it
    fcntl = None

_held: list[int] = []  # open for as long as this process lives


def clear_dead_lock(folder=".snakemake"):
    """Remove Snakemake's lock below `folder` if no other run is alive there; marks this run as alive.

    Where the file system has no locks, nothing is removed.
    """
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        Path(folder).mkdir(exist_ok=True)
        alive = os.open(Path(folder) / "nemesis.alive", os.O_RDWR | os.O_CREAT, 0o666)
        _held.append(alive)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(Path(folder) / "locks", ignore_errors=True)
        fcntl.flock(alive, fcntl.LOCK_SH)
