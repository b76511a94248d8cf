"""Pixels of a unit's mask (Eq. 2), found without upsampling what cannot be part of it.

A bilinearly upsampled value never exceeds the largest of its (up to) four neighbouring cells.
So the label map is cut into tiles that share the same four cells; a tile is upsampled only
where one of them exceeds the threshold, which a few per cent do.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from nemesis.devices import scale_bytes

TILE_BYTES = 2**20  # upsampled tiles or maps held at once on a processor
SMALL_TILE = 3  # pixels; smaller tiles cost more to find than whole maps to upsample


@dataclass(frozen=True)
class Axis:
    """Tiles along one axis of an upsampled map: `cells` + 1 tiles of at most R pixels each."""

    low: torch.Tensor  # (T,) cell before the tile's pixels
    high: torch.Tensor  # (T,) cell after them
    start: torch.Tensor  # (T,) first pixel
    weight: torch.Tensor  # (T, R) share of the cell after; NaN where the tile has no such pixel


@lru_cache(maxsize=64)
def tile_axis(cells: int, pixels: int, device: torch.device) -> Axis:
    """Cut `pixels` upsampled pixels over `cells` cells into tiles (align_corners=False)."""
    position = (torch.arange(pixels, dtype=torch.float32) + 0.5) * (cells / pixels) - 0.5
    tile = position.floor().long().clamp(-1, cells - 1) + 1  # (pixels,), 0 ... cells
    sizes = torch.bincount(tile, minlength=cells + 1)
    start = sizes.cumsum(0) - sizes
    weight = torch.full((cells + 1, int(sizes.max())), float("nan"))
    inside = torch.arange(pixels) - start[tile]
    weight[tile, inside] = torch.where(tile == 0, 1.0, position - (tile - 1).float())
    index = torch.arange(cells + 1)
    low, high = (index - 1).clamp(min=0), index.clamp(max=cells - 1)
    return Axis(*(part.to(device) for part in (low, high, start, weight)))


def mask_pixels(maps: torch.Tensor, thresholds: torch.Tensor, size: tuple[int, int]):
    """Yield (pair, pixel, value), (M,) each: the mask of P activation maps at the label size.

    `maps` is (P, h, w), `thresholds` (P,) float32, `size` (Hs, Ws); a pixel is in the mask when
    the bilinearly upsampled map (align_corners=False) strictly exceeds the threshold there. That
    is its value, float32; those above a higher threshold are the mask of that threshold. No value
    is larger than the cells that it lies between, as rounding would have it.
    """
    rows = tile_axis(maps.shape[1], size[0], maps.device)
    columns = tile_axis(maps.shape[2], size[1], maps.device)
    area = rows.weight.shape[1] * columns.weight.shape[1]
    limit = scale_bytes(TILE_BYTES, maps.device)
    if area < SMALL_TILE:
        for part in torch.arange(len(maps), device=maps.device).split(max(1, limit // (4 * size[0] * size[1]))):
            pair, pixel, value = _whole_pixels(maps[part], thresholds[part], size)
            yield part[pair], pixel, value
        return
    above = maps > thresholds[:, None, None]  # (P, h, w)
    above = above[:, rows.low] | above[:, rows.high]
    above = above[:, :, columns.low] | above[:, :, columns.high]  # (P, h + 1, w + 1)
    tiles = above.nonzero()  # (A, 3)
    for part in tiles.split(max(1, limit // (4 * area))):
        yield _tile_pixels(maps, thresholds, rows, columns, part, size[1])


def _whole_pixels(maps, thresholds, size):
    highest = maps.amax(dim=(1, 2), keepdim=True)
    if maps.shape[1:] != size:
        # One channel each: with many channels torch picks another kernel, and the last bits depend on P.
        maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]  # (P, Hs, Ws)
    maps = torch.minimum(maps, highest).flatten(1)
    pair, pixel = (maps > thresholds[:, None]).nonzero(as_tuple=True)
    return pair, pixel, maps[pair, pixel]


def _tile_pixels(maps, thresholds, rows: Axis, columns: Axis, tiles: torch.Tensor, width: int):
    pair, y, x = tiles.unbind(1)  # (A,) each
    right, down = columns.weight[x], rows.weight[y]  # (A, R) each
    lines, sides = (rows.low[y], rows.high[y]), (columns.low[x], columns.high[x])  # (A,) each
    corners = [[maps[pair, line, side] for side in sides] for line in lines]
    upper, lower = ((1 - right) * left[:, None] + right * other[:, None] for left, other in corners)  # (A, Rx)
    tile = (1 - down)[:, :, None] * upper[:, None] + down[:, :, None] * lower[:, None]  # (A, Ry, Rx)
    highest = torch.maximum(*(torch.maximum(*row) for row in corners))  # (A,)
    tile = torch.minimum(tile, highest[:, None, None]).flatten(1)  # (A, Ry * Rx); NaN where there is no pixel
    found = (tile > thresholds[pair, None]).flatten().nonzero()[:, 0]  # (M,)
    of = found.div(tile.shape[1], rounding_mode="floor")
    first = rows.start[y] * width + columns.start[x]  # (A,)
    steps = torch.arange(down.shape[1], device=maps.device)[:, None] * width
    steps = (steps + torch.arange(right.shape[1], device=maps.device)).flatten()
    return pair[of], first[of] + steps[found - of * tile.shape[1]], tile.view(-1)[found]
