"""A network is refused unless its layers are functions of one image; what cannot be looked at is named."""

import json

import numpy as np
import pytest
import torch
from networks import run_to_layers
from torch import nn
from torch.nn import functional as F

from nemesis.errors import InputError
from nemesis.models.card import (
    SEEDS,
    TOLERANCE,
    Origin,
    _difference,
    _sample,
    find_dependence,
    prepare_weights,
    save_model,
)
from nemesis.models.layouts import draw_images
from nemesis.models.network import LayerReader, Network, list_layers
from nemesis.models.registry import build_network
from nemesis.probes.sizes import image_size

HALF = (0.5, 0.5, 0.5)


class Net(nn.Module):
    """Two convolutions, with something between them and something at the end."""

    def __init__(self, between=None, end=None):
        super().__init__()
        torch.manual_seed(0)
        self.c1, self.c2 = nn.Conv2d(3, 16, 5, stride=4), nn.Conv2d(16, 16, 3, stride=2)
        self.between, self.end = between or nn.Identity(), end or nn.Identity()

    def forward(self, x):
        return self.end(self.c2(self.between(F.relu(self.c1(x)))).mean((2, 3)))


class Do(nn.Module):
    """A function as a module, with a memory."""

    def __init__(self, function):
        super().__init__()
        self.function, self.memory = function, []

    def forward(self, x):
        return self.function(self, x)


def drop(part, x):
    return F.dropout(x, 0.3)


def count_calls(part, x):
    part.memory.append(1)
    return x * len(part.memory)


def remember_images(part, x):
    part.memory.append(x.mean())
    return x - torch.stack(part.memory).mean()


def average_batch(part, x):
    return x - 0.02 * x.mean(0, keepdim=True)


def follow_position(part, x):
    return x + 0.1 * torch.arange(len(x)).view(-1, *[1] * (x.ndim - 1))


class Training(nn.BatchNorm2d):
    """Normalises by the batch in evaluation mode, too."""

    def forward(self, x):
        self.train()
        return super().forward(x)


DEPENDENT = {
    "statistics": (lambda: nn.BatchNorm2d(16, track_running_stats=False), "statistics of the batch"),
    "training": (lambda: Training(16), "statistics of the batch"),
    "mean": (lambda: Do(average_batch), "statistics of the batch"),
    "position": (lambda: Do(follow_position), "when others stand in its batch"),
    "dropout": (lambda: Do(drop), "random numbers in `forward`"),
    "counter": (lambda: Do(count_calls), "state that is kept between calls"),
    "memory": (lambda: Do(remember_images), "state that is kept between calls"),
}


def make(module) -> Network:
    return Network("m", module, HALF, HALF)


def save(network, folder, size=64):
    save_model(network, {"kind": "file"}, folder / "w.safetensors", folder / "card.json", size, Origin("test"))
    return json.loads((folder / "card.json").read_text())


def error_of(function, *args, **kwargs) -> str:
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- a function of one image ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", DEPENDENT)
def test_a_layer_that_depends_on_more_is_refused(tmp_path, kind):
    between, cause = DEPENDENT[kind]
    message = error_of(save, make(Net(between())), tmp_path)
    assert "model m: is no function of one image: layer between: " in message
    assert cause in message
    assert "% of its spread" in message or "more than 100%" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [kind for kind in DEPENDENT if kind not in ("statistics", "training")])
def test_predictions_that_depend_on_more_are_remarked(tmp_path, kind, caplog):
    between, cause = DEPENDENT[kind]
    card = save(make(Net(end=between())), tmp_path)
    assert [layer["name"] for layer in card["layers"]] == ["c1", "between", "c2"]
    assert cause in card["assumed"][0]
    assert "model m: its predictions are no function of one image" in caplog.text


def test_the_cases_of_the_shared_folder_are_refused(tmp_path, shared):
    loader = shared("cases/batch-dependent-network/net.py")
    spec = {"kind": "file", "mean": HALF, "std": HALF}
    for function, layer, cause in (("batchnorm", "norm", "statistics"), ("dropout", "c2", "random numbers")):
        spec["loader"] = f"{loader}:{function}"
        message = error_of(prepare_weights, "bn", spec, tmp_path / "w.safetensors", tmp_path / "card.json", 64)
        assert f"layer {layer}" in message
        assert cause in message


