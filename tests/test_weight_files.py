"""Weight files as training loops, wrappers and torchvision write them: used, or refused in one line that names why."""

import argparse
import json
import logging
import re
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import torch
from networks import run_to_layers
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DataParallel
from torch.optim.swa_utils import AveragedModel
from torchvision import models

from nemesis.errors import InputError
from nemesis.models.card import prepare_weights
from nemesis.models.network import Network
from nemesis.models.published import rename_old_names
from nemesis.models.registry import build_network
from nemesis.models.weights import insert_weights, load_weights, read_weights, unwrap_names

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LOADER = """
import torch

class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))

    def forward(self, x):
        return self.model(x)

def load():
    return Wrapped()
"""


def make_net(seed=0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), head=nn.Conv2d(4, 2, 1)))


def add(prefix, state):
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def load_into(module, path):
    """As build_network does with a file that is not our own."""
    file = read_weights(path)
    state = unwrap_names(file.state, module.state_dict(), path)
    insert_weights(module, rename_old_names(module, state), path)
    return module


def same_states(one: nn.Module, other: nn.Module) -> bool:
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


def refusal(function, *args) -> str:
    with pytest.raises(InputError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message and "\x1b" not in message and len(message) < 500
    return message


# ---- wrappers -------------------------------------------------------------------------------------

NET = make_net()
STATE = NET.state_dict()
WRAPPED = {  # made when needed: torch.compile takes seconds to import
    "torch.compile": lambda: torch.compile(make_net()).state_dict(),
    "a compiled layer": lambda: {re.sub("^norm", "norm._orig_mod", key): tensor for key, tensor in STATE.items()},
    "AveragedModel": lambda: AveragedModel(make_net()).state_dict(),
    "AveragedModel of a compiled one": lambda: AveragedModel(torch.compile(make_net())).state_dict(),
    "DataParallel of a compiled one": lambda: DataParallel(torch.compile(make_net())).state_dict(),
    "Lightning": lambda: {"state_dict": add("model.", STATE), "epoch": 1, "optimizer_states": [{"state": {}}]},
    "Lightning, compiled": lambda: {"state_dict": add("model._orig_mod.", STATE), "hyper_parameters": {"lr": 0.1}},
    "Lightning, `net`": lambda: {"state_dict": add("net.", STATE)},
    "a training loop": lambda: {"model": STATE, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}},
    "a training loop, twice": lambda: {"model": {"state_dict": add("module.", STATE)}, "best": torch.tensor(0.5)},
    "an average alone": lambda: {"ema_state_dict": add("module.", STATE), "step": 7},
    "Lightning around Lightning": lambda: {"state_dict": add("model.model.", STATE)},
    "DeepSpeed, SparK": lambda: {"arch": "net", "module": STATE, "is_pretrain": True},
    "FSDP": lambda: add("_fsdp_wrapped_module.", STATE),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_wrappers_are_taken_off(tmp_path, wrapping):
    torch.save(WRAPPED[wrapping](), tmp_path / "w.pth")
    assert same_states(load_into(make_net(seed=1), tmp_path / "w.pth"), NET)
    assert list(load_weights(tmp_path / "w.pth")) == list(STATE)
    assert read_weights(tmp_path / "w.pth").notes == ()


@pytest.mark.parametrize("content, taken, other", [
    ({"model_ema": add("module.", make_net(2).state_dict()), "model": STATE, "epoch": 1}, "model", "model_ema"),
    ({"state_dict": STATE, "ema_state_dict": make_net(2).state_dict()}, "state_dict", "ema_state_dict"),
    ({"encoder_q": STATE, "epoch": 1}, "encoder_q", None),
])  # fmt: skip
def test_of_several_state_dicts_one_is_taken_and_named(tmp_path, content, taken, other):
    torch.save(content, tmp_path / "w.pth")
    assert same_states(load_into(make_net(seed=1), tmp_path / "w.pth"), NET)
    (note,) = read_weights(tmp_path / "w.pth").notes
    assert f"of w.pth its `{taken}` is taken" in note
    assert (f"not its {other}" in note) == (other is not None)


def test_what_was_taken_stands_on_the_card_and_the_terminal(tmp_path, caplog):
    state = models.squeezenet1_1(num_classes=3).state_dict()
    torch.save({"model": state, "model_ema": add("module.", state)}, tmp_path / "w.pth")
    spec = {"kind": "torchvision", "arch": "squeezenet1_1", "weights": str(tmp_path / "w.pth")}
    with caplog.at_level(logging.WARNING):
        prepare_weights("m", spec, tmp_path / "w.safetensors", tmp_path / "card.json", size=64)
    sentence = "of w.pth its `model` is taken, not its model_ema; to use another, save it alone"
    assert sentence in json.loads((tmp_path / "card.json").read_text())["assumed"]
    assert f"model m: {sentence}" in caplog.messages


def test_several_unknown_state_dicts_are_refused(tmp_path):
    torch.save({"generator": STATE, "discriminator": STATE}, tmp_path / "w.pth")
    message = refusal(read_weights, tmp_path / "w.pth")
    assert "holds several state dicts: generator, discriminator; save the network's alone" in message


@pytest.mark.parametrize("prefix", ["model.", "module.", "backbone."])
def test_tensors_of_a_loss_or_a_metric_are_named(tmp_path, prefix):
    strangers = {"loss.weight": torch.ones(3), "val_acc.tp": torch.tensor(1)}
    torch.save({"state_dict": add(prefix, STATE) | strangers}, tmp_path / "w.ckpt")
    message = refusal(load_into, make_net(), tmp_path / "w.ckpt")
    assert f"w.ckpt: holds loss.weight, val_acc.tp beside a network whose names begin with `{prefix}`" in message


def test_a_network_of_the_same_names_keeps_its_prefix(tmp_path):
    for wrap in (nn.Sequential(OrderedDict(model=make_net())), nn.Sequential(OrderedDict(module=make_net()))):
        for state in (wrap.state_dict(), add("model.", wrap.state_dict()), DataParallel(wrap).state_dict()):
            torch.save(state, tmp_path / "w.pth")
            empty = nn.Sequential(OrderedDict((name, make_net(1)) for name, _ in wrap.named_children()))
            assert same_states(load_into(empty, tmp_path / "w.pth"), wrap)


def test_a_users_network_of_these_names_comes_back(tmp_path):
    """Its own weights.safetensors, and a file for a loader's network."""
    (tmp_path / "net.py").write_text(LOADER)
    spec = {"kind": "file", "loader": f"{tmp_path}/net.py:load", "mean": [0.5] * 3, "std": [0.5] * 3}
    network = prepare_weights("m", spec, tmp_path / "weights.safetensors", tmp_path / "card.json", size=16)
    assert same_states(build_network("m", spec, tmp_path / "weights.safetensors").module, network.module)
    torch.save({"state_dict": add("module.", network.module.state_dict())}, tmp_path / "w.pth")
    given = spec | {"weights": str(tmp_path / "w.pth")}
    again = prepare_weights("m", given, tmp_path / "again.safetensors", tmp_path / "again.json", size=16)
    assert same_states(again.module, network.module)
    assert json.loads((tmp_path / "again.json").read_text())["source"] == "w.pth"


# ---- names and versions of torchvision ------------------------------------------------------------


def make_dense():
    return models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=4, num_classes=3)


