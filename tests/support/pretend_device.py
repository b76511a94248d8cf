"""A CUDA device that is only pretended: the data lie on the processor, and an operation that mixes devices fails.

    with pretend_device():
        images = torch.ones(2, 3, 8, 8).to("lazy")   # images.device is lazy:0
        images + torch.ones(2, 3, 8, 8)              # MixedDevices

What CUDA itself forgives passes here, too: a number (a tensor without dimensions) beside tensors on the device, an
index on the processor into a tensor on the device, copies. What it computes is what the processor computes: nothing
is said about speed, memory or rounding on a GPU.
"""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("lazy", 0)  # a kind that torch knows and asks no driver of
INDEXED = ("index.Tensor", "index_put", "_unsafe_index")
COPIES = ("copy_", "_to_copy", "aten.to.")


class MixedDevices(RuntimeError):
    """Tensors of the device and of the processor met in one operation."""


class Pretended(torch.Tensor):
    """A tensor that says it is on the device; `held` has its values, on the processor."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )

    def __init__(self, held: torch.Tensor):
        self.held = held

    def tolist(self):
        return self.held.tolist()

    def numpy(self):
        raise MixedDevices("numpy() of a tensor on the device; cpu() comes first")

    __array__ = numpy
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Sends what is made on, or moved to, the device there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


@contextlib.contextmanager
def pretend_device():
    """There is such a device inside the block."""
    lifts, move = torch._C._only_lift_cpu_tensors(), torch.nn.Module._apply
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(values, device) makes it here and moves it
    try:
        with mock.patch.object(torch.nn.Module, "_apply", _move_whole(move)), _Factories():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)


def _move_whole(move):
    """Module.to for which parameters become Pretended whole, and not their data alone."""

    def apply(module, *arguments, **options):
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            return move(module, *arguments, **options)
        finally:
            torch.__future__.set_swap_module_params_on_conversion(before)

    return apply


def _run(function, args, kwargs):
    given, _ = tree_flatten((args, kwargs))
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    devices = [value for value in given if isinstance(value, torch.device)]  # where a result is wanted
    there = devices[0].type == DEVICE.type if devices else _result_device(function, args, tensors)
    if there and any(isinstance(value, torch.Generator) for value in given):  # it can only be the processor's
        raise MixedDevices(f"{function}: a generator of the processor beside tensors on the device")
    plain_args, plain_kwargs = tree_map(_hold, (args, kwargs))
    found = function(*plain_args, **plain_kwargs)
    written = {id(_hold(value)): value for value in tensors if isinstance(value, Pretended)}
    return tree_map(lambda value: _wrap(value, there, written), found)


def _hold(value):
    if isinstance(value, torch.device) and value.type == DEVICE.type:
        return torch.device("cpu")
    return value.held if isinstance(value, Pretended) else value


def _wrap(value, there: bool, written: dict):
    if not isinstance(value, torch.Tensor) or isinstance(value, Pretended):
        return value
    if not there:
        return value
    if id(value) in written:  # an operation in place
        return written[id(value)]
    with torch.inference_mode(False):
        return Pretended(value)


def _result_device(function, args, tensors) -> bool:
    """Is the result on the device? MixedDevices where tensors of both meet."""
    name = str(function)
    on = [value for value in tensors if isinstance(value, Pretended)]
    off = [value for value in tensors if not isinstance(value, Pretended)]
    if any(copy in name for copy in COPIES):
        return isinstance(tensors[0], Pretended)
    if any(part in name for part in INDEXED):
        values = [args[0], *args[2:3]] if "put" in name else [args[0]]
        indices = [value for value in args[1] if value is not None]
        if not isinstance(args[0], Pretended) and any(isinstance(value, Pretended) for value in indices):
            raise MixedDevices(f"{name}: an index on the device into a tensor on the processor")
        on = [value for value in values if isinstance(value, Pretended)]
        off = [value for value in values if not isinstance(value, Pretended)]
    if on and any(value.ndim for value in off):
        shapes = [tuple(value.shape) for value in off if value.ndim]
        raise MixedDevices(f"{name}: tensors on the device, and on the processor {shapes}")
    return bool(on)
