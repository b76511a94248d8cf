"""What a network says an image is, and whether the image contains it."""

from collections.abc import Iterable

import numpy as np
import torch


def count_classes(reader, image: np.ndarray) -> int:
    """Classes C of a network whose output for one image uint8 (3, H, W) is (1, C); 0 for any other."""
    with torch.inference_mode():
        output = reader.network.module(reader.normalise(torch.from_numpy(image[None])))
    return output.shape[1] if isinstance(output, torch.Tensor) and output.ndim == 2 else 0


def top_classes(reader, batches: Iterable[np.ndarray]) -> np.ndarray | None:
    """Most likely class of each image of all batches, (N,), or None when the network does not end in (B, classes)."""
    found = []
    with torch.inference_mode():
        for images in batches:
            output = reader.network.module(reader.normalise(torch.from_numpy(images)))
            if not isinstance(output, torch.Tensor) or output.ndim != 2:
                return None
            found.append(output.argmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def contains_class(probe, numbers, concepts) -> np.ndarray:
    """Does image numbers[b] contain concepts[b]? bool (B,)"""
    labels = probe.take_labels(numbers)
    inside = (labels == concepts[:, None, None, None]).any(axis=(1, 2, 3))
    return inside | (probe.scalars[numbers] == concepts[:, None]).any(axis=1)
