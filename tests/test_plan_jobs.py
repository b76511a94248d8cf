"""The plan's jobs are those that Snakemake lists, and its rules answer to the card's names."""

import copy
import re

import pytest
import yaml
from workflow_runs import CONFIG, MILAN, MILAN_CONFIG, ROOT, new_place

from nemesis.config import check_config
from nemesis.plan.jobs import count_jobs
from nemesis.plan.plan import Plan

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
SCHEMA = ROOT / "schemas" / "config.schema.yaml"
PRESETS = ("config.yaml", *(f"presets/{name}.yaml" for name in ("quick", "paper", "own")))
PHOTOS = {"photos": {"kind": "folder", "path": "photos", "size": 64}}
ON_PHOTOS = [{"probe": "photos", "model": "lite", "layers": ["blocks.4", "blocks.5"]}]
ATTACKS = CONFIG["designed"] | {"methods": ["pgd", "fgsm"], "masks": ["segmentation", "baseline"], "eps": [6, 2.5]}
# What a small config has instead of its own sections.
CONFIGS = {
    "shards": {},
    "no noise, no attacks": {"noise": None, "designed": None, "extraction": None},
    "every attack": {"designed": ATTACKS | {"shards": 1}},
    "attacks without controls": {
        "designed": {key: ATTACKS[key] for key in ("eps", "layers", "units", "methods")} | {"modes": ["targeted"]}
    },
    "several draws and kinds": {
        "noise": {"kinds": ["gaussian", "none", "uniform"], "std": [0.1, 0.2], "seeds": [1, 2]}
    },
    "descriptions": MILAN_CONFIG,
    "only photographs, no null": {
        "probes": MILAN_CONFIG["probes"],
        "experiments": ON_PHOTOS,
        "designed": None,
        "milan": MILAN | {"layers": "all", "null_replicates": 0, "probes": ["photos"]},
    },
    "only clean descriptions": {
        "probes": MILAN_CONFIG["probes"],
        "experiments": ON_PHOTOS,
        "designed": None,
        "milan": {"captioner": MILAN["captioner"], "null_replicates": 0},
    },
    "a published captioner": {
        "milan": {"layers": ["blocks.2"], "captioner": {"kind": "download", "name": "base"}, "threshold": 0.642}
    },
    "downloaded weights": {
        "models": {"net": {"kind": "resnet50_imagenet", "weights": "download"}},
        "experiments": [{"probe": "drawn", "model": "net", "layers": ["layer4"]}],
        "designed": None,
    },
    "a probe for a network alone": {
        "probes": CONFIG["probes"] | {"other": {"kind": "minibroden", "images": 30, "size": 64}},
        "models": {"vgg": {"kind": "tinyvgg", "probe": "other"}},
        "experiments": [{"probe": "drawn", "model": "vgg", "layers": ["conv5"]}],
        "designed": None,
    },
}


def same_jobs(place):
    """The plan's jobs of a place's config, and those that a dry run lists."""
    config = yaml.safe_load((place.folder / "config.yaml").read_text())
    planned = count_jobs(Plan(check_config(config, SCHEMA, "config.yaml")))
    ended = place.run("--dry-run", "--quiet", "rules")
    assert ended.code == 0, ended.text
    return planned, ended.jobs


@pytest.mark.parametrize("name", PRESETS)
def test_jobs_of_a_preset(name, tmp_path, workflow):
    place = new_place(tmp_path, workflow)
    (tmp_path / "config.yaml").write_text((ROOT / name).read_text())
    planned, listed = same_jobs(place)
    assert planned == listed


@pytest.mark.parametrize("name", CONFIGS)
def test_jobs_of_a_config(name, tmp_path, workflow):
    planned, listed = same_jobs(new_place(tmp_path, workflow, **copy.deepcopy(CONFIGS[name])))
    assert planned == listed


CARD = ("extract_activations", "compute_thresholds", "poison_images", "dissect", "score_milan", "plot_tables")


def test_the_list_of_rules_has_the_cards_names_and_a_line_each(tmp_path, workflow):
    ended = new_place(tmp_path, workflow).finish("--list-rules")
    assert {*CARD, "download_broden"} <= set(ended.text.split())
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    names = re.findall(r"^ *rule (\w+):\n +\"\"\"\w", text, re.M)
    assert len(names) == len(set(names)) == len(re.findall(r"^ *(?:rule|checkpoint)(?: \w+)?:", text, re.M))


def test_options_take_the_cards_names(tmp_path, workflow):
    place = new_place(tmp_path, workflow, **MILAN_CONFIG)
    every = place.finish("--dry-run").jobs
    until = place.finish("--dry-run", "--until", "extract_activations").jobs
    assert until["extract_activations"] == every["extract_activations"] and "compute_thresholds" not in until
    omitted = place.finish("--dry-run", "--omit-from", "dissect", "poison_images").jobs
    assert not {"dissect", "poison_images", "plot_tables", "write_report"} & set(omitted)
    assert omitted["compute_thresholds"] == every["compute_thresholds"]
    for name in CARD:
        asked = ("--set-threads", f"{name}=7", "--set-resources", f"{name}:mem_mb=1234", "--forcerun", name)
        text = place.finish("--dry-run", *asked, "--until", name, cores=8).text
        blocks = re.findall(rf"^rule {name}:\n(.*?)^(?:\[|Job stats)", text, re.M | re.S)
        assert len(blocks) == every[name]
        assert all("threads: 7" in block and "mem_mb=1234" in block for block in blocks), blocks[0]
