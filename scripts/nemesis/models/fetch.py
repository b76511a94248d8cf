"""Get a published weight file: look up its address, download, check."""

from pathlib import Path

from nemesis.downloads import fetch
from nemesis.errors import InputError
from nemesis.files import share_file
from nemesis.models.weights import load_weights
from nemesis.sources import find_source


def download_weights(kind: str, archive, target, table=None, **options) -> Path:
    """Bring the published weights of a kind of network to `target`, by way of `archive`, which is kept.

    A file that is at `archive` already and right is used. It counts as right when tensors alone are in it (and it
    has the size and sha256 of the table of sources, or begins like that, where these are published).
    options: go to nemesis.downloads.fetch. Raises InputError when no address delivers it.
    """
    source = find_source(kind, table)
    if source is None:
        raise InputError(f"{kind}: no weights of this kind are published; give `weights:` the path of a file")
    advice = f"download {source.file} by hand and name it in the config: models: {{NAME: {{weights: PATH}}}}"
    fetch(source.addresses, archive, source.size, source.sha256, check=load_weights, advice=advice, **options)
    return share_file(archive, target)
