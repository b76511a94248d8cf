"""What a network's weights were trained on: mean and std of its images."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from nemesis.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
# torchvision switches their `transform_input` on for published weights: it turns images normalised with ImageNet's
# mean and std into (image - 0.5) / 0.5, which are their mean and std here.
TRANSFORMED = ("inception_v3", "googlenet")

Triple = tuple[float, float, float]


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


def _show(values: Triple) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
