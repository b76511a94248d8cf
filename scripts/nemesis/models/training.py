"""Training tinyvgg: which concepts does an image show?"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from nemesis.models.embedded import MEAN, STD, TinyVGG

BATCH = 32
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
MAX_SHIFT = 8  # pixels
BRIGHTNESS = 0.15  # factor 0.85 ... 1.15
MAX_POSITIVE_WEIGHT = 10.0
HELD_OUT = 0.2  # of the images, if no mask is given


def train_tinyvgg(
    probe_images: np.ndarray,
    targets: np.ndarray,
    held_out: np.ndarray | None = None,
    epochs: int = 40,
    seed: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[dict[str, torch.Tensor], dict]:
    """Train a TinyVGG on the CPU; (its state dict, metrics for the card).

    probe_images: uint8 (N, 3, H, W). targets: bool or 0/1 (N, C), concept present in image.
    held_out: bool (N,), images that are kept for the metrics; by default a fifth, drawn with the seed.
    progress: called after every epoch with (epoch from 1, epochs, mean loss).
    Metrics: mean_average_precision over the concepts that the held-out images both show and lack,
    chance_average_precision (their mean frequency, which a random ranking gets), and the counts.
    Same seed, threads, machine and torch give the same bytes. Augmentation: flip, shift, brightness.
    """
    _check_shapes(probe_images, targets, held_out)
    held_out = _draw_held_out(len(targets), seed) if held_out is None else np.asarray(held_out, bool)
    targets = np.asarray(targets, np.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = TinyVGG(targets.shape[1]).to(memory_format=torch.channels_last)
    _fit(module, probe_images[~held_out], targets[~held_out], seed, epochs, progress)
    scores = score_concepts(module, probe_images[held_out])  # (N', C)
    metrics = summarise_precision(scores, targets[held_out] > 0)
    metrics |= {"images": int((~held_out).sum()), "held_out_images": int(held_out.sum())}
    metrics |= {"epochs": epochs, "seed": seed}
    state = {key: value.detach().clone().contiguous() for key, value in module.state_dict().items()}
    return state, metrics


@torch.inference_mode()
def score_concepts(module: torch.nn.Module, images: np.ndarray, batch: int = 64) -> np.ndarray:
    """Logits float32 (N, C) of uint8 images (N, 3, H, W)."""
    module.eval()
    parts = [
        module(_normalise(torch.from_numpy(images[start : start + batch]))) for start in range(0, len(images), batch)
    ]
    return torch.cat(parts).numpy() if parts else np.zeros((0, module.classifier.out_features), np.float32)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean, over the true images, of the precision among those that score at least as high.

    scores: (N,); truth: bool (N,). nan when no image is true. Equal scores share one rank, so that the
    order of the images does not matter.
    """
    truth = np.asarray(truth, bool)
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])  # (N,), (N,)
    last_equal = np.searchsorted(-ranked, -ranked, side="right") - 1  # (N,)
    precision = hits[last_equal] / (last_equal + 1)  # (N,)
    return float(precision[truth[order]].mean())


def summarise_precision(scores: np.ndarray, truth: np.ndarray) -> dict:
    """Mean average precision over the concepts with both a true and a false image, and its chance level."""
    frequency = truth.mean(axis=0) if len(truth) else np.zeros(truth.shape[1])  # (C,)
    scored = np.flatnonzero((frequency > 0) & (frequency < 1))
    if not len(scored):
        return {"mean_average_precision": None, "chance_average_precision": None, "concepts_scored": 0}
    values = [average_precision(scores[:, concept], truth[:, concept]) for concept in scored]
    return {
        "mean_average_precision": float(np.mean(values)),
        "chance_average_precision": float(frequency[scored].mean()),
        "concepts_scored": len(scored),
    }


def _fit(module, images: np.ndarray, targets: np.ndarray, seed: int, epochs: int, progress):
    generator = torch.Generator().manual_seed(seed)
    pixels, truth = torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(targets)
    weight = _weigh_positives(truth)  # (C,)
    steps = max(1, len(pixels) // BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps * epochs)
    module.train()
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(pixels), generator=generator)
        for rows in order.tensor_split(steps):
            logits = module(_normalise(_augment(pixels[rows], generator)))  # (B, C)
            loss = functional.binary_cross_entropy_with_logits(logits, truth[rows], pos_weight=weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() / steps
        if progress is not None:
            progress(epoch, epochs, total)


def _augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip half of the images, shift the batch, change each image's brightness; uint8 -> float in [0, 1]."""
    count, _, height, width = pixels.shape
    flipped = torch.rand(count, generator=generator) < 0.5  # (B,)
    images = torch.where(flipped[:, None, None, None], pixels.flip(3), pixels).float() / 255
    images = functional.pad(images, [MAX_SHIFT] * 4, mode="reflect")
    top, left = torch.randint(0, 2 * MAX_SHIFT + 1, (2,), generator=generator).tolist()
    images = images[:, :, top : top + height, left : left + width]  # (B, 3, H, W)
    factor = 1 + BRIGHTNESS * (2 * torch.rand(count, 1, 1, 1, generator=generator) - 1)
    return (images * factor).clamp(0, 1)


def _normalise(images: torch.Tensor) -> torch.Tensor:
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _weigh_positives(truth: torch.Tensor) -> torch.Tensor:
    """Weight of each concept's positives: the root of negatives over positives, 1 to 10."""
    positives = truth.sum(dim=0)  # (C,)
    ratio = (len(truth) - positives) / positives.clamp(min=1)
    return ratio.sqrt().clamp(1, MAX_POSITIVE_WEIGHT)


def _draw_held_out(count: int, seed: int) -> np.ndarray:
    held_out = np.zeros(count, bool)
    chosen = np.random.default_rng(seed).permutation(count)[: round(HELD_OUT * count)]
    held_out[chosen] = True
    return held_out


def _check_shapes(images: np.ndarray, targets: np.ndarray, held_out: np.ndarray | None):
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"probe_images must be uint8 (N, 3, H, W), not {images.dtype} {images.shape}")
    if targets.ndim != 2 or len(targets) != len(images):
        raise ValueError(f"targets must be ({len(images)}, C), not {targets.shape}")
    if held_out is not None and np.shape(held_out) != (len(images),):
        raise ValueError(f"held_out must be ({len(images)},), not {np.shape(held_out)}")
    if held_out is not None and np.all(held_out):
        raise ValueError("held_out leaves no image to train on")
