"""A layer whose units are attacked: its clean dissection, and what it takes to repeat a part of it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nemesis.corruption.redissect import Redissected, redissect
from nemesis.devices import PROCESSOR
from nemesis.dissection.dissect import Concepts


@dataclass(frozen=True)
class Layer:
    """A layer's clean dissection and what it takes to repeat it.

    `table` is the clean dissection.csv, `thresholds` (U,) and `areas` (L,) those of the clean run.
    """

    name: str
    maps: object
    table: pd.DataFrame
    thresholds: np.ndarray
    areas: np.ndarray
    probe: object
    concepts: Concepts
    device: object
    settings: dict

    def redissect(self, changes) -> Redissected:
        """Dissect changes of this layer's units, on the processor, which has their maps."""
        return redissect(changes, self.maps, self.probe, self.concepts, self.areas, PROCESSOR, self.settings)
