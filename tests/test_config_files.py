"""What YAML makes of a file, and paths: each fault in one line that names the file and the place."""

import pytest
import yaml
from test_config import SCHEMA, SMALL, check, with_change

from nemesis.config import check_config, list_absent, read_config
from nemesis.errors import InputError

GOOD = yaml.safe_dump(SMALL)


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Text of a file: what stands twice, and where.
TWICE = {
    "a section": ("seed: 1\nnoise: {}\nseed: 1\n", "line 3: 'seed' stands there already, in line 1; keep one"),
    "a section with other quotes": ("noise: {}\n'noise': {}\n", "line 2: 'noise' stands there already, in line 1"),
    "a key": (
        "a: 1\nnoise:\n  std: [1]\n  kinds: [a]\n  std: [2]\n",
        "line 5: 'noise.std' stands there already",
    ),
    "a probe": ("probes:\n  p: {}\n  p: {}\n", "line 3: 'probes.p' stands there already, in line 2"),
    "a key in braces": (
        "experiments:\n- {probe: a, probe: b}\n",
        "line 2: 'experiments[0].probe' stands there",
    ),
    "in JSON": ('{"seed": 1,\n\t"noise": {"std": 1, "std": 2}}', "'std' stands there twice; keep one"),
}


@pytest.mark.parametrize("what", TWICE)
def test_a_key_that_stands_twice(tmp_path, what):
    text, expected = TWICE[what]
    (tmp_path / "my.yaml").write_text(text)
    assert f"{tmp_path}/my.yaml: {expected}" in refusal(read_config, tmp_path / "my.yaml")


