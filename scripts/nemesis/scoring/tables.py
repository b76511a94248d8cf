"""Reading CSV files of texts: an empty description stays one, and a bad row is named."""

import pandas as pd

from nemesis.errors import InputError


def read_table(path, columns) -> pd.DataFrame:
    """A CSV file with every value as text. Raises InputError when it cannot be read or lacks one of `columns`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable as CSV ({reason}); expected columns {', '.join(columns)}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path}: lacks column {missing[0]}; expected {', '.join(columns)}")
    return table
