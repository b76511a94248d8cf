"""What the network itself says of a probe whose exemplars were poisoned (Figure 5 of Srivastava et al., ICCV 2023)."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from nemesis.corruption.classes import contains_class, top_classes
from nemesis.corruption.shown import ForwardPass, StoredAttack, corrupt_rows
from nemesis.milan.attack import cut_counts
from nemesis.progress import Progress
from nemesis.stores import blocks

Check = Callable[[np.ndarray, np.ndarray], np.ndarray]  # classes (B,), image numbers (B,) -> right or not, bool (B,)
COLUMNS = ["unit", "count", "n_images", "top1_changed", "clean_accuracy", "accuracy"]


def make_check(probe, concepts: np.ndarray | None, outputs: int) -> Check | None:
    """How predictions on a probe are checked; None where its images have no classes that the network knows.

    `concepts` (C,): concept numbers of the network's outputs, right where the image contains the concept. Without
    them the probe's own classes count, where they are as many as the network's `outputs`, in the same order.
    """
    if concepts is not None:
        return lambda top, numbers: contains_class(probe, numbers, concepts[top])
    if outputs and len(probe.class_names) == outputs:
        return lambda top, numbers: probe.classes[numbers] == top
    return None


def predict_poisoned(
    attack: StoredAttack, forward: ForwardPass, counts: list[int], check: Check | None = None
) -> pd.DataFrame:
    """One row a unit and number of `counts`: the probe of `n_images` with its `count` most influential images
    poisoned. A unit with fewer images than a number gets one row with all of them (attack.cut_counts).

    `top1_changed`: images whose most likely class changed; empty for a network that ends without
    classes. `check` says which predictions are right; the accuracies are over all images, empty without it.
    """
    poison, probe, batch = attack.poison, forward.probe, forward.batch
    if not poison.tasks:
        return pd.DataFrame(columns=COLUMNS)
    wanted = np.arange(probe.count) if check else np.unique(poison.image)
    clean = top_classes(forward.reader, (probe.take_images(wanted[a:b]) for a, b in blocks(len(wanted), batch)))
    right = None
    if check and clean is not None:
        right = np.concatenate([check(clean[a:b], wanted[a:b]) for a, b in blocks(len(wanted), batch)])
    progress, lines = Progress("predict", len(poison.tasks)), []
    for index, task in enumerate(poison.tasks):
        span, found = poison.span_of([index]), None
        numbers = poison.image[span]
        if clean is not None:
            found = top_classes(forward.reader, corrupt_rows(poison, probe, span, attack.designed, batch))
        for count in cut_counts(counts, len(numbers)):
            used = poison.rank[span] < count
            line = [task.unit, count, probe.count, None, None, None]
            if clean is not None:
                line[3] = int((clean[np.searchsorted(wanted, numbers)] != found)[used].sum())
            if right is not None:
                now = right.copy()
                if used.any():
                    now[numbers[used]] = check(found[used], numbers[used])
                line[4:] = float(right.mean()), float(now.mean())
            lines.append(line)
        progress.add(1)
    return pd.DataFrame(lines, columns=COLUMNS)
