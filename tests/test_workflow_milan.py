"""The milan section, on a copy of a finished run: descriptions of a drawn probe's units and of a folder's."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from PIL import Image
from report_site import read_script
from workflow_runs import (
    CONFIG,
    DESCRIBED,
    LITE,
    MILAN,
    MILAN_CONFIG,
    MILAN_STOPS,
    NOISE,
    OF_RUN,
    POISONED,
    ROOT,
    Made,
    assert_refused,
    assert_same,
    kill_in_rules,
    run_recipes,
)

from nemesis.scoring.descriptions import split_scores

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
PHOTOS = 9
ATTACK = "designed/pgd-6-targeted-exemplars"


def draw_photos(folder):
    """Images of two classes, of different sizes, without masks."""
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        path = folder / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8 + number, 9, 3), np.uint8).repeat(9, axis=0).repeat(9, axis=1)
        Image.fromarray(pixels).save(path)


def add_milan(finished, folder, **changes):
    place = finished.place.copied(folder)
    draw_photos(place.folder)
    place.configure(**MILAN_CONFIG | changes)
    return place


@pytest.fixture(scope="module")
def described(finished, tmp_path_factory):
    place = add_milan(finished, tmp_path_factory.mktemp("milan") / "place")
    return Made(place, place.finish(cores=2))


def read(described, name):
    return pd.read_csv(described.place.folder / name, keep_default_na=False)


def read_scores_of(described, probe, corruption):
    """The scores of a corruption of blocks.4, only with its own columns."""
    return split_scores(described.place.folder / OF_RUN / f"milan/{probe}/lite/scores.csv")["blocks.4", corruption]


def test_exemplars(described):
    folder = described.place.folder
    for name, rows, columns in (
        (f"{DESCRIBED}/clean/milan/exemplars.zarr", 3, []),
        (f"{DESCRIBED}/clean/milan/null.zarr", 3, ["replicate"]),
        (f"{DESCRIBED}/{NOISE}/milan/exemplars.zarr", 3, ["fraction", "seed"]),
        (f"{POISONED}/milan/exemplars.zarr", 8, ["count", "control", "target_unit"]),
    ):
        store = zarr.open_group(folder / name, mode="r")
        assert store["ids"].shape == store["activations"].shape == store["picture"].shape == (rows, 4)
        assert store["masks"].shape == (rows, 4, 1, 32, 32) and store["masks"].dtype == bool
        assert store["pictures"].shape[1:] == (3, 32, 32) and store["pictures"].dtype == np.uint8
        assert store["picture"][...].max() < store["pictures"].shape[0]
        assert set(store.attrs["columns"]) == set(columns)
        assert (np.diff(store["activations"][...], axis=1) <= 0).all()
    clean = zarr.open_group(folder / f"{DESCRIBED}/clean/milan/exemplars.zarr", mode="r")
    highest = zarr.open_group(folder / f"{LITE}/clean/activations.zarr/blocks.4", mode="r")["max"][...]
    for unit, values in zip(clean["unit"][...], clean["activations"][...], strict=True):
        np.testing.assert_array_equal(np.sort(highest[unit])[::-1][:4], values.astype(np.float16))


def test_descriptions_and_scores(described):
    threshold = json.loads((described.place.folder / "results/milan/threshold.json").read_text())
    clean = read(described, f"{DESCRIBED}/clean/milan/descriptions.csv").set_index("unit")
    assert len(clean) == 3 and list(clean) == ["description", "score"]
    for corruption, rows in (("null", 3), (NOISE, 3), (ATTACK, 8)):
        scores = read_scores_of(described, "drawn", corruption)
        assert len(scores) == rows
        assert list(scores["clean"]) == list(clean.loc[scores["unit"], "description"])
        same = scores["clean"] == scores["corrupted"]
        expected = (scores["f1"].astype(float) <= threshold["threshold"]) & ~same
        assert list(scores["manipulated"].astype(bool)) == list(expected)
    scores = read_scores_of(described, "drawn", ATTACK)
    assert list(scores["count"]) == 4 * [2, 4] and list(scores["control"]) == 2 * [0, 0, 1, 1]
    assert list(scores["target"]) == list(clean.loc[scores["target_unit"], "description"])
    predictions = read(described, f"{POISONED}/predictions.csv")
    assert list(predictions["count"]) == 2 * [2, 4] and set(predictions["n_images"]) == {24}


def test_a_folder_of_images_is_described_but_not_dissected(described):
    place = described.place
    assert len(read(described, "results/photos/lite/blocks.4/clean/milan/descriptions.csv")) == 3
    for corruption in ("null", NOISE):
        assert len(read_scores_of(described, "photos", corruption)) == 3
    assert not place.exists("results/photos/lite/blocks.4/clean/dissection.csv")
    assert len(read(described, "results/probes/photos/concepts.csv")) == 0


def test_tables_and_figures(described):
    table = read(described, f"{OF_RUN}/tables/table_1.csv")
    assert list(table["probe"]) == ["drawn", "photos"] and (table["units"] == 3).all()
    for name in ("table_3", "table_4", "figure_5", "milan_figure_2a"):
        assert len(read(described, f"{OF_RUN}/tables/{name}.csv"))
    for name in ("milan_figure_2a", "figure_5", "figure_3_milan", "milan_units"):
        with Image.open(described.place.folder / f"{OF_RUN}/figures/{name}.png") as image:
            assert min(image.size) > 100
    quality = read(described, "results/milan/regions/quality.csv").iloc[0]
    assert quality["n"] > 0 and quality["low"] <= quality["difference"] <= quality["high"]
    assert (described.place.folder / f"{OF_RUN}/tables/milan.txt").stat().st_size
    assert (described.place.folder / f"{OF_RUN}/report/headline.txt").read_text() in described.ended.text


def test_the_recipes_of_the_docs_work(described, tmp_path):
    run_recipes((ROOT / "docs/artifacts.md").read_text(), described.place.folder, tmp_path)


def test_descriptions_in_the_report(described):
    """Noise, an attack on exemplars, and a folder of images, each with the numbers of its CSV."""
    folder = described.place.folder
    for probe in ("drawn", "photos"):
        layer = f"results/{probe}/lite/blocks.4"
        data = read_script((folder / f"{OF_RUN}/report/layers/{probe}/lite/blocks.4/units.js").read_text())
        texts = read(described, f"{layer}/clean/milan/descriptions.csv")
        shown = zip(data["units"]["unit"], data["units"]["description"], strict=True)
        assert {unit: text for unit, text in shown if text is not None} == dict(
            zip(texts["unit"], texts["description"], strict=True)
        )
        noise = next(
            one for one in data["settings"] if one["corruption"] == "gaussian noise" and one["part"][:4] == "100%"
        )
        scores = read_scores_of(described, probe, NOISE).set_index("unit")
        found = {unit: row for row, unit in enumerate(noise["rows"]["unit"])}
        for unit, line in scores.iterrows():
            assert noise["rows"]["description"][found[unit]] == line["corrupted"]
            assert noise["rows"]["f1"][found[unit]] == line["f1"]
            assert noise["rows"]["redescribed"][found[unit]] == line["manipulated"]
        attacks = data["settings"][-4:]  # two counts, and noise of the same size
        names = ["pgd, targeted, exemplars", "noise instead of pgd, targeted, exemplars"]
        assert [one["corruption"] for one in attacks] == [name for name in names for _ in range(2)]
        table = read_scores_of(described, probe, ATTACK)
        for setting, (_, part) in zip(attacks, table.groupby(["control", "count"]), strict=True):
            assert setting["rows"]["f1"] == part["f1"].tolist()
            assert setting["rows"]["target"] == part["target"].tolist()
            assert setting["pieces"] == [part["unit"].tolist()]


def test_a_second_call_does_nothing(described):
    assert "Nothing to be done" in described.place.finish("--dry-run").text
    assert described.place.rests() == []


def test_killed_in_every_rule_the_answer_is_the_same(finished, described, tmp_path):
    place = add_milan(finished, tmp_path / "place")
    assert sorted(kill_in_rules(place, MILAN_STOPS)) == sorted(MILAN_STOPS)
    place.finish(cores=4)
    for pattern in ("**/milan/**/*", "runs/*/tables/*", "runs/*/figures/*", "**/*-exemplars/**/*"):
        assert_same(place.bytes_of(pattern), described.place.bytes_of(pattern))
    assert place.rests() == []


BAD = {
    "k above the probe": (
        {"milan": MILAN | {"exemplars": 25}},
        f"{LITE}/blocks.4/clean/milan/exemplars.zarr/zarr.json",
        ["milan.exemplars: 25 images a unit are wanted, but probe drawn has 24 images; lower it"],
    ),
    "a unit that does not exist": (
        {"milan": MILAN | {"units": [3, 400]}},
        f"{LITE}/blocks.4/clean/milan/exemplars.zarr/zarr.json",
        ["milan.units: layer blocks.4, unit 400 does not exist"],
    ),
    "a scorer without weights": (
        {"milan": MILAN | {"scorer": {"kind": "folder", "path": "empty", "layers": 2}}},
        "results/milan/threshold.json",
        ["empty"],
    ),
    "units explained on the captioner's probe": (
        {"milan": MILAN | {"captioner": {"kind": "regions", "probe": "drawn"}}},
        "all",
        ["milan.captioner.probe: units are explained on 'drawn' too"],
    ),
    "nothing to calibrate on": (
        {"milan": MILAN | {"captioner": {"kind": "checkpoint", "path": "milan.pth"}}},
        "all",
        ["milan.threshold: only a captioner of kind regions"],
    ),
    "a checkpoint that executes code": (
        {"milan": MILAN | {"captioner": {"kind": "checkpoint", "path": "evil.pth"}, "threshold": 0.6}},
        "results/milan/checkpoint/captioner.json",
        ["evil.pth"],
    ),
    "a layer that no experiment has": (
        {"milan": MILAN | {"layers": ["blocks.5"]}},
        "all",
        ["milan.layers: no experiment has layer 'blocks.5'"],
    ),
}


class Evil:
    """Pickled, it asks to call a function when it is loaded."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(finished, tmp_path, case):
    changes, target, parts = BAD[case]
    place = add_milan(finished, tmp_path / "place", **changes)
    (place.folder / "empty").mkdir()
    torch.save({"properties": Evil()}, place.folder / "evil.pth", pickle_module=pickle)
    ended = place.run(target)
    assert_refused(ended, *parts)
    assert "executed" not in ended.text
    assert target == "all" or not place.exists(target)


def test_an_edit_of_the_search_describes_again(described, tmp_path):
    workflow = described.place.workflow
    place = described.place.copied(tmp_path / "place", workflow.with_name("milan-workflow"))
    path = place.workflow / "scripts" / "nemesis" / "milan" / "describe.py"
    path.write_text(path.read_text() + "# an edit\n")
    jobs = place.finish("--dry-run").jobs
    assert jobs["describe_milan"] == 2 and jobs["describe_corrupted"] == 4 and "compute_exemplars" not in jobs
    assert CONFIG["seed"] == 3
