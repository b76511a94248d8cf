"""Which axis of a layer's output holds its units: found out, turned round, or refused in one line."""

import dataclasses
import json
import logging

import pytest
import torch
from networks import run_to_layers
from torch import nn

from nemesis.dissection.extract import _name_repeated
from nemesis.errors import InputError
from nemesis.models.card import Origin, prepare_weights, save_model
from nemesis.models.layouts import Layout, find_grid, read_layouts, survey_outputs, turn_output
from nemesis.models.network import LayerReader, Network, learn_layouts, list_layers
from nemesis.models.registry import build_network

HALF = (0.5, 0.5, 0.5)


def make(module, **options) -> Network:
    return Network("m", module, HALF, HALF, **options)


def torchvision(arch, **spec) -> Network:
    return build_network(arch, {"kind": "torchvision", "arch": arch, "weights": "random", **spec})


def draw_images(count=2, height=64, width=64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


class Permute(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes).contiguous()


class Fixed(nn.Module):
    """Refuses images of any other size before it computes anything."""

    def __init__(self, *parts, size=32):
        super().__init__()
        self.parts, self.size = nn.Sequential(*parts), size

    def forward(self, x):
        torch._assert(tuple(x.shape[2:]) == (self.size, self.size), f"wrong size {tuple(x.shape[2:])}")
        return self.parts(x)


class Tokens(nn.Module):
    """A map as tokens (B, N, C), or in another order, behind a class token if wanted."""

    def __init__(self, order="BNC", extra=1):
        super().__init__()
        self.order, self.extra = order, extra

    def forward(self, x):
        tokens = x.flatten(2)  # (B, C, N)
        tokens = torch.cat([x.new_full((*tokens.shape[:2], self.extra), 9.0), tokens], dim=2)
        return tokens.permute([("BCN").index(letter) for letter in self.order]).contiguous()


def conv(units=5, stride=4):
    torch.manual_seed(0)
    return nn.Conv2d(3, units, stride, stride=stride)


def layout_of(network, path, size=(64, 64)):
    return survey_outputs(network, size)[0][path]


# ---- maps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["BCHW", "BHWC", "BCWH", "BWHC", "BHCW"])
@pytest.mark.parametrize("units", [5, 16])  # 16: as many units as rows, so that the shape says nothing
def test_every_order_of_a_maps_axes_is_turned_round(order, units):
    axes = [("BCHW").index(letter) for letter in order]
    network = make(nn.Sequential(conv(units), Permute(*axes)))
    assert layout_of(network, "1").layout.axes == order
    images = draw_images()
    maps = run_to_layers(network, images, ["0", "1"])
    assert torch.equal(maps["1"], maps["0"])


@pytest.mark.parametrize("order", ["BCHW", "BHWC"])
@pytest.mark.parametrize("units", [5, 8])
def test_a_network_of_one_size_is_shown_where_the_image_changes(order, units):
    axes = [("BCHW").index(letter) for letter in order]
    network = make(Fixed(conv(units), nn.ReLU(), Permute(*axes), nn.Tanh()))
    for path in ("parts.2", "parts.3"):
        assert layout_of(network, path, (32, 32)).layout.axes == order
    maps = run_to_layers(network, draw_images(2, 32, 32), ["parts.1", "parts.2"])
    assert torch.equal(maps["parts.2"], maps["parts.1"])


def test_layers_before_the_end_that_fails_are_still_judged_by_size():
    head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 64, 2))
    network = make(nn.Sequential(conv(5), Permute(0, 2, 3, 1), nn.ReLU(), head))
    outputs, error = survey_outputs(network, (32, 32))
    assert error is None
    assert outputs["2"].layout == Layout("BHWC")
    outputs, error = survey_outputs(network, (64, 64))
    assert "mat1 and mat2" in str(error)
    assert outputs["2"].layout == Layout("BHWC")


def test_pooled_maps_are_single_values_of_units():
    network = make(nn.Sequential(conv(5), nn.AdaptiveAvgPool2d(1), nn.ReLU(), Permute(0, 2, 3, 1)))
    found = survey_outputs(network, (64, 64))[0]
    assert [found[str(path)].layout.axes for path in range(4)] == ["BCHW", "BCHW", "BCHW", "BHWC"]
    seven = make(nn.Sequential(conv(5), nn.AdaptiveAvgPool2d(7), nn.ReLU()))
    assert layout_of(seven, "1").layout.axes == layout_of(seven, "2").layout.axes == "BCHW"


