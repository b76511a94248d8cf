"""mean and std: those that the weights were trained with, and a word on the card where they were assumed."""

import json
import logging

import pytest
import torch
from networks import run_to_layers
from torchvision import models

from nemesis.errors import InputError
from nemesis.models.card import prepare_weights
from nemesis.models.network import LayerReader
from nemesis.models.published import HALF, IMAGENET_MEAN, IMAGENET_STD, choose_preprocessing, list_published
from nemesis.models.registry import build_network

IMAGES = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SSD_STD = (1 / 255, 1 / 255, 1 / 255)


def spec_of(arch, **changes):
    return {"kind": "torchvision", "arch": arch, **changes}


def choose(arch, **changes):
    return choose_preprocessing("m", spec_of(arch, **changes), list_published(arch))


def normalise_as_torchvision(arch: str, entry, images):
    """The input of the first convolution, by torchvision's own transforms (and its network's)."""
    transforms = entry.transforms()
    mean, std = torch.tensor(transforms.mean), torch.tensor(transforms.std)
    inputs = (images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    if arch in ("inception_v3", "googlenet"):
        module = models.get_model(arch, weights=None, transform_input=True, init_weights=False)
        inputs = module._transform_input(inputs)
    return inputs


@pytest.mark.parametrize("arch", models.list_models(module=models))
def test_every_published_file_brings_its_own(arch):
    for entry in models.get_model_weights(arch):
        found = choose(arch, weights=f"/weights/{entry.url.rpartition('/')[2]}")
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (found.mean, found.std))
        expected = normalise_as_torchvision(arch, entry, IMAGES)
        torch.testing.assert_close((IMAGES / 255 - mean) / std, expected, rtol=1e-5, atol=1e-4)
        assert "torchvision's for " + entry.url.rpartition("/")[2] in found.assumed[0]


@pytest.mark.parametrize("arch, mean, std", [
    ("resnet18", IMAGENET_MEAN, IMAGENET_STD),
    ("vgg16", IMAGENET_MEAN, IMAGENET_STD),
    ("efficientnet_v2_l", HALF, HALF),
    ("inception_v3", HALF, HALF),
    ("googlenet", HALF, HALF),
])  # fmt: skip
def test_any_other_file_and_random_weights_take_the_architectures(arch, mean, std):
    for weights in ("mine.pth", "random", None):
        found = choose(arch, weights=weights)
        assert (found.mean, found.std) == (mean, std)
        assert ("; weights trained with others need the keys `mean` and" in found.assumed[0]) == (weights != "random")
        assert ("vgg16-397923af.pth" in found.assumed[0]) == (arch == "vgg16")  # it has weights of either kind


def test_a_file_of_other_means_is_known_by_its_name():
    found = choose("vgg16", weights="downloads/vgg16_features-amdegroot-88682ab5.pth")
    assert found.mean == pytest.approx((0.48235, 0.45882, 0.40784)) and found.std == pytest.approx(SSD_STD)


def test_the_configs_own_are_used_and_compared():
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    found = choose("resnet18", weights="mine.pth", **own)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert "the config's mean [0.1, 0.2, 0.3], std [0.4, 0.5, 0.6] are used" in found.assumed[0]
    usual = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)}
    assert choose("resnet18", weights="mine.pth", **usual).assumed == ()
    half = choose("resnet18", std=list(HALF))
    assert (half.mean, half.std) == (IMAGENET_MEAN, HALF)
    # What torchvision's transforms say, beside a network whose published weights expect more than these.
    (published, *_) = list_published("inception_v3")
    (sentence,) = choose("inception_v3", weights=published.file, **usual).assumed
    assert sentence.startswith("the config's mean [0.485, ") and f"torchvision's for {published.file} are" in sentence
    for bad, expected in (([1, 2], "needs `mean:`, three numbers"), (["a"] * 3, "needs `mean:`"), (0.5, "not 0.5")):
        with pytest.raises(InputError, match=expected):
            choose("resnet18", mean=bad)
    with pytest.raises(InputError, match="std must be above 0"):
        choose("resnet18", std=[1, 0, 1])


@pytest.mark.parametrize("kind", ["vgg16_places365", "resnet50_imagenet"])
def test_the_papers_networks_keep_imagenets(kind):
    network = build_network("m", {"kind": kind, "weights": "random"})
    assert (network.mean, network.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert "mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]" in network.assumed[0]


def test_an_inception_computes_what_torchvisions_does(tmp_path):
    module = models.inception_v3(init_weights=False, num_classes=5, transform_input=True).eval()
    torch.save(module.state_dict(), tmp_path / "inc.pth")
    spec = spec_of("inception_v3", weights=str(tmp_path / "inc.pth"))
    network = prepare_weights("inc", spec, tmp_path / "w.safetensors", tmp_path / "card.json", size=96)
    kept = []
    module.Mixed_5b.register_forward_hook(lambda *call: kept.append(call[2]))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.inference_mode():
        module((IMAGES / 255 - mean) / std)
        for one in (network, build_network("inc", spec, tmp_path / "w.safetensors")):
            maps = run_to_layers(one, IMAGES, ["Mixed_5b"])["Mixed_5b"]
            assert maps.std() > 0
            torch.testing.assert_close(maps, kept[0], rtol=1e-3, atol=1e-4 * float(maps.abs().max()))
            inputs = LayerReader(one, ["Mixed_5b"]).normalise(IMAGES)
            torch.testing.assert_close(inputs, (IMAGES / 255 - 0.5) / 0.5)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["mean"] == card["std"] == [0.5] * 3
    assert "mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]: torchvision's for this architecture" in card["assumed"][0]


def test_what_was_assumed_is_said_once(tmp_path, caplog):
    spec = spec_of("squeezenet1_1", weights="random", num_classes=2)
    with caplog.at_level(logging.WARNING):
        network = prepare_weights("g", spec, tmp_path / "w.safetensors", tmp_path / "card.json", size=96)
        build_network("g", spec, tmp_path / "w.safetensors")
    assert caplog.messages == [f"model g: {network.assumed[0]}"]


@pytest.mark.parametrize("arch, expected", [
    ("quantized_resnet18", "computes with 8-bit integers and has no gradients; use arch: resnet18"),
    ("fcn_resnet50", "fcn_resnet50 is no classifier of images; give its backbone with kind: file"),
    ("r3d_18", "r3d_18 is no classifier of images"),
    ("ResNet-18", "torchvision has no arch 'ResNet-18'; near: "),
])  # fmt: skip
def test_architectures_that_cannot_be_used_are_named(arch, expected):
    with pytest.raises(InputError, match="model m: ") as caught:
        build_network("m", spec_of(arch, weights="random"))
    assert expected in str(caught.value)


def test_random_weights_follow_the_seed_alone():
    """Also the tables and tokens that a network draws when it is made."""
    states = []
    for drawn, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(drawn)
        states.append(build_network("m", spec_of("swin_t", weights="random", seed=seed)).module.state_dict())
    table = next(name for name in states[0] if name.endswith("relative_position_bias_table"))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0][table], states[2][table])
