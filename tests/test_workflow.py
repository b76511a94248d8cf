"""The main job from an empty folder to its tables: every artifact, any batch size, and what reruns when."""

import hashlib
import html
import json
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from PIL import Image
from report_site import read_script
from workflow_runs import CONFIG, DESIGNED, LITE, NOISE, OF_RUN, ROOT, TRAINED, UNTARGETED, assert_same, run_recipes

from nemesis.corruption.mixed import NoisyMaps
from nemesis.corruption.noisy import compare_noisy, dissect_noisy, noisy_images
from nemesis.dissection.dissect import Run, dissect_layer, load_concepts
from nemesis.dissection.extract import ExtractionSettings, extract_activations, probe_images
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.figures.tables import read_markdown
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network
from nemesis.perturb.noise import StoredNoise, draw_seed
from nemesis.probes.probe import open_probe

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

LAYERS = {"blocks.2": 24, "blocks.4": 40}  # units
layers = pytest.mark.parametrize("layer", LAYERS)
KEPT = ["counts", "image", "max", "top_image", "top_maps", "top_max"]  # of a streamed layer
DISSECTION = ["unit", "label", "category", "iou", "intersection", "union"]
DISSECTION += [f"{name}_{place}" for place in range(2, 6) for name in ("label", "iou")]


def read_store(path, **arrays):
    """Check a store's attributes, and each array's kind, type, shape and dimension names; its arrays in memory."""
    store = zarr.open_group(path, mode="r")
    assert store.attrs["nemesis_version"]
    assert len(store.attrs["config_hash"]) == 64
    folder = next(parent for parent in path.parents if (parent / "config.yaml").exists())
    created = store.attrs["created_from"]
    assert created
    assert created == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in created}
    for name, (dtype, shape, dims) in arrays.items():
        array = store[name]
        assert (name, str(array.dtype), array.shape) == (name, dtype, shape)
        assert list(array.metadata.dimension_names) == array.attrs["dimensions"] == dims
        assert array.attrs["units"]
    return {name: array[...] for name, array in store.arrays()}


def read_csv(path):
    raw = path.read_bytes()
    assert b"\r" not in raw
    raw.decode("utf-8")
    return pd.read_csv(path, keep_default_na=False)


def test_everything_is_there_and_the_summary_was_printed(finished):
    place = finished.place
    wanted = [f"{OF_RUN}/tables/{name}.{ending}" for name in ("labels", "noise") for ending in ("csv", "md")]
    wanted += [
        f"{OF_RUN}/{kind}" for kind in ("tables/figure_2a.csv", "figures/figure_2a.svg", "figures/figure_2b.png")
    ]
    assert [name for name in wanted if not (place.folder / name).stat().st_size] == []
    assert (place.folder / f"{OF_RUN}/report/headline.txt").read_text() in finished.ended.text
    summary = (place.folder / f"{OF_RUN}/tables/summary.txt").read_text()
    for layer, units in LAYERS.items():
        assert f"{layer} " in summary and f" of {units}" in summary
    logs = list((place.folder / "logs").rglob("*.log"))
    assert len(logs) == sum(finished.ended.jobs.values()) == 34
    assert [log for log in logs if "done in" not in log.read_text()] == []
    assert len(list((place.folder / "benchmarks").rglob("*.tsv"))) == len(logs)


def test_nothing_temporary_is_left(finished):
    assert finished.place.rests() == []
    for part in ("activations-*", "clean/shards/*", f"{NOISE}/shards/*"):
        assert list((finished.place.folder / "results").rglob(part)) == []


def test_a_second_call_does_nothing(finished):
    before = finished.place.bytes_of("**/*")
    ended = finished.place.finish("all", TRAINED)
    assert "Nothing to be done" in ended.text
    assert_same(finished.place.bytes_of("**/*"), before)


def test_probe(finished):
    folder = finished.place.folder / "results/probes/drawn"
    path = folder / "probe.zarr"
    planes = zarr.open_group(path, mode="r")["labels"].shape[1]
    slots = zarr.open_group(path, mode="r")["scalars"].shape[1]
    store = read_store(
        path,
        images=("uint8", (24, 3, 64, 64), ["image", "channel", "y", "x"]),
        labels=("uint16", (24, planes, 32, 32), ["image", "plane", "y", "x"]),
        scalars=("uint16", (24, slots), ["image", "slot"]),
    )
    for number in (0, 23):
        drawn = Image.open(folder / "broden/images" / store["names"][number])
        assert (np.asarray(drawn).transpose(2, 0, 1) == store["images"][number]).all()
    concepts = read_csv(folder / "concepts.csv")
    assert list(concepts) == ["number", "name", "category", "frequency", "coverage"]
    present = set(np.unique(store["labels"])) | set(np.unique(store["scalars"]))
    assert present - {0} == set(concepts["number"][concepts["frequency"] > 0])


