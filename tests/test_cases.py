"""Small inputs that once gave wrong results or no clear line (shared/cases), as they are; their neighbours stand in
the tests of each kind. Cases of probes are in test_odd_images.py and test_odd_tables.py, one of networks in
test_one_image.py."""

import functools
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from workflow_runs import ROOT

from nemesis.config import check_config, read_config
from nemesis.errors import InputError
from nemesis.milan.attack import cut_counts
from nemesis.models.card import prepare_weights
from nemesis.models.network import LayerReader, list_layers
from nemesis.models.registry import build_network

SCHEMA = ROOT / "schemas" / "config.schema.yaml"


@pytest.fixture(scope="module")
def make(shared, tmp_path_factory):
    """make(name) gives a copy of a case, whose weight files are made; each once."""

    @functools.cache
    def copy(name: str):
        folder = shutil.copytree(shared(f"cases/{name}"), tmp_path_factory.mktemp("cases") / name)
        if (folder / "make.py").exists():
            subprocess.run([sys.executable, "make.py"], check=True, capture_output=True, cwd=folder)
        return folder

    return copy


@pytest.fixture
def enter(make, monkeypatch):
    """enter(name) goes into the copy of a case and returns its config as it was checked."""

    def go(name: str) -> dict:
        monkeypatch.chdir(make(name))
        return check_config(read_config("config.yaml"), SCHEMA, "config.yaml")

    return go


def prepare(config: dict, name: str, size: int, folder):
    """The network as the workflow prepares it and as a job reads it back."""
    spec = config["models"][name]
    prepare_weights(name, spec, folder / f"{name}.safetensors", folder / f"{name}.json", size)
    return build_network(name, spec, folder / f"{name}.safetensors")


def refusal(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    line = str(caught.value)
    assert "\n" not in line and "\x1b" not in line
    return line


def test_braces_in_path(enter):
    line = refusal(enter, "braces-in-path")
    assert line.startswith("config.yaml: probes.p.path: data {x}: braces") and "rename it" in line


def test_unknown_model_keys(enter):
    line = refusal(enter, "unknown-model-keys")
    assert line.startswith("config.yaml: key 'models.m.means' is not known; did you mean 'mean'?")


def test_channels_last_layer(enter, tmp_path):
    config = enter("channels-last-layer")
    for name, units in (("swin", 192), ("cx", 96)):
        network = build_network(name, config["models"][name])
        layer = next(one["layers"][0] for one in config["experiments"] if one["model"] == name)
        shape = next(found.shape for found in list_layers(network, 64) if found.name == layer)
        assert shape[0] == units
        images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        with LayerReader(network, [layer], "cpu") as reader, torch.inference_mode():
            assert tuple(reader.read(images)[layer].shape) == (2, *shape)


@pytest.mark.parametrize("name", ["compiled", "swa", "lightning", "reference"])
def test_checkpoint_wrappings(enter, tmp_path, name):
    network = prepare(enter("checkpoint-wrappings"), name, 64, tmp_path)
    state, stored = network.module.state_dict(), torch.load("reference.pth", weights_only=True)["model"]
    assert all(torch.equal(state[key], tensor) for key, tensor in stored.items())


@pytest.mark.parametrize(
    ("name", "what"), [("script", "is a TorchScript program"), ("whole", "holds more than tensors")]
)
def test_files_that_hold_no_state_dict(enter, tmp_path, name, what):
    line = refusal(prepare, enter("checkpoint-wrappings"), name, 64, tmp_path)
    assert line.startswith(f"{name}.pth: {what}") and "torch.save(model.state_dict()" in line
    assert "weights_only" not in line


@pytest.mark.parametrize(("name", "layer", "size"), [("dense", "features", 64), ("vit", "conv_proj", 224)])
def test_published_names_of_torchvision(enter, tmp_path, name, layer, size):
    network = prepare(enter("published-names-of-torchvision"), name, size, tmp_path)
    assert layer in [found.name for found in list_layers(network, size)]


def test_published_names_of_mnasnet(enter, tmp_path):
    network = prepare(enter("published-names-of-torchvision"), "mnas", 64, tmp_path)
    stored = torch.load("mnas.pth", weights_only=True)
    assert all(torch.equal(network.module.state_dict()[key], tensor) for key, tensor in stored.items())


def test_torchvision_preprocessing(enter, tmp_path):
    config = enter("torchvision-preprocessing")
    network = build_network("inc", config["models"]["inc"])
    assert network.mean == network.std == (0.5, 0.5, 0.5)
    assert any("0.5" in sentence for sentence in network.assumed)


def test_report_equal_counts(enter):
    """Whatever number of images a unit has, none of its counts stands twice."""
    designed = enter("report-equal-counts")["milan"]["designed"]
    for images in range(1, designed["images"] + 1):
        counts = cut_counts([*designed["counts"], designed["images"]], images)
        assert counts == sorted(set(counts)) and counts[-1] == images


def test_every_case_has_a_test(shared):
    names = {folder.name for folder in shared("cases").iterdir() if folder.is_dir()}
    text = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(names) >= 13
    assert [name for name in sorted(names) if f'"{name}' not in text and f"cases/{name}/" not in text] == []


def test_configs_of_cases_are_read(shared):
    """So that a case whose config became invalid does not pass for refused."""
    for path in shared("cases").glob("*/config.yaml"):
        assert set(yaml.safe_load(path.read_text())) >= {"probes", "models", "experiments"}
