"""Rows of one layer's labels, clean, resampled and under noise, whose shares are easy to tell."""

import pandas as pd

MIN_IOU = 0.04
CLEAN_IOU = [0.5, 0.04, 0.03, 0.1, 0.0]  # units 0, 1 and 3 have a label
# fraction, draw -> manipulated, a value a unit
MANIPULATED = {
    (0.5, 0): [True, False, True, False, False],
    (0.5, 1): [False, False, True, False, True],
    (1.0, 0): [True, True, False, True, False],
    (1.0, 1): [True, False, True, True, False],
}


def noise_rows():
    rows = []
    for (fraction, seed), manipulated in MANIPULATED.items():
        for unit, changed in enumerate(manipulated):
            row = {"fraction": fraction, "seed": seed, "unit": unit, "clean_label": "a", "clean_iou": CLEAN_IOU[unit]}
            row |= {"label": "b", "category": "object", "iou": 0.1, "manipulated": changed}
            rows.append(row | {"linf": 5.0 + seed, "rms": 2.0 + 2 * seed})
    return pd.DataFrame(rows)


def clean_rows():
    rows = {"unit": range(5), "label": ["cat", "dog", "x", "cat", ""], "category": ["object"] * 4 + [""]}
    return pd.DataFrame(rows | {"iou": CLEAN_IOU, "iou_2": [0.2, 0.02, 0.03, 0.1, 0.0]})


def churn_rows():
    """Units 0 to 4 change in 2, 1, 4, 0 and 0 of four replicates."""
    times = [2, 1, 4, 0, 0]
    rows = [{"replicate": r, "unit": u, "changed": r < times[u]} for r in range(4) for u in range(5)]
    return pd.DataFrame(rows)
