"""What MILAN sees of an exemplar: a network's features, pooled inside the mask at several depths.

For each level: the mask is resized to the level's map (bilinear, align_corners=False, no antialiasing) and
divided by its sum; a feature is the sum over positions of mask times map; levels stand one after the
other (Hernandez et al., ICLR 2022). Nothing is trained.

Shapes: R rows, k exemplars, M pictures, S side in px, F features, P masks pooled at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from nemesis.devices import choose_batch
from nemesis.errors import InputError
from nemesis.models.layouts import Layout
from nemesis.models.network import LayerReader, Network, list_layers, resolve_layers
from nemesis.models.registry import build_network, find_kind
from nemesis.models.weights import insert_weights
from nemesis.stores import blocks

DEFAULT_LAYERS = {
    "efficientnet_lite0": ("stem", "blocks.2", "blocks.4", "blocks.10", "blocks.15"),
    "resnet18": ("conv1", "layer1", "layer2", "layer3", "layer4"),
    "resnet50": ("conv1", "layer1", "layer2", "layer3", "layer4"),
    "resnet101": ("conv1", "layer1", "layer2", "layer3", "layer4"),
    "alexnet": ("features.0", "features.3", "features.6", "features.8", "features.10"),
}
NAME = "of the captioner"
DUMMY_SIZE = 64  # px
CPU_BATCH = 16  # pictures
MASKS = 8  # P: one size for all products, so that a feature does not depend on which others are asked for
PACK_BYTES = 2**26  # masks unpacked at once


class Encoder:
    """Masked pyramid pooling of a frozen network.

    layers: aliases or module paths, in the order of the features. batch: pictures in a forward pass.
    Raises InputError when the network has no such layer.
    """

    def __init__(self, network: Network, layers: Sequence[str], device="cpu", batch: int = 16):
        self.layers = tuple(layers)
        self.device, self.batch = torch.device(device), batch
        known = list_layers(network, DUMMY_SIZE)
        layouts = {layer.path: Layout(layer.axes, layer.calls) for layer in known}
        self.network = dataclasses.replace(network, layouts=layouts)
        shapes = {layer.path: layer.shape for layer in known}
        paths = resolve_layers(network, self.layers)
        missing = [name for name, path in paths.items() if path not in shapes]
        if missing:
            raise InputError(f"model {network.name}: layer {missing[0]} gives no maps (U, h, w); choose another")
        self.units = tuple(shapes[paths[name]][0] for name in self.layers)

    @property
    def feature_size(self) -> int:
        """F, the units of all levels."""
        return sum(self.units)

    def encode(self, pictures, picture: np.ndarray, masks=None) -> np.ndarray:
        """Features float32 (R, k, F) of exemplars.

        pictures: uint8 (M, 3, S, S) in [0, 255]; picture: (R, k), which of them each exemplar shows; masks:
        bool (R, k, 1, S, S), by default all ones. The first and the last may be read lazily. A mask without
        a pixel gives zeros. Each picture passes through the network once.
        """
        picture = np.asarray(picture)
        packed = None if masks is None else pack_masks(masks)
        found = np.zeros((picture.size, self.feature_size), np.float32)
        order = np.argsort(picture, axis=None, kind="stable")  # exemplars by picture
        starts = np.searchsorted(picture.ravel()[order], np.arange(len(pictures) + 1))
        shown = np.flatnonzero(np.diff(starts))
        with LayerReader(self.network, self.layers, self.device, pad_to=self.batch) as reader, torch.inference_mode():
            for first, last in blocks(len(shown), self.batch):
                maps = reader.read(pictures[shown[first:last]])  # {layer: (B, U, h, w)}
                for place, number in enumerate(shown[first:last]):
                    levels = [maps[layer][place] for layer in self.layers]
                    mine = order[starts[number] : starts[number + 1]]
                    for a, b in blocks(len(mine), MASKS):
                        found[mine[a:b]] = self._pool(levels, mine[a:b], packed, pictures.shape[-1])
        return found.reshape(*picture.shape, self.feature_size)

    def _pool(self, levels: list[torch.Tensor], mine: np.ndarray, packed, size: int) -> np.ndarray:
        """Features (n, F) of at most P exemplars of one picture, whose maps are `levels`."""
        masks = np.ones((MASKS, 1, size, size), np.uint8)
        if packed is not None:
            masks[: len(mine)] = np.unpackbits(packed[mine], axis=-1, count=size)
        masks = torch.from_numpy(masks).to(self.device).float()  # (P, 1, S, S)
        return torch.cat([pool_maps(level, masks) for level in levels], dim=1)[: len(mine)].cpu().numpy()


def pool_maps(maps: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Mean of maps (U, h, w) inside each of the masks (P, 1, S, S), resized to (h, w): (P, U); 0 for an empty one."""
    small = F.interpolate(masks, size=maps.shape[1:], mode="bilinear", align_corners=False).flatten(1)  # (P, h * w)
    total = small.sum(dim=1, keepdim=True)
    small = small / torch.where(total > 0, total, torch.ones_like(total))
    return small @ maps.flatten(1).T


def pack_masks(masks) -> np.ndarray:
    """Masks (R, k, 1, S, S) as bits, uint8 (R * k, 1, S, ceil(S / 8)); read some rows at a time."""
    rows, k, _, height, width = masks.shape
    packed = np.empty((rows, k, 1, height, -(-width // 8)), np.uint8)
    for first, last in blocks(rows, max(1, PACK_BYTES // (k * height * width))):
        packed[first:last] = np.packbits(masks[first:last], axis=-1)
    return packed.reshape(rows * k, *packed.shape[2:])


def build_encoder(spec: Mapping, state: Mapping | None = None, device="cpu", batch: int | str = "auto") -> Encoder:
    """The encoder that a captioner's `spec` asks for.

    spec: a model as in the config, e.g. {"kind": "efficientnet_lite0"} or {"kind": "torchvision", "arch"},
    and "layers" (default: DEFAULT_LAYERS) and "size" (px). state: the network's weights by name where a
    checkpoint brought them; otherwise they come from where the kind has them. batch: auto is small on the
    CPU, where the last batch, which is filled up, would else cost more than large ones save.
    Raises InputError when the network is not known, has no such layer, or the weights do not fit.
    """
    layers = spec.get("layers") or DEFAULT_LAYERS.get(spec.get("arch", spec.get("kind")))
    if not layers:
        raise InputError(f"the captioner's encoder {spec.get('arch', spec.get('kind'))} is not known; name its layers")
    device = torch.device(device)
    if state:
        network = find_kind(NAME, spec).make(NAME, spec, dict(state))
        insert_weights(network.module, dict(state), "the captioner's checkpoint")
    else:
        network = build_network(NAME, spec)
    if spec.get("arch") == "alexnet":
        layers = [_after_relu(layer) for layer in layers]
    if batch == "auto" and device.type == "cpu":
        batch = CPU_BATCH
    size = int(spec.get("size", 224))
    return Encoder(network, layers, device, choose_batch(batch, (size, size), device))


def _after_relu(layer: str) -> str:
    """The module after features.N: the published AlexNet's ReLU works in place, so features.N shows its output."""
    head, _, number = layer.rpartition(".")
    return f"{head}.{int(number) + 1}"
