"""Shapes and work of a network's layers, without its weights: nothing is computed on the meta device."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from nemesis.models.network import LayerReader, Network, learn_layouts
from nemesis.models.registry import find_kind

FLOAT_BYTES = 4
META = torch.device("meta")


@dataclass(frozen=True)
class LayerWork:
    """What one image costs up to a layer.

    shape: (U, h, w). flops: two a multiply-add, forward. traffic: bytes that the parts of the network write
    and read, forward. saved: bytes that the backward pass needs. largest: bytes of the largest output.
    """

    shape: tuple[int, int, int]
    flops: float
    traffic: float
    saved: float
    largest: float

    @property
    def values(self) -> int:
        """Activations of an image."""
        return math.prod(self.shape)


def build_meta(name: str, spec: Mapping) -> Network:
    """A config's network on the meta device; a user's own loader is called, nothing else is read."""
    make, spec = find_kind(name, spec).make, {"classes": 1, **spec}
    if spec["kind"] != "file":
        with contextlib.suppress(NotImplementedError), META:  # RegNet reads numbers off tensors when it is made
            return make(name, spec, {})
    network = make(name, spec, {})
    network.module.to(META)
    return network


def measure_layers(network: Network, layers: Sequence[str], size: tuple[int, int]) -> dict[str, LayerWork]:
    """The work of each layer for an image of `size` (H, W); the network is on the meta device.

    Raises InputError when there is no such layer.
    """
    network = learn_layouts(network, layers, size)  # not counted
    return {layer: _measure(network, layer, size) for layer in layers}


def measure_whole(network: Network, size: tuple[int, int]) -> float:
    """Floating-point operations of the whole network on one image."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.module(torch.zeros(1, len(network.mean), *size, device=META))
    return float(counter.get_total_flops())


def _measure(network: Network, layer: str, size: tuple[int, int]) -> LayerWork:
    outputs: list[int] = []
    saved: dict = {}

    def note_output(module, inputs, output):
        if isinstance(output, torch.Tensor):
            outputs.append(output.numel() * FLOAT_BYTES)

    def note_saved(tensor):
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage  # held, so that no address is used twice
        return tensor

    leaves = [part for part in network.module.modules() if not list(part.children())]
    hooks = [part.register_forward_hook(note_output) for part in leaves]
    image = torch.zeros(1, len(network.mean), *size, device=META, requires_grad=True)
    try:
        with (
            FlopCounterMode(display=False) as counter,
            torch.autograd.graph.saved_tensors_hooks(note_saved, lambda tensor: tensor),
            LayerReader(network, [layer], META) as reader,
        ):
            shape = tuple(reader.read(image)[layer].shape[1:])
    finally:
        for hook in hooks:
            hook.remove()
    weights = {part.untyped_storage()._cdata for part in network.module.parameters()}
    kept = sum(storage.nbytes() for key, storage in saved.items() if key not in weights)
    largest = max(outputs, default=math.prod(shape) * FLOAT_BYTES)
    return LayerWork(shape, float(counter.get_total_flops()), 2.0 * sum(outputs), float(kept), float(largest))
