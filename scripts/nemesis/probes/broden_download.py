"""Get one published version of Broden: look up its address, download, check, unpack."""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path

from nemesis.archives import check_zip, unpack_zip
from nemesis.downloads import fetch, verify_file
from nemesis.errors import InputError

TABLE = Path(__file__).with_name("datasets.csv")
COLUMNS = ["name", "version", "file", "size", "sha256", "primary", "mirrors", "notes"]


@dataclass(frozen=True)
class Dataset:
    """One row of the table of datasets; size in bytes and sha256 in hex are None where unpublished."""

    name: str
    version: str
    file: str
    size: int | None
    sha256: str | None
    sources: tuple[str, ...]
    notes: str


def read_datasets(table=None) -> dict[str, Dataset]:
    """Read the table of datasets (default: the one beside this module): version -> row.

    Raises InputError naming the line of a row that cannot be used.
    """
    table = Path(table or TABLE)
    if not table.is_file():
        raise InputError(f"{table}: no such table of datasets; check the path")
    with open(table, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != COLUMNS:
            raise InputError(f"{table}: expected the columns {','.join(COLUMNS)}")
        datasets = {}
        for row in reader:
            dataset = _parse_row(row, f"{table}: line {reader.line_num}")
            if dataset.version in datasets:
                raise InputError(f"{table}: line {reader.line_num}: {dataset.version} stands there twice")
            datasets[dataset.version] = dataset
    return datasets


def download_broden(version, archive, target, table=None, user_copy=None, **options) -> Path:
    """Unpack one version of Broden into the folder `target`, which is then complete or absent; return it.

    version: a version in the table, such as "broden1_224".
    archive: where the downloaded zip file is kept, so that a later run need not fetch it again.
    table: another table of datasets than the embedded one.
    user_copy: the user's own zip file; it is checked and unpacked where it is, nothing is downloaded.
    options: go to nemesis.downloads.fetch (attempts, wait_s, timeout_s, progress).

    Raises InputError for an unknown version, when no address delivers the right file, and for an
    archive that is damaged, unsafe, or holds no index.csv.
    """
    datasets = read_datasets(table)
    if version not in datasets:
        raise InputError(f"{version}: no such version of Broden; known are {', '.join(sorted(datasets))}")
    dataset = datasets[version]
    if user_copy:
        archive = verify_file(Path(user_copy).expanduser(), dataset.size, dataset.sha256)
    else:
        archive = fetch(
            dataset.sources,
            archive,
            dataset.size,
            dataset.sha256,
            check=check_zip,
            advice=f"download {dataset.file} by hand and name it in the config: downloads: {{{version}: PATH}}",
            **options,
        )
    unpack_zip(archive, target, strip_top=True, required=("index.csv",))
    logging.info("%s: unpacked into %s", archive, target)
    return Path(target)


def _parse_row(row: dict, where: str) -> Dataset:
    row = {key: (value or "").strip() for key, value in row.items() if key is not None}
    sources = [row["primary"], *row["mirrors"].split(";")]
    if not (row["version"] and row["file"] and row["primary"]):
        raise InputError(f"{where}: version, file and primary must not be empty")
    if row["size"] and not row["size"].isdecimal():
        raise InputError(f"{where}: size is {row['size']!r}, expected bytes as a whole number")
    return Dataset(
        name=row["name"],
        version=row["version"],
        file=row["file"],
        size=int(row["size"]) if row["size"] else None,
        sha256=row["sha256"] or None,
        sources=tuple(source.strip() for source in sources if source.strip()),
        notes=row["notes"],
    )
