"""Weight files built like the published ones, with random weights: they load right, or are refused in one line.

VGG16-Places365 as published for Network Dissection, torchvision's ResNet50 (with and without batch counters) and
Places365's ResNet50; as plain dict, nested, from DataParallel, zipped or in torch.save's old format.
"""

import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from http_server import FAST, names, sha256
from networks import run_to_layers
from safetensors.torch import save_file
from torchvision import models

from nemesis.errors import InputError
from nemesis.fetch import download_weights
from nemesis.models.registry import build_network
from nemesis.models.weights import load_weights
from nemesis.sources import COLUMNS

VGG = {"kind": "vgg16_places365"}
RESNET = {"kind": "resnet50_imagenet"}
PLACES_RESNET = {"kind": "torchvision", "arch": "resnet50"}
# conv1_1, relu1_1, ... as the published file names the children of `features`.
BLOCKS = [f"{block}_{number}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, count + 1)]
CLASSIFIER = {"0": "fc6", "3": "fc7", "6": "fc8a"}


def name_as_published(state) -> OrderedDict:
    """A VGG16's state under the published names, found by order: torchvision numbers convolutions 0, 2, 5, ..."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("features.")})
    convolutions = dict(zip(map(str, numbers), BLOCKS, strict=True))
    published = OrderedDict()
    for key, tensor in state.items():
        part, number, kind = key.split(".")
        word = f"conv{convolutions[number]}" if part == "features" else CLASSIFIER[number]
        published[f"{part}.{word}.{kind}"] = tensor
    return published


def draw(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights of a size that keeps activations finite; batch statistics that are not those of a new layer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(17)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                bound = 0.1 if tensor.ndim < 2 else (6 / tensor[0].numel()) ** 0.5
                tensor.uniform_(-bound, bound, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def vgg():
    return draw(torch.nn.utils.skip_init(VGG16, device="cpu"), 0)


class VGG16(models.VGG):
    """torchvision's, with Places365's classes; `device` is for skip_init, as initialising takes seconds."""

    def __init__(self, device):
        with torch.device(device):
            features = models.vgg.make_layers(models.vgg.cfgs["D"])
            super().__init__(features, num_classes=365, init_weights=False)


@pytest.fixture(scope="module")
def resnet():
    return draw(models.resnet50(weights=None), 1)


@pytest.fixture(scope="module")
def places_resnet():
    return draw(models.resnet50(weights=None, num_classes=365), 2)


def draw_images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8))


def expect(module, images, path: str):
    """Output of a layer of torchvision's own network, in inputs as published."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kept = []
    # A copy: the ReLU behind it works in place.
    hook = module.get_submodule(path).register_forward_hook(lambda *call: kept.append(call[2].clone()))
    with torch.inference_mode():
        module((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    hook.remove()
    return kept[0]


def check_network(spec, path: Path, module, layers: dict[str, str], classes: int):
    """The file gives `module`: every tensor, and what layers (our name: torchvision's path) say of images."""
    network = build_network("m", {**spec, "weights": str(path)})
    path.unlink()
    own = network.module.state_dict()
    assert all(
        torch.equal(own[name], tensor)
        for name, tensor in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    )
    last = list(own.values())[-1]
    assert last.shape == (classes,)
    with torch.inference_mode():
        maps = run_to_layers(network, draw_images(), list(layers))
    for name, place in layers.items():
        expected = expect(module, draw_images(), place)
        assert expected.std() > 1e-3
        torch.testing.assert_close(maps[name], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("form", ["old format", "zipped, nested, from DataParallel"])
def test_vgg16_places365(tmp_path, vgg, form):
    state, path = name_as_published(vgg.state_dict()), tmp_path / "vgg16_places365-0bafbc55.pth"
    assert list(state)[24:] == ["features.conv5_3.weight", "features.conv5_3.bias"] + [
        f"classifier.{word}.{kind}" for word in ("fc6", "fc7", "fc8a") for kind in ("weight", "bias")
    ]
    if form == "old format":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        assert not zipfile.is_zipfile(path)
    else:
        torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}, path)
    layers = {"conv1_2": "features.2", "conv4_3": "features.21", "conv5_3": "features.28"}
    check_network(VGG, path, vgg, layers, 365)


def without_counters(state):
    return {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("change", "zipped"),
    [(dict, True), (without_counters, False)],
    ids=["with batch counters", "without, old format"],
)
def test_resnet50_imagenet(tmp_path, resnet, change, zipped):
    """Files before torchvision 0.3 have no batch counters."""
    torch.save(change(resnet.state_dict()), tmp_path / "r.pth", _use_new_zipfile_serialization=zipped)
    layers = {"layer1": "layer1", "layer4": "layer4"}
    check_network(RESNET, tmp_path / "r.pth", resnet, layers, 1000)


def test_places365s_resnet50(tmp_path, places_resnet):
    """As published: DataParallel's names, nested, in the old format."""
    content = {
        "epoch": 90,
        "arch": "resnet50",
        "state_dict": OrderedDict((f"module.{key}", part) for key, part in places_resnet.state_dict().items()),
        "best_prec1": 54.65,
    }
    path = tmp_path / "resnet50_places365.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    check_network(PLACES_RESNET, path, places_resnet, {"layer4": "layer4"}, 365)


@pytest.mark.parametrize(
    ("arch", "head"), [("resnet18", "fc"), ("alexnet", "classifier.6"), ("densenet121", "classifier")]
)
def test_classes_are_found_whatever_the_order_of_a_file(tmp_path, arch, head):
    """safetensors sorts by name: the last tensor of the file is not the last layer."""
    module = models.get_model(arch, weights=None, num_classes=7)
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    network = build_network("m", {"kind": "torchvision", "arch": arch}, tmp_path / "w.safetensors")
    (last,) = list(network.module.state_dict().values())[-1:]
    assert last.shape == (7,)


# ---- files that do not fit --------------------------------------------------------------------------


class Foreign:
    """Any class that a file may ask for, as files that hold a whole network do."""


def lack(state):
    return {key: tensor for key, tensor in state.items() if key != "layer4.2.conv3.weight"}


def misshape(state):
    return state | {"conv1.weight": state["conv1.weight"][:, :, 1:6, 1:6].clone()}


BAD = {
    "a missing tensor": (lack, "does not fit ResNet: lacks layer4.2.conv3.weight"),
    "another shape": (misshape, r"conv1.weight is \(64, 3, 5, 5\), expected \(64, 3, 7, 7\)"),
    "a foreign class": (
        lambda state: state | {"extra": Foreign()},
        "holds more than tensors, and loading it could run code",
    ),
    "a surplus tensor": (lambda state: state | {"fc2.weight": state["fc.weight"]}, "has surplus fc2.weight"),
    "other numbers": (lambda state: state | {"epoch": 3}, "epoch is no tensor"),
}


def expect_refusal(spec, path: Path, message: str):
    with pytest.raises(InputError, match=message) as caught:
        build_network("m", {**spec, "weights": str(path)})
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("case", "zipped"), [*((case, True) for case in BAD), ("a foreign class", False)])
def test_files_that_do_not_fit(tmp_path, resnet, case, zipped):
    change, message = BAD[case]
    path = tmp_path / "r.pth"
    torch.save(change(dict(resnet.state_dict())), path, _use_new_zipfile_serialization=zipped)
    expect_refusal(RESNET, path, message)


def test_another_number_of_classes_is_named(tmp_path, places_resnet):
    torch.save(places_resnet.state_dict(), tmp_path / "r.pth")
    expect_refusal(RESNET, tmp_path / "r.pth", r"fc.weight is \(365, 2048\), expected \(1000, 2048\)")


def test_another_architecture_is_named(tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "r.pth")
    expect_refusal(VGG, tmp_path / "r.pth", "does not fit VGG: lacks features.0.weight")


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "r.pth")
    expect_refusal(RESNET, tmp_path / "r.pth", "holds more than tensors")


