"""What a checked config asks for. Standard library only: every start and every figure imports it."""

import itertools
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Extraction:
    """One network on one probe: the layers of all experiments that share them."""

    probe: str
    model: str
    layers: tuple[str, ...]
    units: dict  # layer -> all | number | list
    dissected: bool = True  # the probe has masks


@dataclass(frozen=True)
class Noise:
    """One kind and size of noise; `name` is its part of a path, e.g. gaussian-0.02."""

    kind: str
    std: float

    @property
    def name(self) -> str:
        return f"{self.kind}-{format_number(self.std)}"


@dataclass(frozen=True)
class Design:
    """One setting of the designed corruption; `name` is its part of a path, e.g. pgd-4-untargeted-segmentation."""

    method: str
    eps: float
    mode: str
    masks: str

    @property
    def name(self) -> str:
        return f"{self.method}-{format_number(self.eps)}-{self.mode}-{self.masks}"


def format_number(value: float) -> str:
    """A std or an eps as it stands in a path: 4, 0.5."""
    return f"{float(value)!r}".removesuffix(".0")


def has_masks(config: dict, probe: str) -> bool:
    """Does this probe have masks? A folder of images has none, so no unit is dissected on it."""
    return config["probes"][probe]["kind"] != "folder"


def list_extractions(config: dict) -> list[Extraction]:
    """The (probe, model) pairs of all experiments, each with the union of its layers."""
    pairs: dict = {}
    for experiment in config["experiments"]:
        units = pairs.setdefault((experiment["probe"], experiment["model"]), {})
        units.update(dict.fromkeys(experiment["layers"], experiment["units"]))
    return [
        Extraction(probe, model, tuple(units), units, has_masks(config, probe))
        for (probe, model), units in pairs.items()
    ]


def list_noises(config: dict) -> list[Noise]:
    """Every kind and size of noise; `none` has no size."""
    noise = config.get("noise")
    if not noise:
        return []
    found = [Noise(kind, 0.0 if kind == "none" else std) for kind in noise["kinds"] for std in noise["std"]]
    return list(dict.fromkeys(found))


def list_designs(config: dict) -> list[Design]:
    """Every setting of the designed corruption."""
    designed = config.get("designed")
    if not designed:
        return []
    parts = [designed[key] for key in ("methods", "eps", "modes", "masks")]
    return [Design(*values) for values in itertools.product(*parts)]


def list_exemplar_designs(config: dict) -> list[Design]:
    """Every setting of the designed corruption of exemplars (MILAN)."""
    designed = config.get("milan", {}).get("designed")
    if not designed:
        return []
    parts = [designed[key] for key in ("methods", "eps", "modes")]
    return [Design(*values, "exemplars") for values in itertools.product(*parts)]


def wants_gpu(device: str) -> bool:
    """Does a job on this `device` take a GPU? With auto: where this machine has an NVIDIA driver."""
    return device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())
