"""Read the tables that a dissection writes: names as text, whatever they look like."""

import pandas as pd

# Columns of names. A concept may be called 7, 007 or True; read as numbers these would change, or become one.
TEXT = ["label", "category", *(f"label_{place}" for place in range(2, 6)), "description"]
TEXT += ["clean_label", "clean_category", "source", "target", "storage"]
TEXT += ["fixed_label", "noise_label", "control_label"]


def read_table(path) -> pd.DataFrame:
    """Read one of our CSV files; an empty label stays empty text, an empty IoU is NaN."""
    missing = {"iou": [""], "iou_2": [""]}
    return pd.read_csv(path, keep_default_na=False, na_values=missing, dtype=dict.fromkeys(TEXT, str))
