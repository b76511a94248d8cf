"""A bad key ends in one line before any job starts; a good config gets every default."""

import copy
from pathlib import Path

import pytest
import yaml

from nemesis.config import check_config, list_absent
from nemesis.entries import Design, Extraction, Noise, has_masks, list_designs, list_extractions, list_noises, wants_gpu
from nemesis.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT / "schemas" / "config.schema.yaml"
SMALL = {
    "probes": {"scenes": {"kind": "minibroden"}, "streets": {"kind": "broden", "path": "data/streets"}},
    "models": {"lite": {"kind": "efficientnet_lite0"}, "vgg": {"kind": "tinyvgg", "probe": "scenes"}},
    "experiments": [{"probe": "scenes", "model": "lite", "layers": ["blocks.2", "blocks.4"]}],
}


EXPERIMENT = ("experiments", 0)


def with_change(*place, value):
    """SMALL with the value at config[place[0]][place[1]]... set; None deletes it."""
    config = copy.deepcopy(SMALL)
    part = config
    for key in place[:-1]:
        part = part.setdefault(key, {}) if isinstance(part, dict) else part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    return config


def check(config):
    return check_config(config, SCHEMA, "my.yaml")


def test_defaults_are_filled_in():
    before = copy.deepcopy(SMALL)
    config = check(SMALL)
    assert before == SMALL
    assert (config["seed"], config["device"], config["batch_size"], config["downloads"]) == (0, "auto", "auto", {})
    assert config["probes"]["scenes"] == {"kind": "minibroden", "images": 600, "size": 128, "draw": 0}
    assert config["probes"]["streets"] == {"kind": "broden", "path": "data/streets"}
    assert config["dissection"] == {
        "quantile": 0.005,
        "threshold": "exact",
        "iou": "published",
        "min_iou": 0.04,
        "dtype": "float16",
        "max_store_gb": 100,
        "null_replicates": 5,
    }
    assert config["experiments"][0]["units"] == "all"
    assert "noise" not in config


def test_given_values_stay():
    config = with_change("noise", value={"std": [0.1]})
    config |= {"seed": 3, "dissection": {"iou": "equation4"}}
    config = check(config)
    assert config["noise"] == {
        "kinds": ["gaussian"],
        "std": [0.1],
        "fractions": [0.2, 0.6, 1.0],
        "seeds": [0],
        "storage": "lossless",
    }
    assert (config["seed"], config["dissection"]["iou"], config["dissection"]["quantile"]) == (3, "equation4", 0.005)


def test_a_default_is_not_shared():
    first, second = check(SMALL), check(SMALL)
    first["dissection"]["iou"] = "changed"
    assert second["dissection"]["iou"] == check(SMALL)["dissection"]["iou"] == "published"


