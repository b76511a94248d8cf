"""Names that become folders: the run's, and those of layers."""

import re
from pathlib import Path

import pytest
from test_config import EXPERIMENT, SCHEMA, SMALL, check, with_change

from nemesis.config import check_config
from nemesis.errors import InputError
from nemesis.plan import paths


@pytest.mark.parametrize(
    ("where", "name"),
    [("my.yaml", "my"), ("configs/a b/My.2_x-1.yaml", "My.2_x-1"), ("a.yaml, ../b.json", "b"), ("config", "config")],
)
def test_a_run_has_the_name_of_its_last_file(where, name):
    assert check_config(SMALL, SCHEMA, where)["name"] == name
    assert check_config(SMALL | {"name": "7th.run"}, SCHEMA, where)["name"] == "7th.run"


@pytest.mark.parametrize("name", ["my run", "Läufe", ".hidden", "a/b", "..", "{probe}", "", "a\n"])
def test_a_name_that_is_no_folder(name):
    """Refused where it stands in the config; one that a file has needs a `name:` there."""
    possible = "letters, digits, '.', '_' and '-' can be in it, and no '.' at the start"
    with pytest.raises(InputError) as caught:
        check_config(SMALL | {"name": name}, SCHEMA, "my.yaml")
    assert str(caught.value) == f"my.yaml: name: {name!r} cannot be the name of a folder of results; {possible}"
    if name in ("my run", "Läufe", ".hidden", "{probe}"):
        with pytest.raises(InputError) as caught:
            check_config(SMALL, SCHEMA, f"data/{name}.yaml")
        assert str(caught.value) == (
            f"data/{name}.yaml: the name of the file, {name!r}, cannot be that of the run ({possible}); set one in the"
            " file, `name: my_run`"
        )


@pytest.mark.parametrize("layer", ["clean", "noise", "designed", "shards", "activations.zarr"])
def test_a_layer_may_have_the_name_of_a_folder_beside_it(layer):
    """results/p/m/clean/clean/thresholds.csv, of a layer `clean`, beside results/p/m/clean/activations.zarr."""
    assert check(with_change(*EXPERIMENT, "layers", value=[layer]))["experiments"][0]["layers"] == [layer]
    values = {"probe": "p", "model": "m", "layer": layer, "kind": "gaussian", "std": "0.02", "corruption": "clean"}
    values |= {"method": "pgd", "eps": "4", "mode": "shared", "masks": "baseline", "draw": "0", "shard": "0"}
    patterns = {text for text in vars(paths).values() if isinstance(text, str) and text.startswith(paths.PAIR)}
    files = {Path(pattern.format(**values)): pattern for pattern in patterns if Path(pattern).suffix}
    assert len(files) > 20
    for file, pattern in files.items():
        stores = [one for one in files if one.name == "zarr.json" and one.parent in file.parents]
        assert {folder for folder in files if folder in file.parents} == set(), "a file where a folder is needed"
        assert [one for one in stores if one != file] == [], "a file in the store of another"
        matching = [one for one in patterns if Path(one).suffix and re.fullmatch(to_regex(one), str(file))]
        assert matching == [pattern]


def to_regex(pattern: str) -> str:
    """What a rule's path matches: a wildcard is one part of it; attacks of exemplars have other masks."""
    text = re.escape(pattern.replace("{masks}", "MASKS"))
    return re.sub(r"\\\{\w+\\\}", "[^/]+", text).replace("MASKS", "(segmentation|baseline)")


def test_a_layer_with_the_name_of_a_file_of_the_store():
    with pytest.raises(InputError, match=r"^my.yaml: experiments\[0\].layers: no layer can be called zarr.json"):
        check(with_change(*EXPERIMENT, "layers", value=["a", "zarr.json"]))
