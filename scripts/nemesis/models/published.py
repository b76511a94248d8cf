"""Published networks: those of torchvision, VGG16 on Places365, ResNet50 on ImageNet; how their images are prepared."""

import dataclasses
import difflib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch

from nemesis.errors import InputError
from nemesis.files import sha256_file
from nemesis.models.network import Network
from nemesis.models.weights import rename_keys

IMAGENET_CLASSES = 1000
PLACES365_CLASSES = 365
VGG_CLASSIFIER = {"fc6": "0", "fc7": "3", "fc8": "6", "fc8a": "6"}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# torchvision switches their `transform_input` on for published weights: it turns images normalised with ImageNet's
# mean and std into (image - 0.5) / 0.5, which are their mean and std here.
TRANSFORMED = ("inception_v3", "googlenet")
Triple = tuple[float, float, float]


def make_torchvision(name: str, spec: Mapping, state: dict) -> Network:
    """Any classification network of torchvision, spec["arch"], without trained weights.

    The number of classes is spec["num_classes"], else read from the weights' last layer, else torchvision's.
    Mean and std: see choose_preprocessing. VGGs get the aliases of name_vgg_layers.
    """
    arch = _check_arch(name, spec)
    given = spec.get("num_classes")
    options = _find_options(arch, state)
    module = _build(arch, options | ({"num_classes": int(given)} if given else {}))
    found = None if given else _count_classes(module, state)
    if found:
        module = _build(arch, options | {"num_classes": found})
    images = choose_preprocessing(name, spec, _list_files(name, spec))
    return Network(name, module, images.mean, images.std, name_vgg_layers(module), images.assumed)


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


def rename_old_names(module: torch.nn.Module, state: dict) -> dict:
    """A state as the module's own hooks take it; other names stay.

    DenseNet: published files say norm.1 and conv.2 inside dense layers, torchvision's network norm1 and conv2.
    MNASNet: refuses a state without a version; its first version had other sizes, and no other names.
    """
    from torchvision.models import DenseNet, MNASNet

    if isinstance(module, DenseNet):
        return rename_keys(state, lambda key: re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)", r"\1\2", key))
    if isinstance(module, MNASNet) and not getattr(state, "_metadata", None):
        state, stem = rename_keys(state, str), state.get("layers.0.weight")
        is_old = stem is not None and stem.shape != module.layers[0].weight.shape
        state._metadata = OrderedDict({"": {"version": 1 if is_old else 2}})
    return state


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
    if path.name in {published.file for published in _list_files(name, spec)}:
        digits = path.stem.rpartition("-")[2]
        if not sha256_file(path).startswith(digits):
            raise InputError(f"model {name}: {path} is damaged: its sha256 is not {digits}...{_hint(name, spec)}")
    return path


@dataclasses.dataclass(frozen=True)
class Published:
    """A weight file that torchvision publishes: its address and the mean and std that it was trained with."""

    address: str
    mean: Triple
    std: Triple

    @property
    def file(self) -> str:
        return self.address.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """mean and std, and a sentence on each thing that was assumed."""

    mean: Triple
    std: Triple
    assumed: tuple[str, ...] = ()


def list_published(arch: str) -> list[Published]:
    """The weights that torchvision publishes of an architecture, its own choice first; [] if none."""
    from torchvision import models

    try:
        entries = list(models.get_model_weights(arch))
        first = models.get_model_weights(arch).DEFAULT
    except (ValueError, AttributeError):
        return []
    entries.sort(key=lambda entry: entry is not first)
    found = []
    for entry in entries:
        images = entry.transforms()
        mean, std = (HALF, HALF) if arch in TRANSFORMED else (tuple(images.mean), tuple(images.std))
        found.append(Published(entry.url, mean, std))
    return found


