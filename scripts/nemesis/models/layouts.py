"""Which axis of a layer's output is which: found by looking at what changes when the images change.

Letters: B images, C units, H rows and W columns of a map, N tokens (the patches of an image, row by row, with or
without a class token before them). A layout is the order of the letters, e.g. BCHW, BHWC (Swin) or BNC (ViT).
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Collection, Iterator

import torch
from torch import nn

from nemesis.models.weights import read_header

GROWN = 64  # px: one step or more of any usual network
BY_DEFINITION = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)  # BCHW, whatever the image
CHANNELS_FIRST = (*BY_DEFINITION, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)
MOVED = 0.1  # of an axis' length: where a change at the other end of the image must show, at least
MIN_PATCHES = 4
LAYOUTS = "layouts"  # their place in the header of a weights.safetensors


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a layer's output is read.

    axes: the meaning of each axis, e.g. BCHW. calls: how often a forward pass calls the layer; the first is read.
    """

    axes: str = "BCHW"
    calls: int = 1


@dataclasses.dataclass(frozen=True)
class Output:
    """A module's output for one image: its shape, and its layout, or why it has none."""

    shape: tuple[int, ...]
    layout: Layout | None
    problem: str = ""


class Stop(BaseException):
    """Ends a forward pass from a hook; no Exception, so that a network's own `except` lets it pass."""


def read_layouts(weights_path) -> dict[str, Layout]:
    """How the layers of a weights.safetensors are read, by module path; {} for a file of an older version."""
    return {path: Layout(*values) for path, values in read_header(weights_path).get(LAYOUTS, {}).items()}


def survey_outputs(
    network, size: tuple[int, int], paths: Collection[str] | None = None
) -> tuple[dict[str, Output], Exception | None]:
    """(The outputs of a network's modules by path, as they are computed; what it raised before its end, if it did).

    size: (H, W) of the images. paths: the modules of interest, by default all; the pass ends when each was called.
    Five forward passes: one image; a taller and a wider one, which change the axes of a map, H and W, and no other;
    five images, which change B. A network that takes one size alone is shown where in the image something changes:
    that moves along H and W, and not along C.
    """
    parts = dict(network.module.named_modules())
    wanted = [path for path in (paths or parts) if path and not isinstance(parts.get(path), torch.jit.ScriptModule)]
    shapes, calls, problems = {}, {}, {}

    def note(path, output):
        calls[path] = calls.get(path, 0) + 1
        if calls[path] == 1:
            problems[path] = output_problem(output)
            shapes[path] = tuple(output.shape) if isinstance(output, torch.Tensor) else ()

    error = trace(network.module, draw_images(network, 1, *size), wanted, note, paths is not None)
    judged = [path for path in wanted if problems.get(path) == ""]
    height, width = size
    taller = _find_changes(network, shapes, judged, [(height + GROWN, width), (2 * height, width)], paths is not None)
    wider = _find_changes(network, shapes, judged, [(height, width + GROWN), (height, 2 * width)], paths is not None)
    found = _judge_outputs(network, {path: shapes[path] for path in judged}, size, taller, wider, paths is not None)
    outputs = {}
    for path, shape in shapes.items():
        axes, problem = found.get(path, ("", problems[path]))
        outputs[path] = Output(shape, Layout(axes, calls[path]) if axes else None, problem)
    return outputs, error


def find_layout(network, path: str) -> Layout | None:
    """The layout of a layer that needs no look: known from the network's weight file, or by its type."""
    if path in network.layouts:
        return network.layouts[path]
    return Layout() if type(network.module.get_submodule(path)) in BY_DEFINITION else None


def turn_output(output: torch.Tensor, layout: Layout, size: tuple[int, int]) -> torch.Tensor:
    """A layer's output as maps (B, U, h, w), a view. size: (H, W) of the images. ValueError for tokens off a grid."""
    axes = layout.axes
    if axes == "BCHW":
        return output
    if "N" not in axes:
        return output.permute([axes.index(letter) for letter in "BCHW"])
    tokens = output.permute([axes.index(letter) for letter in "BCN"])  # (B, U, N)
    grid = find_grid(tokens.shape[2], size)
    if grid is None:
        raise ValueError(f"has {tokens.shape[2]} tokens, which are no grid of patches of a {size[0]} x {size[1]} image")
    return tokens[:, :, -grid[0] * grid[1] :].unflatten(2, grid)


