"""Bad input, damaged stores and full disks end a run with one line, and leave nothing that a later run would trust."""

import copy
import csv
import os
import re
import resource
import subprocess

import pytest
from PIL import Image
from tiny_probe import IMAGE_SIZE, LABEL_SIZE, tiny_rows, write_tidy_broden
from workflow_runs import CONFIG, LITE, TRAINED, assert_refused, new_place

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def probe_files(name: str) -> list[str]:
    return [f"results/probes/{name}/{file}" for file in ("probe.zarr/zarr.json", "probe.zarr", "concepts.csv")]


def use_probes(place, names):
    """Give the place probes of kind broden in folders of their own names, each in an experiment."""
    probes = {name: {"kind": "broden", "path": name} for name in names}
    models = {"lite": CONFIG["models"]["lite"]}
    experiments = [{"probe": name, "model": "lite", "layers": ["blocks.2"]} for name in names]
    place.configure(probes=probes, models=models, experiments=experiments, designed=None)


# Config: what is wrong, and what the line says.
EXPERIMENT = CONFIG["experiments"][0]
CONFIGS = {
    "misspelt key": ({"disection": {}}, ["key 'disection' is not known", "did you mean 'dissection'?"]),
    "negative std": ({"noise": {"std": [0.05, -0.1]}}, ["noise.std[1]: -0.1 is below 0"]),
    "unknown model": (
        {"experiments": [EXPERIMENT | {"model": "light"}]},
        ["experiments[0].model: there is no model 'light'", "models has lite, vgg"],
    ),
    "no such folder": (
        {"probes": {"drawn": {"kind": "broden", "path": "data/nowhere"}}},
        ["probes.drawn.path: data/nowhere has no index.csv"],
    ),
    "unknown kind of model": (
        {"models": CONFIG["models"] | {"lite": {"kind": "efficientnet_lite1"}}},
        ["models.lite.kind: 'efficientnet_lite1' is not one of", "did you mean 'efficientnet_lite0'?"],
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_config(tmp_path, workflow, case):
    changes, parts = CONFIGS[case]
    place = new_place(tmp_path, workflow, **changes)
    assert_refused(place.run(), str(tmp_path / "config.yaml"), *parts)
    assert not place.exists("results")


def test_several_files_and_keys_of_the_call(tmp_path, workflow):
    """The files of a call and its keys are one config; each file is read strictly."""
    place = new_place(tmp_path / "it's 100% {odd} #1", workflow)
    other = place.folder / "other one.yaml"
    call = ("--dry-run", "--quiet", "rules", "--configfile", place.folder / "config.yaml", other)
    other.write_text("noise: {std: [0.1]}\nmodels: {vgg: {epochs: 3}}\n")
    assert_refused(place.run(*call), "the name of the file, 'other one', cannot be that of the run", "`name: my_run`")
    other.write_text("name: other\n" + other.read_text())
    assert place.run(*call, "--config", "seed=1", "device=cpu").code == 0
    assert_refused(place.run(*call, "--config", "seed=1e3"), "seed: 1000.0 is not of type integer", "write 1000")
    other.write_text("noise: {std: [0.1]}\nthreads: 2\nnoise: {}\n")
    assert_refused(place.run(*call), "other one.yaml: line 3: 'noise' stands there already, in line 1; keep one")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shrink(path):
    with Image.open(path) as image:
        image.resize((8, 12)).save(path)


def drop_row(path, start):
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith(start)))


def keep_header(path):
    path.write_text(path.read_text().splitlines(True)[0])


def drop_masks(path):
    header, *rows = path.read_text().splitlines()
    kept = [",".join(row.split(",")[:6]) + "," * row.count(";") * 0 + "," * (header.count(",") - 5) for row in rows]
    path.write_text("\n".join([header, *kept]) + "\n")


