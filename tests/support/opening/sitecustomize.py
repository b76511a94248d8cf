"""Python imports this by itself from PYTHONPATH: it notes which files below results/ a script of a job opens.

OPENED_IN is a folder; the script notes there, in a file of its process's number, every file below logs/ and results/
that it opens, one a line.
"""

import os
import sys

STARTS = ("logs/", "results/")
opened: set[str] = set()
notes: list[int] = []


def note_opening(event: str, arguments: tuple):
    if event != "open" or not isinstance(arguments[0], str):
        return
    path = os.path.relpath(arguments[0]) if os.path.isabs(arguments[0]) else os.path.normpath(arguments[0])
    if not path.startswith(STARTS) or path in opened:
        return
    opened.add(path)
    if not notes:
        name = os.path.join(os.environ["OPENED_IN"], str(os.getpid()))
        notes.append(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_APPEND))
    os.write(notes[0], f"{path}\n".encode())


if "OPENED_IN" in os.environ and any(".snakemake/scripts" in part for part in sys.orig_argv):
    sys.addaudithook(note_opening)
