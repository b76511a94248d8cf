"""Reading CSV files row by row, of which a bad one is named."""

import csv
import difflib
from pathlib import Path

from nemesis.errors import InputError


def read_rows(path, columns, absent: str = "check the path") -> list[tuple[int, dict]]:
    """The rows of a CSV file in UTF-8: the line on which each ends, and its texts by column.

    absent: what to say when there is no such file. Raises InputError when it cannot be read or lacks one of `columns`.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [(reader.line_num, row) for row in reader]
            header = reader.fieldnames or []
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {absent}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); expected a CSV file in UTF-8") from None
    for column in columns:
        if column not in header:
            close = difflib.get_close_matches(column, header, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(f"{path}: lacks column '{column}' (it has {', '.join(header)}){hint}")
    return rows
