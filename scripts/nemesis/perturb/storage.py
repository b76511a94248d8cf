"""How corrupted images are stored decides how much of a perturbation survives."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

PATTERN = r"float|lossless|published|jpeg-([1-9][0-9]?|100)"
PUBLISHED_QUALITY = 75  # the image library's default, with 4:2:0 chroma subsampling


def store_image(image: np.ndarray, storage: str, path=None) -> np.ndarray:
    """What is read back when a float32 image (3, H, W) in [0, 1] is stored.

    float: unchanged. lossless: rounded to 8 bits. jpeg-Q: rounded, then JPEG of quality Q.
    published: truncated to 8 bits, then JPEG at the library's default quality, as the published
    code does. All but `float` return uint8. `path` also keeps the JPEG file itself there.
    """
    if storage == "float":
        return image.astype(np.float32)
    scaled = image * np.float32(255)
    if storage == "published":
        return _through_jpeg(scaled.astype(np.uint8), PUBLISHED_QUALITY, path)
    rounded = np.rint(scaled).astype(np.uint8)
    if storage == "lossless":
        return rounded
    return _through_jpeg(rounded, int(re.fullmatch(PATTERN, storage).group(1)), path)


def _through_jpeg(image: np.ndarray, quality: int, path=None) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
    if path is not None:
        Path(path).write_bytes(stream.getvalue())
    return np.asarray(Image.open(stream)).transpose(2, 0, 1)


def stored_difference(clean: np.ndarray, stored: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference and mean squared difference of stored to clean, in 1/255."""
    scale = 255.0 if stored.dtype != np.uint8 else 1.0
    difference = stored.astype(np.float32) * scale - clean
    return float(np.abs(difference).max(initial=0)), float(np.square(difference).mean())
