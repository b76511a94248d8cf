"""What a designed corruption minimises (Eq. 7 and 9 of Srivastava et al., ICCV 2023).

Every objective takes a layer's maps (B, U, h, w) and returns the cost of each image, (B,), or of the batch, (1,).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


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
class PublishedCost:
    """The published code's cost, in its own arithmetic: a ratio over a whole batch of one unit's images, one number.

    The mean activation over all source pixels of the batch (or, where `cutoff` is given, the soft IoU of the source
    and the mask sigmoid((map - cutoff) / std(map)), std over the batch), minus the same with the target. So the
    result depends on which images share a batch. Sign steps amplify a float's last bits: upsampled maps times masks,
    in float64 for masks of concepts, give the published images where carried-down weights give others.
    """

    unit: int
    source: torch.Tensor  # (B, Hs, Ws) float64, 0 or 1; bool (B, h, w) for masks of units
    target: torch.Tensor  # likewise
    cutoff: float | None = None  # the unit's clean activation threshold

    def __call__(self, maps: torch.Tensor) -> torch.Tensor:
        size = self.source.shape[1:]
        up = F.interpolate(maps[:, self.unit, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        return (self._find_ratio(up, self.source) - self._find_ratio(up, self.target))[None]  # (1,)

    def _find_ratio(self, up: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        if self.cutoff is None:
            return (up * region).sum() / (region.sum() + 1e-8)
        mask = torch.sigmoid((up - self.cutoff) / up.std())  # (B, Hs, Ws); anew for each region, as published
        return (mask * region).sum() / (torch.maximum(mask, region).sum() + 1e-8)