BAD = {
    "unknown section": (with_change("noize", value={}), ["key 'noize' is not known", "did you mean 'noise'?"]),
    "unknown key": (
        with_change("dissection", "quantil", value=0.1),
        ["key 'dissection.quantil' is not known", "did you mean 'quantile'?", "expected one of dtype, iou"],
    ),
    "unknown key of an experiment": (
        with_change(*EXPERIMENT, "layer", value=["a"]),
        ["key 'experiments[0].layer' is not known", "did you mean 'layers'?"],
    ),
    "misspelt needed key": (
        {"probe": {}, "models": SMALL["models"], "experiments": SMALL["experiments"]},
        ["key 'probe' is not known", "did you mean 'probes'?"],
    ),
    "key of another kind": (
        with_change("probes", "scenes", "path", value="x"),
        ["key 'probes.scenes.path' is not known", "expected one of draw, images, kind, size"],
    ),
    "missing section": (with_change("models", value=None), ["key 'models' is missing"]),
    "missing path": (with_change("probes", "streets", "path", value=None), ["probes.streets: key 'path' is missing"]),
    "missing kind": (with_change("models", "lite", "kind", value=None), ["models.lite: key 'kind' is missing"]),
    "missing layers": (with_change(*EXPERIMENT, "layers", value=None), ["experiments[0]: key 'layers' is missing"]),
    "unknown choice": (
        with_change("dissection", "threshold", value="exakt"),
        ["dissection.threshold: 'exakt' is not one of exact, published", "did you mean 'exact'?"],
    ),
    "unknown kind of probe": (
        with_change("probes", "scenes", "kind", value="minibrodn"),
        [
            "probes.scenes.kind: 'minibrodn' is not one of minibroden, broden, download, folder",
            "did you mean 'minibroden'?",
        ],
    ),
    "unknown kind of noise": (
        with_change("noise", "kinds", value=["gausian"]),
        ["noise.kinds[0]: 'gausian' is not one of", "did you mean 'gaussian'?"],
    ),
    "wrong type": (with_change("seed", value="one"), ["seed: 'one' is not of type integer", "seed of all randomness"]),
    "true is no number": (with_change("seed", value=True), ["seed: True is not of type integer"]),
    "too small": (with_change("seed", value=-1), ["seed: -1 is below 0"]),
    "too large": (with_change("dissection", "min_iou", value=1.5), ["dissection.min_iou: 1.5 is above 1"]),
    "open border": (with_change("dissection", "quantile", value=0), ["dissection.quantile: 0 must be above 0"]),
    "open upper border": (with_change("dissection", "quantile", value=1), ["dissection.quantile: 1 must be below 1"]),
    "fraction 0": (with_change("noise", "fractions", value=[0.5, 0]), ["noise.fractions[1]: 0 must be above 0"]),
    "pattern": (with_change("device", value="gpu"), ["device: 'gpu' does not match", "auto takes a GPU"]),
    "storage": (with_change("noise", "storage", value="jpeg-101"), ["noise.storage: 'jpeg-101' does not match"]),
    "name with a slash": (with_change("probes", "a/b", value={"kind": "minibroden"}), ["probes: 'a/b' does not match"]),
    "name of another folder": (
        with_change("probes", "runs", value={"kind": "minibroden"}),
        ["probes.runs: results/runs has another purpose"],
    ),
    "empty list": (with_change("noise", "std", value=[]), ["noise.std: []"]),
    "twice in a list": (with_change("noise", "seeds", value=[1, 1]), ["noise.seeds: [1, 1]"]),
    "no experiments": (with_change("experiments", value=[]), ["experiments: []"]),
    "units is a word": (with_change(*EXPERIMENT, "units", value="some"), ["experiments[0].units: 'some' is none of"]),
    "units 0": (with_change(*EXPERIMENT, "units", value=0), ["experiments[0].units: 0 is none of"]),
    "units negative": (with_change(*EXPERIMENT, "units", value=[3, -1]), ["experiments[0].units: [3, -1] is none of"]),
    "batch size 0": (with_change("batch_size", value=0), ["batch_size: 0 is none of", "auto fits it"]),
    "unknown probe": (
        with_change(*EXPERIMENT, "probe", value="scene"),
        ["experiments[0].probe: there is no probe 'scene'", "did you mean 'scenes'?", "probes has scenes, streets"],
    ),
    "unknown model": (
        with_change(*EXPERIMENT, "model", value="resnet"),
        ["experiments[0].model: there is no model 'resnet'", "models has lite, vgg"],
    ),
    "unknown training probe": (
        with_change("models", "vgg", "probe", value="scnes"),
        ["models.vgg.probe: there is no probe 'scnes'", "did you mean 'scenes'?"],
    ),
    "a layer twice": (
        with_change("experiments", value=[*SMALL["experiments"], SMALL["experiments"][0] | {"layers": ["blocks.4"]}]),
        ["experiments[1] repeats layer blocks.4 of experiments[0] (scenes, lite)"],
    ),
    "a layer twice in one list": (
        with_change(*EXPERIMENT, "layers", value=["a", "a"]),
        ["experiments[0].layers: ['a', 'a']"],
    ),
    "layer with a slash": (with_change(*EXPERIMENT, "layers", value=["../x"]), ["experiments[0].layers[0]: '../x'"]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_key_is_one_line(what):
    config, expected = BAD[what]
    with pytest.raises(InputError) as caught:
        check(config)
    line = str(caught.value)
    assert line.startswith("my.yaml: ")
    assert "\n" not in line
    assert [part for part in expected if part not in line] == [], line


@pytest.mark.parametrize("units", ["all", 5, [0], [3, 1, 2]])
def test_units_have_three_forms(units):
    assert check(with_change(*EXPERIMENT, "units", value=units))["experiments"][0]["units"] == units


def test_extractions_join_experiments_of_one_pair():
    config = copy.deepcopy(SMALL)
    config["experiments"] += [
        {"probe": "streets", "model": "lite", "layers": ["blocks.2"], "units": 3},
        {"probe": "scenes", "model": "lite", "layers": ["head"], "units": [1]},
    ]
    assert list_extractions(check(config)) == [
        Extraction(
            "scenes", "lite", ("blocks.2", "blocks.4", "head"), {"blocks.2": "all", "blocks.4": "all", "head": [1]}
        ),
        Extraction("streets", "lite", ("blocks.2",), {"blocks.2": 3}),
    ]


def test_noises():
    assert list_noises(check(SMALL)) == []
    config = check(with_change("noise", value={"kinds": ["gaussian", "none"], "std": [0.02, 0.1]}))
    noises = list_noises(config)
    assert noises == [Noise("gaussian", 0.02), Noise("gaussian", 0.1), Noise("none", 0.0)]
    assert [noise.name for noise in noises] == ["gaussian-0.02", "gaussian-0.1", "none-0"]


def test_a_std_keeps_every_digit_in_a_path():
    for std in (0.02, 4 / 255, 1e-5, 1 / 3):
        assert float(Noise("gaussian", std).name.removeprefix("gaussian-")) == std


def test_devices_that_take_a_gpu():
    assert wants_gpu("cuda")
    assert wants_gpu("cuda:1")
    assert not wants_gpu("cpu")
    assert wants_gpu("auto") == Path("/dev/nvidiactl").exists()


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "presets").glob("*.yaml"))], ids=lambda p: p.name
)
def test_shipped_configs_are_good(path):
    config = check_config(yaml.safe_load(path.read_text()), SCHEMA)
    assert list_extractions(config)