def test_a_network_may_write_into_its_input(tmp_path):
    class Writing(Net):
        def forward(self, x):
            x.mul_(2)
            x[:, 0] = 0
            return super().forward(x)

    assert save(make(Writing()), tmp_path)["assumed"] == []
    network, images = make(Writing()), torch.rand(2, 3, 64, 64)
    kept = images.clone().requires_grad_()
    first = run_to_layers(network, images, ["c2"])["c2"]
    assert torch.equal(run_to_layers(network, images, ["c2"])["c2"], first)
    maps = run_to_layers(network, kept, ["c2"])["c2"]
    assert torch.equal(maps, first)
    assert torch.autograd.grad(maps.sum(), kept)[0][:, 1:].abs().max() > 0


def measure_noise(network, layouts: dict[str, str]) -> float:
    """The largest share by which a module's values for an image differ alone and among others, as it is judged."""
    images = draw_images(network, 3, 64, 64)
    first = _sample(network, images[:1], layouts, SEEDS[0])
    beside = _sample(network, torch.cat([images, images[:1]]), layouts, SEEDS[0], 3)
    return max(_difference(values, beside.get(path)) for path, values in first.items())


@pytest.mark.parametrize("spec", [{"kind": "efficientnet_lite0"}, {"kind": "torchvision", "arch": "densenet121"}])
def test_the_order_of_sums_is_no_dependence(spec):
    network = build_network("n", spec | {"weights": "random"})
    layouts = {layer.path: layer.axes for layer in list_layers(network, 64)} | {"": "B"}
    noise = measure_noise(network, layouts)
    assert noise < TOLERANCE / 10
    assert find_dependence(network, (64, 64), layouts) is None


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_tolerance_follows_the_scale(offset, scale):
    network = make(Net(Do(lambda part, x: scale * (x + offset))))
    layouts = {"between": "BCHW", "c2": "BCHW"}
    assert find_dependence(network, (64, 64), layouts) is None
    network = make(Net(Do(lambda part, x: scale * (x + 0.1 * x.mean(0, keepdim=True)))))
    assert find_dependence(network, (64, 64), layouts)[0] == "between"


