"""Bring published files here: Broden, weights of networks, MILAN's checkpoints. Look up, download, check, unpack."""

import logging
from collections.abc import Callable
from pathlib import Path

from nemesis.archives import check_zip, unpack_zip
from nemesis.downloads import Expected, fetch, verify_file
from nemesis.errors import InputError
from nemesis.files import share_file
from nemesis.sources import find_source, list_versions


def download_broden(version, archive, target, table=None, user_copy=None, **options) -> Path:
    """Unpack one version of Broden into the folder `target`, which is then complete or absent; return it.

    version: a version in the table, such as "broden1_224".
    archive: where the downloaded zip file is kept, so that a later run need not fetch it again.
    table: another table of sources than the embedded one.
    user_copy: the user's own zip file; it is checked and unpacked where it is, nothing is downloaded.
    options: go to nemesis.downloads.fetch (patience, progress).

    Raises InputError for an unknown version, when no address delivers the right file, and for an
    archive that is damaged, unsafe, or holds no index.csv.
    """
    known = list_versions("broden", table)
    if version not in known:
        raise InputError(f"{version}: no such version of Broden; known are {', '.join(sorted(known))}")
    source = known[version]
    if user_copy:
        archive = verify_file(Path(user_copy).expanduser(), source.size, source.sha256)
    else:
        advice = f"download {source.file} by hand and name it in the config: downloads: {{{version}: PATH}}"
        expected = Expected(source.size, source.sha256, check_zip)
        archive = fetch(source.addresses, archive, expected, advice=advice, **options)
    unpack_zip(archive, target, strip_top=True, required=("index.csv",))
    logging.info("%s: unpacked into %s", archive, target)
    return Path(target)


def download_weights(kind: str, archive, target, check: Callable, table=None, **options) -> Path:
    """Bring the published weights of a kind of network to `target`, by way of `archive`, which is kept.

    A file that is at `archive` already and right is used. It counts as right when `check(path)` raises no InputError,
    as models.weights.load_weights does unless tensors alone are in it (and when it has the size and sha256 of the
    table of sources, or begins like that, where these are published).
    options: go to nemesis.downloads.fetch. Raises InputError when no address delivers it.
    """
    source = find_source(kind, table)
    if source is None:
        raise InputError(f"{kind}: no weights of this kind are published; give `weights:` the path of a file")
    advice = f"download {source.file} by hand and name it in the config: models: {{NAME: {{weights: PATH}}}}"
    fetch(source.addresses, archive, Expected(source.size, source.sha256, check), advice=advice, **options)
    return share_file(archive, target)


def download_checkpoint(name: str, target, check: Callable, table=None, **options) -> Path:
    """Bring MILAN's milan-<name>.pth to `target`; a file that is there already and right is used.

    check: raises InputError where a file is no checkpoint, as milan.checkpoint.load_published does. Other arguments
    and errors: see download_weights.
    """
    known = list_versions("milan", table)
    if name not in known:
        raise InputError(f"milan.captioner.name: no checkpoint '{name}'; known are {', '.join(sorted(known))}")
    source = known[name]
    advice = f"download {source.file} by hand and name it in the config: "
    advice += "milan: {captioner: {kind: checkpoint, path: PATH}}"
    return fetch(source.addresses, target, Expected(source.size, source.sha256, check), advice=advice, **options)