def choose_preprocessing(name: str, spec: Mapping, published: list[Published]) -> Preprocessing:
    """mean and std: those of the config, else of the published file that `weights` names, else of the first one.

    name: of the model. published: files that the weights can be, e.g. of list_published. The same for random weights,
    so that the control sees what the trained network sees. Raises InputError for a mean or std that is none.
    """
    known = Path(str(spec.get("weights") or "")).name
    exact = [one for one in published if one.file == known]
    usual = (exact or published or [Published("", IMAGENET_MEAN, IMAGENET_STD)])[0]
    mean, std = (read_triple(name, spec, key, getattr(usual, key)) for key in ("mean", "std"))
    if min(std) <= 0:
        raise InputError(f"model {name}: std must be above 0, not {list(std)}")
    whose = f"torchvision's for {known}" if exact else "torchvision's for this architecture"
    if not published:
        whose = "ImageNet's"
    shown = f"mean {_show(usual.mean)}, std {_show(usual.std)}"
    if (mean, std) != (usual.mean, usual.std):
        used = f"mean {_show(mean)}, std {_show(std)}"
        return Preprocessing(mean, std, (f"the config's {used} are used; {whose} are {shown}",))
    if spec.get("mean") and spec.get("std"):
        return Preprocessing(mean, std)
    is_certain = exact or spec.get("weights") == "random"
    remedy = "" if is_certain else "; weights trained with others need the keys `mean` and `std`"
    several = len({(one.mean, one.std) for one in published}) > 1 and not exact
    of = f" (of {usual.file})" if several else ""
    return Preprocessing(mean, std, (f"images are normalised with {shown}: {whose}{of}{remedy}",))


def read_triple(name: str, spec: Mapping, key: str, default: Triple | None = None) -> Triple:
    """The three numbers spec[key]; InputError where they are none and no default is given."""
    values = spec.get(key)
    if values is None and default is not None:
        return default
    try:
        triple = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        triple = ()
    if len(triple) != 3:
        raise InputError(f"model {name}: needs `{key}:`, three numbers (R, G, B), not {values}")
    return triple


def _hint(name: str, spec: Mapping) -> str:
    if spec.get("kind") != "torchvision":
        return "; `weights: download` fetches it"
    files = _list_files(name, spec)
    return f"; fetch it from {files[0].address}" if files else ""


def _check_arch(name: str, spec: Mapping) -> str:
    from torchvision import models

    arch = str(spec.get("arch", ""))
    known = models.list_models(module=models)
    if arch in known:
        return arch
    if arch.startswith("quantized_"):
        plain = arch.removeprefix("quantized_")
        raise InputError(
            f"model {name}: {arch} computes with 8-bit integers and has no gradients; use arch: {plain} and its weights"
        )
    if arch in models.list_models():
        raise InputError(f"model {name}: {arch} is no classifier of images; give its backbone with kind: file")
    near = ", ".join(difflib.get_close_matches(arch, known, n=4)) or "resnet50, vgg16, densenet121"
    raise InputError(f"model {name}: torchvision has no arch '{arch[:80]}'; near: {near}")


def _list_files(name: str, spec: Mapping) -> list[Published]:
    """The files that torchvision publishes for a network."""
    if spec.get("kind") == "vgg16_places365":
        return []
    return list_published("resnet50" if spec.get("kind") == "resnet50_imagenet" else _check_arch(name, spec))


def _find_options(arch: str, state: dict) -> dict:
    """Of inception_v3 and googlenet: no slow drawing of weights; auxiliary heads only where the weights have them."""
    head = {"inception_v3": "AuxLogits.", "googlenet": "aux1."}.get(arch)
    if head is None:
        return {}
    return {"init_weights": False, "aux_logits": not state or any(key.startswith(head) for key in state)}


def _build(arch: str, options: dict) -> torch.nn.Module:
    from torchvision import models

    return models.get_model(arch, weights=None, **options)


def _count_classes(module: torch.nn.Module, state: dict) -> int | None:
    """Outputs of the last layer among the weights where they are not the module's; `state` can be in any order."""
    layers = [name for name, part in module.named_modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    last = state.get(f"{layers[-1]}.weight")
    differs = last is not None and len(last) != len(module.get_submodule(layers[-1]).weight)
    return len(last) if differs else None


def _show(values: Triple) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