@pytest.mark.parametrize(("model", "layer", "units"), [("lite", "blocks.4", 40), ("vgg", "conv5", 128)])
def test_model(finished, model, layer, units):
    folder = finished.place.folder / "results/models" / model
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert card["source"] and card["mean"] == card["std"] == [0.5, 0.5, 0.5]
    assert {entry["name"]: entry["shape"][0] for entry in card["layers"]}[layer] == units
    assert (card["accuracy"] is not None) == (model == "vgg")


@layers
def test_clean_artifacts(finished, layer):
    folder, units = finished.place.folder / LITE / layer / "clean", LAYERS[layer]
    side = {"blocks.2": 16, "blocks.4": 8}[layer]
    maps = read_store(
        finished.place.folder / LITE / "clean/activations.zarr" / layer,
        maps=("float16", (units, 24, side, side), ["unit", "image", "y", "x"]),
        max=("float16", (units, 24), ["unit", "image"]),
        image=("uint32", (24,), ["image"]),
    )
    assert (maps["max"] == maps["maps"].max(axis=(2, 3))).all()
    assert (maps["image"] == np.arange(24)).all()
    thresholds = read_csv(folder / "thresholds.csv")
    assert list(thresholds) == ["unit", "threshold", "n_values", "exceeding_fraction", "dead"]
    above = maps["maps"].astype(float) > thresholds["threshold"].to_numpy()[:, None, None, None]
    assert (thresholds["exceeding_fraction"] == above.mean(axis=(1, 2, 3))).all()
    assert (thresholds["n_values"] == 24 * side**2).all()
    assert ((thresholds["exceeding_fraction"] > 0) == ~thresholds["dead"].astype(bool)).all()
    assert thresholds["exceeding_fraction"].max() < 0.005 + 1 / (24 * side**2)
    table = read_csv(folder / "dissection.csv")
    assert list(table)[: len(DISSECTION)] == DISSECTION
    assert list(table["unit"]) == list(thresholds["unit"]) == list(range(units))
    names = zarr.open_group(folder / "tally.zarr", mode="r").attrs
    concepts, categories = len(names["concepts"]), len(names["categories"])
    tally = read_store(
        folder / "tally.zarr",
        intersection=("int64", (units, concepts), ["unit", "concept"]),
        unit_area=("int64", (units, categories), ["unit", "category"]),
        concept_area=("int64", (concepts,), ["concept"]),
        iou=("float64", (units, concepts), ["unit", "concept"]),
    )
    assert (table["iou"] == tally["iou"].max(axis=1)).all()
    assert list(table["label"]) == [names["concepts"][number] for number in tally["iou"].argmax(axis=1)]
    churn = read_csv(folder / "null_churn.csv")
    assert list(churn["replicate"]) == [0] * units + [1] * units
    assert list(churn["unit"]) == 2 * list(range(units))


@layers
def test_noise_artifacts(finished, layer):
    folder, units = finished.place.folder / LITE / layer, LAYERS[layer]
    clean, table = read_csv(folder / "clean/dissection.csv"), read_csv(folder / NOISE / "dissection.csv")
    wanted = ["fraction", "seed", "unit", "clean_label", "clean_iou", "label", "category", "iou", "manipulated"]
    assert list(table)[: len(wanted)] == wanted
    assert list(table["fraction"]) == [0.5] * units + [1.0] * units
    assert list(table["unit"]) == 2 * list(range(units))
    assert set(table["seed"]) == {0}
    assert list(table["clean_label"]) == 2 * list(clean["label"])
    assert list(table["clean_iou"]) == 2 * list(clean["iou"])
    assert list(table["manipulated"].astype(bool)) == list(table["label"] != table["clean_label"])


def test_tables(finished):
    folder = finished.place.folder / OF_RUN / "tables"
    labels, noise = read_csv(folder / "labels.csv"), read_csv(folder / "noise.csv")
    assert list(labels["layer"]) == list(LAYERS) and list(labels["units"]) == list(LAYERS.values())
    assert list(noise["layer"]) == [layer for layer in LAYERS for _ in (0.5, 1.0)]
    for _, row in noise.iterrows():
        table = read_csv(finished.place.folder / LITE / row["layer"] / NOISE / "dissection.csv")
        chosen = table[(table["fraction"] == row["fraction"]) & (table["clean_iou"] >= 0.04)]
        assert row["units"] == len(chosen) > 0
        assert row["manipulated"] == pytest.approx(chosen["manipulated"].astype(bool).mean())
        assert row["low"] <= row["manipulated"] <= row["high"]


