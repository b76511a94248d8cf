"""Where published files come from: one table of addresses for all downloads.

The table lies beside this module under its name. It is no part of the hash of the code, because another
address gives the same file: a host that died is one line to change, and nothing is computed anew.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from nemesis.errors import InputError
from nemesis.rows import read_sheet

TABLE = Path(__file__).with_suffix(".csv")
COLUMNS = ["name", "version", "file", "size", "sha256", "primary", "mirrors", "notes"]


@dataclass(frozen=True)
class Source:
    """One row of the table.

    size in bytes and sha256 in hex are None where unpublished; sha256 may be the first digits only (8 or
    more). addresses: primary, then mirrors.
    """

    name: str
    version: str
    file: str
    size: int | None
    sha256: str | None
    addresses: tuple[str, ...]
    notes: str


def read_sources(table=None) -> dict[tuple[str, str], Source]:
    """Read the table of sources (default: the embedded one): (name, version) -> row, in the table's order.

    Raises InputError naming the line of a row that cannot be used.
    """
    table = Path(table or TABLE)
    header, rows = read_sheet(table, (), "no such table of sources; check the path")
    if header != COLUMNS:
        raise InputError(f"{table}: expected the columns {','.join(COLUMNS)}")
    sources = {}
    for line, row in rows:
        source = _parse_row(row, f"{table}: line {line}")
        if (source.name, source.version) in sources:
            raise InputError(f"{table}: line {line}: {source.name} {source.version} stands there twice")
        sources[source.name, source.version] = source
    return sources


def list_versions(name: str, table=None) -> dict[str, Source]:
    """The rows of one name: version -> row, {} for an unknown name."""
    return {version: row for (found, version), row in read_sources(table).items() if found == name}


def find_source(name: str, table=None) -> Source | None:
    """The first row of a name, None for an unknown one."""
    return next(iter(list_versions(name, table).values()), None)


def _parse_row(row: dict, where: str) -> Source:
    row = {key: value.strip() for key, value in row.items()}
    addresses = [row["primary"], *row["mirrors"].split(";")]
    if not (row["name"] and row["version"] and row["file"] and row["primary"]):
        raise InputError(f"{where}: name, version, file and primary must not be empty")
    if row["size"] and not row["size"].isdecimal():
        raise InputError(f"{where}: size is {row['size']!r}, expected bytes as a whole number")
    if row["sha256"] and not re.fullmatch(r"[0-9a-fA-F]{8,64}", row["sha256"]):
        raise InputError(f"{where}: sha256 is {row['sha256']!r}, expected 64 hex digits, or the first 8 or more")
    return Source(
        name=row["name"],
        version=row["version"],
        file=row["file"],
        size=int(row["size"]) if row["size"] else None,
        sha256=row["sha256"].lower() or None,
        addresses=tuple(address.strip() for address in addresses if address.strip()),
        notes=row["notes"],
    )
