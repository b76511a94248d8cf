"""What a config asks for, by hand: places, corruptions and files."""

import itertools
import re

import pytest
from workflow_runs import CONFIG, MILAN_CONFIG, ROOT

from nemesis.config import check_config
from nemesis.entries import format_number
from nemesis.plan import gathered, paths, user_files
from nemesis.plan.inputs import Inputs
from nemesis.plan.plan import Plan

SCHEMA = ROOT / "schemas" / "config.schema.yaml"
DRAWN = [("drawn", "lite", "blocks.2"), ("drawn", "lite", "blocks.4")]
PHOTOS = ("photos", "lite", "blocks.4")
EXAMPLES = {
    "version": "broden1_224",
    "kind": "gaussian",
    "file": "weights.pth",
    "probe": "drawn",
    "model": "lite",
    "layer": "blocks.4",
    "std": "0.05",
    "draw": "0",
    "shard": "1",
    "method": "pgd",
    "eps": "6",
    "mode": "targeted",
    "masks": "segmentation",
    "captioner": "regions",
    "published": "base",
    "run": "config",
    "table": "labels.csv",
    "figure": "margin.svg",
    "corruption": "noise/gaussian-0.05",
}


def plan(**changes) -> Plan:
    config = {name: part for name, part in (CONFIG | changes).items() if part is not None}
    return Plan(check_config(config, SCHEMA, "config.yaml"))


def patterns() -> dict[str, str]:
    return {name: value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}


def test_no_file_has_two_names():
    """Filled with the same values, no two patterns give one file."""
    files = {name: paths.fill(pattern, **EXAMPLES) for name, pattern in patterns().items()}
    assert not [name for name, file in files.items() if "{" in file]
    groups = {"PAIR", "LAYER", "CLEAN", "NOISE", "DESIGNED", "DESIGN", "RUN", "EXEMPLAR_DESIGN"}
    twins = [pair for pair in itertools.combinations(files.keys() - groups, 2) if files[pair[0]] == files[pair[1]]]
    assert twins == []


def test_numbers_stand_in_paths_as_people_write_them():
    assert [format_number(value) for value in (6, 6.0, 0.5, 0.02, 1e-05)] == ["6", "6", "0.5", "0.02", "1e-05"]
    assert paths.fill("{probe}/{layer}/{eps}", ("a", "b", "c"), eps=2.0) == "a/c/2"


def test_places_by_hand():
    found = plan(**MILAN_CONFIG)
    assert found.places == [*DRAWN, PHOTOS] and found.dissected == DRAWN
    assert found.attacked == [DRAWN[1]] and found.described == [DRAWN[1], PHOTOS]
    assert found.layers("drawn", "lite") == ("blocks.2", "blocks.4")
    assert found.units[PHOTOS] == "all"
    assert found.described_corruptions(PHOTOS) == ["noise/gaussian-0.05", "designed/pgd-6-targeted-exemplars"]
    assert found.noises_of(PHOTOS) and not found.designs_of(PHOTOS)
    assert found.bisections == [("pgd", "segmentation")] and found.known_eps == [6]
    assert found.name == "config"


def test_probes_that_are_not_described():
    found = plan(**MILAN_CONFIG | {"milan": MILAN_CONFIG["milan"] | {"probes": ["photos"]}})
    assert found.described == [PHOTOS]
    assert found.noises_of(DRAWN[1]) and not found.described_noises(DRAWN[1])


def test_what_a_layer_page_is_made_of():
    files = gathered.layer_page(plan(**MILAN_CONFIG), PHOTOS).files
    assert not {"clean", "null_churn", "minimum"} & set(files)
    assert files["maps"] == "results/photos/lite/clean/activations.zarr/zarr.json"
    assert files["noise_exemplars"] == {
        ("gaussian", 0.05): "results/photos/lite/blocks.4/noise/gaussian-0.05/milan/exemplars.zarr/zarr.json"
    }
    assert list(files["attack_poison"]) == [("pgd", 6, "targeted")]
    assert files["scores"] == "results/runs/config/milan/photos/lite/scores.csv"


def test_descriptions_are_compared_corruption_by_corruption():
    found = gathered.compared_descriptions(plan(**MILAN_CONFIG), "drawn", "lite")
    assert found.keys["clean"] == [DRAWN[1]]
    corruptions = ["null", "noise/gaussian-0.05", "designed/pgd-6-targeted-exemplars"]
    assert found.keys["corrupted"] == [(*DRAWN[1], corruption) for corruption in corruptions]
    assert found.paths["corrupted"][0] == "results/drawn/lite/blocks.4/clean/milan/null_descriptions.csv"


def test_a_config_without_sections_has_nothing_to_gather():
    found = plan(noise=None, designed=None)
    assert found.noises == found.designs == found.attacked == found.described == found.draws == []
    assert gathered.shown_place(found) is None and gathered.shown_unit(found).files == {}
    assert gathered.attacks(found).paths == {
        name: [] for name in ("null_churn", "dissection", "budget", "storage", "collateral", "minimum")
    }
    assert gathered.scores(found) == {}
    assert found.for_each_eps("a/{eps}") == ["a/0"]


def test_inputs_keep_keys_and_paths_in_one_order():
    found = Inputs({"one": "a", "many": {("p", "m"): "b", ("q", "m"): "c"}, "none": {}})
    assert found.paths == {"one": "a", "many": ["b", "c"], "none": []}
    assert found.keys == {"many": [("p", "m"), ("q", "m")], "none": []}


def test_layers_of_another_config_stay_in_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = plan()
    assert found.layers_to_store("drawn", "lite") == ["blocks.2", "blocks.4"]
    other = tmp_path / "results/drawn/lite/clean/activations.zarr/blocks.1"
    other.mkdir(parents=True)
    killed = other.with_name(".blocks.3.partial-17")
    killed.mkdir()
    (killed / "zarr.json").touch()
    assert found.layers_to_store("drawn", "lite") == ["blocks.2", "blocks.4"]  # not whole
    (other / "zarr.json").touch()
    assert found.layers_to_store("drawn", "lite") == ["blocks.1", "blocks.2", "blocks.4"]


def test_names_by_kind():
    specs = {"a.b": {"kind": "folder"}, "c": {"kind": "broden"}}
    assert re.fullmatch(user_files.match_kinds(specs, "folder"), "a.b")
    assert not re.fullmatch(user_files.match_kinds(specs, "folder"), "axb")
    assert user_files.match_other_kinds(specs, "folder") == "c"
    assert not re.fullmatch(user_files.match_kinds(specs, "download"), "")


@pytest.mark.parametrize("there", [True, False])
def test_files_of_the_user_that_may_be_absent(tmp_path, there):
    folder = tmp_path / "mine"
    folder.mkdir()
    if there:
        (folder / "index.csv").touch()
    found = plan(probes={**CONFIG["probes"], "mine": {"kind": "broden", "path": str(folder)}})
    assert user_files.find_probe_index(found, "mine") == (str(folder / "index.csv") if there else [])
    assert user_files.find_probe_index(found, "drawn") == "results/probes/drawn/broden/index.csv"
