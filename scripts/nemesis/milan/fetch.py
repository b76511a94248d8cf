"""Get a published checkpoint of MILAN: look up its address, download, check."""

from pathlib import Path

from nemesis.downloads import fetch
from nemesis.errors import InputError
from nemesis.milan.checkpoint import load_published
from nemesis.sources import list_versions


def fetch_checkpoint(name: str, target, table=None, **options) -> Path:
    """Bring milan-<name>.pth to `target`; a file that is there already and right is used.

    `options` go to nemesis.downloads.fetch. A file counts as right when it loads as a checkpoint of MILAN (and has
    the size and sha256 of the table, where these are published). Raises InputError when no address delivers it.
    """
    known = list_versions("milan", table)
    if name not in known:
        raise InputError(f"milan.captioner.name: no checkpoint '{name}'; known are {', '.join(sorted(known))}")
    row = known[name]
    spec = "milan: {captioner: {kind: checkpoint, path: PATH}}"
    advice = f"download {row.file} by hand and name it in the config: {spec}"
    return fetch(row.addresses, target, row.size, row.sha256, check=load_published, advice=advice, **options)
