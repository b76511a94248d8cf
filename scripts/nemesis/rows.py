"""Reading CSV files row by row, of which a bad one is named."""

import csv
import difflib
import io
from collections import Counter
from pathlib import Path

from nemesis.errors import InputError

SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a bar"}
SAVE = "save it as `CSV UTF-8`"


def read_rows(path, columns, absent: str = "check the path") -> list[tuple[int, dict]]:
    """The rows of a CSV file in UTF-8: the line on which each ends, and its texts by column.

    Rows without content are skipped. absent: what to say when there is no such file. Raises InputError when it
    cannot be read, lacks one of `columns`, or has a row of another number of cells than the header.
    """
    return read_sheet(path, columns, absent)[1]


def read_sheet(path, columns, absent: str = "check the path") -> tuple[list[str], list[tuple[int, dict]]]:
    """The names of a CSV file's columns, and its rows as `read_rows` gives them."""
    path = Path(path)
    reader = csv.reader(io.StringIO(_read_text(path, absent), newline=""), strict=True)
    try:
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: cannot be read as CSV ({error})") from None
    header = [name.strip() for name in lines[0][1]] if lines else []
    while header and not header[-1]:
        header.pop()
    _check_header(path, header, columns)
    return header, [(line, _name_cells(path, line, header, cells)) for line, cells in lines[1:]]


def _read_text(path: Path, absent: str) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {absent}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a CSV file in UTF-8") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:200]:
        raise InputError(f"{path}: is in UTF-16; expected a CSV file in UTF-8, so {SAVE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        raise InputError(f"{path}: line {line}: not UTF-8 (byte {data[error.start]:#04x}); {SAVE}") from None


def _check_header(path: Path, header: list[str], columns):
    missing = next((column for column in columns if column not in header), None)
    for separator, name in SEPARATORS.items() if missing and len(header) < 2 else ():
        if separator in "".join(header):
            raise InputError(f"{path}: cells are separated by {name}; expected a comma between cells")
    if missing:
        close = difflib.get_close_matches(missing, header, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InputError(f"{path}: lacks column '{missing}' (it has {', '.join(header)}){hint}")
    twice = [name for name, number in Counter(header).items() if number > 1]
    if twice:
        raise InputError(f"{path}: column '{twice[0]}' stands twice in the header; give each column a name of its own")


def _name_cells(path: Path, line: int, header: list[str], cells: list[str]) -> dict:
    """Texts of a row by column; empty cells beyond the header, as spreadsheets write them, do not count."""
    if len(cells) < len(header) or any(cell.strip() for cell in cells[len(header) :]):
        hint = "is it cut off?" if len(cells) < len(header) else "does a cell hold a comma without quotes?"
        raise InputError(f"{path}: line {line}: has {len(cells)} cells, the header has {len(header)}; {hint}")
    return dict(zip(header, cells, strict=False))
