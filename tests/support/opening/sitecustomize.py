"""Python imports this by itself from PYTHONPATH: it notes which files below results/ a script of a job opens.

OPENED_IN is a folder; a process that opened a log of the workflow notes there, in a file of its number, its log and
then every file, one a line.
"""

import os
import sys
from pathlib import Path

STARTS = ("logs/", "results/")
opened = {}


def note_opening(event: str, arguments: tuple):
    if event != "open" or not isinstance(arguments[0], str):
        return
    path = os.path.relpath(arguments[0]) if os.path.isabs(arguments[0]) else os.path.normpath(arguments[0])
    if path.startswith(STARTS) and path not in opened:
        opened[path] = None
        log = next((name for name in opened if name.startswith("logs/")), None)
        if log:
            Path(os.environ["OPENED_IN"], str(os.getpid())).write_text("\n".join([log, *opened]))


if "OPENED_IN" in os.environ:
    sys.addaudithook(note_opening)