IMAGE, MASK = "images/t/001.png", "images/t/001_object0.png"
# Probe: which file is harmed, how, and what the line says beside the file's name.
PROBES = {
    "missing_image": (IMAGE, os.unlink, "image not found"),
    "truncated_image": (IMAGE, cut, "image cannot be decoded"),
    "small_image": (IMAGE, shrink, f"image is 12x8 (height x width), but index.csv says {IMAGE_SIZE}x{IMAGE_SIZE}"),
    "missing_mask": (MASK, os.unlink, "mask not found"),
    "truncated_mask": (MASK, cut, "mask cannot be decoded"),
    "small_mask": (MASK, shrink, f"mask is 12x8 (height x width), but index.csv says {LABEL_SIZE}x{LABEL_SIZE}"),
    "unnamed_label": ("label.csv", lambda path: drop_row(path, "300,"), "label number 300 is not in label.csv"),
    "unnamed_scalar": ("label.csv", lambda path: drop_row(path, "301,"), "label number 301 is not in label.csv"),
    "empty_index": ("index.csv", keep_header, "has no rows"),
    "no_masks": ("index.csv", drop_masks, "none of its 4 images has a label"),
}


@pytest.fixture(scope="module")
def bad_probes(workflow, tmp_path_factory):
    """One run over all of them, which goes on after each."""
    place = new_place(tmp_path_factory.mktemp("bad-probes"), workflow)
    for name, (file, harm, _) in PROBES.items():
        harm(write_tidy_broden(place.folder / name, tiny_rows(4)) / file)
    use_probes(place, PROBES)
    return place, place.run("--keep-going", *[probe_files(name)[0] for name in PROBES], cores=4)


@pytest.mark.parametrize("name", PROBES)
def test_bad_probe(bad_probes, name):
    place, ended = bad_probes
    file, _, problem = PROBES[name]
    assert ended.code != 0
    assert "Traceback" not in ended.text
    # Jobs that run at once share the terminal: what another one prints can stand behind a line.
    line, *longer = sorted((line for line in ended.complaints if line.startswith(f"nemesis: {name}/")), key=len)
    assert problem in line and all(other.startswith(line) for other in longer), ended.text
    if file != "label.csv":  # then it is the mask or the row that is named
        assert f"{name}/{file}: " in line
    assert [file for file in probe_files(name) if place.exists(file)] == []
    assert place.rests() == []
    assert {re.split("[/:] *", line)[1] for line in ended.complaints} == set(PROBES)


# Models: a loader whose weights are not a number, an architecture that there is not, a layer that there is not.
LOADER = """
import torch

def load():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    model[0].weight.data[2] = float("nan")
    return model
"""


@pytest.fixture(scope="module")
def bad_models(finished, tmp_path_factory):
    place = finished.place.copied(tmp_path_factory.mktemp("bad-models") / "place")
    (place.folder / "broken.py").write_text(LOADER)
    models = copy.deepcopy(CONFIG["models"])
    models["broken"] = {"kind": "file", "loader": "broken.py:load", "mean": [0.5] * 3, "std": [0.5] * 3}
    models["odd"] = {"kind": "torchvision", "arch": "resnet19", "weights": "random"}
    wanted = {"broken": "0", "odd": "blocks.2", "lite": "blocks.99"}
    experiments = [{"probe": "drawn", "model": model, "layers": [layer]} for model, layer in wanted.items()]
    place.configure(models=models, experiments=experiments, designed=None, extraction=None)
    return place, place.run("--keep-going")


