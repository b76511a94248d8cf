"""A network of the user's own: a function in a Python file."""

import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from nemesis.errors import InputError
from nemesis.models.network import Network


def make_network(name: str, spec: Mapping, state: dict) -> Network:
    """What spec["loader"], "my_model.py:load", returns: an nn.Module, called without arguments.

    spec["mean"] and spec["std"], three numbers each, are required. The file can import its neighbours.
    Raises InputError naming the file: missing, does not import, no such function, the function raises,
    or returns no module.
    """
    mean, std = _read_triple(name, spec, "mean"), _read_triple(name, spec, "std")
    if min(std) <= 0:
        raise InputError(f"model {name}: std must be above 0, not {list(std)}")
    file, _, function = str(spec.get("loader", "")).rpartition(":")
    if not file or not function:
        raise InputError(f"model {name}: loader must be 'my_model.py:load', not '{spec.get('loader', '')}'")
    if not Path(file).is_file():
        raise InputError(f"model {name}: no loader file {file}")
    module = _call_loader(name, Path(file).resolve(), file, function)
    while hasattr(module, "_orig_mod") or isinstance(module, torch.nn.DataParallel):
        module = module._orig_mod if hasattr(module, "_orig_mod") else module.module
    return Network(name, module, mean, std)


def find_source(name: str, spec: Mapping) -> None:
    """None: the user's function gives the network with its weights."""
    return None


def _read_triple(name: str, spec: Mapping, key: str) -> tuple[float, float, float]:
    values = spec.get(key)
    try:
        triple = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        triple = ()
    if len(triple) != 3:
        raise InputError(f"model {name}: needs `{key}:`, three numbers (R, G, B), not {values}")
    return triple


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
