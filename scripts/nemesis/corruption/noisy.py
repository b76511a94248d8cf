"""A probe under noise: its images as the network sees them."""

import numpy as np

from nemesis.dissection.extract import ImageSource
from nemesis.errors import InputError
from nemesis.perturb.noise import add_noise, choose_images, draw_seed
from nemesis.perturb.storage import store_image, stored_difference
from nemesis.probes.probe import Probe
from nemesis.threads import on_all_cores


def draw_noisy(probe: Probe, kind: str, std: float, noise: dict, draw: int) -> ImageSource:
    """The images that one draw of noise corrupts; `noise` has the config's `seed`, largest `fraction` and `storage`."""
    return noisy_images(probe, kind, std, noise["fraction"], draw_seed(noise["seed"], draw), noise["storage"])


def noisy_images(probe: Probe, kind: str, std: float, fraction: float, seed: int, storage: str) -> ImageSource:
    """The images that noise corrupts, corrupted and stored.

    `seed` is the draw's own seed. The source records what was stored: `linf` and `mse` (P,),
    largest absolute and mean squared difference to the clean image, in 1/255. Raises InputError
    when the fraction is less than half an image.
    """
    chosen = choose_images(probe.count, fraction, seed)
    if not len(chosen):
        raise InputError(f"noise.fractions: {fraction:g} of {probe.count} images is none; raise it")
    record = {"linf": np.zeros(len(chosen)), "mse": np.zeros(len(chosen))}

    def corrupt(position: int, clean: np.ndarray) -> np.ndarray:
        stored = store_image(add_noise(clean, kind, std, seed, int(chosen[position])), storage)
        record["linf"][position], record["mse"][position] = stored_difference(clean, stored)
        return stored

    corrupt_all = on_all_cores(corrupt)

    def load(start: int, stop: int) -> np.ndarray:
        clean = probe.take_images(chosen[start:stop])
        return np.stack(corrupt_all(range(start, stop), clean))

    return ImageSource(chosen, [probe.names[number] for number in chosen], load, record)