# ---- downloads --------------------------------------------------------------------------------------


def write_table(folder, **row) -> Path:
    row = {"name": "resnet50_imagenet", "version": "V1", "file": "r.pth"} | row
    (folder / "table.csv").write_text(
        ",".join(COLUMNS) + "\n" + ",".join(row.get(column, "") for column in COLUMNS) + "\n"
    )
    return folder / "table.csv"


def test_weights_are_downloaded_once_and_load(server, tmp_path, resnet):
    torch.save(resnet.state_dict(), tmp_path / "source.pth")
    body = (tmp_path / "source.pth").read_bytes()
    bad, good = server.serve("/bad.pth", b"<html>moved</html>"), server.serve("/good.pth", body)
    table = write_table(tmp_path, primary=bad, mirrors=good, sha256=sha256(body)[:8])
    archive, target = tmp_path / "results" / "r.pth", tmp_path / "results" / "resnet50_imagenet" / "r.pth"
    archive.parent.mkdir()
    for _ in range(2):
        target.unlink(missing_ok=True)  # as Snakemake does before it runs a job again
        assert download_weights("resnet50_imagenet", archive, target, load_weights, table, **FAST) == target
    assert [asked.path for asked in server.asked] == ["/bad.pth", "/good.pth"]
    assert names(archive.parent) == {"r.pth", "r.pth.sha256", "resnet50_imagenet"}
    check_network(RESNET, target, resnet, {"layer1": "layer1"}, 1000)


@pytest.mark.parametrize("content", [b"<html>moved</html>", b""])
def test_anything_else_is_refused_and_not_kept(server, tmp_path, content):
    table = write_table(tmp_path, primary=server.serve("/r.pth", content))
    with pytest.raises(InputError, match="no address delivered it") as caught:
        download_weights(
            "resnet50_imagenet", tmp_path / "out" / "r.pth", tmp_path / "r.pth", load_weights, table, **FAST
        )
    assert "models: {NAME: {weights: PATH}}" in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == {"table.csv", "out"} and names(tmp_path / "out") == set()


def test_a_kind_without_published_weights(tmp_path):
    with pytest.raises(InputError, match="tinyvgg: no weights of this kind are published"):
        download_weights("tinyvgg", tmp_path / "a.pth", tmp_path / "b.pth", load_weights)
