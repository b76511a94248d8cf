"""Get one published version of Broden: look up its address, download, check, unpack."""

import logging
from pathlib import Path

from nemesis.archives import check_zip, unpack_zip
from nemesis.downloads import fetch, verify_file
from nemesis.errors import InputError
from nemesis.sources import list_versions


def download_broden(version, archive, target, table=None, user_copy=None, **options) -> Path:
    """Unpack one version of Broden into the folder `target`, which is then complete or absent; return it.

    version: a version in the table, such as "broden1_224".
    archive: where the downloaded zip file is kept, so that a later run need not fetch it again.
    table: another table of sources than the embedded one.
    user_copy: the user's own zip file; it is checked and unpacked where it is, nothing is downloaded.
    options: go to nemesis.downloads.fetch (attempts, wait_s, timeout_s, progress).

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
        archive = fetch(
            source.addresses,
            archive,
            source.size,
            source.sha256,
            check=check_zip,
            advice=f"download {source.file} by hand and name it in the config: downloads: {{{version}: PATH}}",
            **options,
        )
    unpack_zip(archive, target, strip_top=True, required=("index.csv",))
    logging.info("%s: unpacked into %s", archive, target)
    return Path(target)
