"""What a designed corruption minimises (Eq. 7 and 9 of Srivastava et al., ICCV 2023).

Every objective takes a layer's maps (B, U, h, w) and returns the cost of each image, (B,).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

SHARPNESS = 1.0  # of soft_iou's sigmoid, as published


@dataclass(frozen=True)
class MeanActivation:
    """Mean activation over the source's pixels minus that over the target's, for any set of (image, unit).

    The mean of an upsampled map over a region is a weighted sum of the map's cells (see
    dissection.upsample), so entry e adds sum(weights[e] * maps[row[e], unit[e]]) to image row[e].
    """

    row: torch.Tensor  # (E,) image in the batch
    unit: torch.Tensor  # (E,)
    weights: torch.Tensor  # (E, h, w)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        terms = (maps[self.row, self.unit] * self.weights).sum(dim=(1, 2))  # (E,)
        return torch.zeros(len(maps), dtype=terms.dtype, device=maps.device).index_add(0, self.row, terms)


@dataclass(frozen=True)
class SoftIoU:
    """The published code's soft IoU with the source minus that with the target; one ratio a batch of one unit.

    The mask is sigmoid((map - cutoff) / std(map)), std over the whole batch: so the result depends on
    which images share a batch.
    """

    unit: int
    cutoff: float  # the unit's clean activation threshold
    source: torch.Tensor  # (B, Hs, Ws), 0 or 1
    target: torch.Tensor  # (B, Hs, Ws)

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        size = self.source.shape[1:]
        up = F.interpolate(maps[:, self.unit, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        mask = torch.sigmoid(SHARPNESS * (up - self.cutoff) / up.std())  # (B, Hs, Ws)
        return _soft_ratio(mask, self.source) - _soft_ratio(mask, self.target)


def _soft_ratio(mask: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    both = (mask * region).sum(dim=(1, 2))  # (B,)
    return both / (torch.maximum(mask, region).sum() + 1e-8)
