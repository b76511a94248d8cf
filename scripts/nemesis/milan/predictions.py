"""What the network itself says of a probe whose exemplars were poisoned (Figure 5 of Srivastava et al., ICCV 2023)."""

import numpy as np
import pandas as pd

from nemesis.corruption.shown import ForwardPass, StoredAttack, corrupt_rows
from nemesis.milan.attack import cut_counts
from nemesis.models.predictions import ClassMap, Head, map_concepts, map_order, top_classes
from nemesis.probes.probe import Probe
from nemesis.progress import Progress
from nemesis.stores import blocks

COLUMNS = ["unit", "count", "n_images", "top1_changed", "clean_accuracy", "accuracy"]


def find_class_map(probe: Probe, concepts: np.ndarray | None, head: Head | None) -> ClassMap | None:
    """What the outputs of a network stand for on a probe; None where its images have no classes that it knows.

    `concepts` (C,): concept numbers of the outputs. Without them the probe's own classes count, where they are as many
    as the network's, in the same order.
    """
    if concepts is not None:
        return map_concepts(concepts)
    if head is not None and len(probe.class_names) == head.classes:
        return map_order(head.classes, probe)
    return None


def predict_poisoned(
    attack: StoredAttack,
    forward: ForwardPass,
    counts: list[int],
    classifies: bool = True,
    classes: ClassMap | None = None,
) -> pd.DataFrame:
    """One row a unit and number of `counts`: the probe of `n_images` with its `count` most influential images
    poisoned. A unit with fewer images than a number gets one row with all of them (attack.cut_counts).

    `top1_changed`: images whose most likely class changed; empty where the network does not end in
    classes (`classifies`). `classes` say what its outputs stand for; the accuracies are over all images,
    empty where that is not known.
    """
    poison, probe, batch = attack.poison, forward.probe, forward.batch
    network, known = forward.reader.network, classifies and classes is not None
    if not poison.tasks:
        return pd.DataFrame(columns=COLUMNS)
    wanted, clean, right = np.arange(probe.count) if known else np.unique(poison.image), None, None
    if classifies:
        clean = top_classes(network, (probe.take_images(wanted[a:b]) for a, b in blocks(len(wanted), batch)))
    if known:
        right = np.concatenate([classes.check(probe, wanted[a:b], clean[a:b]) for a, b in blocks(len(wanted), batch)])
    progress, lines = Progress("predict", len(poison.tasks)), []
    for index, task in enumerate(poison.tasks):
        span, found = poison.span_of([index]), None
        numbers = poison.image[span]
        if classifies:
            found = top_classes(network, corrupt_rows(poison, probe, span, attack.designed, batch))
        for count in cut_counts(counts, len(numbers)):
            used = poison.rank[span] < count
            line = [task.unit, count, probe.count, None, None, None]
            if classifies:
                line[3] = int((clean[np.searchsorted(wanted, numbers)] != found)[used].sum())
            if known:
                now = right.copy()
                if used.any():
                    now[numbers[used]] = classes.check(probe, numbers[used], found[used])
                line[4:] = float(right.mean()), float(now.mean())
            lines.append(line)
        progress.add(1)
    return pd.DataFrame(lines, columns=COLUMNS)
