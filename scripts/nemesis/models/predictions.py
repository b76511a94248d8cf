"""What a network as a whole says of images, and which class of a probe each of its outputs stands for.

Shapes: B images, C classes (outputs of the network). An output's number means nothing by itself: a ClassMap says what
it stands for, and is made from what the network was trained on, from names, or from an order that somebody vouches for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nemesis.errors import InputError
from nemesis.models.layouts import draw_images, trace
from nemesis.models.network import Network, normalise

NO_CLASS = -1  # an output that stands for no class of the probe


@dataclass(frozen=True)
class Head:
    """The end of a network that classifies: name (alias or path) of the module that gives the logits, and classes C.

    name is "" where they are computed by no module of their own.
    """

    name: str
    classes: int


@dataclass(frozen=True)
class ClassMap:
    """Which class of a probe each output stands for, numbers (C,): of concepts, or of classes of its folders."""

    numbers: np.ndarray
    of_concepts: bool

    def check(self, probe, images: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Whether the images, numbers (B,), are of the classes that outputs (B,) stand for: bool (B,).

        probe: an opened one (nemesis.probes.probe.Probe). An image is of a concept where it contains it: on some pixel,
        or as a label of the whole image.
        """
        wanted = self.numbers[outputs]
        if not self.of_concepts:
            return (wanted != NO_CLASS) & (probe.classes[images] == wanted)
        labels = probe.take_labels(images)  # (B, K, Hs, Ws)
        inside = (labels == wanted[:, None, None, None]).any(axis=(1, 2, 3))
        return inside | (probe.scalars[images] == wanted[:, None]).any(axis=1)


def map_concepts(numbers: Sequence[int]) -> ClassMap:
    """Of a network trained on the probe's concepts: their numbers (C,), as its card has them."""
    return ClassMap(np.asarray(numbers), True)


def map_names(names: Sequence[str], probe) -> ClassMap:
    """Of a network whose outputs have the names (C,): each stands for the probe's folder of the same name, if any.

    Raises InputError when no name is that of a folder.
    """
    place = {name: number for number, name in enumerate(probe.class_names)}
    numbers = np.array([place.get(name, NO_CLASS) for name in names])
    if (numbers == NO_CLASS).all():
        shown = ", ".join(map(str, [*names[:3], "..."]))
        raise InputError(f"none of the network's classes ({shown}) has a folder of that name in the probe")
    return ClassMap(numbers, False)


def map_order(classes: int, probe) -> ClassMap:
    """Of a network of C classes whose outputs are the probe's folders in sorted order, because somebody says so.

    Raises InputError when there are not as many folders.
    """
    if len(probe.class_names) != classes:
        raise InputError(f"the network has {classes} classes, the probe {len(probe.class_names)} folders of images")
    return ClassMap(np.arange(classes), False)


def classify(network: Network, images) -> torch.Tensor:
    """Logits float (B, C) of images as LayerReader.read takes them, where the network is.

    Gradients flow to float `images` outside inference mode. Raises InputError when the network's output is no (B, C).
    """
    output = network.module(normalise(network, images))
    if not _are_logits(output):
        shape = f" {tuple(output.shape)}" if isinstance(output, torch.Tensor) else ""
        raise InputError(f"model {network.name}: ends in a {type(output).__name__}{shape}, not in (B, classes)")
    return output


def top_classes(network: Network, batches: Iterable) -> np.ndarray:
    """Most likely class of each image of all batches, each as `classify` takes it: (N,)."""
    with torch.inference_mode():
        found = [classify(network, images).argmax(dim=1).cpu().numpy() for images in batches]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def find_head(network: Network, size: tuple[int, int]) -> Head | None:
    """The head of a network, from a pass over one image of `size` (H, W); None where it does not end in (1, C)."""
    found: dict[str, torch.Tensor] = {}

    def note(path, output):
        if _are_logits(output):
            found.setdefault(path, output)

    with torch.random.fork_rng(devices=[]):
        paths = [path for path, part in network.module.named_modules() if not isinstance(part, torch.jit.ScriptModule)]
        trace(network.module, draw_images(network, 1, *size), paths, note)
    whole = found.pop("", None)
    if whole is None:
        return None
    alias_of = {path: alias for alias, path in reversed(network.aliases.items())}
    path = next((path for path, output in found.items() if output is whole), "")
    return Head(alias_of.get(path, path), whole.shape[1])


def _are_logits(output) -> bool:
    return isinstance(output, torch.Tensor) and output.ndim == 2