def test_designed_defaults():
    designed = check(with_change("designed", value={}))["designed"]
    assert (designed["methods"], designed["eps"], designed["steps"]) == (["pgd"], [2, 4, 6], 10)
    assert (designed["modes"], designed["masks"]) == (["untargeted", "targeted"], ["segmentation"])
    assert (designed["max_fraction"], designed["units"], designed["layers"]) == (0.1, 50, "all")
    assert not {"compare_storage", "collateral", "minimum_epsilon"} & set(designed)
    part = check(with_change("designed", value={"compare_storage": {}, "minimum_epsilon": {}}))["designed"]
    assert part["compare_storage"]["kinds"] == ["lossless", "jpeg-95", "jpeg-75", "published"]
    assert part["minimum_epsilon"] == {"highest": 16}


def test_list_designs():
    config = check(with_change("designed", value={"eps": [0.5, 4], "modes": ["targeted"], "methods": ["fgsm", "pgd"]}))
    names = [design.name for design in list_designs(config)]
    assert names == [f"{method}-{eps}-targeted-segmentation" for method in ("fgsm", "pgd") for eps in ("0.5", "4")]
    assert list_designs(config)[0] == Design("fgsm", 0.5, "targeted", "segmentation")
    assert list_designs(check(SMALL)) == []


@pytest.mark.parametrize(
    ("designed", "line"),
    [
        ({"eps": [-1]}, "designed.eps[0]: -1 is below 0"),
        ({"eps": [256]}, "designed.eps[0]: 256 is above 255"),
        ({"steps": 0}, "designed.steps: 0 is below 1"),
        ({"max_fraction": 0}, "designed.max_fraction: 0 must be above 0"),
        ({"modes": ["target"]}, "designed.modes[0]: 'target' is not one of untargeted, targeted, shared"),
        ({"storage": "jpeg-0"}, "designed.storage: 'jpeg-0' does not match"),
        ({"targets": [{"name": "dog"}]}, "designed.targets"),
        ({"layers": ["blocks.3"]}, "designed.layers: no experiment has layer 'blocks.3'; did you mean"),
        ({"collateral": {"eps": [5]}}, "designed.collateral.eps: 5 is not in designed.eps; add it there"),
        ({"compare_storage": {"eps": [5]}}, "designed.compare_storage.eps: 5 is not in designed.eps"),
        ({"objective": "soft_iou", "modes": ["shared"]}, "designed.objective: soft_iou is for one unit"),
        ({"step": 5}, "key 'designed.step' is not known; did you mean 'steps'?"),
    ],
)
def test_bad_designed(designed, line):
    with pytest.raises(InputError) as caught:
        check(with_change("designed", value=designed))
    assert f"my.yaml: {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


PHOTOS = ("probes", "photos")
SEEN = {"probe": "photos", "model": "lite", "layers": ["blocks.4", "head"]}


def with_photos(*experiments, probe=None, **sections):
    """SMALL with a folder of images, its own experiments and these."""
    config = with_change(*PHOTOS, value={"kind": "folder", "path": "photos"} | (probe or {}))
    return config | {"experiments": [*config["experiments"], *experiments]} | sections


def test_a_folder_of_images():
    config = check(with_photos())
    assert config["probes"]["photos"] == {"kind": "folder", "path": "photos", "size": 224}
    assert [has_masks(config, name) for name in ("scenes", "streets", "photos")] == [True, True, False]