def test_designed_artifacts(finished):
    place = finished.place.folder / UNTARGETED
    store = zarr.open_group(place / "poison.zarr", mode="r")
    count = store["image"].shape[0]
    poison = read_store(
        place / "poison.zarr",
        delta=("int8", (count, 3, 64, 64), ["row", "channel", "y", "x"]),
        unit=("int32", (count,), ["row"]),
        image=("int32", (count,), ["row"]),
        source=("int32", (count,), ["row"]),
        target=("int32", (count,), ["row"]),
    )
    attrs = store.attrs
    assert (attrs["eps"], attrs["steps"], attrs["seed"]) == (6, 10, CONFIG["seed"])
    assert attrs["alpha"] == pytest.approx(1.2)
    clean = zarr.open_group(finished.place.folder / "results/probes/drawn/probe.zarr", mode="r")["images"][...]
    stored = clean[poison["image"]].astype(int) + poison["delta"]
    assert stored.min() >= 0 and stored.max() <= 255 and np.abs(poison["delta"]).max() == 6
    table = read_csv(place / "dissection.csv")
    wanted = ["unit", "clean_label", "clean_iou", "source", "target", "label", "category", "iou", "source_iou"]
    wanted += ["target_iou", "manipulated", "target_hit", "n_poisoned", "fraction_poisoned", "linf", "threshold"]
    assert set(wanted) <= set(table)
    assert list(table["unit"]) == sorted(set(poison["unit"])) and len(table) == 2
    assert (table["n_poisoned"] == np.bincount(poison["unit"])[table["unit"]]).all()
    assert table["n_poisoned"].max() <= 2 and (table["linf"] <= 6).all()  # 10% of 24 images
    assert list(table["manipulated"].astype(bool)) == list(table["label"] != table["source"])
    assert not read_csv(place / "storage.csv").query("storage == 'lossless'")["control_manipulated"].astype(bool).any()
    assert list(read_csv(place / "collateral.csv")["unit"]) == list(table["unit"])
    minimum = pd.read_csv(finished.place.folder / DESIGNED / "minimum_epsilon-pgd-segmentation.csv")
    assert ((minimum["minimum_epsilon"] <= 6) == table["manipulated"].astype(bool)).all()


def dissect_again(folder, out, batch: int):
    """The main job by calls of the library, at another batch size: noise's record, clean and noisy tables by layer."""
    probe = open_probe(folder / "results/probes/drawn/probe.zarr")
    concepts = load_concepts(folder / "results/probes/drawn/concepts.csv", probe)
    network = build_network("lite", CONFIG["models"]["lite"], folder / "results/models/lite/weights.safetensors")
    seed = draw_seed(CONFIG["seed"], 0)
    sources = {
        "clean": probe_images(probe),
        "noisy": noisy_images(probe, StoredNoise("gaussian", 0.05, "lossless"), 1.0, seed),
    }
    for name, source in sources.items():
        with LayerReader(network, list(LAYERS), "cpu", pad_to=batch) as reader:
            extract_activations(reader.read, source, out / name, ExtractionSettings(batch))
    clean, noisy = {}, {}
    for layer in LAYERS:
        maps = open_maps(out / "clean", layer)
        run = Run(maps, layer_thresholds(maps, 0.005, "exact").threshold)
        ((_, _, clean[layer]),) = dissect_layer([run], probe, concepts, "cpu", "published")
        draws = {(0, seed): open_maps(out / "noisy", layer)}
        settings = {"quantile": 0.005, "threshold": "exact", "iou": "published"}
        runs = dissect_noisy(NoisyMaps(maps, draws, [0.5, 1.0]), probe, concepts, "cpu", settings)
        noisy[layer] = compare_noisy(runs, clean[layer], clean[layer]["unit"])
    return sources["noisy"], clean, noisy


