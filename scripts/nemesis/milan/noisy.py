"""Exemplars of a probe under noise: found from the noisy images' maps, and showing the noisy images."""

from collections.abc import Iterable

import numpy as np

from nemesis.corruption.mixed import mix_maps
from nemesis.dissection.stored import StoredMaps
from nemesis.milan.exemplars import Exemplars, Load, as_bytes, collect_exemplars, join_exemplars
from nemesis.perturb.noise import add_noise, choose_images
from nemesis.perturb.storage import store_image
from nemesis.probes.probe import Probe


def collect_noisy_exemplars(
    clean: StoredMaps,
    noisy: dict[tuple[int, int], StoredMaps],
    probe: Probe,
    noise: dict,
    fractions: Iterable[float],
    units,
    *options,
    **more,
) -> Exemplars:
    """A row a (fraction, seed, unit), in this order; columns `fraction` and `seed`.

    noisy: maps of the corrupted images by a draw's (name, seed), as corruption.relabel has them; noise: its
    `kind`, `std` and `storage`. options: k, quantile, size and more of collect_exemplars.
    """
    parts = []
    for fraction in sorted(fractions):
        for (name, seed), maps in sorted(noisy.items(), key=lambda item: item[0]):
            chosen = choose_images(probe.count, fraction, seed)
            images = load_noisy(probe, noise, chosen, seed)
            columns = {"fraction": float(fraction), "seed": name}
            mixed = mix_maps(clean, maps, chosen)
            parts.append(collect_exemplars(mixed, images, units, *options, columns=columns, **more))
    return join_exemplars(parts)


def load_noisy(probe: Probe, noise: dict, chosen: np.ndarray, seed: int) -> Load:
    """A loader of the probe's images by number, of which those in `chosen` are corrupted and stored."""

    def load(numbers: np.ndarray) -> np.ndarray:
        images = list(probe.take_images(numbers))
        for place in np.flatnonzero(np.isin(numbers, chosen)):
            corrupted = add_noise(images[place], noise["kind"], noise["std"], seed, int(numbers[place]))
            images[place] = as_bytes(store_image(corrupted, noise["storage"]))
        return np.stack(images)

    return load
