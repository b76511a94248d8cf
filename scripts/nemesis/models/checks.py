"""Is a network a function of one image? Its layers must not depend on what else is in the batch or came before."""

from collections.abc import Collection

import torch

from nemesis.models.layouts import draw_images, trace

# A layer differs if a value moves by more than this share of the layer's spread, or of a hundredth of its largest
# value where that is more (a constant far from 0 carries the rounding of its size). The order of sums, which the
# batch size changes, moves float32 by some 1e-6 a layer (up to 1e-4 in all measured networks); statistics of a batch
# and dropout by more than 1e-1.
TOLERANCE = 1e-3
FLOOR = 1e-2
SAMPLED = 2**16  # values of a layer that are compared
SEEDS = (1, 2)


def find_dependence(network, size: tuple[int, int], layouts: dict[str, str]) -> tuple[str, str] | None:
    """(module path, what is wrong) of the first module that gives one image different values; None if none does.

    size: (H, W) of the images. layouts: path -> axes of the modules to check ("": the whole network), see Layout.
    The image is shown alone, twice among others, and alone again. What the network draws at random is left as it
    was for everything else. A network that fails is compared up to there.
    """
    images = draw_images(network, 3, *size)
    together = torch.cat([images, images[:1]])  # the image comes first and last
    with torch.random.fork_rng(devices=[]):
        first = _sample(network, images[:1], layouts, SEEDS[0])
        beside = [_sample(network, together, layouts, SEEDS[0], row) for row in (0, 3)]
        again = _sample(network, images[:1], layouts, SEEDS[1])
        worst = {path: _difference(values, again.get(path)) for path, values in first.items()}
        path = next((path for path, share in worst.items() if share > TOLERANCE), None)
        if path is not None:
            same_seed = _sample(network, images[:1], layouts, SEEDS[0])
            drawn = _difference(again[path], _sample(network, images[:1], layouts, SEEDS[1]).get(path)) <= TOLERANCE
            drawn = drawn and _difference(first[path], same_seed.get(path)) <= TOLERANCE
            cause = "random numbers in `forward` (dropout, noise)" if drawn else "state that is kept between calls"
            return path, f"two passes over one image differ by {_percent(worst[path])} of its spread; look for {cause}"
    for path, values in first.items():
        share = max(_difference(values, found.get(path)) for found in beside)
        if share > TOLERANCE:
            return path, (
                f"an image differs by {_percent(share)} of its spread when others stand in its batch; look for"
                " statistics of the batch (a BatchNorm without running statistics or in training mode)"
            )
    return None


def measure_noise(network, size: tuple[int, int], layouts: dict[str, str]) -> float:
    """The largest share by which a module's values for an image differ alone and among others, as it is judged."""
    images = draw_images(network, 3, *size)
    first = _sample(network, images[:1], layouts, SEEDS[0])
    beside = _sample(network, torch.cat([images, images[:1]]), layouts, SEEDS[0], 3)
    return max(_difference(values, beside.get(path)) for path, values in first.items())


def _sample(network, images, layouts: Collection[str] | dict, seed: int, row: int = 0) -> dict[str, torch.Tensor]:
    """Values of each module's first output for one of the images, the same places in every call."""
    torch.manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def note(path, output):
        if path in found or not isinstance(output, torch.Tensor) or not output.is_floating_point():
            return
        axis = layouts[path].index("B")
        if output.ndim <= axis or output.shape[axis] <= row:
            return
        values = output.select(axis, row).flatten()
        if values.numel() > SAMPLED:
            generator = torch.Generator().manual_seed(0)
            values = values[torch.randint(values.numel(), (SAMPLED,), generator=generator).to(values.device)]
        found[path] = values.float().clone()

    trace(network.module, images.clone(), list(layouts), note)  # a network may write into what it is given
    return found


def _difference(values: torch.Tensor, other: torch.Tensor | None) -> float:
    """The largest difference of two samples as a share of the first one's spread; infinite where it has no other."""
    if other is None or other.shape != values.shape:
        return float("inf")
    if not values.numel():
        return 0.0
    values, other = values.nan_to_num(), other.nan_to_num()
    largest = float((values - other).abs().max())
    scale = max(float(values.std(correction=0)), FLOOR * float(values.abs().max()))
    if not largest:
        return 0.0
    return largest / scale if scale else float("inf")


def _percent(share: float) -> str:
    return f"{100 * share:.2g}%" if share < 1 else "more than 100%"
