"""Is a network a function of one image? Its layers must not depend on what else is in the batch or came before."""

from collections.abc import Collection

import torch

from nemesis.models.layouts import draw_images, trace

# A layer differs if a value moves by more than a share of the layer's spread, or of a hundredth of its largest value
# where that is more (a constant far from 0 carries the rounding of its size). Batches of the same size are summed in
# one order, so that a second pass, or other images beside it, change no bit. How many they are changes the order, and
# float32 by 1e-5 of the spread in usual networks; untrained ones without bounds can blow that up to anything, so a
# layer may move RELATIVE times as far as when the image's own pixels move by ROUNDING. Statistics of a batch and
# dropout move it by more than 1e-1.
SAME_SIZE, TOLERANCE = 1e-4, 1e-3
FLOOR = 1e-2
ROUNDING, RELATIVE = 1e-6, 30
SAMPLED = 2**16  # values of a layer that are compared
SEEDS = (1, 2)


def find_dependence(network, size: tuple[int, int], layouts: dict[str, str]) -> tuple[str, str] | None:
    """(module path, what is wrong) of the first module that gives one image different values; None if none does.

    size: (H, W) of the images. layouts: path -> axes of the modules to check ("": the whole network), see Layout.
    The image is shown alone, first and last in two batches of four, and alone again. What is drawn at random
    elsewhere is left as it was. A network that fails is compared up to there.
    """
    images = draw_images(network, 5, *size)
    image = images[:1]
    show = lambda shown, seed=SEEDS[0], row=0: _sample(network, shown, layouts, seed, row)  # noqa: E731
    with torch.random.fork_rng(devices=[]):
        first = show(image)
        batches = [torch.cat([image, others, image]) for others in (images[1:3], images[3:5])]
        beside = [[show(batch, row=row) for batch in batches] for row in (0, 3)]
        again = show(image, SEEDS[1])
        for path, values in first.items():
            share = _difference(values, again.get(path))
            if share > SAME_SIZE:
                drawn = _difference(values, show(image).get(path)) <= SAME_SIZE
                cause = "random numbers in `forward` (dropout, noise)" if drawn else "state that is kept between calls"
                return path, f"two passes over one image differ by {_percent(share)} of its spread; look for {cause}"
        moved = show(image * (1 + ROUNDING * torch.randn(image.shape).sign().to(image.device)))
    for path, values in first.items():
        share = max((_difference(one[path], other.get(path)) for one, other in beside if path in one), default=0.0)
        allowed = max(TOLERANCE, RELATIVE * _difference(values, moved.get(path)))
        alone = max(_difference(values, one.get(path)) for one, _ in beside)
        if share > SAME_SIZE or alone > allowed:
            return path, (
                f"an image differs by {_percent(max(share, alone))} of its spread when others stand in its batch; look"
                " for statistics of the batch (a BatchNorm without running statistics or in training mode)"
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