def test_batch_size_changes_no_noise_no_label_and_hardly_an_iou(finished, tmp_path):
    folder, threads = finished.place.folder, torch.get_num_threads()
    torch.set_num_threads(1)
    results = {batch: dissect_again(folder, tmp_path / str(batch), batch) for batch in (7, 64)}
    torch.set_num_threads(threads)
    (source, *few), (other, *many) = results.values()
    parts = [source.load(start, min(start + 7, 24)) for start in range(0, 24, 7)]
    assert (np.concatenate(parts) == other.load(0, 24)).all()
    assert all((source.record[name] == other.record[name]).all() for name in ("linf", "mse"))
    largest = 0.0
    for layer in LAYERS:
        stored = (
            read_csv(folder / LITE / layer / "clean/dissection.csv"),
            read_csv(folder / LITE / layer / NOISE / "dissection.csv"),
        )
        for table, *others in zip(
            stored, (few[0][layer], few[1][layer]), (many[0][layer], many[1][layer]), strict=True
        ):
            for found in others:
                assert list(found["label"]) == list(table["label"])
                largest = max(largest, np.abs(found["iou"].to_numpy() - table["iou"].to_numpy()).max())
    print(f"largest difference of an IoU between batches of 7 and 64: {largest:.3g}")
    assert largest < 1e-3


def test_streamed_layers_in_one_shard_give_the_same_tables(finished, tmp_path):
    place = finished.place.copied(tmp_path / "place")
    place.remove("results/drawn")
    place.configure(extraction=None, dissection=CONFIG["dissection"] | {"max_store_gb": 0})
    folders = [f"{layer}/{part}" for layer in LAYERS for part in ("clean", NOISE)]
    place.finish(*(f"{LITE}/{folder}/dissection.csv" for folder in folders))
    assert sorted(zarr.open_group(place.folder / LITE / "clean/activations.zarr/blocks.2", mode="r")) == KEPT
    tables, stored = (one.bytes_of("drawn/**/*.csv") for one in (place, finished.place))
    assert len(tables) == 4 * len(LAYERS)
    assert_same(tables, {name: stored[name] for name in tables})
    for part in ("clean/tally.zarr", f"{NOISE}/tops.zarr"):
        found, expected = (one.bytes_of(f"drawn/**/{part}/*/c/**/*") for one in (place, finished.place))
        assert found
        assert_same(found, expected)


CLEAN_JOBS = {"compute_thresholds": 2, "dissect": 2}
EXTRACTION_JOBS = {"extract_activations": 2, "gather_activations": 1}
NOISE_JOBS = {"extract_noisy": 2, "gather_noisy": 1, "dissect_noise": 2}
AGAIN_JOBS = {"dissect_designed": 2, "compare_storage": 1, "measure_collateral": 2, "minimum_epsilon": 1}
ATTACK_JOBS = {"poison_images": 4, "gather_poison": 2} | AGAIN_JOBS
PLOT_JOBS = {"plot_tables": 1, "plot_designed": 1}
SHOWN_JOBS = PLOT_JOBS | {"plot_unit": 1}
REDRAWN_JOBS = {"plot_designed": 1, "plot_unit": 1}
PAGE_JOBS = {"write_report": 1}
REPORT_JOBS = {"show_units": 2} | PAGE_JOBS
WHOLE_JOBS = EXTRACTION_JOBS | CLEAN_JOBS | NOISE_JOBS | ATTACK_JOBS | SHOWN_JOBS | REPORT_JOBS
EDITS = {
    "nemesis/scoring/intervals.py": PLOT_JOBS | PAGE_JOBS,
    "nemesis/dissection/counts.py": WHOLE_JOBS,
    "nemesis/perturb/noise.py": WHOLE_JOBS,  # clean maps and noisy ones are extracted by one script
    "nemesis/corruption/attack.py": ATTACK_JOBS | REDRAWN_JOBS | {"show_units": 1} | PAGE_JOBS,
    "nemesis/corruption/collateral.py": {"measure_collateral": 2, "plot_designed": 1} | PAGE_JOBS,
    "nemesis/models/training.py": {"train_tinyvgg": 1},
    "nemesis/pages/site.py": PAGE_JOBS,
    "compute_thresholds.py": CLEAN_JOBS | NOISE_JOBS | ATTACK_JOBS | SHOWN_JOBS | REPORT_JOBS,
}


@pytest.fixture(scope="module")
def editable(finished, tmp_path_factory):
    workflow = finished.place.workflow
    return finished.place.copied(tmp_path_factory.mktemp("edited") / "place", workflow.with_name("edited-workflow"))


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_reruns_the_rules_that_use_it(editable, name):
    path = editable.workflow / "scripts" / name
    text = path.read_text()
    path.write_text(text + "# an edit\n")
    try:
        assert editable.finish("--dry-run", "all", TRAINED).jobs == EDITS[name]
    finally:
        path.write_text(text)


