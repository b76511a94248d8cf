"""Every kind of network has its own keys: what nobody reads is refused with the near key."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from test_config import MILAN, SCHEMA, check, with_change

from nemesis.config import list_absent
from nemesis.errors import InputError
from nemesis.models.registry import KINDS

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SCHEMES = yaml.safe_load(SCHEMA.read_text())["$defs"]
HALF = [0.5, 0.5, 0.5]
GOOD = {
    "efficientnet_lite0": {},
    "tinyvgg": {"probe": "scenes", "epochs": 3},
    "torchvision": {"arch": "resnet18", "weights": "random", "seed": 2, "num_classes": 7, "mean": HALF, "std": HALF},
    "vgg16_places365": {"weights": "download", "size": 96},
    "resnet50_imagenet": {"weights": "r.pth", "num_classes": 10},
    "file": {"loader": "my net.py:load", "mean": HALF, "std": [1, 1, 1], "weights": "random", "seed": 1},
}


def keys_of(scheme: str) -> dict[str, set[str]]:
    """The keys of every kind in the schema."""
    branches = [branch for branch in SCHEMES[scheme]["allOf"] if "kind" in branch["if"]["properties"]]
    return {branch["if"]["properties"]["kind"]["const"]: set(branch["then"]["properties"]) for branch in branches}


def refusal(config) -> str:
    with pytest.raises(InputError) as caught:
        check(config)
    line = str(caught.value)
    assert line.startswith("my.yaml: ") and "\n" not in line
    return line.removeprefix("my.yaml: ")


def with_model(**spec):
    return with_change("models", "lite", value=spec)


def with_encoder(**spec):
    captioner = {"kind": "annotations", "path": "a", "encoder": spec}
    return with_change("milan", value={"captioner": captioner, "scorer": {"kind": "minilm"}, "threshold": 0.6})


def test_the_schema_has_the_kinds_of_the_registry():
    assert set(SCHEMES["model"]["properties"]["kind"]["enum"]) == set(keys_of("model")) == set(KINDS)
    assert set(SCHEMES["encoder"]["properties"]["kind"]["enum"]) == set(keys_of("encoder")) == set(KINDS) - {"tinyvgg"}
    # An encoder is a model with layers, whose size is milan.size.
    assert all(keys_of("model")[kind] - {"size"} == keys - {"layers"} for kind, keys in keys_of("encoder").items())


@pytest.mark.parametrize("kind", KINDS)
def test_good_models(kind):
    config = check(with_model(kind=kind, **GOOD[kind]))
    assert config["models"]["lite"] == {"kind": kind, **GOOD[kind]}


def test_every_key_that_is_read_stands_in_the_schema():
    """Keys of a `spec` in the library of models: given by a config, or by the library to itself (`classes`)."""
    read = set()
    for path in (
        *(SCRIPTS / "nemesis" / "models").glob("*.py"),
        SCRIPTS / "prepare_model.py",
        SCRIPTS / "train_tinyvgg.py",
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            place = ast.unparse(node) if isinstance(node, ast.Subscript | ast.Call) else ""
            found = re.match(r"(?:snakemake\.params\.)?spec(?:\.get\(|\[)'(\w+)'", place)
            read |= {found[1]} if found else set()
    assert {"arch", "loader", "weights", "seed", "epochs", "probe"} <= read  # the pattern finds them
    assert read - {"classes"} <= set().union(*keys_of("model").values())


BAD = {
    "means": (
        with_model(kind="torchvision", arch="resnet18", means=HALF, num_clases=7),
        "key 'models.lite.means' is not known; did you mean 'mean'?; expected one of arch, kind, mean, num_classes",
    ),
    "epoch": (
        with_model(kind="tinyvgg", probe="scenes", epoch=3),
        "key 'models.lite.epoch' is not known; did you mean 'epochs'?",
    ),
    "key of another kind": (with_model(kind="efficientnet_lite0", arch="b0"), "key 'models.lite.arch' is not known"),
    "weights that nobody reads": (
        with_model(kind="efficientnet_lite0", weights="mine.pth"),
        "models.lite.weights: 'mine.pth' is not one of random (Left out, the packaged weights",
    ),
    "size of a network that is trained here": (
        with_model(kind="tinyvgg", probe="scenes", size=64),
        "key 'models.lite.size' is not known; expected one of epochs, kind, probe",
    ),
    "unknown kind": (
        with_model(kind="efficientnet_lite1"),
        "models.lite.kind: 'efficientnet_lite1' is not one of efficientnet_lite0, tinyvgg, torchvision",
    ),
    "near kind": (with_model(kind="torchvison", arch="x"), "did you mean 'torchvision'?"),
    "misspelt kind": (
        with_model(knd="torchvision", arch="resnet18"),
        "models.lite: key 'kind' is missing; 'knd' is not known; add it",
    ),
    "no arch": (
        with_model(kind="torchvision", weights="random"),
        "models.lite: key 'arch' is missing; add it (A class",
    ),
    "no probe": (with_model(kind="tinyvgg"), "models.lite: key 'probe' is missing"),
    "no std": (
        with_model(kind="file", loader="a.py:load", mean=HALF),
        "models.lite: key 'std' is missing; add it (Standard deviations, R, G, B",
    ),
    "two means": (with_model(kind="file", loader="a.py:f", mean=[0.5, 0.5], std=HALF), "models.lite.mean: [0.5, 0.5]"),
    "std 0": (
        with_model(kind="file", loader="a.py:f", mean=HALF, std=[1, 0, 1]),
        "models.lite.std[1]: 0 must be above 0",
    ),
    "no function": (
        with_model(kind="file", loader="a.py", mean=HALF, std=HALF),
        "models.lite.loader: 'a.py' does not match .:. (Python file and function",
    ),
    "no seed is needed": (
        with_model(kind="torchvision", arch="resnet18", weights="r.pth", seed=1),
        "models.lite.seed: only `weights: random` is drawn with it; leave it out",
    ),
    "not published": (
        with_model(kind="torchvision", arch="resnet18", weights="download"),
        "models.lite.weights: none of this kind are published; give the path of a file",
    ),
    "encoder's key": (
        with_encoder(kind="torchvision", arch="resnet18", layer=["layer1"]),
        "key 'milan.captioner.encoder.layer' is not known; did you mean 'layers'?",
    ),
    "encoder's size": (
        with_encoder(kind="efficientnet_lite0", size=64),
        "key 'milan.captioner.encoder.size' is not known",
    ),
    "encoder's kind": (with_encoder(kind="tinyvgg"), "milan.captioner.encoder.kind: 'tinyvgg' is not one of"),
    "encoder's weights": (
        with_encoder(kind="vgg16_places365", layers=["conv5_3"], weights="download"),
        "milan.captioner.encoder.weights: those of an encoder are not fetched; give the path of a file",
    ),
    "encoder's layers": (
        with_encoder(kind="file", loader="a.py:f", mean=HALF, std=HALF),
        "milan.captioner.encoder: key 'layers' is missing",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_model_is_one_line(what):
    config, expected = BAD[what]
    assert expected in refusal(config)


def test_other_sections_without_a_kind():
    """What the kind would allow is not complained of."""
    assert refusal(with_change("probes", "scenes", value={"path": "x"})) == (
        "probes.scenes: key 'kind' is missing; add it (minibroden is drawn, broden and folder (images without masks)"
        " are yours, download is fetched.)"
    )


def test_what_a_model_lacks_is_listed(tmp_path):
    config = check(with_model(kind="file", loader=f"{tmp_path}/net.py:load", mean=HALF, std=HALF, weights="w.pth"))
    assert list_absent(config, "my.yaml") == [
        "my.yaml: models.lite.weights: no weight file w.pth",
        f"my.yaml: models.lite.loader: no Python file {tmp_path}/net.py",
    ]
    (tmp_path / "net.py").touch()
    del config["models"]["lite"]["weights"]
    assert list_absent(config, "my.yaml") == []
    for kind, hint in (("torchvision", False), ("vgg16_places365", True)):
        spec = {"kind": kind} | ({"arch": "resnet18"} if kind == "torchvision" else {})
        (line,) = list_absent(check(with_model(**spec)), "my.yaml")
        assert line.startswith("my.yaml: models.lite.weights: is missing; give the path of the weight file, or random")
        assert line.endswith("; `weights: download` fetches it") == hint
    encoder = check(with_encoder(kind="torchvision", arch="resnet18"))
    encoder["milan"]["captioner"]["path"] = str(tmp_path)
    (tmp_path / "annotations.csv").touch()
    (line,) = list_absent(encoder, "my.yaml")
    assert line.startswith("my.yaml: milan.captioner.encoder.weights: is missing") and "download" not in line


def test_what_the_milan_section_lacks_is_listed(tmp_path):
    milan = {
        "captioner": {"kind": "annotations", "path": "notes", "images": "pictures"},
        "scorer": {"kind": "folder", "path": "bert", "layers": 3, "baseline": "base.tsv"},
        "threshold": {"pairs": "pairs.csv"},
    }
    config = check(with_change("milan", value=milan))
    assert [line.split(": ")[1:3] for line in list_absent(config, "my.yaml")] == [
        ["milan.captioner.path", "notes has no annotations.csv; expected a folder of MILANNOTATIONS"],
        ["milan.captioner.images", "pictures is no folder"],
        ["milan.scorer.path", "bert is no folder; expected one that transformers saved"],
        ["milan.scorer.baseline", "no file base.tsv; expected a table with columns LAYER,P,R,F"],
        ["milan.threshold.pairs", "no file pairs.csv; expected columns first, second, same"],
    ]
    config["milan"]["scorer"]["baseline"] = "roberta-large"  # a model's name is looked up by the library
    assert len(list_absent(config)) == 4


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"milan": MILAN | {"exemplars": 21}}, "milan.exemplars: 21 images a unit are wanted"),
        ({"extraction": {"shards": 21}}, "extraction.shards: 21 parts are wanted"),
        ({"noise": {"fractions": [0.5, 0.02]}}, "noise.fractions: 0.02 of the images is none"),
        ({"designed": {"max_fraction": 0.049}}, "designed.max_fraction: 0.049 of the images is none"),
        (
            {"noise": {"fractions": [0.5]}, "milan": MILAN | {"noise": {"fractions": [0.01]}}},
            "milan.noise.fractions: 0.01 of the images is none",
        ),
    ],
)
def test_a_probe_with_too_few_images_is_said_before(tmp_path, sections, line):
    """A probe that is drawn, a table of Broden's and a folder of images, each of 20 images in the end."""
    (tmp_path / "index.csv").write_text("image,split\n" + "a.png,train\n" * 20 + "\n" + "b.png,val\n" * 5)
    for number in range(30):
        (tmp_path / f"{number}.png").touch()
    learnt = {"captioner": {"kind": "regions", "probe": "regions"}}
    probes = {
        "drawn": {"kind": "minibroden", "images": 20},
        "table": {"kind": "broden", "path": str(tmp_path), "splits": ["train"]},
        "photos": {"kind": "folder", "path": str(tmp_path), "max_images": 20},
    }
    for name, probe in probes.items():
        config = with_change("probes", value={name: probe, "regions": {"kind": "minibroden", "draw": 1}})
        config["models"] = {"lite": {"kind": "efficientnet_lite0"}}
        config["experiments"] = [{"probe": name, "model": "lite", "layers": ["blocks.2"]}]
        config |= {"milan": MILAN | learnt} | sections
        if "milan" in sections:
            config["milan"] = sections["milan"] | learnt
        if name == "photos" and "designed" in config:
            continue  # nothing is dissected there
        config["milan"].setdefault("exemplars", 20)
        remedy = "lower" if "wanted" in line else "raise"
        expected = f"my.yaml: {line}, but probe {name} has 20 images; {remedy} it"
        assert list_absent(check(config), "my.yaml") == [expected]