def test_units_are_dissected_where_there_are_masks():
    found = list_extractions(check(with_photos(SEEN)))
    assert [(extraction.probe, extraction.dissected) for extraction in found] == [("scenes", True), ("photos", False)]
    assert found[1].layers == ("blocks.4", "head")


MILAN = {"captioner": {"kind": "regions", "probe": "scenes"}, "scorer": {"kind": "minilm"}}


def test_milan_alone_explains_units_on_a_folder_of_images():
    config = check(with_photos() | {"experiments": [SEEN], "milan": MILAN, "noise": {}})
    assert [extraction.dissected for extraction in list_extractions(config)] == [False]


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            with_photos() | {"experiments": [SEEN]},
            "nothing to do: probe photos has no masks, so only the milan section can explain units on it",
        ),
        (
            with_photos() | {"experiments": [SEEN], "milan": MILAN, "designed": {}},
            "designed: probe photos has no masks, so units have no labels to change; leave the section out",
        ),
        (
            with_photos(SEEN, designed={"layers": ["head"]}),
            "designed.layers: no experiment on a probe with masks has layer 'head'; they have blocks.2, blocks.4",
        ),
        (
            with_photos(models=SMALL["models"] | {"vgg": {"kind": "tinyvgg", "probe": "photos"}}),
            "models.vgg.probe: probe 'photos' has no masks to learn from",
        ),
        (with_photos(probe={"size": 128, "resize": 127}), "probes.photos.resize: 127 is below size, 128"),
        (with_photos(probe={"size": 8}), "probes.photos.size: 8 is below 16"),
        (with_photos(probe={"max_images": 0}), "probes.photos.max_images: 0 is below 1"),
        (with_photos(probe={"path": ""}), "probes.photos.path: "),
        (
            with_photos(probe={"splits": ["val"]}),
            "key 'probes.photos.splits' is not known; expected one of kind, max_images, path, resize, size",
        ),
        (with_change("probes", "scenes", "draw", value=-1), "probes.scenes.draw: -1 is below 0"),
    ],
)
def test_bad_folders_of_images(config, line):
    with pytest.raises(InputError) as caught:
        check(config)
    assert f"my.yaml: {line}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_are_looked_at_where_an_experiment_needs_them(tmp_path):
    config = check(with_photos(probe={"path": str(tmp_path / "photos")}))
    assert list_absent(config, "my.yaml") == []
    config["experiments"].append(SEEN)
    for make, problem in (
        (None, "not a folder"),
        ((tmp_path / "photos").mkdir, "no image in or below it"),
    ):
        if make:
            make()
        (line,) = list_absent(config, "my.yaml")
        assert line.startswith(f"my.yaml: probes.photos.path: {tmp_path / 'photos'}: {problem}")
    (tmp_path / "photos" / "class").mkdir()
    (tmp_path / "photos" / "class" / "a.PNG").touch()
    assert list_absent(config, "my.yaml") == []


def test_every_absent_file_is_listed(tmp_path):
    learnt = {"captioner": {"kind": "checkpoint", "path": "milan.pth"}, "threshold": 0.6}
    config = check(with_photos(SEEN, probe={"path": str(tmp_path)}, milan=MILAN | learnt))
    config["models"]["lite"] |= {"kind": "resnet50_imagenet", "weights": "r.pth"}
    config["models"]["vgg"]["weights"] = "unused.pth"
    lines = list_absent(config, "my.yaml")
    assert [line.split(": ")[1] for line in lines] == [
        "probes.photos.path",
        "models.lite.weights",
        "milan.captioner.path",
    ]
    assert "no weight file r.pth; `weights: download` fetches it" in lines[1]
    for weights in ("download", "random"):
        config["models"]["lite"]["weights"] = weights
        assert len(list_absent(config, "my.yaml")) == 2


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            with_change("models", "lite", "weights", value="download"),
            "models.lite.weights: 'download' is not one of random (Left out, the packaged weights",
        ),
        (with_change("models", "lite", "weights", value=3), "models.lite.weights: '3' is not one of random"),
        (
            with_photos(SEEN, milan=MILAN | {"probes": ["photo"]}),
            "milan.probes: no experiment has probe 'photo'; did you mean 'photos'?; they have photos, scenes",
        ),
        (
            with_photos(SEEN, milan=MILAN | {"probes": ["scenes"], "layers": ["head"]}),
            "milan.layers: no experiment on scenes has head",
        ),
    ],
)
def test_bad_downloads_and_described_probes(config, line):
    with pytest.raises(InputError) as caught:
        check(config)
    assert f"my.yaml: {line}" in str(caught.value)
    assert "\n" not in str(caught.value)