def test_attention_between_all_places_is_no_map():
    class Attend(nn.Module):
        def forward(self, x):
            x = x.flatten(2)
            return torch.einsum("bcn,bcm->bnm", x, x).softmax(2)[:, None].repeat(1, 4, 1, 1)  # (B, heads, N, N)

    network = make(nn.Sequential(conv(5, 8), Attend()))
    with pytest.raises(InputError, match=r"layer 1 has output shape \(1, 4, 64, 64\) .* no map") as caught:
        run_to_layers(network, draw_images(), ["1"])
    assert "\n" not in str(caught.value)
    assert "1" not in [layer.path for layer in list_layers(network, 64)]


def test_windows_as_images_are_refused():
    class Windows(nn.Module):
        def forward(self, x):
            return x.unflatten(0, (-1, 1)).unflatten(3, (2, -1)).permute(0, 3, 1, 2, 4, 5).flatten(0, 2)

    network = make(nn.Sequential(conv(), Windows()))
    with pytest.raises(InputError, match="no axis is that of the images"):
        run_to_layers(network, draw_images(), ["1"])


@pytest.mark.parametrize("padded", [0, 4])
def test_a_turned_layer_is_read_in_padded_batches_and_keeps_its_gradient(padded):
    network = make(nn.Sequential(conv(5), Permute(0, 2, 3, 1), nn.Linear(5, 7)))
    images = draw_images(3).requires_grad_()
    with LayerReader(network, ["2"], pad_to=padded) as reader:
        maps = reader.read(images, lambda maps: maps[:, [1, 3]])["2"]
    assert maps.shape == (3, 2, 16, 16)
    (gradient,) = torch.autograd.grad(maps[1].sum(), images)
    assert gradient[1].abs().max() > 0
    assert gradient[[0, 2]].abs().max() == 0


# ---- tokens ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["BNC", "BCN", "NBC"])
@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("fixed", [False, True])
def test_tokens_are_a_grid_of_patches(order, extra, fixed):
    parts = conv(6), Tokens(order, extra), nn.ReLU()
    network = make(Fixed(*parts) if fixed else nn.Sequential(*parts))
    path = "parts.1" if fixed else "1"
    assert layout_of(network, path, (32, 32)).layout.axes == order
    maps = run_to_layers(network, draw_images(2, 32, 32), [path[:-1] + "0", path])
    assert torch.equal(*maps.values())


def test_grids_of_patches():
    assert find_grid(196, (224, 224)) == find_grid(197, (224, 224)) == (14, 14)
    assert find_grid(33, (64, 128)) == (4, 8)
    assert find_grid(199, (224, 224)) is None
    assert find_grid(52, (64, 128)) is None
    assert find_grid(1, (64, 64)) is None


@pytest.mark.parametrize("extra", [2, 5])
def test_tokens_off_a_grid_are_refused(extra):
    network = make(nn.Sequential(conv(6), Tokens(extra=extra)))
    with pytest.raises(InputError, match=r"layer 1 has output shape .* class token") as caught:
        run_to_layers(network, draw_images(), ["1"])
    assert "\n" not in str(caught.value)


def test_oblong_images_give_an_oblong_grid():
    network = make(nn.Sequential(conv(6), Tokens()))
    maps = run_to_layers(network, draw_images(2, 32, 64), ["0", "1"])
    assert torch.equal(maps["0"], maps["1"])
    known = make(network.module, layouts={"1": Layout("BNC")})
    with pytest.raises(InputError, match="has 113 tokens, which are no grid"):
        run_to_layers(known, draw_images(2, 34, 56), ["1"])


# ---- networks -------------------------------------------------------------------------------------


def test_swin_and_convnext_have_units_not_rows():
    swin = torchvision("swin_t")
    maps = run_to_layers(swin, draw_images(), ["features.3", "permute"])
    assert [value.shape for value in maps.values()] == [(2, 192, 8, 8), (2, 768, 2, 2)]
    shapes = {layer.path: (layer.shape, layer.axes) for layer in list_layers(torchvision("convnext_tiny"), 64)}
    assert shapes["features.1.0.block.2"] == ((96, 16, 16), "BHWC")
    assert shapes["features.1.0"] == ((96, 16, 16), "BCHW")


