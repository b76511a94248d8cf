"""Reading CSV files of texts as tables: an empty description stays one, and a bad row is named."""

import pandas as pd

from nemesis.rows import read_sheet


def read_table(path, columns) -> tuple[pd.DataFrame, list[int]]:
    """A CSV file with every value as text, and the line of each row; InputError as for `read_rows`."""
    header, rows = read_sheet(path, columns)
    return pd.DataFrame([row for _, row in rows], columns=header, dtype=str), [line for line, _ in rows]
