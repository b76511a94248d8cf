"""What a user's loader may return: wrapped, half, tied or parametrised networks work; others are named in one line."""

import json
import warnings

import pytest
import torch
from networks import run_to_layers

from nemesis.errors import InputError
from nemesis.models.card import prepare_weights
from nemesis.models.registry import build_network

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LOADERS = """
import torch
from torch import nn
from torch.nn.utils import prune

def plain():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3))

def compiled():
    return torch.compile(plain())

def compiled_in_place():
    net = plain()
    net.compile()
    net[2].compile()
    return net

def compiled_layer():
    net = plain()
    net[2] = torch.compile(net[2])
    return net

def averaged():
    return torch.optim.swa_utils.AveragedModel(torch.compile(plain()))

def parallel():
    return nn.DataParallel(plain())

def distributed():  # made without a process group, which one process has not
    wrapped = nn.parallel.DistributedDataParallel.__new__(nn.parallel.DistributedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = plain()
    return wrapped

def half():
    return plain().half()

def double():
    return plain().double()

def mixed():
    net = plain()
    net[0].bfloat16()
    return net

def cuda():
    return plain().to("cuda")

def normed():
    net = plain()
    nn.utils.parametrizations.weight_norm(net[2])
    return net

def normed_of_old():
    net = plain()
    nn.utils.weight_norm(net[2])
    return net

def spectral():
    net = plain().eval()
    nn.utils.parametrizations.spectral_norm(net[2])
    return net

def pruned():
    net = plain()
    prune.l1_unstructured(net[2], "weight", amount=0.5)
    return net

def scripted():
    return torch.jit.script(plain())


def quantised():
    class Quantised(nn.Module):
        pass
    Quantised.__module__ = "torch.ao.nn.quantized.modules.conv"
    return nn.Sequential(nn.Conv2d(3, 4, 3), Quantised())

def quantised_tensor():
    net = plain()
    with torch.no_grad():
        net[0].register_buffer("scaled", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    return net

def sparse():
    net = plain()
    net.register_buffer("table", torch.eye(3).to_sparse())
    return net

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())

def lazy_after_an_image():
    net = lazy()
    net(torch.zeros(1, 3, 8, 8))
    return net

def meta():
    return plain().to("meta")

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3))

def four():
    return nn.Sequential(nn.Identity(), nn.Conv2d(4, 4, 3))
"""


@pytest.fixture(scope="module")
def spec_of(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "nets.py"
    path.write_text(LOADERS)
    return lambda loader, **more: {
        "kind": "file", "loader": f"{path}:{loader}", "mean": [0.5] * 3, "std": [0.25] * 3, **more
    }  # fmt: skip


def prepare(spec, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's deprecated functions
        return prepare_weights("m", spec, folder / "weights.safetensors", folder / "card.json", size=32)


def read(network):
    with torch.inference_mode():
        return run_to_layers(network, IMAGES, ["2"])["2"]


@pytest.mark.parametrize(
    "loader", ["compiled", "compiled_in_place", "compiled_layer", "averaged", "parallel", "distributed"]
)
def test_wrapped_networks_are_the_plain_one(spec_of, tmp_path, loader):
    network = prepare(spec_of(loader), tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert [layer["path"] for layer in card["layers"]] == ["0", "1", "2"]
    again = build_network("m", spec_of("plain"), tmp_path / "weights.safetensors")
    assert torch.equal(read(network), read(again))
    assert torch.equal(read(network), read(build_network("m", spec_of("plain"))))


@pytest.mark.parametrize("loader", ["normed", "normed_of_old", "spectral", "pruned"])
def test_parametrised_networks_work_and_come_back(spec_of, tmp_path, loader):
    network = prepare(spec_of(loader), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = build_network("m", spec_of(loader), tmp_path / "weights.safetensors")
    assert read(network).std() > 0
    assert torch.equal(read(network), read(again))


@pytest.mark.parametrize("loader, sentence", [
    ("half", "the loader's float16 numbers were turned into float32"),
    ("double", "the loader's float64 numbers were turned into float32"),
    ("mixed", "the loader's bfloat16 numbers were turned into float32"),
])  # fmt: skip
def test_networks_of_another_precision_run_in_float32(spec_of, tmp_path, loader, sentence):
    network = prepare(spec_of(loader), tmp_path)
    assert network.assumed == (sentence,)
    assert json.loads((tmp_path / "card.json").read_text())["assumed"] == [sentence]
    again = build_network("m", spec_of(loader), tmp_path / "weights.safetensors")
    assert read(network).dtype == torch.float32 and torch.equal(read(network), read(again))


@pytest.mark.parametrize("loader, expected", [
    ("scripted", "is a TorchScript module, whose layers cannot be read; give the nn.Module it was made from"),
    ("quantised", "returned a quantised network (1), which has no gradients; return the one in float32"),
    ("quantised_tensor", "0.scaled is quantised, sparse or of a special class (Tensor)"),
    ("sparse", "table is quantised, sparse or of a special class (Tensor)"),
    ("lazy", "0.weight of a lazy module has no weights yet; run the network once in the loader, then load its"),
    ("meta", "returned a network whose 0.weight has no values (device meta)"),
    ("grey", "does not run on a 3 x 32 x 32 image"),
    ("four", "does not run on a 3 x 32 x 32 image"),
])  # fmt: skip
def test_networks_that_cannot_be_used_are_named(spec_of, tmp_path, loader, expected):
    with pytest.raises(InputError) as caught:
        prepare(spec_of(loader), tmp_path)
    message = str(caught.value)
    assert message.startswith("model m: ") and expected in message and "\n" not in message
    assert list(tmp_path.iterdir()) == []
    if loader in ("grey", "four"):
        assert f"to have {1 if loader == 'grey' else 4} channels" in message


def test_a_lazy_network_that_saw_an_image_works(spec_of, tmp_path):
    spec = spec_of("lazy_after_an_image", size=32)
    network = prepare(spec, tmp_path)
    again = build_network("m", spec, tmp_path / "weights.safetensors")  # the loader draws others, which are not used
    maps = [run_to_layers(one, IMAGES, ["1"])["1"] for one in (network, again)]
    assert torch.equal(*maps)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_loader_that_wants_cuda_is_named_where_there_is_none(spec_of):
    with pytest.raises(InputError, match=r"nets.py:cuda failed: (RuntimeError|AssertionError): "):
        build_network("m", spec_of("cuda"))


def test_weights_for_a_loaders_network_must_be_there(spec_of):
    with pytest.raises(InputError, match=r"absent.pth"):
        build_network("m", spec_of("plain", weights="absent.pth"))