def test_blocks_of_a_vision_transformer():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    network = make(VisionTransformer(64, 8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48))
    layer = "encoder.layers.encoder_layer_1"
    images = draw_images().requires_grad_()
    maps = run_to_layers(network, images, [layer])[layer]
    assert maps.shape == (2, 24, 8, 8)
    gradient = torch.autograd.grad(maps[0, 5, 2, 3], images)[0]
    assert gradient[0].abs().max() > 0
    with pytest.raises(InputError, match=r"does not run on a 3 x 32 x 32 image: .*; it takes 64 x 64 px"):
        run_to_layers(network, draw_images(2, 32, 32), [layer])


# ---- what jobs know -------------------------------------------------------------------------------


def prepare(network, folder, size=32):
    save_model(network, {"kind": "file"}, folder / "w.safetensors", folder / "card.json", size, Origin("test"))
    return json.loads((folder / "card.json").read_text())


def test_the_card_and_the_weights_say_how_layers_are_read(tmp_path):
    card = prepare(make(nn.Sequential(conv(6), Permute(0, 2, 3, 1), nn.ReLU())), tmp_path)
    assert [(layer["axes"], layer["shape"]) for layer in card["layers"]] == [
        ("BCHW", [6, 8, 8]), ("BHWC", [6, 8, 8]), ("BHWC", [6, 8, 8]),
    ]  # fmt: skip
    assert "turned round; the first is 1 (BHWC)" in card["assumed"][0]
    assert read_layouts(tmp_path / "w.safetensors") == {"0": Layout(), "1": Layout("BHWC"), "2": Layout("BHWC")}
    card = prepare(make(nn.Sequential(conv(6), Tokens())), tmp_path)
    assert "grid of 8 x 8 patches of a 32 x 32 image" in card["assumed"][0]
    assert prepare(make(nn.Sequential(conv(6))), tmp_path)["assumed"] == []


def test_a_job_looks_only_where_the_weights_do_not_say(tmp_path):
    spec = {"kind": "torchvision", "arch": "swin_t", "weights": "random"}
    prepare_weights("s", spec, tmp_path / "w.safetensors", tmp_path / "card.json", 32)
    prepared = build_network("s", spec, tmp_path / "w.safetensors")
    old = dataclasses.replace(prepared, layouts={})
    passes = []
    prepared.module.register_forward_pre_hook(lambda module, inputs: passes.append(tuple(inputs[0].shape)))
    images = draw_images()
    maps = [run_to_layers(network, images, ["features.3"])["features.3"] for network in (prepared, old)]
    assert passes[0] == (2, 3, 64, 64)
    assert len(passes) == 1 + 4 + 1
    assert torch.allclose(*maps, rtol=1e-4, atol=1e-4)


def test_the_meta_device_gives_the_same_layouts():
    with torch.device("meta"):
        network = make(nn.Sequential(conv(5), Permute(0, 2, 3, 1)))
    assert learn_layouts(network, ["1"], (64, 64)).layouts == {"1": Layout("BHWC")}


def test_turned_outputs_are_views():
    output = torch.arange(120.0).view(1, 4, 5, 6)
    assert turn_output(output, Layout("BHWC"), (8, 8)).data_ptr() == output.data_ptr()


# ---- calls ----------------------------------------------------------------------------------------


class Again(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu = conv(5), nn.ReLU()

    def forward(self, x):
        return self.relu(self.relu(self.conv(x)) - 1)


def test_a_layer_called_several_times_stands_on_the_card():
    layers = {layer.path: layer.calls for layer in list_layers(torchvision("resnet18"), 64)}
    assert layers["layer4.1.relu"] == 2
    assert layers["relu"] == layers["layer4.1"] == 1


def test_the_first_call_is_named_when_it_is_dissected(tmp_path, caplog):
    card = prepare(make(Again()), tmp_path)
    assert [(layer["name"], layer["calls"]) for layer in card["layers"]] == [("conv", 1), ("relu", 2)]
    network = make(Again(), layouts=read_layouts(tmp_path / "w.safetensors"))
    _name_repeated(network, ["conv", "relu"])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "calls layer relu 2 times, and its first output is explained" in caplog.text
    maps = run_to_layers(network, draw_images(), ["conv", "relu"])
    assert torch.equal(maps["relu"], maps["conv"].relu())
