"""The paper's preset: its plan without any data, and published weights that the workflow fetches itself."""

import csv
import json

import pytest
import torch
from torchvision import models
from workflow_runs import CONFIG, ROOT, assert_refused, copy_workflow, new_place

from nemesis.sources import COLUMNS, find_source

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
PLANNED = {
    "download_broden": 1,
    "download_weights": 2,
    "prepare_captioner": 1,
    "prepare_probe": 1,
    "prepare_folder": 2,
    "prepare_model": 2,
    "dissect": 9,
    "dissect_designed": 18,  # a layer, untargeted and targeted; every eps in one job
    "write_report": 1,
}


def test_the_plan_needs_nothing_and_the_run_says_what_is_absent(tmp_path, workflow):
    place = new_place(tmp_path, workflow)
    (tmp_path / "config.yaml").write_text((ROOT / "presets" / "paper.yaml").read_text())
    ended = place.run("--dry-run")
    assert ended.code == 0, ended.text
    assert {name: ended.jobs.get(name) for name in PLANNED} == PLANNED
    folders = ["data/imagenet_val", "data/places365_val"]
    assert [line.split(": ")[3] for line in ended.complaints] == folders, ended.text
    assert_refused(place.run(), "probes.places365_val.path: data/places365_val: not a folder")
    assert not place.exists("results")


def test_published_weights_are_fetched_and_prepared(tmp_path, server, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)  # its library would go before that of the copy
    (tmp_path / "workflow").mkdir()
    workflow = copy_workflow(tmp_path / "workflow")
    torch.save(models.resnet50(weights=None).state_dict(), tmp_path / "r.pth")
    source = find_source("resnet50_imagenet")
    address = server.serve("/r.pth", (tmp_path / "r.pth").read_bytes())
    table = workflow / "scripts" / "nemesis" / "sources.csv"
    with open(table, newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["name"] != source.name]
    row = {"name": source.name, "version": source.version, "file": "r.pth", "primary": address}
    with open(table, "w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*rows, row])
    net = {"kind": "resnet50_imagenet", "weights": "download"}
    experiments = [CONFIG["experiments"][0] | {"model": "net", "layers": ["layer4"]}]
    place = new_place(tmp_path / "place", workflow, models={"net": net}, experiments=experiments, designed=None)
    ended = place.finish("results/models/net/card.json")
    assert ended.jobs == {"download_weights": 1, "prepare_model": 1}
    card = json.loads((place.folder / "results/models/net/card.json").read_text())
    assert card["source"] == "r.pth"
    assert [layer["shape"] for layer in card["layers"] if layer["name"] == "layer4"] == [[2048, 2, 2]]
    place.remove(f"results/downloads/{source.name}")  # the archive stays, and nothing is fetched again
    place.finish("results/models/net/card.json", "--forcerun", "download_weights")
    assert len(server.asked) == 1 and place.rests() == []