def test_equal_keys_in_different_places_and_merged_ones(tmp_path):
    text = "a: &a {k: 1, l: 2}\nb: {<<: *a, k: 3}\nc: [{k: 1}, {k: 2}, *a, *a]\n"
    (tmp_path / "my.yaml").write_text(text)
    assert read_config(tmp_path / "my.yaml")["b"] == {"k": 3, "l": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no keys; expected a config like config.yaml"),
        ("# seed: 1\n", "holds no keys"),
        ("[a, b]", "holds no keys"),
        ("seed", "holds no keys"),
        ("probes:\n\tp: 1\n", "is no YAML file (while scanning"),
        ("a: b: c\n", "is no YAML file (mapping values are not allowed here"),
        ("a: [1\n", "is no YAML file ("),
        (b"a: \xff\n", "is no YAML file ("),
    ],
)
def test_files_that_are_no_config(tmp_path, text, expected):
    (tmp_path / "my.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refusal(read_config, tmp_path / "my.yaml").startswith(f"{tmp_path}/my.yaml: {expected}")


def test_no_file(tmp_path):
    assert (
        refusal(read_config, tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: cannot be read (No such file or directory)"
    )
    assert refusal(read_config, tmp_path).endswith("cannot be read (Is a directory)")


# YAML: what is said of it, the place first.
READ_OTHERWISE = {
    "number for a name": ("probes: {1: {kind: minibroden}}", "probes: the key 1 is no text; YAML reads it as a number"),
    "no for a name": ("models: {no: {kind: tinyvgg}}", "models: the key False is no text; YAML reads yes, no, on, off"),
    "nothing for a name": (
        "probes: {~: {kind: minibroden}}",
        "probes: the key None is no text; YAML reads it as n",
    ),
    "number for a section": ("1: 2", "the config: the key 1 is no text; YAML reads it as a number: put it in quotes"),
    "date for a name": (
        "models: {2024-01-02: {kind: tinyvgg}}",
        "models: the key datetime.date(2024, 1, 2) is no",
    ),
    "number for a layer": (
        "experiments: [{probe: scenes, model: lite, layers: [4]}]",
        "experiments[0].layers[0]: 4 is not of type string; YAML reads it as a number: put it in quotes",
    ),
    "on for a layer": (
        "experiments: [{probe: scenes, model: lite, layers: [on]}]",
        "experiments[0].layers[0]: True is not of type string; YAML reads yes, no, on, off, true and false as such",
    ),
    "number for a probe": (
        "experiments: [{probe: 1, model: lite, layers: [a]}]",
        "experiments[0].probe: 1 is not of type string (Name of a probe.); YAML reads it as a number: put it in quotes",
    ),
    "on for a split": (
        "probes: {streets: {kind: broden, path: p, splits: [on]}}",
        "probes.streets.splits[0]: True is not of type string; YAML reads yes",
    ),
    "no for a target": (
        "designed: {targets: [{category: object, name: no}]}",
        "is none of the accepted forms (random (drawn with the seed), or a list of {category, name}, each a target of"
        " every unit.); YAML reads yes, no, on",
    ),
    "number for a layer of milan": (
        "milan: {layers: [4], captioner: {kind: download}}",
        "milan.layers: [4] is none of the accepted forms (all layers of the experiments, or a list of names.);"
        " YAML reads it as a number: put it in quotes",
    ),
    "power": (
        "noise: {std: [2e-2]}",
        "noise.std[0]: '2e-2' is not of type number; YAML reads it as text, as a power needs a point and a sign: write",
    ),
    "tiny power": ("noise: {std: [1e-30]}", "write 1.0e-30"),
    "whole power": ("seed: 1e3", "a power needs a point and a sign: write 1000"),
    "quotes": (
        "seed: '7'",
        "seed: '7' is not of type integer (The one seed of all randomness.); YAML reads it as",
    ),
    "power where a word is possible": ("batch_size: '64'", "as it stands in quotes: write 64"),
    "nothing": ("noise:", "noise: None is not of type object (Random corruption. Leave the section out to run none.);"),
    "nothing for a number": ("seed: ", "nothing stands there: give a value, or leave the key out"),
    "a list for a section": ("dissection: [1]", "dissection: [1] is not of type object (Network Dissection.)"),
    "a section for a list": ("experiments: {a: 1}", "experiments: {'a': 1} is not of type array (What is dissected"),
    "a text for a model": ("models: {lite: tinyvgg}", "models.lite: 'tinyvgg' is not of type object"),
}


@pytest.mark.parametrize("what", READ_OTHERWISE)
def test_what_yaml_reads_otherwise(what):
    text, expected = READ_OTHERWISE[what]
    line = refusal(check_config, SMALL | yaml.safe_load(text), SCHEMA, "my.yaml")
    assert line.startswith("my.yaml: ") and expected in line, line


@pytest.mark.parametrize("std", [1e-30, 2e-2, 5.0, 1e22, 1.5e-7])
def test_the_number_that_is_named_can_be_written(std):
    line = refusal(check, with_change("noise", value={"std": [f"{std:.3e}".replace("+", "") if std < 1e9 else "1e22"]}))
    assert yaml.safe_load(line.rpartition("write ")[2]) == std


def test_names_in_quotes_are_names():
    config = yaml.safe_load("probes: {'1': {kind: minibroden}}\nmodels: {'no': {kind: efficientnet_lite0}}\n")
    config["experiments"] = [{"probe": "1", "model": "no", "layers": ["4"]}]
    assert check(config)["experiments"][0]["layers"] == ["4"]


CHECKPOINT = {"captioner": {"kind": "checkpoint", "path": "p"}, "threshold": {"pairs": "p"}}
# Where a path stands that becomes an input of a rule, and where one that only a script opens.
INPUTS = {
    "probes.photos.path": with_change("probes", "photos", value={"kind": "folder", "path": "{}"}),
    "probes.streets.path": with_change("probes", "streets", "path", value="{}"),
    "models.lite.weights": with_change("models", "lite", value={"kind": "resnet50_imagenet", "weights": "{}"}),
    "models.lite.loader": with_change(
        "models", "lite", value={"kind": "file", "loader": "{}:load", "mean": [0, 0, 0], "std": [1, 1, 1]}
    ),
    "milan.captioner.path": with_change(
        "milan", value=CHECKPOINT | {"captioner": {"kind": "checkpoint", "path": "{}"}}
    ),
    "milan.threshold.pairs": with_change("milan", value=CHECKPOINT | {"threshold": {"pairs": "{}"}}),
}
OPENED = {
    "downloads.broden1_224": with_change("downloads", value={"broden1_224": "{}"}),
    "milan.captioner.images": with_change(
        "milan", value=CHECKPOINT | {"captioner": {"kind": "annotations", "path": "p", "images": "{}"}}
    ),
    "milan.scorer.path": with_change(
        "milan", value=CHECKPOINT | {"scorer": {"kind": "folder", "path": "{}", "layers": 3}}
    ),
}


def fill(value, path: str):
    """A config with a path in the place of {}."""
    if isinstance(value, dict):
        return {key: fill(part, path) for key, part in value.items()}
    return value.replace("{}", path) if isinstance(value, str) else value


def find(config: dict, place: str) -> str:
    for key in place.split("."):
        config = config[key]
    return config.removesuffix(":load")


@pytest.mark.parametrize("place", [*INPUTS, *OPENED])
def test_every_path_has_a_home_and_can_be_odd(place, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me & you")
    config = (INPUTS | OPENED)[place]
    assert find(check(fill(config, "~/a b")), place) == "/home/me & you/a b"
    for path in ("a b", "100%", "it's", 'a "b"', "a#b", "ü/😀", "../up", "/a/./b//c", "a~b", "$HOME"):
        assert find(check(fill(config, path)), place) == path


@pytest.mark.parametrize("place", INPUTS)
@pytest.mark.parametrize("path", ["data {x}", "{probe}", "a}b", "<x>/b"])
def test_braces_are_refused_where_snakemake_reads_them(place, path):
    line = refusal(check, fill(INPUTS[place], path))
    assert line.startswith(f"my.yaml: {place}: {path}") and "braces, {} or <>, are not possible in this path" in line


@pytest.mark.parametrize("place", OPENED)
def test_braces_are_possible_elsewhere(place):
    assert find(check(fill(OPENED[place], "data {x}")), place) == "data {x}"


def test_versions_of_broden_are_known():
    expected = "there is no version 'broden1_223' of Broden; did you mean 'broden1_"
    assert f"my.yaml: downloads: key 'broden1_223': {expected}" in refusal(
        check, with_change("downloads", value={"broden1_223": "x.zip"})
    )
    probe = {"kind": "download", "version": "broden1_223"}
    line = refusal(check, with_change("probes", "streets", value=probe))
    assert f"my.yaml: probes.streets.version: {expected}" in line
    assert "known are broden1_224, broden1_227, broden1_384" in line


def test_a_training_probe_is_looked_at_too(tmp_path):
    config = check(with_change("models", "lite", value={"kind": "tinyvgg", "probe": "streets"}))
    (line,) = list_absent(config, "my.yaml")
    assert line.startswith("my.yaml: probes.streets.path: data/streets has no index.csv")