def find_grid(tokens: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of the square patches of an image (H, W) that are all tokens, or all but the first; None if neither."""
    common = math.gcd(*size)
    high, wide = size[0] // common, size[1] // common
    for patches in (tokens, tokens - 1):
        times = math.isqrt(max(0, patches) // (high * wide))
        if patches >= MIN_PATCHES and times * times * high * wide == patches:
            return times * high, times * wide
    return None


def turned_shape(output: Output, size: tuple[int, int]) -> tuple[int, int, int]:
    """(U, h, w) of a layer for one image of `size` (H, W)."""
    return tuple(turn_output(torch.empty(output.shape, device="meta"), output.layout, size).shape[1:])


def trace(module: nn.Module, images, paths: Collection[str], note: Callable, stop: bool = False) -> Exception | None:
    """Show images to a network and call note(path, output) whenever one of `paths` ("": the whole) was computed.

    stop: end the pass when each was called. Returns what the network raised, if it did.
    """
    missing = set(paths)

    def make_hook(path):
        def hook(part, inputs, output):
            note(path, output)
            missing.discard(path)
            if stop and not missing:
                raise Stop

        return hook

    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.callback(module.get_submodule(path).register_forward_hook(make_hook(path)).remove)
        try:
            with torch.no_grad(), contextlib.suppress(Stop):
                module(images)
        except Exception as error:
            return error
    return None


def first_line(error: BaseException) -> str:
    """An error in one short line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def draw_images(network, count: int, height: int, width: int) -> torch.Tensor:
    """Normalised noise (count, 3, H, W) on the network's device, each image of another brightness and contrast."""
    parameter = next(network.module.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, len(network.mean), height, width, generator=generator)
    contrast = torch.linspace(1, 0.2, count).view(-1, 1, 1, 1)
    images = contrast * images + torch.arange(count).view(-1, 1, 1, 1) % 2 * (1 - contrast)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (network.mean, network.std))
    return ((images - mean) / std).float().to(parameter.device)


def output_problem(output) -> str:
    """Why a module's output cannot hold maps; "" where it may."""
    if not isinstance(output, torch.Tensor):
        return f"gives a {type(output).__name__}, not one tensor (B, U, h, w)"
    if output.is_quantized or not output.is_floating_point():
        return f"gives values of type {str(output.dtype).removeprefix('torch.')}, not floats; give the float network"
    if output.ndim not in (3, 4):
        return f"has output shape {tuple(output.shape)}, not (B, U, h, w); choose a convolutional layer"
    return ""


def _find_changes(network, shapes: dict, paths: list[str], sizes, stop: bool) -> dict[str, set[int]]:
    """The axes that change with another size, for the layers that were reached; the second size for the others."""
    changes: dict[str, set[int]] = {}

    def note(path, output):
        shape = tuple(getattr(output, "shape", ()))
        if path not in changes and len(shape) == len(shapes[path]):
            changes[path] = {axis for axis, length in enumerate(shape) if length != shapes[path][axis]}

    for size in sizes:
        left = [path for path in paths if path not in changes]
        if left:
            trace(network.module, draw_images(network, 1, *size), left, note, stop)
    return changes


def _judge_outputs(network, shapes: dict, size, taller, wider, stop: bool) -> dict:
    """{path: (axes, "") or ("", problem)}."""
    found = {}

    def note(path, output):
        if path not in found:
            known = type(network.module.get_submodule(path)) in CHANNELS_FIRST
            axes, problem = _judge_output(output, shapes[path], size, taller.get(path), wider.get(path), known)
            shown = f"has output shape {shapes[path]} for a {size[0]} x {size[1]} image, {problem}"
            found[path] = (axes, "") if axes else ("", shown)

    error = trace(network.module, draw_places(network, *size), list(shapes), note, stop)
    lost = f"cannot be looked at: the network does not run on five images at once: {first_line(error)}" if error else ""
    return dict.fromkeys(shapes, ("", lost)) | found


