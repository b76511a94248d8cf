"""What a whole network says: logits, classes, where it ends, and which class of a probe an output stands for."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from nemesis.errors import InputError
from nemesis.models.card import Origin, read_head, save_model
from nemesis.models.network import LayerReader, Network, normalise
from nemesis.models.predictions import Head, classify, find_head, map_concepts, map_names, map_order, top_classes
from nemesis.models.registry import build_network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
FOLDERS = SimpleNamespace(class_names=["cat", "dog"], classes=np.array([0, 1, -1]))


def make_network(*parts, aliases=None) -> Network:
    torch.manual_seed(0)
    flat = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Network("n", nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), flat, *parts), MEAN, STD, aliases or {})


def draw_images(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 3, 10, 8), np.uint8)


def scale(images):
    """(image - mean) / std in double precision."""
    return (images.astype(float) / 255 - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))


def test_images_are_normalised():
    network, images = make_network(), draw_images()
    for given in (images, torch.from_numpy(images), images.astype(np.float32) / 255):
        found = normalise(network, given)
        assert found.dtype == torch.float32 and found.is_contiguous()
        np.testing.assert_allclose(found.numpy(), scale(images), atol=1e-6)


def test_a_readers_input_is_the_networks():
    network, images = make_network(), draw_images()
    with LayerReader(network, ["0"], channels_last=True) as reader:
        expected = reader.normalise(images)
    found = normalise(network, images)  # its weights lie channels last now
    assert found.is_contiguous(memory_format=torch.channels_last) and not found.is_contiguous()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "images", [np.zeros((3, 8, 8), np.uint8), np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 3, 8, 8), int)]
)
def test_other_arrays_are_no_images(images):
    with pytest.raises(ValueError, match="images must be"):
        normalise(make_network(), images)


def test_logits_are_those_of_the_network():
    network, images = make_network(nn.Linear(4, 5)), draw_images()
    with torch.no_grad():
        expected = network.module(torch.from_numpy(scale(images)).float())
    torch.testing.assert_close(classify(network, images), expected)
    batches = [images[:2], images[2:]]
    assert top_classes(network, batches).tolist() == expected.argmax(dim=1).tolist()
    assert top_classes(network, []).shape == (0,)


def test_gradients_reach_the_images_after_a_pass_in_inference_mode():
    network = make_network(nn.Linear(4, 5))
    top_classes(network, [draw_images()])
    images = torch.rand(2, 3, 10, 8, requires_grad=True)
    classify(network, images)[:, 1].sum().backward()
    assert images.grad.abs().sum() > 0


def test_a_network_without_classes_is_one_line():
    network = Network("n", nn.Sequential(nn.Conv2d(3, 4, 3)), MEAN, STD)
    with pytest.raises(InputError, match=r"model n: ends in a Tensor \(3, 4, 8, 6\), not in \(B, classes\)"):
        classify(network, draw_images())
    assert find_head(network, (10, 8)) is None


class Tail(nn.Module):
    def forward(self, features):
        return features * 2


class Broken(nn.Module):
    def forward(self, features):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([nn.Linear(4, 5)], Head("3", 5)),
        ([nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))], Head("fc8", 2)),
        ([nn.Linear(4, 5), nn.Dropout(), nn.Identity()], Head("3", 5)),
        ([], Head("2.1", 4)),
        ([nn.Linear(4, 5), Tail()], Head("4", 5)),
        ([Broken()], None),
    ],
)
def test_the_head_is_the_module_that_gives_the_logits(parts, expected):
    assert find_head(make_network(*parts, aliases={"fc8": "3.2"}), (10, 8)) == expected


def test_a_head_without_a_module_has_no_name():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return self.conv(images).mean(dim=(2, 3))

    assert find_head(Network("n", Plain(), MEAN, STD), (10, 8)) == Head("", 4)


def test_looking_at_the_head_draws_nothing():
    network = make_network(nn.Dropout(), nn.Linear(4, 5))
    before = torch.get_rng_state()
    find_head(network, (10, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_card_says_where_a_network_ends(tmp_path):
    files = tmp_path / "w.safetensors", tmp_path / "card.json"
    save_model(make_network(nn.Linear(4, 5)), {"kind": "file"}, *files, (10, 8), Origin("test"))
    assert json.loads(files[1].read_text())["head"] == {"name": "3", "classes": 5}
    assert read_head(files[1]) == Head("3", 5)
    network = Network("n", nn.Sequential(nn.Conv2d(3, 4, 3)), MEAN, STD)
    save_model(network, {"kind": "file"}, *files, 8, Origin("test"))
    assert read_head(files[1]) is None


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "efficientnet_lite0"}, Head("classifier", 1000)),
        ({"kind": "tinyvgg", "classes": 7}, Head("classifier", 7)),
        ({"kind": "torchvision", "arch": "resnet18"}, Head("fc", 1000)),
        ({"kind": "torchvision", "arch": "vgg11", "num_classes": 3}, Head("classifier.6", 3)),
        ({"kind": "torchvision", "arch": "squeezenet1_1"}, Head("", 1000)),
    ],
)
def test_heads_of_known_networks(spec, expected):
    assert find_head(build_network("m", spec | {"weights": "random"}), (64, 64)) == expected


def test_concepts_are_right_where_the_image_contains_them(tiny):
    numbers = np.array([2, 10, 1, 300, 6])
    classes = map_concepts(numbers)
    images = np.repeat(np.arange(tiny.probe.count), len(numbers))
    outputs = np.tile(np.arange(len(numbers)), tiny.probe.count)
    expected = [
        any((plane == numbers[o]).any() for plane in tiny.rows[i].planes())
        for i, o in zip(images, outputs, strict=True)
    ]
    assert classes.check(tiny.probe, images, outputs).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_folders_by_name():
    classes = map_names(["lion", "dog", "cat"], FOLDERS)
    assert classes.numbers.tolist() == [-1, 1, 0]
    found = classes.check(FOLDERS, np.array([0, 1, 2, 2, 1]), np.array([2, 1, 1, 0, 2]))
    assert found.tolist() == [True, True, False, False, False]
    with pytest.raises(InputError, match=r"none of the network's classes \(lion, fox, \.\.\.\) has a folder"):
        map_names(["lion", "fox"], FOLDERS)


def test_folders_by_an_order_that_somebody_vouches_for():
    check = map_order(2, FOLDERS).check
    assert check(FOLDERS, np.array([0, 1, 2]), np.array([0, 0, 0])).tolist() == [True, False, False]
    with pytest.raises(InputError, match="the network has 1000 classes, the probe 2 folders"):
        map_order(1000, FOLDERS)
