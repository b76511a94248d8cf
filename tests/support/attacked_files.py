"""Files of the designed corruption as other stages write them: by hand, and plausible ones of whole networks."""

import math

import numpy as np
import pandas as pd

from nemesis.corruption.collateral import COLUMNS as COLLATERAL
from nemesis.corruption.designed import COLUMNS as DISSECTION
from nemesis.corruption.designed import CURVE as BUDGET
from nemesis.corruption.designed import STORAGE
from nemesis.corruption.minimum import COLUMNS as MINIMUM
from nemesis.entries import Design
from nemesis.figures.attacks import Attacks
from nemesis.figures.designed_tables import CATEGORIES
from nemesis.files import write_csv

MIN_IOU = 0.04
CHURN = ["replicate", "unit", "label", "category", "iou", "changed"]
BISECTED = [("pgd", "segmentation")]
BUDGETS = [0.005, 0.01, 0.02, 0.05, 0.1]
STORAGES = ["float", "lossless", "jpeg-95", "jpeg-75", "published"]


def design(mode="untargeted", eps=6, method="pgd", masks="segmentation") -> tuple:
    return method, eps, mode, masks


def table(columns, *rows, **constant):
    """Rows of the given columns; what is not given is empty."""
    return pd.DataFrame([dict.fromkeys(columns, "") | constant | row for row in rows], columns=columns)


def folder_of(place, found=None):
    """The folder of a place's clean files, or of a design's."""
    return "/".join([*place, "clean" if found is None else f"designed/{Design(*found).name}"])


def write(root, place, found, name, rows):
    """A file of a layer of probe `scenes` (`vgg/conv1`): a clean one where `found` is None, or a design's."""
    write_csv(rows, root / folder_of(("scenes", *place.split("/")), found) / name)


def write_minimum(root, place, rows):
    write_csv(rows, root / f"scenes/{place}/designed/minimum_epsilon-pgd-segmentation.csv")


def places_of(models, probe="scenes") -> list[tuple]:
    return [(probe, model, layer) for model, layers in models.items() for layer in layers]


def attacks_on(root, designs, places, **more) -> Attacks:
    """The files below `root` of attacks on some places; `compared`, `watched` and `bisected` of those looked at."""
    compared, watched, bisected = (more.pop(name, ()) for name in ("compared", "watched", "bisected"))

    def files(name, designs):
        return {(*place, *found): root / folder_of(place, found) / name for place in places for found in designs}

    searches = {(*place, *found): "-".join(["minimum_epsilon", *found]) for found in bisected for place in places}
    return Attacks(
        null_churn={place: root / folder_of(place) / "null_churn.csv" for place in places},
        dissection=files("dissection.csv", dict.fromkeys([*designs, *watched])),
        budget=files("budget.csv", designs),
        storage=files("storage.csv", compared),
        collateral=files("collateral.csv", watched),
        minimum={key: root.joinpath(*key[:3], "designed", f"{name}.csv") for key, name in searches.items()},
        min_iou=MIN_IOU,
        seed=0,
        **more,
    )


def plausible_layer(root, place, depth, units, designs):
    """All files of a layer: the deeper and the larger eps, the more units are changed."""
    rng = np.random.default_rng([depth, len(place)])
    churn = [{"replicate": r, "unit": u, "changed": rng.random() < 0.3} for r in range(4) for u in range(units)]
    write(root, place, None, "null_churn.csv", table(CHURN, *churn))
    category = rng.choice(CATEGORIES[:5], units)
    clean = {"clean_iou": 0.05 + 0.2 * rng.random(units), "clean_category": category}
    strength = rng.random(units)
    for found in designs:
        _, eps, mode, _ = found
        chance = min(0.97, (0.25 + 0.12 * depth) * eps / 4)
        rows, hits = pd.DataFrame(clean | {"unit": range(units)}), mode == "targeted"
        rows["manipulated"], rows["target_hit"] = strength < chance, hits & (strength < 0.6 * chance)
        rows["fixed_manipulated"] = rows["manipulated"]
        rows["fixed_target_hit"] = hits & (strength < 0.12 * eps)
        rows["noise_manipulated"] = rng.random(units) < 0.3 * chance
        rows = rows.assign(n_poisoned=9, fraction_poisoned=0.09, linf=eps, l2=300, psnr=38, ssim=0.97)
        write(root, place, found, "dissection.csv", rows.reindex(columns=DISSECTION))
        parts = [
            rows.assign(budget=b, n_poisoned=round(100 * b), manipulated=strength < chance * (b / 0.1) ** 0.4)
            for b in BUDGETS
        ]
        write(root, place, found, "budget.csv", pd.concat(parts).reindex(columns=BUDGET))
        write(root, place, found, "storage.csv", _plausible_storage(rows, strength, chance, rng))
        one = rows[:1].assign(unit=-1) if mode == "shared" else rows
        one = one.assign(others=80, others_changed=rng.integers(4, 14, len(one)), top1_changed=3, noise_top1_changed=1)
        one["noise_others_changed"] = rng.integers(2, 8, len(one))
        write(root, place, found, "collateral.csv", one.reindex(columns=COLLATERAL))
    least = np.ceil(strength * 4 / (0.25 + 0.12 * depth))
    least = pd.DataFrame(clean | {"unit": range(units), "minimum_epsilon": np.where(least > 16, np.nan, least)})
    write_minimum(root, place, least.reindex(columns=MINIMUM))


def _plausible_storage(rows, strength, chance, rng):
    """Storages that keep less and less of the attack, and change more and more by themselves."""
    kept, lost = (1, 1, 0.8, 0.5, 0.45), (0, 0, 0.1, 0.3, 0.35)
    parts = [
        rows.assign(storage=name, manipulated=strength < chance * keep)
        .assign(control_manipulated=rng.random(len(rows)) < lose)
        .assign(control_linf=0, control_l2=0, control_psnr=math.inf, control_ssim=1)
        for name, keep, lose in zip(STORAGES, kept, lost, strict=True)
    ]
    return pd.concat(parts).reindex(columns=STORAGE)


def plausible(root, models, units, eps=(2, 4, 6), modes=("untargeted", "targeted", "shared")) -> Attacks:
    """Attacks on several layers of several networks, with their files."""
    designs = [design(mode, size) for size in eps for mode in modes]
    for model, layers in models.items():
        for depth, layer in enumerate(layers):
            plausible_layer(root, f"{model}/{layer}", depth, units, designs)
    largest = [found for found in designs if found[1] == max(eps) and found[2] != "targeted"]
    more = {"budgets": BUDGETS, "storages": STORAGES, "compared": largest, "watched": largest}
    return attacks_on(root, designs, places_of(models), bisected=BISECTED, highest=16, **more)