@pytest.mark.parametrize(
    ("start", "parts"),
    [
        ("layer 0, unit 2, image minibroden/000000.png: ", ["is NaN or infinite"]),
        ("model odd: torchvision has no arch 'resnet19'", ["near: resnet1"]),
        ("model lite has no layer 'blocks.99'", ["it has stem", "blocks.2", "blocks.15"]),
    ],
    ids=["activations are not numbers", "unknown architecture", "unknown layer"],
)
def test_bad_model(bad_models, start, parts):
    place, ended = bad_models
    assert ended.code != 0
    assert "Traceback" not in ended.text
    (line,) = [line for line in ended.complaints if line.startswith(f"nemesis: {start}")]
    assert [part for part in parts if part not in line] == []
    assert len(ended.complaints) == 3
    assert place.rests() == []
    for folder in ("results/drawn/broken", "results/drawn/lite/clean/activations.zarr/blocks.99", "results/models/odd"):
        assert [path for path in (place.folder / folder).rglob("*") if path.is_file()] == []


def flip_bytes(path):
    """Some, because a compressed file has single bits that stand for nothing."""
    data, middle = bytearray(path.read_bytes()), path.stat().st_size // 2
    data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
    path.write_bytes(data)


def chunk_of(store):
    """The first chunk file of an array of a store."""
    return next(path for path in sorted((store / "c").rglob("*")) if path.is_file())


def test_damaged_activations(finished, tmp_path):
    place = finished.place.copied(tmp_path / "place")
    store, layers = f"{LITE}/clean/activations.zarr", ("blocks.2", "blocks.4")
    chunk_of(place.folder / store / "blocks.2" / "maps").unlink()
    flip_bytes(chunk_of(place.folder / store / "blocks.4" / "maps"))
    targets = [f"{LITE}/{layer}/clean/dissection.csv" for layer in layers]
    place.remove(*targets)
    ended = place.run("--keep-going", *targets)
    assert ended.code != 0
    assert "Traceback" not in ended.text
    missing, damaged = ended.complaints
    assert f"{store}: array 'blocks.2/maps' lacks chunk" in missing
    assert f"{store}: array 'blocks.4/maps' is damaged" in damaged
    for line in (missing, damaged):
        assert line.endswith(f"delete the folder {store} and run again")
    assert [target for target in targets if place.exists(target)] == []
    place.remove(store)  # as the lines say
    jobs = place.finish("--dry-run", *targets).jobs
    assert jobs == {"extract_activations": 2, "gather_activations": 1, "compute_thresholds": 2, "dissect": 2}


def test_damaged_probe(finished, tmp_path):
    place = finished.place.copied(tmp_path / "place")
    store = "results/probes/drawn/probe.zarr"
    for name in ("images", "regions"):
        flip_bytes(chunk_of(place.folder / store / name))
    clean = [f"{LITE}/blocks.2/clean/{name}" for name in ("dissection.csv", "null_churn.csv", "tally.zarr")]
    place.remove(TRAINED, *clean)
    ended = place.run("--keep-going", TRAINED, clean[0])
    assert ended.code != 0
    assert "Traceback" not in ended.text
    assert len(ended.complaints) == 2
    for name, line in zip(("images", "regions"), ended.complaints, strict=True):
        assert line.startswith(f"nemesis: {store}: array '{name}' is damaged")
    assert [name for name in (TRAINED, *clean) if place.exists(name)] == []
    chunk_of(place.folder / store / "names").unlink()
    assert_refused(place.run(clean[0]), f"{store}: array 'names' lacks chunk c/0; delete the folder {store}")
    assert [name for name in clean if place.exists(name)] == []


def test_an_image_that_vanished_between_two_stages(tmp_path, workflow):
    place = new_place(tmp_path / "place", workflow)
    drawn = "results/probes/drawn"
    place.finish(f"{drawn}/broden/index.csv")
    image = sorted((place.folder / f"{drawn}/broden/images").rglob("*"))[-1]
    image.unlink()
    assert_refused(place.run(f"{drawn}/concepts.csv"), image.name, "not found")
    assert not place.exists(f"{drawn}/probe.zarr") and place.rests() == []


# A disk that is full: a file system with little room, and a limit on the size of a file.
def streets(tmp_path, workflow):
    place = new_place(tmp_path / "place", workflow)
    write_tidy_broden(place.folder / "streets", tiny_rows())
    use_probes(place, ["streets"])
    return place, probe_files("streets")


