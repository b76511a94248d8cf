"""Where networks run, and how many images fit at once."""

import torch

from nemesis.errors import InputError

PROCESSOR = torch.device("cpu")
REFERENCE_PIXELS = 224 * 224
CPU_IMAGES, GPU_IMAGES = 16, 48  # of 224 px
OUT_OF_MEMORY = ("can't allocate memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")
ATTACK_BYTES = 150e6  # of an image of 224 px while VGG16, the largest known network here, is attacked


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
    """Images in a forward pass: the setting, or for `auto` 16 (CPU) or at most 48 (GPU) images of 224 px.

    48 images of VGG16 under attack take less than 11 GB; a smaller GPU gets fewer, by its whole memory and
    not by what is free, so that the number is the same in every run.
    """
    if setting != "auto":
        return int(setting)
    images = CPU_IMAGES if device.type == "cpu" else min(GPU_IMAGES, _fitting_images(device))
    return max(1, round(images * REFERENCE_PIXELS / (size[0] * size[1])))


def _fitting_images(device: torch.device) -> int:
    """Images of 224 px whose attack takes three quarters of a GPU's memory; GPU_IMAGES where it is not there."""
    if not torch.cuda.is_available():
        return GPU_IMAGES
    return int(0.75 * torch.cuda.get_device_properties(device).total_memory / ATTACK_BYTES)


def scale_bytes(limit: int, device: torch.device) -> int:
    """Bytes to work on at once: `limit`, which fits into a processor's cache, or what keeps a GPU busy."""
    return limit if device.type == "cpu" else 64 * limit


def is_out_of_memory(error: RuntimeError) -> bool:
    """Did a network fail because its device, a GPU or the processor, has too little memory for the batch?

    cuDNN and cuBLAS, which take memory of their own, say so in words.
    """
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
