import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import run_to_layers
from safetensors.torch import load_file, save_file
from torch import nn

from nemesis.errors import InputError
from nemesis.models.card import Origin, prepare_weights, save_model
from nemesis.models.embedded import TinyVGG
from nemesis.models.network import LayerReader, Network, list_layers, resolve_layers
from nemesis.models.published import name_vgg_layers, rename_research_names
from nemesis.models.registry import KINDS, build_network
from nemesis.models.training import average_precision, summarise_precision, train_tinyvgg
from nemesis.models.weights import insert_weights, load_weights

HALF = (0.5, 0.5, 0.5)
LOADER = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 4, 3)
        self.second = torch.nn.Conv2d(4, 5, 3)

    def forward(self, x):
        return self.second(self.first(x).relu_())

def load():
    torch.manual_seed(1)
    return Two()

def load_parallel():
    return torch.nn.DataParallel(load())

def number():
    return 3

def broken():
    raise RuntimeError("no such\\ncheckpoint")

constant = 3
"""
SPECS = {
    "efficientnet_lite0": {"kind": "efficientnet_lite0", "weights": "random"},
    "tinyvgg": {"kind": "tinyvgg", "weights": "random", "classes": 5},
    "resnet18": {"kind": "torchvision", "arch": "resnet18", "weights": "random", "num_classes": 7},
    "densenet121": {"kind": "torchvision", "arch": "densenet121", "weights": "random"},
    "vgg16_places365": {"kind": "vgg16_places365", "weights": "random"},
    "resnet50_imagenet": {"kind": "resnet50_imagenet", "weights": "random"},
    "file": {"kind": "file", "mean": HALF, "std": HALF},
}


class Changing(nn.Module):
    """Changes the output of its layer `first` in place, twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pair = Pair()
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.first(x)
        x += 1
        x = nn.functional.relu(x, inplace=True)
        x = self.second(self.second(x))
        x, _ = self.pair(x)
        return nn.functional.linear(self.pool(x).flatten(1), torch.ones(2, 4))


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Catching(Changing):
    def forward(self, x):
        try:
            return super().forward(x)
        except Exception:
            raise AssertionError("the reader's stop must pass through `except Exception`") from None


