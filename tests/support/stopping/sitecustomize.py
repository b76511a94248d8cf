"""Python imports this by itself from PYTHONPATH: it stops a process just before an artifact gets its name.

STOP_AT lists how the names end, STOP_IN is a folder. The process writes its number to the folder's
file <position in STOP_AT>, and goes on when a file `go` is there.
"""

import os
import sys
import time
from pathlib import Path


def stop_before_rename(event: str, arguments: tuple):
    if event != "os.rename" or ".partial-" not in str(arguments[0]):
        return
    folder = Path(os.environ["STOP_IN"])
    for number, ending in enumerate(os.environ["STOP_AT"].split(os.pathsep)):
        if str(arguments[1]).endswith(ending):
            (folder / f"{number}.writing").write_text(str(os.getpid()))
            (folder / f"{number}.writing").rename(folder / f"{number}")
            while not (folder / "go").exists():
                time.sleep(0.02)


if "STOP_AT" in os.environ:
    sys.addaudithook(stop_before_rename)
