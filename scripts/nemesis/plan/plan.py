"""What a checked config asks for: places, corruptions, and the files of every stage.

Keys: a place is (probe, model, layer); a noise (*place, kind, std); a design (*place, method, eps, mode, masks).
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nemesis.entries import (
    Design,
    Extraction,
    Noise,
    list_designs,
    list_exemplar_designs,
    list_extractions,
    list_noises,
)
from nemesis.plan import paths
from nemesis.plan.paths import fill

Place = tuple[str, str, str]
# Of the designs that are looked at alone, the first that there is.
FIRST = {"mode": ("untargeted", "targeted", "shared"), "method": ("pgd", "fgsm"), "masks": ("segmentation", "baseline")}
NOISE = ("probe", "model", "layer", "kind", "std")
DESIGN = ("probe", "model", "layer", "method", "eps", "mode", "masks")
BISECTION = ("probe", "model", "layer", "method", "masks")


@dataclass(frozen=True)
class Plan:
    """The plan of a checked config (see nemesis.config.check_config)."""

    config: dict

    # ----- sections

    @property
    def name(self) -> str:
        """The run's name: its tables, figures and report are in results/runs/{name}."""
        return self.config["name"]

    @property
    def designed(self) -> dict:
        return self.config.get("designed") or {}

    @property
    def milan(self) -> dict:
        return self.config.get("milan") or {}

    @property
    def noise(self) -> dict:
        return self.config.get("noise") or {}

    @cached_property
    def extractions(self) -> list[Extraction]:
        """Every network on every probe, with its layers."""
        return list_extractions(self.config)

    @cached_property
    def noises(self) -> list[Noise]:
        return list_noises(self.config)

    @cached_property
    def designs(self) -> list[Design]:
        return list_designs(self.config)

    @cached_property
    def exemplar_designs(self) -> list[Design]:
        return list_exemplar_designs(self.config)

    # ----- places

    @cached_property
    def units(self) -> dict[Place, str | int | list[int]]:
        """Every layer of the experiments, with its setting of units."""
        return {(one.probe, one.model, layer): one.units[layer] for one in self.extractions for layer in one.layers}

    @cached_property
    def places(self) -> list[Place]:
        """Every layer of the experiments."""
        return list(self.units)

    @cached_property
    def dissected(self) -> list[Place]:
        """Those on a probe with masks; on others units are only described."""
        return [(one.probe, one.model, layer) for one in self.extractions if one.dissected for layer in one.layers]

    @cached_property
    def attacked(self) -> list[Place]:
        """Those whose units are attacked."""
        return [place for place in self.dissected if self._names(self.designed, place)]

    @cached_property
    def described(self) -> list[Place]:
        """Those whose units are described."""
        probes = self.milan.get("probes", "all")
        return [
            place for place in self.places if (probes == "all" or place[0] in probes) and self._names(self.milan, place)
        ]

    def layers(self, probe: str, model: str) -> tuple[str, ...]:
        """The layers of one network on one probe."""
        return next(one.layers for one in self.extractions if (one.probe, one.model) == (probe, model))

    @property
    def draws(self) -> list[int]:
        return self.noise.get("seeds", [])

    @property
    def has_null(self) -> bool:
        """Are descriptions of resampled clean probes compared?"""
        return self.milan.get("null_replicates", 0) > 0

    # ----- corruptions of a place

    def noises_of(self, place: Place) -> list[Noise]:
        """The noises that are compared in a layer."""
        return self.noises if place in self.dissected else self.described_noises(place)

    def designs_of(self, place: Place) -> list[Design]:
        return self.designs if place in self.attacked else []

    def described_noises(self, place: Place) -> list[Noise]:
        """The noises under which a layer's units are described."""
        return self.noises if place in self.described and "noise" in self.milan else []

    def described_designs(self, place: Place) -> list[Design]:
        return self.exemplar_designs if place in self.described else []

    def described_corruptions(self, place: Place) -> list[str]:
        """What clean descriptions of a layer are compared with, as it stands in a path, without the null."""
        found = [f"noise/{noise.name}" for noise in self.described_noises(place)]
        return found + [f"designed/{design.name}" for design in self.described_designs(place)]

    def controlled(self, section: str) -> list[Design]:
        """The designs that `compare_storage` (untargeted) or `collateral` (shared, too) looks at; without them, all."""
        wanted = {"compare_storage": {"untargeted"}, "collateral": {"untargeted", "shared"}}[section]
        modes = wanted & set(self.designed.get("modes", ())) or self.designed.get("modes", ())
        sizes = self.designed.get(section, {}).get("eps", ())
        return [design for design in self.designs if design.mode in modes and design.eps in sizes]

    @cached_property
    def bisections(self) -> list[tuple[str, str]]:
        """(method, masks) of every search for the minimum epsilon."""
        if "minimum_epsilon" not in self.designed:
            return []
        return [(method, masks) for method in self.designed["methods"] for masks in self.designed["masks"]]

    @property
    def known_eps(self) -> list[int]:
        """The eps whose outcome is known before any bisection: whole ones of untargeted, lossless attacks."""
        known = "untargeted" in self.designed.get("modes", ()) and self.designed["storage"] == "lossless"
        return [int(eps) for eps in self.designed["eps"] if eps == int(eps)] if known else []

    @cached_property
    def shown_designs(self) -> list[Design]:
        """One kind of attack at every eps, ascending: untargeted pgd with segmentation masks, if there is such."""
        chosen = sorted(self.designs, key=lambda design: design.eps)
        for name, values in FIRST.items():
            best = min((getattr(design, name) for design in chosen), key=values.index, default=None)
            chosen = [design for design in chosen if getattr(design, name) == best]
        return chosen

    # ----- files

    def of_run(self, pattern: str) -> str:
        """A pattern of what belongs to this config."""
        return fill(pattern, run=self.name)

    def for_each_eps(self, pattern: str, section: str = "designed") -> list[str]:
        """A path for every eps of an attack, or of milan's."""
        found = self.designed if section == "designed" else self.milan.get("designed") or {}
        return [fill(pattern, eps=eps) for eps in found.get("eps", [0])]

    @property
    def captioner(self) -> dict[str, str]:
        """The captioner's files, by input's name."""
        return {"captioner": self.of_captioner(paths.CAPTIONER), "card": self.of_captioner(paths.CAPTIONER_CARD)}

    def of_captioner(self, pattern: str) -> str:
        return fill(pattern, captioner=self.milan.get("captioner", {}).get("kind", "none"))

    @property
    def trains_captioner(self) -> bool:
        return self.milan.get("captioner", {}).get("kind") in ("regions", "annotations")

    @property
    def shards(self) -> int:
        """Jobs of an extraction; with several their parts are gathered."""
        return self.config["extraction"]["shards"]

    @property
    def attack_shards(self) -> int:
        """Jobs of an attack; the same."""
        return self.designed.get("shards", 1)

    @property
    def shard_suffix(self) -> str:
        """What names a shard of an extraction in the path of its log."""
        return "-{shard}" if self.shards > 1 else ""

    @property
    def attack_shard_suffix(self) -> str:
        """The same for a shard of an attack."""
        return "-{shard}" if self.attack_shards > 1 else ""

    def layers_to_store(self, probe: str, model: str) -> list[str]:
        """The layers of the store of clean maps: this config's, and those that it has already, of another config.

        So neither config makes the other's results outdated.
        """
        store = Path(fill(paths.MAPS, (probe, model))).parent
        there = {path.parent.name for path in store.glob("*/zarr.json")}
        # What a killed job left begins with a dot.
        return sorted({*self.layers(probe, model), *(name for name in there if not name.startswith("."))})

    @staticmethod
    def _names(section: dict, place: Place) -> bool:
        """Does a section of the config name this layer?"""
        wanted = section.get("layers", [])
        return wanted == "all" or place[2] in wanted
