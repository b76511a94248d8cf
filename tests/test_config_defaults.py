"""A key has one default: config.yaml, the pages and the library say what the schema fills in."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml
from test_config import SCHEMA, SMALL, check, with_change

from nemesis.models.card import DEFAULT_SIZE
from nemesis.models.training import train_tinyvgg
from nemesis.probes.folder import Crop
from nemesis.probes.minibroden.write import make_minibroden

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "config.yaml").read_text()
LINES = TEXT.splitlines()
WRITTEN = yaml.safe_load(TEXT)
SCHEME = yaml.safe_load(SCHEMA.read_text())
NONE = object()
# What the demo does otherwise than a config that leaves the key out: fewer units, images and sizes, parts that come
# with the packages, and every mode.
SHORTENED = {
    "designed.eps",
    "designed.modes",
    "designed.layers",
    "designed.units",
    "designed.max_fraction",
    "designed.budgets",
    "designed.minimum_epsilon.highest",
    "milan.layers",
    "milan.units",
    "milan.size",
    "milan.captioner",
    "milan.scorer",
    "milan.designed.eps",
    "milan.designed.modes",
    "milan.designed.units",
    "milan.designed.images",
    "milan.designed.counts",
}


def list_defaults(scheme: dict, place: str = ""):
    """(place, default) of every key of a section and of the sections in it; not those of a kind."""
    for name, part in scheme.get("properties", {}).items():
        inside = f"{place}.{name}" if place else name
        if "properties" in part:
            yield from list_defaults(part, inside)
        elif "default" in part:
            yield inside, part["default"]
    if place == "":
        yield from list_defaults(SCHEME["$defs"]["experiment"], "experiments")


DEFAULTS = dict(list_defaults(SCHEME))


def find_value(place: str):
    """What stands at a place of config.yaml, of a list in its first item."""
    value = WRITTEN
    for name in place.split("."):
        value = value[0] if isinstance(value, list) else value
        value = value.get(name, NONE)
    return value


def read_comments(node=None, place: str = "") -> dict[str, str]:
    """The comment over every key of config.yaml that has a line of its own; of equal places the first."""
    node, found = yaml.compose(TEXT) if node is None else node, {}
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        found = read_comments(item, place) | found
    for key, value in node.value if isinstance(node, yaml.MappingNode) and not node.flow_style else ():
        inside, last = f"{place}.{key.value}" if place else key.value, key.start_mark.line
        first = last
        while LINES[first - 1].lstrip().startswith("#"):
            first -= 1
        found.setdefault(inside, " ".join(line.strip().removeprefix("#").strip() for line in LINES[first:last]))
        found = read_comments(value, inside) | found
    return found


COMMENTS = read_comments()


def test_config_yaml_has_every_key_that_has_a_default():
    assert len(DEFAULTS) > 50
    assert [place for place in DEFAULTS if find_value(place) is NONE] == []


@pytest.mark.parametrize("place", DEFAULTS)
def test_config_yaml_states_the_default(place):
    assert "Default: " in COMMENTS[place], "no `Default: ` in the comment over the key"
    assert yaml.safe_load(COMMENTS[place].partition("Default: ")[2]) == DEFAULTS[place]


def test_config_yaml_has_the_defaults_but_where_the_demo_is_shortened():
    assert {place for place, default in DEFAULTS.items() if find_value(place) != default} == SHORTENED


@pytest.mark.parametrize(
    ("place", "scheme"),
    [("probes", "probe"), ("models", "model"), ("milan.captioner", "captioner"), ("milan.scorer", "scorer")],
)
def test_config_yaml_shows_the_keys_of_every_kind_and_their_defaults(place, scheme):
    """{kind: minibroden, images: 600}: a key with a value has that default, one without has none."""
    found = re.findall(r"\{kind: (?:[^{}]|\{[^{}]*\})*\}", COMMENTS[place].partition("Default: ")[0])
    shown = {part["kind"]: part for part in map(yaml.safe_load, found)}
    for branch in SCHEME["$defs"][scheme]["allOf"]:
        if "kind" not in branch["if"]["properties"]:
            continue
        kind, keys = branch["if"]["properties"]["kind"]["const"], branch["then"]["properties"]
        if kind == "resnet50_imagenet":  # "likewise"
            continue
        assert set(shown[kind]) <= set(keys)
        for key in set(keys) - {"kind"}:
            assert shown[kind].get(key) == keys[key].get("default"), (kind, key)
        assert set(branch["then"].get("required", ())) <= set(shown[kind])


def test_weights_that_are_drawn_have_a_seed():
    drawn = {"kind": "torchvision", "arch": "resnet18", "weights": "random"}
    assert check(with_change("models", "lite", value=drawn))["models"]["lite"] == drawn | {"seed": 0}
    assert "seed" not in check(with_change("models", "lite", value=drawn | {"weights": "r.pth"}))["models"]["lite"]
    assert "`seed`: 0" in COMMENTS["models"]


def test_the_size_of_a_network_that_no_experiment_uses():
    """No default of the schema: left out, it is that of the probes, if there are any."""
    branches = SCHEME["$defs"]["model"]["allOf"]
    said = {branch["then"]["properties"].get("size", {}).get("description") for branch in branches} - {None}
    assert len(said) == 1 and f"or {DEFAULT_SIZE} where no experiment uses it" in said.pop()
    assert f"where no experiment uses the model ({DEFAULT_SIZE})" in COMMENTS["models"]


def test_a_trained_network_and_an_encoder_are_filled_in():
    config = check(SMALL)
    assert config["models"]["vgg"] == {"kind": "tinyvgg", "probe": "scenes", "epochs": 40}
    milan = {"captioner": {"kind": "annotations", "path": "a"}, "threshold": 0.6}
    captioner = check(with_change("milan", value=milan))["milan"]["captioner"]
    assert captioner["encoder"] == {"kind": "efficientnet_lite0"}


def test_pages_state_the_defaults():
    """Where a page says "`dissection.min_iou` (default 0.04)", the schema has it."""
    stated = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = " ".join(page.read_text(encoding="utf-8").split())
        stated += [(page.name, *found) for found in re.findall(r"`([a-z_.]+)` \(default `?([^`;)]+)`?", text)]
    assert len(stated) > 5
    for page, place, value in stated:
        assert place in DEFAULTS, (page, place)
        assert yaml.safe_load(value) == DEFAULTS[place], (page, place)


def kind_defaults(key: str) -> set:
    """The defaults that a key has in the kinds of probes, networks, captioners and scorers."""
    branches = [branch["then"] for part in SCHEME["$defs"].values() for branch in part.get("allOf", ())]
    found = [branch["properties"].get(key, {}) for branch in branches]
    return {part["default"] for part in found if not isinstance(part.get("default", {}), dict)}


@pytest.mark.parametrize(
    ("function", "parameter"),
    [(train_tinyvgg, "epochs"), (make_minibroden, "images"), (make_minibroden, "size"), (Crop, "size")],
)
def test_functions_have_the_same_defaults(function, parameter):
    assert inspect.signature(function).parameters[parameter].default in kind_defaults(parameter)


def test_specs_are_read_with_the_same_defaults():
    """`spec.get("idf", True)`: what the library takes in a notebook, where no schema filled in a key."""
    found = {}
    for path in (ROOT / "scripts").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "spec.get" and len(node.args) == 2:
                key, default = node.args
                if isinstance(default, ast.Constant) and default.value not in ("", "none"):
                    found[key.value] = default.value
    assert {"idf", "seed"} <= set(found)
    for key, value in found.items():
        assert value in kind_defaults(key), key
