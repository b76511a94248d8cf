"""Makes the card, dissects two layers and attacks a unit of many torchvision architectures with random weights.

Not a test: it takes some minutes. From the repository's root, `python tests/try_architectures.py [arch ...]` prints
the Markdown table that docs/tried.md holds. It needs no network and no files; the probe is one that nemesis draws.
"""

import contextlib
import logging
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from nemesis.corruption.attack import UnitPGD  # noqa: E402
from nemesis.dissection.dissect import dissect_layer, load_concepts  # noqa: E402
from nemesis.dissection.extract import ImageSource, extract_activations  # noqa: E402
from nemesis.dissection.stored import open_maps  # noqa: E402
from nemesis.dissection.thresholds import compute_thresholds  # noqa: E402
from nemesis.errors import InputError  # noqa: E402
from nemesis.models.card import prepare_weights  # noqa: E402
from nemesis.models.network import LayerReader  # noqa: E402
from nemesis.models.registry import build_network  # noqa: E402
from nemesis.probes.minibroden import make_minibroden  # noqa: E402
from nemesis.probes.probe import open_probe, prepare_probe  # noqa: E402
