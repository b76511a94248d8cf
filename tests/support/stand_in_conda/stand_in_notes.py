"""Put into each environment: every Python of it notes, when it ends, what it ran and where its modules came from.

A line of JSON beside the environment: {"script", "prefix", "modules": {top-level module: file}}.
"""

import atexit
import json
import sys


@atexit.register
def note():
    tops = {name.partition(".")[0] for name in list(sys.modules)}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(tops)}
    line = {"script": sys.argv[0] if sys.argv else "", "prefix": sys.prefix, "modules": files}
    with open(f"{sys.prefix}.jobs.jsonl", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