def test_what_is_drawn_at_random_elsewhere_stays(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    network = make(Net())
    torch.manual_seed(7)
    save(network, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_weights_are_saved_as_they_were_before_the_looks(tmp_path):
    from safetensors.torch import load_file

    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, x):
            self.seen += 1
            return super().forward(x)

    save(make(Counting()), tmp_path)
    assert load_file(tmp_path / "w.safetensors")["seen"] == 0


# ---- sizes ----------------------------------------------------------------------------------------


class Sized(nn.Module):
    """Takes 224 x 224 px; `late`: only its end does."""

    def __init__(self, late):
        super().__init__()
        self.late, self.conv = late, nn.Conv2d(3, 4, 16, stride=16)
        self.fc = nn.Linear(4 * 14 * 14, 2)

    def forward(self, x):
        if not self.late and x.shape[2:] != (224, 224):
            raise ValueError(f"wrong size {x.shape[2]}\nsee the manual")
        return self.fc(self.conv(x).flatten(1))


def test_a_network_of_another_size_names_both(tmp_path):
    network = make(Sized(late=False))
    message = error_of(save, network, tmp_path, {"p": (64, 96)})
    assert "model m: does not run on a 3 x 64 x 96 image of probe p: ValueError: wrong size 64" in message
    assert message.endswith("it takes 224 x 224 px: use a probe of that size")
    message = error_of(run_to_layers, network, torch.rand(1, 3, 64, 64), ["conv"])
    assert "a 3 x 64 x 64 image" in message and "it takes 224 x 224 px" in message
    assert save(network, tmp_path, {"p": (224, 224)})["input_size"] == [224, 224]


def test_layers_before_the_end_that_does_not_run_can_be_explained(tmp_path, caplog):
    card = save(make(Sized(late=True)), tmp_path, {"p": (224, 224), "q": (64, 64)})
    assert [(layer["name"], layer["shape"]) for layer in card["layers"]] == [("conv", [4, 14, 14])]
    assert "image of probe q: RuntimeError: " in caplog.text
    assert "only layers before that can be explained there, the last is conv" in card["assumed"][0]
    assert run_to_layers(make(Sized(late=True)), torch.rand(1, 3, 64, 64), ["conv"])["conv"].shape == (1, 4, 4, 4)


def test_a_model_that_no_experiment_uses_has_the_size_of_its_spec(tmp_path):
    files = tmp_path / "w.safetensors", tmp_path / "card.json"
    spec = {"kind": "torchvision", "arch": "squeezenet1_1", "num_classes": 3, "weights": "random"}
    for given, sizes, side in (({"size": 96}, {}, 96), ({}, {}, 224), ({"size": 96}, {"p": (64, 64)}, [64, 64])):
        prepare_weights("s", spec | given, *files, sizes)
        assert json.loads(files[1].read_text())["input_size"] == side


def test_the_size_of_a_probe_is_known_before_it_is_there(tmp_path):
    assert image_size({"kind": "minibroden", "size": 64}) == (64, 64)
    assert image_size({"kind": "download", "version": "broden1_227"}) == (227, 227)
    (tmp_path / "index.csv").write_text("image,ih,iw\na.png,48,64\n")
    assert image_size({"kind": "broden", "path": str(tmp_path)}) == (48, 64)
    (tmp_path / "index.csv").write_text("image,ih\na.png,\n")
    assert image_size({"kind": "broden", "path": str(tmp_path)}) is None
    assert image_size({"kind": "broden", "path": "absent"}) is None


# ---- modules that cannot be looked at -------------------------------------------------------------


def test_torchscript_is_named():
    for module in (torch.jit.trace(Net(), torch.rand(1, 3, 64, 64)), torch.jit.script(nn.Conv2d(3, 4, 1))):
        assert "model m: is a TorchScript module, whose layers cannot be read" in error_of(make, module)


def test_a_scripted_part_cannot_be_read():
    network = make(nn.Sequential(torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())), nn.Conv2d(4, 5, 1)))
    assert [layer.path for layer in list_layers(network, 32)] == ["1"]
    for name in ("0", "0.0"):
        message = error_of(run_to_layers, network, torch.rand(1, 3, 32, 32), [name])
        assert f"model m: layer {name} is TorchScript, whose output cannot be read" in message


def test_lazy_modules_are_named_until_they_ran():
    module = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    assert "model m: 0.weight of a lazy module has no weights yet" in error_of(make, module)
    module(torch.rand(1, 3, 32, 32))
    assert [layer.path for layer in list_layers(make(module), 32)] == ["0", "1"]


def test_exported_modules_are_named():
    exported = torch.export.export(Net().eval(), (torch.rand(1, 3, 64, 64),)).module()
    assert "model m: cannot be set to evaluation mode: " in error_of(make, exported)


def test_quantised_layers_are_named(tmp_path):
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.quant = (
                nn.Conv2d(3, 4, 1),
                Do(lambda part, x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)),
            )

        def forward(self, x):
            return self.quant(self.conv(x)).dequantize().mean((2, 3))

    network = make(Quantised())
    assert [layer.path for layer in list_layers(network, 32)] == ["conv"]
    message = error_of(run_to_layers, network, torch.rand(1, 3, 32, 32), ["quant"])
    assert "layer quant gives values of type qint8, not floats" in message


def test_a_network_without_a_layer_to_explain_is_named(tmp_path):
    message = error_of(save, make(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5))), tmp_path)
    assert "no layer has an output (U, h, w)" in message


def test_errors_after_the_first_batch_are_the_callers():
    network = make(Net())
    with LayerReader(network, ["c2"]) as reader:
        reader.read(np.zeros((1, 3, 64, 64), np.uint8))
        with pytest.raises(RuntimeError):
            reader.read(np.zeros((1, 3, 2, 2), np.uint8))
