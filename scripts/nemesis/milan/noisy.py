"""Exemplars of a probe under noise: found from the noisy images' maps, and showing the noisy images."""

import numpy as np

from nemesis.corruption.mixed import NoisyMaps
from nemesis.milan.exemplars import Exemplars, ExemplarSettings, Load, as_bytes, collect_exemplars, join_exemplars
from nemesis.perturb.noise import StoredNoise, choose_images
from nemesis.probes.probe import Probe


def collect_noisy_exemplars(
    noisy: NoisyMaps, probe: Probe, noise: StoredNoise, units, settings: ExemplarSettings
) -> Exemplars:
    """A row a (fraction, seed, unit), in this order; columns `fraction` and `seed`, the name of a draw."""
    parts = []
    for fraction in sorted(noisy.fractions):
        for draw in sorted(noisy.draws):
            name, seed = draw
            images = load_noisy(probe, noise, choose_images(probe.count, fraction, seed), seed)
            columns = {"fraction": float(fraction), "seed": name}
            parts.append(collect_exemplars(noisy.mix(fraction, draw), images, units, settings, columns=columns))
    return join_exemplars(parts)


def load_noisy(probe: Probe, noise: StoredNoise, chosen: np.ndarray, seed: int) -> Load:
    """A loader of the probe's images by number, of which those in `chosen` are corrupted and stored."""

    def load(numbers: np.ndarray) -> np.ndarray:
        images = list(probe.take_images(numbers))
        for place in np.flatnonzero(np.isin(numbers, chosen)):
            images[place] = as_bytes(noise.corrupt(images[place], seed, int(numbers[place])))
        return np.stack(images)

    return load