def make_vit():
    return models.VisionTransformer(32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3)


def name_dense(key):
    return re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key)


def name_vit(key):
    return key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("make, rename", [(make_dense, name_dense), (make_vit, name_vit)])
def test_published_names_are_taken(tmp_path, make, rename, suffix):
    source = make()
    published = {rename(key): tensor for key, tensor in source.state_dict().items()}
    assert set(published) != set(source.state_dict())
    path = tmp_path / f"w.{suffix}"
    torch.save(published, path) if suffix == "pth" else save_file(published, path)
    assert same_states(load_into(make(), path), source)
    state = dict(list(published.items())[:-2]) | {"extra": torch.ones(1)}
    torch.save(state, tmp_path / "short.pth")
    message = refusal(load_into, make(), tmp_path / "short.pth")
    lacked = ", ".join(list(published)[-2:])
    assert f"does not fit {type(source).__name__}: lacks {lacked}, has surplus extra" in message


def test_a_published_densenet_builds(tmp_path):
    source = models.densenet121(num_classes=4)
    torch.save({name_dense(key): tensor for key, tensor in source.state_dict().items()}, tmp_path / "dense.pth")
    spec = {"kind": "torchvision", "arch": "densenet121", "weights": str(tmp_path / "dense.pth")}
    assert same_states(build_network("dense", spec).module, source)


def make_mnasnet(version: int) -> nn.Module:
    torch.manual_seed(3)
    module = models.mnasnet0_5(num_classes=3)
    if version == 1:  # torchvision rebuilds the stem when it loads a state of that version
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module._load_from_state_dict({}, "", {"version": 1}, False, [], [], [])
    return module.eval()


