"""A network as the workflow sees it: layers by name, run on 8-bit images no further than needed."""

import contextlib
import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterable, Mapping

import torch

from nemesis.devices import is_out_of_memory
from nemesis.errors import InputError
from nemesis.models.layouts import (
    Layout,
    Stop,
    draw_images,
    find_layout,
    first_line,
    output_problem,
    survey_outputs,
    trace,
    turn_output,
    turned_shape,
)

MAX_LISTED_LAYERS = 40
DUMMY_SIZES = (224, 128, 64)
USUAL_SIZES = (224, 256, 299, 384, 128, 96, 64, 32, 512)  # px, of published networks


@dataclasses.dataclass(frozen=True)
class Network:
    """A frozen network and its preprocessing.

    name: as in the config, for messages and the card.
    module: takes float32 (B, 3, H, W), normalised. Building a Network puts it into evaluation mode,
        takes the gradient off its parameters and switches off in-place activations everywhere.
    mean, std: per RGB channel, for images in [0, 1]: input = (image - mean) / std.
    aliases: layer name -> path of the module whose output it is, e.g. conv5_3 -> features.28.
    assumed: what was taken for granted where the config did not say it, a sentence each, for the card.
    layouts: module path -> how its output is read, where that is known; a LayerReader finds out the others.
    Raises InputError for a module whose layers cannot be read (TorchScript, lazy modules that never ran).
    """

    name: str
    module: torch.nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    layouts: Mapping[str, Layout] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_module(self.name, self.module)
        try:
            self.module.eval()
        except Exception as error:  # e.g. what torch.export gives
            raise InputError(f"model {self.name}: cannot be set to evaluation mode: {first_line(error)}") from error
        self.module.requires_grad_(False)
        for part in self.module.modules():
            if getattr(part, "inplace", None) is True and not isinstance(part, torch.jit.ScriptModule):
                part.inplace = False


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that can be explained: its name (alias or path), module path, output shape (U, h, w).

    axes, calls: see Layout.
    """

    name: str
    path: str
    shape: tuple[int, int, int]
    axes: str = "BCHW"
    calls: int = 1


class LayerReader:
    """Runs a network up to its deepest wanted layer; made once a job, used for every batch.

        with LayerReader(network, ["blocks.4", "blocks.10"], device="cuda") as reader:
            for images in batches:                       # uint8 (B, 3, H, W)
                maps = reader.read(images)               # {"blocks.4": (B, U, h, w), ...}

    The order of the layers need not be known: the forward pass ends as soon as every wanted layer
    has given its output. A layer that a forward pass calls several times gives its first output.
    An output with its axes in another order (channels last, tokens) is turned round, as the network's
    `layouts` say; where they do not, some forward passes at the first `read` find it out.
    What `read` returns is never altered by what the network computes afterwards (`x += y`, functional
    in-place activations): an output that is not the last one read is copied, unless `take` did so.

    network: its module is moved to `device`, and to channels-last memory if `channels_last` (default:
        where it is faster). names: aliases or module paths. device: anything torch.device takes.
    pad_to: a smaller batch is filled up to this many images (the answer holds the given ones only). How
        many images run together can change the last bits of a float; with the same pad_to they do not.
    Raises InputError when the network has no such layer.
    """

    def __init__(
        self,
        network: Network,
        names: Iterable[str],
        device="cpu",
        *,
        channels_last: bool | None = None,
        pad_to: int = 0,
    ):
        self.network = network
        self.device = torch.device(device)
        self.pad_to = pad_to
        self.paths = resolve_layers(network, names)
        if not self.paths:
            raise InputError(f"model {network.name}: no layer to read was given")
        for name, path in self.paths.items():
            if isinstance(network.module.get_submodule(path), torch.jit.ScriptModule):
                raise InputError(f"model {network.name}: layer {name} is TorchScript, whose output cannot be read")
        channels_last = prefers_channels_last(self.device) if channels_last is None else channels_last
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        network.module.to(self.device, memory_format=self.memory_format)
        self._hooks: list = []
        self._wanted: dict[str, list[str]] = {}
        for name, path in self.paths.items():
            self._wanted.setdefault(path, []).append(name)
        self._seen: dict = {}
        self._take: Callable | None = None
        self._problem: str | None = None
        self._count = 0
        self._size = (0, 0)
        self._reading = self._has_run = False
        self._layouts = {path: find_layout(network, path) for path in self._wanted}

    def __enter__(self) -> "LayerReader":
        for path in self._wanted:
            module = self.network.module.get_submodule(path)
            self._hooks.append(module.register_forward_hook(self._make_hook(path)))
        return self

    def __exit__(self, *exception):
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def read(self, images, take: Callable | None = None) -> dict:
        """Outputs of the wanted layers, {name: (B, U, h, w)}, on the device.

        images: (B, 3, H, W), uint8 in [0, 255] or float in [0, 1], tensor or array, on any device.
        take: applied to a layer's output the moment it exists, e.g. `lambda maps: maps[:, units].half()`;
            its result stands in the answer, and the full output need not be kept.
        Works in inference mode; otherwise gradients flow from the outputs to float `images`.
        Raises InputError when a layer's output holds no maps, the forward pass never reaches it, or the network
        does not run on images of that size.
        """
        if not self._hooks:
            raise RuntimeError("LayerReader.read needs its `with` block")
        self._seen, self._take, self._problem = {}, take, None
        inputs = self.normalise(images)  # (B, 3, H, W)
        self._count, self._size = len(inputs), tuple(inputs.shape[2:])
        self._find_layouts()
        if 0 < len(inputs) < self.pad_to:
            fill = inputs[-1:].expand(self.pad_to - len(inputs), -1, -1, -1)
            inputs = torch.cat([inputs, fill]).contiguous(memory_format=self.memory_format)
        self._reading = True
        try:
            with contextlib.suppress(Stop):
                self.network.module(inputs)
        except Exception as error:
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                self.pad_to = len(inputs) // 2  # the smaller batches to come are not filled up to this size again
                raise
            if self._seen or self._has_run:
                raise
            raise InputError(describe_failure(self.network, self._size, error)) from error
        finally:
            self._reading = False
        self._has_run = True
        seen, self._seen, self._take = self._seen, {}, None
        if self._problem is not None:
            raise InputError(self._problem)
        missed = [name for name in self.paths if name not in seen]
        if missed:
            raise InputError(
                f"model {self.network.name}: its forward pass never calls layer {', '.join(missed)};"
                " choose a layer that takes part in it"
            )
        return {name: seen[name] for name in self.paths}

    def normalise(self, images) -> torch.Tensor:
        """Network input, float32 (B, 3, H, W) on the device, from images as `read` takes them."""
        return normalise(self.network, images, self.device, self.memory_format)

    def _find_layouts(self):
        unknown = [path for path, layout in self._layouts.items() if layout is None]
        if unknown:
            outputs, _ = survey_outputs(self.network, self._size, unknown)
            self._layouts |= {path: output.layout or output.problem for path, output in outputs.items()}

    def _make_hook(self, path: str):
        def keep_output(module, inputs, output):
            if not self._reading or path in self._done():
                return
            try:
                output = self._turn(path, output)[: self._count]  # (B, U, h, w)
            except ValueError as problem:
                self._problem = f"model {self.network.name}: layer {self._wanted[path][0]} {problem}"
                raise Stop from None
            is_last = len(self._done()) + 1 == len(self._wanted)
            kept = output if self._take is None else self._take(output)
            if not is_last and isinstance(kept, torch.Tensor) and _share_memory(kept, output):
                kept = kept.clone()
            self._seen.update(dict.fromkeys(self._wanted[path], kept))
            if is_last:
                raise Stop

        return keep_output

    def _turn(self, path: str, output) -> torch.Tensor:
        """(B, U, h, w); ValueError says why a layer holds no maps."""
        layout = self._layouts[path]
        problem = output_problem(output) or (layout if isinstance(layout, str) else "")
        if problem or layout is None:
            raise ValueError(problem or "could not be looked at: the network did not reach it")
        if output.ndim != len(layout.axes):
            raise ValueError(f"has output shape {tuple(output.shape)}, not {layout.axes} as when it was seen")
        return turn_output(output, layout, self._size)

    def _done(self) -> set[str]:
        return {self.paths[name] for name in self._seen}


def normalise(network: Network, images, device=None, memory_format: torch.memory_format | None = None) -> torch.Tensor:
    """Network input, float32 (B, C, H, W), from images (B, C, H, W): uint8 in [0, 255] or float in [0, 1].

    device, memory_format: of the input, by default those of the network's weights. Gradients flow to float images
    outside inference mode. Raises ValueError for images of another shape or type.
    """
    images = torch.as_tensor(images)
    channels = len(network.mean)
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"images must be (B, {channels}, H, W), not {tuple(images.shape)}")
    if not (images.dtype == torch.uint8 or images.dtype.is_floating_point):
        raise ValueError(f"images must be uint8 in [0, 255] or float in [0, 1], not {images.dtype}")
    device = _find_device(network) if device is None else torch.device(device)
    mean, std = _make_constants(tuple(network.mean), tuple(network.std), device)
    inputs = images.to(device, non_blocking=True)
    inputs = inputs.float() / 255 if images.dtype == torch.uint8 else inputs.float()
    inputs = (inputs - mean) / std  # (B, C, H, W)
    return inputs.contiguous(memory_format=memory_format or _find_memory_format(network))


def resolve_layers(network: Network, names: Iterable[str]) -> dict[str, str]:
    """Module path of each named layer, {name: path}; a name is an alias or a module path.

    Raises InputError (one line with near names, then layers that exist) for an unknown name.
    """
    known = {path for path, _ in network.module.named_modules(remove_duplicate=False) if path}
    paths = {}
    for name in dict.fromkeys(names):
        paths[name] = network.aliases.get(name, name)
        if paths[name] not in known:
            raise InputError(_describe_unknown_layer(network, str(name)))
    return paths


def list_layers(network: Network, size: int | tuple[int, int]) -> list[Layer]:
    """Layers whose output holds maps, in the order in which they are computed.

    size: side of the square dummy images, or (H, W), in pixels. Each is listed once, by its first alias
    if it has one. Passes on whatever the network raises.
    """
    layers, error = find_layers(network, size)
    if error is not None:
        raise error
    return layers


def find_layers(network: Network, size: int | tuple[int, int]) -> tuple[list[Layer], Exception | None]:
    """The same up to where the network fails, and what it raised there (None: nothing)."""
    size = (size, size) if isinstance(size, int) else size
    outputs, error = survey_outputs(network, size)
    alias_of = {path: alias for alias, path in reversed(network.aliases.items())}
    layers = [
        Layer(alias_of.get(path, path), path, turned_shape(output, size), output.layout.axes, output.layout.calls)
        for path, output in outputs.items()
        if output.layout
    ]
    return layers, error


def learn_layouts(network: Network, names: Iterable[str], size: tuple[int, int]) -> Network:
    """The same network, which knows how some layers are read; size: (H, W) of the images."""
    paths = [path for path in resolve_layers(network, names).values() if find_layout(network, path) is None]
    outputs = survey_outputs(network, size, paths)[0] if paths else {}
    found = {path: output.layout for path, output in outputs.items() if output.layout}
    return dataclasses.replace(network, layouts={**network.layouts, **found})


def describe_failure(
    network: Network, size: tuple[int, int], error: Exception, of: str = "", remedy: str = "use a probe of that size"
) -> str:
    """One line for a network that does not run on images of `size` (H, W), with the size that it takes.

    of: what has that size, e.g. " of probe streets". remedy: what to do about it.
    """
    line = f"model {network.name}: does not run on a 3 x {size[0]} x {size[1]} image{of}: {first_line(error)}"
    side = find_side(network)
    return f"{line}; it takes {side} x {side} px: {remedy}" if side else line


def find_side(network: Network) -> int | None:
    """The first usual side, in px, of square images on which the network runs; None if it runs on none of them."""
    for side in USUAL_SIZES:
        images = draw_images(network, 1, side, side)
        if trace(network.module, images, [], lambda path, output: None) is None:
            return side
    return None


def prefers_channels_last(device: torch.device) -> bool:
    """Whether channels-last memory is the faster one there."""
    return torch.device(device).type in ("cpu", "cuda")


def check_module(name: str, module: torch.nn.Module):
    """Raise InputError for a module of TorchScript, or with lazy parts that never ran."""
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"model {name}: is a TorchScript module, whose layers cannot be read; give the nn.Module it was made from"
        )
    lazy = torch.nn.parameter.UninitializedTensorMixin
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if isinstance(tensor, lazy):
            raise InputError(
                f"model {name}: {path} of a lazy module has no weights yet; run the network once in the loader,"
                " then load its trained weights"
            )


@functools.lru_cache(maxsize=16)
def _make_constants(mean: tuple, std: tuple, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """mean and std, each (1, C, 1, 1); made once, because a copy to a GPU waits for it."""
    with torch.inference_mode(False):  # a tensor made in that mode takes part in no gradient
        return tuple(torch.tensor(values, device=device).view(1, -1, 1, 1) for values in (mean, std))


def _find_device(network: Network) -> torch.device:
    return next(network.module.parameters(), torch.empty(0)).device


def _find_memory_format(network: Network) -> torch.memory_format:
    """Channels last where the weights of some convolution are."""
    for part in network.module.parameters():
        if part.ndim == 4 and not part.is_contiguous() and part.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
    return torch.contiguous_format


def _share_memory(kept: torch.Tensor, output: torch.Tensor) -> bool:
    return kept.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()


def _describe_unknown_layer(network: Network, name: str) -> str:
    layers = _list_layer_names(network)
    near = difflib.get_close_matches(name, layers, n=4)
    hint = f"; did you mean {', '.join(near)}?" if near else ";"
    shown = ", ".join(layers[:MAX_LISTED_LAYERS])
    more = len(layers) - MAX_LISTED_LAYERS
    return (
        f"model {network.name} has no layer '{name[:80]}'{hint} it has {shown}{f' and {more} more' if more > 0 else ''}"
    )


def _list_layer_names(network: Network) -> list[str]:
    """Aliases, then module paths, the shallow ones first."""
    paths = [path for path, _ in network.module.named_modules() if path]
    for size in DUMMY_SIZES:
        layers, error = find_layers(network, size)
        if error is None:
            paths = [layer.path for layer in layers]
            break
    return list(dict.fromkeys([*network.aliases, *sorted(paths, key=lambda path: path.count("."))]))
