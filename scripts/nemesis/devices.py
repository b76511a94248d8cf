"""Where networks run, and how many images fit at once."""

import torch

from nemesis.errors import InputError

REFERENCE_PIXELS = 224 * 224


def choose_device(name: str) -> torch.device:
    """The torch device of a config's `device`; InputError when it is not there."""
    available = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if available else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if available else 0
        if int(name.partition(":")[2] or 0) >= count:
            raise InputError(f"device: {name} is not there ({count} CUDA devices are); use device: auto or cpu")
    return torch.device(name)


def choose_batch(setting: str | int, size: tuple[int, int], device: torch.device) -> int:
    """Images in a forward pass: the setting, or for `auto` 16 (CPU) or 128 (GPU) images of 224 px."""
    if setting != "auto":
        return int(setting)
    images = 16 if device.type == "cpu" else 128
    return max(1, round(images * REFERENCE_PIXELS / (size[0] * size[1])))