@pytest.mark.filterwarnings("ignore:A new version of MNASNet")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("form", ["state_dict()", "nested, from DataParallel", "safetensors without versions"])
def test_mnasnets_of_either_version_load_and_come_back(tmp_path, version, form):
    source = make_mnasnet(version)
    path = tmp_path / ("w.safetensors" if "safetensors" in form else "w.pth")
    if form == "state_dict()":
        torch.save(source.state_dict(), path)
    elif "nested" in form:
        torch.save({"state_dict": DataParallel(source).state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    spec = {"kind": "torchvision", "arch": "mnasnet0_5", "weights": str(path)}
    network = prepare_weights("m", spec, tmp_path / "weights.safetensors", tmp_path / "card.json", size=64)
    again = build_network("m", spec, tmp_path / "weights.safetensors")
    expected = Network("m", source, network.mean, network.std)
    maps = [run_to_layers(one, IMAGES, ["layers.8"])["layers.8"] for one in (expected, network, again)]
    assert maps[0].std() > 0
    for one in (network, again):
        assert same_states(one.module, source)
        assert not any(part.training for part in one.module.modules())  # the rebuilt stem, too
        assert not any(parameter.requires_grad for parameter in one.module.parameters())
        assert not any(getattr(part, "inplace", False) for part in one.module.modules())
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("arch, heads", [("googlenet", ("aux1.", "aux2.")), ("inception_v3", ("AuxLogits.",))])
def test_auxiliary_heads_may_be_absent(tmp_path, arch, heads):
    """torchvision's googlenet(weights=...) takes its heads off after loading."""
    state = models.get_model(arch, init_weights=False, num_classes=3).state_dict()
    for name, kept in (("all", state), ("none", {k: v for k, v in state.items() if not k.startswith(heads)})):
        torch.save(kept, tmp_path / "w.pth")
        spec = {"kind": "torchvision", "arch": arch, "weights": str(tmp_path / "w.pth")}
        own = set(build_network("m", spec).module.state_dict())
        assert own == set(kept), name


# ---- files that are something else ----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_and_pickles_are_named(tmp_path):
    net, path = make_net().eval(), tmp_path / "w.pth"
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, 8, 8)), path)
    message = refusal(load_weights, path)
    assert "w.pth: is a TorchScript program" in message and "torch.save(model.state_dict(), " in message
    torch.export.save(torch.export.export(net, (torch.zeros(1, 3, 8, 8),)), tmp_path / "w.pt2")
    assert "w.pt2: is a program of torch.export" in refusal(load_weights, tmp_path / "w.pt2")
    for zipped in (True, False):
        torch.save(net, path, _use_new_zipfile_serialization=zipped)
        message = refusal(load_weights, path)
        assert "loading it could run code (it asks for torch.nn.modules.container.Sequential); save" in message
    for extra, name in ((argparse.Namespace(lr=1), "argparse.Namespace"), (np.float64(0.5), r"numpy.*scalar")):
        torch.save({"model": STATE, "extra": extra}, path)
        assert re.search(rf"\(it asks for {name}\); save", refusal(load_weights, path))


@pytest.mark.parametrize("head, expected", [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS"),
    (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file"),
    (b"PK\x03\x04" + bytes(60), "damaged"),
])  # fmt: skip
def test_other_files_are_named(tmp_path, head, expected):
    (tmp_path / "w.pth").write_bytes(head)
    assert f"w.pth: {expected}" in refusal(load_weights, tmp_path / "w.pth")


def test_safetensors_are_known_by_their_content(tmp_path):
    save_file(STATE, tmp_path / "w.bin")
    assert same_states(load_into(make_net(1), tmp_path / "w.bin"), NET)


def test_tensors_that_do_not_fit_are_named_all_at_once(tmp_path):
    other = STATE | {"conv.weight": torch.ones(4, 1, 3, 3), "extra": torch.ones(1)}
    del other["head.bias"]
    message = refusal(insert_weights, make_net(), other, "w.pth")
    expected = "lacks head.bias, has surplus extra, conv.weight is (4, 1, 3, 3), expected (4, 3, 3, 3)"
    assert f"w.pth: does not fit Sequential: {expected}" in message
    integers = STATE | {"conv.weight": STATE["conv.weight"].to(torch.int8)}
    message = refusal(insert_weights, make_net(), integers, "w.pth")
    assert "conv.weight has numbers of torch.int8, expected torch.float32" in message
    insert_weights(make_net(), {key: tensor.half() for key, tensor in STATE.items()}, "w.pth")


def test_an_empty_place_is_named(tmp_path):
    torch.save({"model": {"conv.weight": "here"}, "epoch": 1}, tmp_path / "w.pth")
    assert "conv.weight is no tensor" in refusal(load_weights, tmp_path / "w.pth")
