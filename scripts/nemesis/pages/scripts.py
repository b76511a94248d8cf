"""Data as scripts: a page that was opened from disk may load a script, but not a JSON file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from nemesis.files import atomic_file


def save_data(folder: Path, name: str, data, place: str = ""):
    """Write `folder/name.js`, which hands `data` to the page under the address `place/name`."""
    address = f"{place}/{name}" if place else name
    text = f"nemesis.receive({to_json(address)}, {to_json(data)});\n"
    with atomic_file(folder / f"{name}.js") as partial:
        partial.write_text(text, encoding="ascii")


def to_json(data) -> str:
    """JSON in ASCII that may stand in a script: no `<`, so nothing in it ends the script or starts a tag."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def to_columns(table: pd.DataFrame) -> dict[str, list]:
    """A table as lists by column; what is not there is None, numbers keep their full precision."""
    return {str(name): [_plain(value) for value in table[name]] for name in table.columns}


def _plain(value):
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)
