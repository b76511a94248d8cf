"""Reading and checking weight files, without ever running code that they carry."""

import pickle
import zipfile
from pathlib import Path

import torch
from torch import nn

from nemesis.errors import InputError

SHOWN_KEYS = 3
EXTRA_STATE = "_extra_state"


def load_weights(path) -> dict[str, torch.Tensor]:
    """Tensors of a weight file by name, on the CPU.

    .safetensors, or what torch.save wrote (.pth, .pt, .tar): a state dict, also nested under
    `state_dict`, also with DataParallel's `module.` before every name. Pickled classes are refused.
    Raises InputError naming the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in ("state_dict", "model_state_dict"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    state = {str(key): tensor for key, tensor in state.items() if not str(key).endswith(EXTRA_STATE)}
    odd = [key for key, tensor in state.items() if not isinstance(tensor, torch.Tensor)]
    if odd or not state:
        what = f"{_show(odd)} is no tensor" if odd else "it is empty"
        raise InputError(f"{path}: no state dict of a network: {what}")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    return state


def insert_weights(module: nn.Module, state: dict[str, torch.Tensor], path) -> None:
    """Copy `state` into `module`; every name and shape must fit.

    Raises InputError naming the file `path` and the first names that are missing, surplus or misshapen.
    """
    own = {key: value for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent in files of old
    missing = [key for key in own if key not in state and key not in counters]
    surplus = [key for key in state if key not in own]
    if missing or surplus:
        parts = [f"{word} {_show(keys)}" for word, keys in (("lacks", missing), ("has surplus", surplus)) if keys]
        raise InputError(f"{path}: does not fit {type(module).__name__}: {', '.join(parts)}")
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise InputError(
                f"{path}: does not fit {type(module).__name__}:"
                f" {key} is {tuple(tensor.shape)}, expected {tuple(own[key].shape)}"
            )
    module.load_state_dict(state, strict=False)


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({_first_line(error)})") from error


def _read_torch(path: Path) -> dict:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if zipfile.is_zipfile(path) or "Unsupported global" in str(error):
            raise InputError(
                f"{path}: holds more than tensors, and loading it could run code ({_first_line(error)});"
                " save its state_dict() alone"
            ) from error
        raise InputError(f"{path}: damaged or no file of torch.save") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged or no file of torch.save ({_first_line(error)})") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: holds a {type(state).__name__}, not a state dict; save state_dict()")
    return state


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _show(keys: list[str]) -> str:
    more = len(keys) - SHOWN_KEYS
    return ", ".join(keys[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
