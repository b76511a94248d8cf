"""Files of a rule by what each is about."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import InputFiles

from nemesis.plan.files import group_files, pair_files

KEYS = [("scenes", "vgg", "conv1"), ("scenes", "vgg", "conv2")]


def test_files_are_paired_by_name():
    files = SimpleNamespace(clean=["a.csv", "b.csv"], noise=[], labels="labels.csv")
    found = pair_files(files, {"clean": KEYS, "noise": []})
    assert found == {"clean": {KEYS[0]: "a.csv", KEYS[1]: "b.csv"}, "noise": {}}


def test_a_single_file_is_a_list_of_one():
    assert pair_files(SimpleNamespace(clean="a.csv"), {"clean": KEYS[:1]}) == {"clean": {KEYS[0]: "a.csv"}}


def test_as_snakemake_gives_them():
    files = InputFiles(fromdict={"clean": ["a.csv"], "noise": [], "labels": "labels.csv"})
    assert pair_files(files, {"clean": KEYS[:1], "noise": []}) == {"clean": {KEYS[0]: "a.csv"}, "noise": {}}


@pytest.mark.parametrize("paths", [["a.csv"], ["a.csv", "b.csv", "c.csv"], []])
def test_another_number_of_files(paths):
    with pytest.raises(ValueError, match=f"input clean: {len(paths)} files, 2 keys"):
        pair_files(SimpleNamespace(clean=paths), {"clean": KEYS})


def test_a_key_that_stands_twice():
    with pytest.raises(ValueError, match="input clean: a key stands twice"):
        pair_files(SimpleNamespace(clean=["a.csv", "b.csv"]), {"clean": KEYS[:1] * 2})


def test_an_input_that_is_not_there():
    with pytest.raises(AttributeError, match="clean"):
        pair_files(SimpleNamespace(), {"clean": KEYS})


def test_files_are_grouped_by_name():
    paths = [f"results/tables/{name}.{ending}" for name in ("labels", "noise") for ending in ("csv", "md")]
    found = group_files(paths, ["noise", "labels"])
    assert list(found) == ["noise", "labels"] and group_files([], []) == {}
    assert found["labels"] == {".csv": Path(paths[0]), ".md": Path(paths[1])}


@pytest.mark.parametrize(
    ("names", "message"), [(["a", "b"], "no file for b"), (["b"], r"tables/a.csv: no such name among b")]
)
def test_names_and_files_belong_together(names, message):
    with pytest.raises(ValueError, match=message):
        group_files(["tables/a.csv"], names)