def draw_places(network, height: int, width: int) -> torch.Tensor:
    """Five images (5, 3, H, W): the same but for the left, right, upper and lower third of the last four."""
    clean, other = draw_images(network, 2, height, width)
    images = clean.repeat(5, 1, 1, 1)
    rows, columns = max(1, height // 3), max(1, width // 3)
    images[1, :, :, :columns] = other[:, :, :columns]
    images[2, :, :, -columns:] = other[:, :, -columns:]
    images[3, :, :rows] = other[:, :rows]
    images[4, :, -rows:] = other[:, -rows:]
    return images


def _judge_output(output, shape, size, taller: set[int] | None, wider: set[int] | None, known: bool):
    """(axes, "") or ("", problem) of a layer: its `output` for the five images of `draw_places`, its `shape` for one.

    known: its type says that it is channels first, which decides where the sizes do not.
    """
    batch = [axis for axis, length in enumerate(output.shape) if length != shape[axis]]
    if [(shape[axis], output.shape[axis]) for axis in batch] != [(1, 5)]:
        return "", f"and {tuple(output.shape)} for 5 images: no axis is that of the images; choose another layer"
    fits = list(_fitting_axes(shape, batch[0], size, taller or set(), wider or set()))
    if not fits:
        return "", _explain(taller, wider)
    if known and "BCHW" in fits:
        return "BCHW", ""
    if output.is_meta or (len(fits) == 1 and (taller or wider)):
        return fits[0], ""
    return _follow_changes(output, fits, size, thin=bool(taller or wider))


def _follow_changes(output, fits: list[str], size, thin: bool) -> tuple[str, str]:
    """The same for a layer whose size says nothing, from where the places of `draw_places` show in its output."""
    lengths = {axes: [output.shape[axes.index(letter)] for letter in "HW" if letter in axes] for axes in fits}
    pooled = [axes for axes in fits if lengths[axes] == [1, 1]]
    fits = pooled[:1] or [axes for axes in fits if _moves_along(output, axes, size, thin)]
    if len(fits) == 1:
        return fits[0], ""
    return "", "and no axis is seen to follow a change from side to side of the image; choose another layer"


def _fitting_axes(shape, batch: int, size, taller: set[int], wider: set[int]) -> Iterator[str]:
    """The orders of the axes that agree with what a taller and a wider image changed, the usual ones first."""
    turned = ("CWH", "WHC", "HCW", "WCH") if taller or wider else ()
    for letters in ("CHW", "HWC", *turned) if len(shape) == 4 else ("NC", "CN"):
        axes = letters[:batch] + "B" + letters[batch:]
        rows, columns = ({axes.index(letter if len(shape) == 4 else "N")} for letter in "HW")
        on_grid = len(shape) == 4 or find_grid(shape[axes.index("N")], size) is not None
        if taller in (set(), rows) and wider in (set(), columns) and on_grid:
            yield axes


def _moves_along(output: torch.Tensor, axes: str, size, thin: bool) -> bool:
    """Does what the places of `draw_places` change lie along H and W, were these the axes?

    thin: an axis of length 1, along which nothing can lie, passes (where the size showed that it is one).
    """
    maps = turn_output(output, Layout(axes), size).float()  # (5, U, h, w)
    change = (maps[1:] - maps[:1]).abs().mean(dim=1)  # (4, h, w)
    rows, columns = (_centre(change.sum(axis)) for axis in (2, 1))
    passes = [thin and length == 1 for length in maps.shape[2:]]
    along = rows[3] - rows[2], columns[1] - columns[0]
    across = columns[3] - columns[2], rows[1] - rows[0]
    return all(
        free or (far > MOVED and far > 2 * abs(off)) for free, far, off in zip(passes, along, across, strict=True)
    )


def _centre(change: torch.Tensor) -> list[float]:
    """Mean position, from 0 to 1, of changes (4, n) along an axis; NaN where nothing changed."""
    places = torch.linspace(0, 1, change.shape[1], device=change.device)
    return ((change * places).sum(1) / change.sum(1)).tolist()


def _explain(taller: set[int] | None, wider: set[int] | None) -> str:
    grid = "no grid of patches with at most a class token before them; choose another layer"
    if not taller and not wider:
        return f"which is {grid}"
    if taller == wider and len(taller) == 1:
        return f"and its axis {min(taller)} holds places of the image, which are {grid}"
    changed = [
        f"a {word} image changes {f'its axes {sorted(axes)}' if axes else 'none'}"
        for word, axes in (("taller", taller), ("wider", wider))
        if axes is not None
    ]
    return f"and {' and '.join(changed)}: no map (U, h, w); choose another layer"