def test_a_file_that_may_not_grow(tmp_path, workflow):
    place, files = streets(tmp_path, workflow)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    ended = place.run(files[0], preexec_fn=limit)
    assert_refused(ended, "results/probes/streets/probe.zarr: larger than this system lets a file be")
    assert [file for file in files if place.exists(file)] == []
    assert place.rests() == []


@pytest.fixture
def mount():
    """mount(folder, size) puts a small file system there, or gives it another size; gone after the test."""
    mounted = set()

    def mount_or_resize(folder, size: str):
        option = f"remount,size={size}" if folder in mounted else f"size={size}"
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("needs the right to mount a file system: " + done.stderr.decode().strip())
        mounted.add(folder)

    yield mount_or_resize
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("full", ["results", "."])
def test_full_disk(tmp_path, workflow, mount, full):
    """Only results/ on it, or the whole working directory with Snakemake's own files."""
    folder = tmp_path / "place" / full
    mount(folder, "20m")
    place, files = streets(tmp_path, workflow)
    used = os.statvfs(folder)
    mount(folder, str((used.f_blocks - used.f_bfree) * used.f_frsize + 80_000))
    ended = place.run(files[0])
    assert_refused(ended, "results/probes/streets/probe.zarr: the disk is full; free some space")
    assert [file for file in files if place.exists(file)] == []
    assert place.rests() == []
    mount(folder, "20m")
    place.finish(files[0])


def test_results_that_may_not_be_written(tmp_path, workflow, mount):
    place, files = streets(tmp_path, workflow)
    mount(place.folder / "results", "20m")
    subprocess.run(["mount", "-o", "remount,ro", place.folder / "results"], check=True)
    assert_refused(place.run(files[0]), "results: cannot be written to; change its permissions")
    assert place.run("--dry-run", files[0]).code == 0  # a look at the plan writes nothing there


# Attack: what is asked for, and what the line says.
ATTACKS = {
    "no such unit": ({"units": [7, 40]}, ["blocks.4 has no unit 40; it has units 0 to 39"]),
    "target that no image contains": (
        {"targets": [{"category": "object", "name": "unicorn"}]},
        ["designed.targets: the probe has no concept object 'unicorn'"],
    ),
    "less than an image": (
        {"max_fraction": 0.01},
        ["designed.max_fraction: 0.01 of the images is none, but probe drawn has 24 images; raise it"],
    ),
}


@pytest.fixture(scope="module")
def bad_attacks(finished, tmp_path_factory):
    return finished.place.copied(tmp_path_factory.mktemp("bad-attacks") / "place")


@pytest.mark.parametrize("case", ATTACKS)
def test_bad_attack(bad_attacks, case):
    changes, parts = ATTACKS[case]
    bad_attacks.configure(designed={"eps": [6], "modes": ["targeted"], "layers": ["blocks.4"]} | changes)
    store = f"{LITE}/blocks.4/designed/pgd-6-targeted-segmentation/poison.zarr"
    assert_refused(bad_attacks.run(f"{store}/zarr.json"), *parts)
    assert not bad_attacks.exists(store)


def test_target_that_is_the_source(bad_attacks):
    table = bad_attacks.folder / LITE / "blocks.4/clean/dissection.csv"
    row = next(csv.DictReader(table.read_text().splitlines()))
    target = {"category": row["category"], "name": row["label"]}
    changes = {"eps": [6], "modes": ["targeted"], "layers": ["blocks.4"], "units": [0], "targets": [target]}
    bad_attacks.configure(designed=changes)
    store = f"{LITE}/blocks.4/designed/pgd-6-targeted-segmentation/poison.zarr"
    parts = ["designed.targets: layer blocks.4, unit 0 is called", "already; name another target"]
    assert_refused(bad_attacks.run(f"{store}/zarr.json"), *parts)