def test_the_report_shows_every_number_of_the_tables(finished):
    """Every number in a cell of the page is a rounded number of the same line of its CSV (several lines: of any)."""
    folder = finished.place.folder / OF_RUN
    page = (folder / "report/index.html").read_text()
    names = re.findall(r'data-table="(\w+)"', page)
    assert {"labels", "noise", "figure_2a", "margin", "designed", "table_2", "budget", "storage"} <= set(names)
    for name in names:
        table = pd.read_csv(folder / "tables" / f"{name}.csv", keep_default_na=False)
        header, rows, _ = read_markdown((folder / "tables" / f"{name}.md").read_text())
        shown = re.search(rf'data-table="{name}".*?</table>', page, re.S).group()
        cells = [html.unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", shown, re.S)]
        assert cells == [cell for row in rows for cell in row]
        for number, row in enumerate(rows):
            lines = table.iloc[[number]] if len(rows) == len(table) else table
            known = [str(value) for value in lines.to_numpy().ravel()]
            for cell, column in zip(row, header, strict=True):
                if cell not in known:
                    assert_rounded(cell, known, f"{name}, {column}")


def assert_rounded(cell: str, known: list[str], where: str):
    """Each number of a cell is one of the known, rounded to its places, as it is or in per cent."""
    values = [float(value) for value in known if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", value)]
    for text in re.findall(r"-?[0-9]+\.?[0-9]*", cell):
        allowed = 0.5 * 10.0 ** -len(text.partition(".")[2]) + 1e-9
        found = [value for value in values for scale in (1, 100) if abs(scale * value - float(text)) <= allowed]
        assert found, f"{where}: {cell} has {text}, which its CSV lacks"


def test_the_report_shows_every_unit_of_the_tables(finished):
    folder = finished.place.folder
    for layer in LAYERS:
        data = read_script((folder / OF_RUN / "report/layers/drawn/lite" / layer / "units.js").read_text())
        clean = read_csv(folder / LITE / layer / "clean/dissection.csv")
        for name in ("unit", "label", "category", "iou", "label_2", "iou_2"):
            assert data["units"][name] == clean[name].tolist(), name
        tables = [part for _, part in read_csv(folder / LITE / layer / NOISE / "dissection.csv").groupby("fraction")]
        if layer == "blocks.4":
            paths = [UNTARGETED, UNTARGETED.replace("untargeted", "shared")]
            tables += [read_csv(folder / path / "dissection.csv") for path in paths]
            minimum = read_csv(folder / DESIGNED / "minimum_epsilon-pgd-segmentation.csv").set_index("unit")
            shown = dict(zip(data["units"]["unit"], data["units"]["minimum_epsilon"], strict=True))
            assert {unit: value for unit, value in shown.items() if value is not None} == {
                unit: float(row["minimum_epsilon"]) for unit, row in minimum.iterrows() if row["minimum_epsilon"] != ""
            }
        assert len(data["settings"]) == len(tables)
        for setting, table in zip(data["settings"], tables, strict=True):
            for name in ("unit", "label", "category", "iou", "manipulated"):
                assert setting["rows"][name] == table[name].tolist(), name


def test_snakemake_makes_a_report(finished, tmp_path):
    finished.place.finish("--report", tmp_path / "report.zip")
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = archive.namelist()
        text = archive.read(next(name for name in names if name.endswith("report.html"))).decode()
    for name in ("figure_2a", "figure_3", "null_churn", "table_2", "minimum_epsilon", "storage"):
        assert any(name in one for one in names) and f"{name}" in text
    assert "How few images are enough?" in text and "rulegraph" in text.lower()


def test_the_recipes_of_the_docs_work(finished, tmp_path):
    """All but the one about descriptions, which test_workflow_milan runs."""
    text = (ROOT / "docs/artifacts.md").read_text()
    run_recipes(
        re.sub(r"## Descriptions that changed.*?\n## ", "## ", text, flags=re.S), finished.place.folder, tmp_path
    )
    assert Image.open(tmp_path / "iou.png").size[0] > 300
    poison = zarr.open_group(finished.place.folder / UNTARGETED / "poison.zarr", mode="r")
    images = zarr.open_group(finished.place.folder / "results/probes/drawn/probe.zarr", mode="r")["images"]
    expected = images[int(poison["image"][0])].astype(int) + poison["delta"][0]
    assert (np.asarray(Image.open(tmp_path / "poisoned.png")) == expected.transpose(1, 2, 0)).all()