@pytest.fixture(scope="module")
def make_loader(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "my_model.py"
    path.write_text(LOADER)
    return lambda function="load", **changes: {**SPECS["file"], "loader": f"{path}:{function}", **changes}


@pytest.fixture(scope="module", params=SPECS)
def network(request, make_loader):
    return build_network(request.param, make_loader() if request.param == "file" else SPECS[request.param])


@pytest.fixture
def changing():
    torch.manual_seed(0)
    return Network("changing", Changing(), HALF, HALF)


def draw_images(count=2, size=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def read_all(network, images, layers):
    """Outputs of a whole forward pass, copied as they appear."""
    kept, hooks = {}, []
    for name, path in resolve_layers(network, layers).items():

        def keep(module, inputs, output, name=name):
            kept.setdefault(name, output.clone())

        hooks.append(network.module.get_submodule(path).register_forward_hook(keep))
    with LayerReader(network, layers) as reader, torch.inference_mode():
        inputs = reader.normalise(images)
    with torch.inference_mode():
        network.module(inputs)
    for hook in hooks:
        hook.remove()
    return kept


def error_of(function, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- every kind -----------------------------------------------------------------------------------


def test_specs_cover_every_kind():
    assert {spec["kind"] for spec in SPECS.values()} == set(KINDS)


def test_networks_are_frozen_and_free_of_inplace_modules(network):
    assert not network.module.training
    assert not any(parameter.requires_grad for parameter in network.module.parameters())
    assert not any(getattr(part, "inplace", False) for part in network.module.modules())


def test_aliases_resolve_and_reading_equals_a_full_forward(network):
    images, layers = draw_images(), list_layers(network, 64)
    assert set(network.aliases) <= {layer.name for layer in layers}
    names = [layer.name for layer in layers][:: max(1, len(layers) // 12)] + list(network.aliases)
    expected = read_all(network, images, names)
    with torch.inference_mode():
        maps = run_to_layers(network, images, names)
    shapes = {layer.name: layer.shape for layer in layers}
    assert list(maps) == list(dict.fromkeys(names))
    for name, output in maps.items():
        assert torch.equal(output, expected[name]), name
        assert output.shape == (2, *shapes[name])
        assert torch.isfinite(output).all()


def test_nothing_runs_after_the_deepest_layer(network):
    layers = list_layers(network, 64)
    wanted = layers[len(layers) // 2].path
    finished = []
    hooks = [
        network.module.get_submodule(layer.path).register_forward_hook(
            lambda *_, path=layer.path: finished.append(path)
        )
        for layer in layers
    ]
    try:
        run_to_layers(network, draw_images(), [layers[0].path, wanted])
    finally:
        for hook in hooks:
            hook.remove()
    later = {layer.path for layer in layers[len(layers) // 2 + 1 :]}
    assert wanted in finished
    assert not later & set(finished)


def test_random_weights_follow_the_seed():
    spec = SPECS["tinyvgg"]
    first, again, other = (build_network("t", {**spec, "seed": seed}) for seed in (3, 3, 4))
    weight = [network.module.conv3[0].weight for network in (first, again, other)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])


def test_unknown_kind_lists_the_kinds():
    message = error_of(build_network, "m", {"kind": "tinyvvg"})
    assert "did you mean tinyvgg?" in message
    assert all(kind in message for kind in KINDS)


# ---- layers ---------------------------------------------------------------------------------------


def test_unknown_layer_names_near_ones(changing):
    message = error_of(run_to_layers, changing, draw_images(), ["frist"])
    assert "model changing has no layer 'frist'; did you mean first?" in message
    assert "first, second, pool" in message


def test_unknown_layer_line_is_finite():
    network = build_network("deep", SPECS["resnet18"])
    message = error_of(resolve_layers, network, ["x" * 500])
    assert len(message) < 1500
    assert "more" in message


@pytest.mark.parametrize("name, expected", [
    ("pair", "layer pair gives a tuple"),
    ("unused", "never calls layer unused"),
])  # fmt: skip
def test_layers_without_a_map_are_named(changing, name, expected):
    assert expected in error_of(run_to_layers, changing, draw_images(), [name])


def test_layer_of_another_rank_is_named_with_its_shape():
    message = error_of(run_to_layers, build_network("t", SPECS["tinyvgg"]), draw_images(), ["classifier"])
    assert "layer classifier" in message
    assert "(2, 5)" in message


def test_hooks_are_removed_even_after_an_error(changing):
    error_of(run_to_layers, changing, draw_images(), ["first", "pair"])
    run_to_layers(changing, draw_images(), ["second"])
    assert not any(part._forward_hooks for part in changing.module.modules())
    with pytest.raises(RuntimeError, match="with"):
        LayerReader(changing, ["first"]).read(draw_images())


@pytest.mark.parametrize("take", [None, lambda maps: maps[:, 1:], lambda maps: maps.double()])
@pytest.mark.parametrize("inference", [True, False])
def test_later_inplace_operations_do_not_reach_a_layer(changing, take, inference):
    images = draw_images()
    with torch.inference_mode(inference):
        inputs = LayerReader(changing, ["first"]).normalise(images)
        expected = changing.module.first(inputs)
        maps = run_to_layers(changing, images, ["first", "second"], take=take)
    assert torch.equal(maps["first"], take(expected) if take else expected)


def test_a_layer_called_twice_gives_its_first_output(changing):
    first = read_all(changing, draw_images(), ["second"])["second"]
    assert torch.equal(run_to_layers(changing, draw_images(), ["second", "pool"])["second"], first)


def test_the_stop_passes_through_a_network_that_catches_exceptions():
    network = Network("catching", Catching(), HALF, HALF)
    assert run_to_layers(network, draw_images(), ["first"])["first"].shape == (2, 4, 64, 64)


def test_conv5_3_is_before_its_relu_also_beside_relu5_3():
    from torchvision.models import vgg16

    with torch.device("meta"):
        aliases = name_vgg_layers(vgg16())
    assert aliases["conv5_3"] == "features.28"
    assert aliases["relu5_3"] == "features.29"
    assert aliases["pool5"] == "features.30"
    assert len(aliases) == 13 + 13 + 5
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    network = Network("vgg", features, HALF, HALF, {"conv": "0", "relu": "1"})
    maps = run_to_layers(network, draw_images(), ["conv", "relu"])
    assert maps["conv"].min() < 0
    assert torch.equal(maps["conv"].relu(), maps["relu"])


def test_8_bit_and_float_images_agree(changing):
    images = draw_images()
    maps = run_to_layers(changing, images, ["second"])["second"]
    assert torch.equal(maps, run_to_layers(changing, images.float() / 255, ["second"])["second"])
    assert torch.equal(maps, run_to_layers(changing, images.numpy(), ["second"])["second"])
    assert not maps.requires_grad


def test_images_of_another_shape_or_type_are_refused(changing):
    for images in (draw_images()[0], draw_images()[:, :2], draw_images().int()):
        with pytest.raises(ValueError, match="images must be"):
            run_to_layers(changing, images, ["first"])


@pytest.mark.parametrize("layers", [["conv2"], ["conv2", "conv4"]])
def test_gradients_flow_to_the_images(layers):
    network = build_network("t", SPECS["tinyvgg"])
    images = (draw_images(3).float() / 255).requires_grad_()
    maps = run_to_layers(network, images, layers)["conv2"]
    (gradient,) = torch.autograd.grad(maps[1].mean(), images)
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


def test_an_image_does_not_depend_on_its_batch(network):
    images, name = draw_images(5), list_layers(network, 64)[-1].name
    together = run_to_layers(network, images, [name])[name]
    alone = torch.cat([run_to_layers(network, image[None], [name])[name] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4 * float(together.abs().max()))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "tinyvgg"])
def test_padded_batches_give_an_image_the_same_bits(name):
    network, images = build_network(name, SPECS[name]), draw_images(16)
    layer = "blocks.15" if name == "efficientnet_lite0" else "conv5"
    with torch.inference_mode(), LayerReader(network, [layer, layer], pad_to=16) as reader:
        together = reader.read(images)[layer]
        for rows in ([3], [9, 4], list(range(15, -1, -2))):
            assert torch.equal(reader.read(images[rows])[layer], together[rows])
        assert reader.read(images[:0])[layer].shape == (0, *together.shape[1:])


# ---- weight files ---------------------------------------------------------------------------------


@pytest.fixture
def state():
    return {key: tensor.clone() for key, tensor in TinyVGG(4).state_dict().items()}


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"state_dict": state, "epoch": 3, "arch": "tinyvgg"},
    lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
    lambda state: {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
])  # fmt: skip
def test_state_dicts_in_any_wrapping_load(tmp_path, state, wrap):
    torch.save(wrap(state), tmp_path / "w.pth.tar")
    loaded = load_weights(tmp_path / "w.pth.tar")
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_a_file_with_a_class_is_refused_and_not_run(tmp_path):
    torch.save({"w": torch.ones(2), "bad": Danger(tmp_path / "ran")}, tmp_path / "w.pth")
    message = error_of(load_weights, tmp_path / "w.pth")
    assert "w.pth: holds more than tensors" in message
    assert not (tmp_path / "ran").exists()


class Danger:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files_are_named(tmp_path, state, suffix):
    path = tmp_path / f"w.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"{path}: damaged" in error_of(load_weights, path)
    path.write_bytes(b"<html>404</html>")
    assert f"{path}: damaged" in error_of(load_weights, path)
    path.write_bytes(b"")
    assert str(path) in error_of(load_weights, path)
    assert "no such weight file" in error_of(load_weights, tmp_path / "absent.pth")


@pytest.mark.parametrize("content, expected", [
    ([torch.ones(1)], "holds a list"),
    ({}, "it is empty"),
    ({"epoch": 3}, "epoch is no tensor"),
])  # fmt: skip
def test_files_without_a_state_dict_are_named(tmp_path, content, expected):
    torch.save(content, tmp_path / "w.pt")
    assert expected in error_of(load_weights, tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_named(state):
    module = TinyVGG(4)
    without = {key: tensor for key, tensor in state.items() if not key.startswith("conv1.")}
    message = error_of(insert_weights, module, without | {"extra": torch.ones(1)}, "w.pth")
    assert "w.pth: does not fit TinyVGG: lacks conv1.0.weight, conv1.1.weight" in message
    assert "has surplus extra" in message
    message = error_of(insert_weights, module, state | {"classifier.bias": torch.ones(9)}, "w.pth")
    assert "classifier.bias is (9,), expected (4,)" in message


def test_published_names_of_vgg16_become_torchvisions():
    from torchvision.models import vgg16

    with torch.device("meta"):
        module = vgg16(num_classes=365)
    own = module.state_dict()
    research = {path: alias for alias, path in name_vgg_layers(module).items()}
    words = {"classifier.0": "classifier.fc6", "classifier.3": "classifier.fc7", "classifier.6": "classifier.fc8a"}
    published = {}
    for key, tensor in own.items():
        layer, kind = key.rsplit(".", 1)
        published[f"{words.get(layer) or 'features.' + research[layer]}.{kind}"] = tensor
    assert "features.conv5_3.weight" in published
    assert list(rename_research_names(module, published)) == list(own)
    assert list(rename_research_names(module, own)) == list(own)


def test_classes_are_read_from_torchvision_weights(tmp_path):
    source = build_network("s", {**SPECS["resnet18"], "num_classes": 7})
    torch.save(source.module.state_dict(), tmp_path / "w.pth")
    spec = {"kind": "torchvision", "arch": "resnet18", "weights": str(tmp_path / "w.pth")}
    network = build_network("r", spec)
    assert network.module.fc.out_features == 7
    maps = [run_to_layers(net, draw_images(), ["layer4"])["layer4"] for net in (source, network)]
    assert torch.equal(*maps)


def test_missing_weights_say_where_to_get_them(tmp_path):
    for kind in ("resnet50_imagenet", "vgg16_places365"):
        assert "`weights: download` fetches it" in error_of(build_network, "r", {"kind": kind})
        assert "no weight file no.pth; `w" in error_of(build_network, "r", {"kind": kind, "weights": "no.pth"})
    assert "fetch it from" in error_of(build_network, "r", {"kind": "torchvision", "arch": "resnet18"})
    assert "resnet18-" in error_of(build_network, "r", {"kind": "torchvision", "arch": "resnet18"})
    assert "near: resnet" in error_of(build_network, "r", {"kind": "torchvision", "arch": "resnet5"})


@pytest.mark.parametrize("spec", [{"kind": "resnet50_imagenet"}, {"kind": "torchvision", "arch": "resnet50"}])
def test_files_under_torchvisions_names_are_checked(tmp_path, spec):
    for name in ("resnet50-0676ba61.pth", "resnet50-11ad3fa6.pth"):
        (tmp_path / name).write_bytes(b"half a download")
        message = error_of(build_network, "r", {**spec, "weights": str(tmp_path / name)})
        assert f"{name} is damaged: its sha256 is not {name[9:17]}..." in message
    (tmp_path / "mine-0676ba61.pth").write_bytes(b"half a download")
    assert "sha256" not in error_of(build_network, "r", {**spec, "weights": str(tmp_path / "mine-0676ba61.pth")})


# ---- the user's own network -----------------------------------------------------------------------


def test_a_users_file_loads_also_from_dataparallel(make_loader):
    layers = [layer.path for layer in list_layers(build_network("m", make_loader("load_parallel")), 32)]
    assert layers == ["first", "second"]


@pytest.mark.parametrize("function, expected", [
    ("absent", "has no function 'absent'"),
    ("constant", "has no function 'constant'"),
    ("number", "returned a int"),
    ("broken", "failed: RuntimeError: no such"),
])  # fmt: skip
def test_loader_errors_name_the_file(make_loader, function, expected):
    message = error_of(build_network, "mine", make_loader(function))
    assert expected in message
    assert "my_model.py" in message
    assert "model mine" in message


def test_loader_files_that_cannot_be_used_are_named(tmp_path, make_loader):
    (tmp_path / "bad.py").write_text("import nothing_of_this_name")
    message = error_of(build_network, "m", make_loader(loader=f"{tmp_path}/bad.py:load"))
    assert "bad.py does not import: ModuleNotFoundError" in message
    assert "no loader file" in error_of(build_network, "m", make_loader(loader="absent.py:load"))
    assert "must be 'my_model.py:load'" in error_of(build_network, "m", make_loader(loader="absent.py"))
    assert "needs `mean:`" in error_of(build_network, "m", make_loader(mean=[1, 2]))
    assert "std must be above 0" in error_of(build_network, "m", make_loader(std=[1, 0, 1]))


# ---- the model's folder ---------------------------------------------------------------------------


def test_prepared_weights_rebuild_the_network(tmp_path, make_loader):
    weights, card_path = tmp_path / "weights.safetensors", tmp_path / "card.json"
    network = prepare_weights("mine", make_loader(), weights, card_path, size=32)
    spec = make_loader()
    again = build_network("mine", spec, weights)
    maps = [run_to_layers(net, draw_images(), ["second"])["second"] for net in (network, again)]
    assert torch.equal(*maps)
    card = json.loads(card_path.read_text())
    assert card["layers"] == [
        {"name": "first", "path": "first", "shape": [4, 30, 30], "axes": "BCHW", "calls": 1},
        {"name": "second", "path": "second", "shape": [5, 28, 28], "axes": "BCHW", "calls": 1},
    ]
    assert (card["kind"], card["input_size"], card["accuracy"]) == ("file", 32, None)
    first = weights.read_bytes()
    prepare_weights("mine", spec, weights, card_path, size=32)
    assert weights.read_bytes() == first


def test_shared_and_transposed_tensors_are_saved(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1))
    module[1].weight = module[0].weight
    module.to(memory_format=torch.channels_last)
    network = Network("m", module, HALF, HALF)
    save_model(network, {"kind": "file"}, tmp_path / "w.safetensors", tmp_path / "c.json", 8, Origin("test"))
    saved = load_file(tmp_path / "w.safetensors")
    assert torch.equal(saved["0.weight"], saved["1.weight"])


def test_a_network_that_does_not_run_at_the_size_is_named(tmp_path, make_loader):
    message = error_of(prepare_weights, "mine", make_loader(), tmp_path / "w.safetensors", tmp_path / "c.json", 2)
    assert "model mine: does not run on a 3 x 2 x 2 image: RuntimeError" in message
    assert list(tmp_path.iterdir()) == []


# ---- EfficientNet-Lite0 ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0():
    return build_network("efficientnet_lite0", {"kind": "efficientnet_lite0"})


def test_lite0_has_flat_block_names(lite0):
    names = ["stem", *(f"blocks.{block}" for block in range(16)), "head"]
    layers = {layer.path: layer.shape for layer in list_layers(lite0, 96)}
    units = [layers[name][0] for name in names]
    assert units == [32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320, 1280]


@pytest.mark.parametrize("size", [96, 97])
def test_lite0_equals_timms(lite0, size):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = lite0.module.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    inputs = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(lite0.module(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [10, 15])
def test_lite0_features_equal_the_published_ones(lite0, block, golden, shared):
    from PIL import Image

    data = shared("data/camvid_dev/images")
    with open(golden("index_48.csv"), newline="") as stream:
        files = [row["image"] for row in csv.DictReader(stream)]
    subset = np.load(golden(f"block{block}/features_subset.npz"))
    images = np.stack([np.asarray(Image.open(data / file)).transpose(2, 0, 1) for file in files])
    name, units = f"blocks.{block}", torch.from_numpy(subset["units"])
    with torch.inference_mode(), LayerReader(lite0, [name]) as reader:
        parts = [reader.read(batch, lambda maps: maps[:, units])[name] for batch in np.split(images, 3)]
    difference = np.abs(torch.cat(parts).numpy() - subset["features"])
    print(f"{name}: largest difference {difference.max():.2e}, largest feature {subset['features'].max():.1f}")
    assert difference.max() < 1e-3


@pytest.mark.slow
def test_lite0_recognises_imagenet(lite0, shared):
    from PIL import Image

    folder = shared("data/imagenet1k_samples")
    with open(folder / "labels.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))[::2]
    right = 0
    with LayerReader(lite0, ["head"]) as reader, torch.inference_mode():
        for start in range(0, len(rows), 50):
            batch = rows[start : start + 50]
            images = [np.asarray(Image.open(folder / "images" / Path(row["file"]).name)) for row in batch]
            maps = reader.read(np.stack(images).transpose(0, 3, 1, 2))["head"]
            found = lite0.module.classifier(lite0.module.pool(maps)).argmax(1).tolist()
            right += sum(int(row["class_index"]) == top for row, top in zip(batch, found, strict=True))
    print(f"top-1 {right / len(rows):.4f}")
    assert right / len(rows) >= 0.85


# ---- tinyvgg --------------------------------------------------------------------------------------


def draw_lesson(count=64, size=32):
    """Images with a red or a bright square, or neither."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 120, (count, 3, size, size), dtype=np.uint8)
    targets = rng.random((count, 3)) < (0.5, 0.3, 0.0)
    images[targets[:, 0], 0, 4:16, 4:16] = 250
    images[targets[:, 1], :, 16:28, 16:28] = 250
    return images, targets


def test_tinyvgg_layers_are_rectified_and_pooled():
    network = build_network("t", SPECS["tinyvgg"])
    shapes = {layer.path: layer.shape for layer in list_layers(network, 128)}
    sides = [shapes[f"conv{number}"] for number in range(1, 6)]
    assert sides == [(32, 64, 64), (48, 32, 32), (64, 16, 16), (96, 8, 8), (128, 8, 8)]
    assert run_to_layers(network, draw_images(), ["conv5"])["conv5"].min() >= 0
    assert "not known before training" in error_of(build_network, "t", {"kind": "tinyvgg", "weights": "random"})
    assert "before the workflow trained it" in error_of(build_network, "t", {"kind": "tinyvgg"})


def test_training_learns_and_repeats_itself(tmp_path):
    images, targets = draw_lesson()
    held_out = np.arange(len(images)) % 4 == 0
    calls = []
    arguments = {"seed": 1, "epochs": 12, "held_out": held_out}
    state, metrics = train_tinyvgg(images, targets, **arguments, progress=lambda *call: calls.append(call))
    again, _ = train_tinyvgg(images, targets, **arguments)
    save_file(state, tmp_path / "a.safetensors")
    save_file(again, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert metrics["mean_average_precision"] > 0.9 > metrics["chance_average_precision"]
    assert (metrics["concepts_scored"], metrics["images"], metrics["held_out_images"]) == (2, 48, 16)
    assert [call[0] for call in calls] == list(range(1, 13))
    assert calls[-1][2] < calls[0][2]
    assert build_network("t", {"kind": "tinyvgg"}, tmp_path / "a.safetensors").module.classifier.out_features == 3


def test_average_precision_equals_its_definition():
    rng = np.random.default_rng(1)
    for _ in range(50):
        scores, truth = rng.integers(0, 6, 12).astype(float), rng.random(12) < 0.4
        if truth.any():
            expected = np.mean([truth[scores >= score].mean() for score in scores[truth]])
            assert average_precision(scores, truth) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(average_precision(np.zeros(3), np.zeros(3, bool)))
    assert summarise_precision(np.zeros((2, 1)), np.ones((2, 1), bool))["mean_average_precision"] is None


def test_training_refuses_other_shapes():
    images, targets = draw_lesson()
    for bad in ((images / 255, targets, None), (images, targets[:5], None), (images, targets, np.ones(3, bool))):
        with pytest.raises(ValueError, match="must be"):
            train_tinyvgg(bad[0], bad[1], held_out=bad[2])
