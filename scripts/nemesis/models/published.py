"""Published networks: those of torchvision, VGG16 on Places365, ResNet50 on ImageNet."""

import difflib
from collections.abc import Mapping
from pathlib import Path

import torch

from nemesis.errors import InputError
from nemesis.files import sha256_file
from nemesis.models.network import Network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGENET_CLASSES = 1000
PLACES365_CLASSES = 365
VGG_CLASSIFIER = {"fc6": "0", "fc7": "3", "fc8": "6", "fc8a": "6"}


def make_torchvision(name: str, spec: Mapping, state: dict) -> Network:
    """Any classification network of torchvision, spec["arch"], without trained weights.

    The number of classes is spec["num_classes"], else read from the weights' last layer, else torchvision's.
    Mean and std are ImageNet's unless the spec gives them. VGGs get the aliases of name_vgg_layers.
    """
    from torchvision import models

    arch = _check_arch(name, spec)
    given = spec.get("num_classes")
    module = models.get_model(arch, weights=None, **({"num_classes": int(given)} if given else {}))
    found = None if given else _count_classes(module, state)
    if found:
        module = models.get_model(arch, weights=None, num_classes=found)
    mean, std = spec.get("mean", IMAGENET_MEAN), spec.get("std", IMAGENET_STD)
    return Network(name, module, tuple(mean), tuple(std), name_vgg_layers(module))


def make_vgg16_places365(name: str, spec: Mapping, state: dict) -> Network:
    """VGG16 with 365 classes; conv5_3 is the convolution's output before its ReLU, as in Network Dissection."""
    return make_torchvision(name, {"num_classes": PLACES365_CLASSES, **spec, "arch": "vgg16"}, state)


def make_resnet50(name: str, spec: Mapping, state: dict) -> Network:
    """ResNet50 (1000 classes); its layers conv1 and layer1 ... layer4 are module paths as they are."""
    return make_torchvision(name, {"num_classes": IMAGENET_CLASSES, **spec, "arch": "resnet50"}, state)


def name_vgg_layers(module: torch.nn.Module) -> dict[str, str]:
    """Aliases conv1_1, relu1_1, ..., pool5 -> features.N of a torchvision VGG; {} for other networks.

    conv: output before batch normalisation (bn, if any) and ReLU. Nothing is in place in a Network, so it
    stays as it is when the ReLU runs.
    """
    from torchvision.models import VGG

    if not isinstance(module, VGG):
        return {}
    words = {torch.nn.Conv2d: "conv", torch.nn.BatchNorm2d: "bn", torch.nn.ReLU: "relu"}
    aliases, block, convolution = {}, 1, 0
    for number, layer in enumerate(module.features):
        if isinstance(layer, torch.nn.MaxPool2d):
            aliases[f"pool{block}"] = f"features.{number}"
            block, convolution = block + 1, 0
            continue
        convolution += isinstance(layer, torch.nn.Conv2d)
        aliases[f"{words[type(layer)]}{block}_{convolution}"] = f"features.{number}"
    return aliases


def rename_research_names(module: torch.nn.Module, state: dict) -> dict:
    """A VGG16's weights under torchvision's names.

    The published file says features.conv5_3 and classifier.fc8a; a file in torchvision's own names stays.
    """
    paths = {f"features.{alias}": path for alias, path in name_vgg_layers(module).items()}
    paths |= {f"classifier.{word}": f"classifier.{number}" for word, number in VGG_CLASSIFIER.items()}
    renamed = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{paths.get(layer, layer)}.{kind}"] = tensor
    return renamed


def find_source(name: str, spec: Mapping) -> Path:
    """File spec["weights"]; InputError says how to get it when it is not there.

    torchvision's names end in the first 8 hex digits of the file's sha256 (resnet50-0676ba61.pth): under such a
    name it is checked.
    """
    if not spec.get("weights"):
        raise InputError(f"model {name}: needs `weights:`, the path of its weight file, or `random`{_hint(name, spec)}")
    path = Path(spec["weights"])
    if not path.is_file():
        raise InputError(f"model {name}: no weight file {path}{_hint(name, spec)}")
    if path.name in _torchvision_names(name, spec):
        digits = path.stem.rpartition("-")[2]
        if not sha256_file(path).startswith(digits):
            raise InputError(f"model {name}: {path} is damaged: its sha256 is not {digits}...{_hint(name, spec)}")
    return path


def _hint(name: str, spec: Mapping) -> str:
    if spec.get("kind") != "torchvision":
        return "; `weights: download` fetches it"
    addresses = _torchvision_addresses(_check_arch(name, spec))
    return f"; fetch it from {addresses[0]}" if addresses else ""


def _check_arch(name: str, spec: Mapping) -> str:
    from torchvision import models

    arch = str(spec.get("arch", ""))
    known = models.list_models(module=models)
    if arch not in known:
        near = ", ".join(difflib.get_close_matches(arch, known, n=4)) or "resnet50, vgg16, densenet121"
        raise InputError(f"model {name}: torchvision has no arch '{arch[:80]}'; near: {near}")
    return arch


def _torchvision_names(name: str, spec: Mapping) -> set[str]:
    """Names of the files that torchvision publishes for a network."""
    if spec.get("kind") == "vgg16_places365":
        return set()
    arch = "resnet50" if spec.get("kind") == "resnet50_imagenet" else _check_arch(name, spec)
    return {address.rpartition("/")[2] for address in _torchvision_addresses(arch)}


def _torchvision_addresses(arch: str) -> list[str]:
    """Where torchvision publishes weights of an architecture, the best first."""
    from torchvision import models

    try:
        weights = models.get_model_weights(arch)
        return [weights.DEFAULT.url, *(entry.url for entry in weights)]
    except (ValueError, AttributeError):
        return []


def _count_classes(module: torch.nn.Module, state: dict) -> int | None:
    """Outputs of the last layer among the weights where they are not the module's; `state` can be in any order."""
    layers = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    last = state.get(f"{layers[-1]}.weight")
    differs = last is not None and len(last) != len(module.get_submodule(layers[-1]).weight)
    return len(last) if differs else None
