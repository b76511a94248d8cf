"""A network of the user's own: a function in a Python file."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from nemesis.errors import InputError
from nemesis.models.network import Network, check_module
from nemesis.models.published import read_triple

WRAPPERS = (
    torch.nn.DataParallel,
    torch.nn.parallel.DistributedDataParallel,
    torch.optim.swa_utils.AveragedModel,
)


def make_network(name: str, spec: Mapping, state: dict) -> Network:
    """What spec["loader"], "my_model.py:load", returns: an nn.Module, called without arguments.

    spec["mean"] and spec["std"], three numbers each, are required. The file can import its neighbours.
    Taken out of its wrappers, moved to the CPU and to float32.
    Raises InputError naming the file: missing, does not import, no such function, the function raises,
    or returns no module, or one whose layers or weights cannot be read.
    """
    mean, std = read_triple(name, spec, "mean"), read_triple(name, spec, "std")
    if min(std) <= 0:
        raise InputError(f"model {name}: std must be above 0, not {list(std)}")
    file, _, function = str(spec.get("loader", "")).rpartition(":")
    if not file or not function:
        raise InputError(f"model {name}: loader must be 'my_model.py:load', not '{spec.get('loader', '')}'")
    if not Path(file).is_file():
        raise InputError(f"model {name}: no loader file {file}")
    module = _take_out(_call_loader(name, Path(file).resolve(), file, function))
    check_module(name, module)
    problem = _find_problem(module)
    if problem:
        raise InputError(f"model {name}: {file}:{function} returned {problem}")
    odd = sorted({_name_dtype(part) for part in _list_floats(module) if part.dtype != torch.float32})
    try:
        network = Network(name, module.cpu().float(), mean, std)
    except Exception as error:
        raise InputError(
            f"model {name}: {file}:{function} returned a network that cannot be used: {_describe(error)}"
        ) from error
    assumed = (f"the loader's {' and '.join(odd)} numbers were turned into float32",) if odd else ()
    return dataclasses.replace(network, assumed=assumed)


def find_source(name: str, spec: Mapping) -> Path | None:
    """The file spec["weights"] for the loader's network; None where that comes with its weights."""
    return Path(spec["weights"]) if spec.get("weights") else None


def _take_out(module: torch.nn.Module) -> torch.nn.Module:
    """The network inside the wrappers of torch: of parallel training, averaging and compiling."""
    while True:
        if isinstance(module, WRAPPERS):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            break
    for part in module.modules():  # layers compiled alone, or in place: hooks on what is inside would not be called
        for name, child in list(part.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(part, name, child._orig_mod)
        if getattr(part, "_compiled_call_impl", None) is not None:
            part._compiled_call_impl = None
    return module


def _find_problem(module: torch.nn.Module) -> str | None:
    """What of a network cannot be read or stored, as the end of a sentence; None if nothing."""
    for path, part in module.named_modules():
        where = f" ({path})" if path else ""
        if re.match(r"torch\..*\bquantized\b", type(part).__module__):
            return f"a quantised network{where}, which has no gradients; return the one in float32"
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            return f"a network whose {path} has no values (device meta); load its weights in the loader"
    return None


def _list_floats(module: torch.nn.Module) -> list[torch.Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]


def _name_dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _call_loader(name: str, path: Path, shown: str, function: str) -> torch.nn.Module:
    with _importable(path.parent):
        try:
            loader = getattr(_import_file(path), function, None)
        except (Exception, SystemExit) as error:
            raise InputError(f"model {name}: {shown} does not import: {_describe(error)}") from error
        if not callable(loader):
            raise InputError(f"model {name}: {shown} has no function '{function}'")
        try:
            module = loader()
        except (Exception, SystemExit) as error:
            raise InputError(f"model {name}: {shown}:{function} failed: {_describe(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"model {name}: {shown}:{function} returned a {type(module).__name__}, not a torch.nn.Module")
    return module


def _import_file(path: Path):
    unique = f"nemesis_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    source = importlib.util.spec_from_file_location(unique, path)
    if source is None:
        raise ImportError("no Python file (*.py)")
    module = importlib.util.module_from_spec(source)
    sys.modules[unique] = module  # dataclasses and pickling look there
    try:
        source.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


@contextlib.contextmanager
def _importable(folder: Path):
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _describe(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
