"""Weight files: read without ever running code that they carry, found whatever wrote them, put into a network."""

import dataclasses
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from nemesis.errors import InputError

ADVICE = "save the network's weights alone: torch.save(model.state_dict(), 'weights.pth')"
HEADER = "nemesis"  # what our own files say of themselves, JSON; one key, since safetensors keeps no order of several
VERSIONS = "versions"  # in it: module path -> version of its state
FOREIGN = {  # how files begin that are mistaken for weights
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`",
    b"\x89HDF": "an HDF5 file (Keras?); only networks of PyTorch can be read",
}
SHOWN_KEYS = 3
EXTRA_STATE = "_extra_state"
# Where training loops keep a network's state dict; of several the first one here is taken.
PLACES = ("state_dict", "model_state_dict", "model", "net", "network", "module")
AVERAGES = ("model_ema", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "ema", "ema_model")
# Wrappers that name the network that they hold: DataParallel and AveragedModel, Lightning, and usual names.
PREFIXES = ("module.", "model.", "net.", "network.", "backbone.")
PRIVATE_PARTS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}  # of torch itself, anywhere
COUNTERS = {"n_averaged"}  # of AveragedModel


def read_file(path: Path) -> dict:
    """Content of a file of safetensors or torch.save; only tensors, numbers, texts and containers of these.

    A state dict in it keeps the attribute `_metadata` (versions of its modules) where the file has it.
    Raises InputError naming the file and what it is instead.
    """
    with path.open("rb") as file:
        head = file.read(32)
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise InputError(f"{path}: is {what}")
    if path.suffix.lower() == ".safetensors" or _begins_as_safetensors(head):
        return _read_safetensors(path)
    if zipfile.is_zipfile(path):
        _refuse_programs(path)
    return _read_torch(path)


def write_safetensors(state: dict, path, about: dict | None = None):
    """Write tensors by name, and in the header the versions of their modules and what `about` says (JSON by key)."""
    from safetensors.torch import save_file

    versions = {name: part["version"] for name, part in getattr(state, "_metadata", {}).items() if "version" in part}
    header = {VERSIONS: versions, **(about or {})}
    save_file(dict(state), path, metadata={HEADER: json.dumps(header, sort_keys=True)})


def read_header(path) -> dict:
    """What a file of write_safetensors says of itself; {} for other files and those of older versions."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(HEADER, "{}"))


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The state dict of a file.

    state: tensor by name, on the CPU, under the names of the file; keeps torch's `_metadata` if the file has it.
    notes: sentences on what was chosen among what the file holds.
    """

    path: Path
    state: OrderedDict
    notes: tuple[str, ...] = ()


def read_weights(path) -> WeightFile:
    """The state dict in a weight file, as it is or in a training loop's dict (PLACES, AVERAGES).

    .safetensors, or what torch.save wrote (.pth, .pt, .tar, .ckpt). Pickled classes are refused.
    Raises InputError naming the file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file")
    content, notes = _unpack(read_file(path), path)
    odd = [str(key) for key, value in content.items() if not _fits_a_state(key, value)]
    state = rename_keys(content, str, keep=lambda key: not key.endswith(EXTRA_STATE))
    if odd or not state:
        what = f"{_show(odd)} is no tensor" if odd else "it is empty"
        raise InputError(f"{path}: no state dict of a network: {what}; {ADVICE}")
    return WeightFile(path, state, notes)


def load_weights(path) -> OrderedDict:
    """Tensors of a weight file by name, without the names of wrappers; see read_weights and unwrap_names."""
    return unwrap_names(read_weights(path).state, None, path)


def unwrap_names(state: dict, own: Iterable[str] | None, path) -> OrderedDict:
    """The state without what DataParallel, torch.compile, AveragedModel, Lightning and others put before names.

    own: the network's names; nothing is taken off as soon as the file has one of them. None: not known yet.
    Raises InputError when only some names have the prefix of a wrapper (a loss's or a metric's tensors).
    """
    known = set(own or ())
    if not any(PRIVATE_PARTS & set(name.split(".")) for name in known):
        plain = rename_keys(state, lambda key: ".".join(part for part in key.split(".") if part not in PRIVATE_PARTS))
        if len(plain) < len(state):
            raise InputError(f"{path}: has tensors twice, with and without `_orig_mod.`; {ADVICE}")
        state = plain
    while not known & state.keys():
        prefix = next((prefix for prefix in PREFIXES if any(key.startswith(prefix) for key in state)), None)
        if prefix is None:
            break
        others = [key for key in state if not key.startswith(prefix) and key not in COUNTERS]
        if others and own is not None:
            raise InputError(
                f"{path}: holds {_show(others)} beside a network whose names begin with `{prefix}`;"
                " save that network's weights alone"
            )
        if others:
            break
        state = rename_keys(state, lambda key, prefix=prefix: key.removeprefix(prefix), lambda key: key not in COUNTERS)
    return state


def rename_keys(state: dict, rename: Callable[[str], str], keep: Callable[[str], bool] = lambda key: True):
    """The state under other names, with its `_metadata` under theirs; names that are not kept are left out."""
    renamed = OrderedDict((rename(str(key)), value) for key, value in state.items() if keep(str(key)))
    versions = getattr(state, "_metadata", None)
    if versions is not None:  # by module path, "" for the network itself
        renamed._metadata = OrderedDict((rename(f"{path}.").removesuffix("."), part) for path, part in versions.items())
    return renamed


def insert_weights(module: nn.Module, state: dict[str, torch.Tensor], path) -> None:
    """Copy `state` into `module`, through the module's own hooks; every name and shape must fit.

    The hooks see the versions in `state._metadata`, and may rename tensors or rebuild parts of the module.
    Raises InputError naming the file `path` and the first names that are missing, surplus or misshapen.
    """
    state = rename_keys(state, str, keep=lambda key: not key.endswith(EXTRA_STATE))
    unlike: dict[str, list[str]] = {}

    def note_names(module, keys):
        missing = (key for key in keys.missing_keys if not key.endswith(("num_batches_tracked", EXTRA_STATE)))
        unlike.update({"lacks": list(missing), "has surplus": list(keys.unexpected_keys)})  # counters: not in old files

    hook = module.register_load_state_dict_post_hook(note_names)
    reason = ""
    try:
        module.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        reason = _first_line_within(error)
    finally:
        hook.remove()
    faults = [f"{word} {_show(keys)}" for word, keys in unlike.items() if keys]
    faults += _compare_tensors(module, state)[:SHOWN_KEYS]
    faults = faults or ([reason] if reason else [])
    if faults:
        raise InputError(f"{path}: does not fit {type(module).__name__}: {', '.join(faults)}")


def _begins_as_safetensors(head: bytes) -> bool:
    """The length of a JSON header, 8 bytes, then the header."""
    return head[8:10] == b'{"' and head[4:8] == bytes(4)


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            state = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118 (no mapping)
        versions = read_header(path).get(VERSIONS)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged or no safetensors file ({_first_line(error)})") from error
    if versions:
        state._metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())
    return state


def _refuse_programs(path: Path):
    """TorchScript and torch.export write zips, too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(f"{path}: is a TorchScript program (torch.jit.save), not weights; {ADVICE}")
    if any(Path(name).name == "archive_format" for name in names) or "serialized_exported_program.json" in names:
        raise InputError(f"{path}: is a program of torch.export, not weights; {ADVICE}")


def _read_torch(path: Path) -> dict:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted or zipfile.is_zipfile(path):
            asks = f" (it asks for {wanted[1]})" if wanted else ""
            raise InputError(
                f"{path}: holds more than tensors, and loading it could run code{asks}; {ADVICE}"
            ) from error
        raise InputError(f"{path}: damaged or no file of torch.save") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged or no file of torch.save ({_first_line(error)})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a state dict; {ADVICE}")
    return content


def _first_line(error: Exception) -> str:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def _fits_a_state(key, value) -> bool:
    return isinstance(value, torch.Tensor) or str(key).endswith(EXTRA_STATE)


def _unpack(content: dict, path: Path) -> tuple[dict, tuple[str, ...]]:
    """The state dict inside a training loop's dict, and a note where there was a choice."""
    known = [key for key in (*PLACES, *AVERAGES) if isinstance(content.get(key), dict)]
    found = known + [key for key, value in content.items() if key not in known and _is_state(value)]
    if not found:
        return content, ()
    if not known and len(found) > 1:
        raise InputError(f"{path}: holds several state dicts: {_show(found)}; save the network's alone")
    taken, others = found[0], found[1:]
    notes = ()
    if others or not known:
        beside = f", not its {_show(others)}; to use another, save it alone" if others else ""
        notes = (f"of {path.name} its `{taken}` is taken{beside}",)
    state, more = _unpack(content[taken], path)
    return state, (*notes, *more)


def _is_state(value) -> bool:
    return isinstance(value, dict) and bool(value) and all(_fits_a_state(*item) for item in value.items())


def _compare_tensors(module: nn.Module, state: dict) -> list[str]:
    faults = []
    for key, own in module.state_dict().items():
        tensor = state.get(key)
        if tensor is None or not isinstance(own, torch.Tensor):
            continue
        if tensor.shape != own.shape and tensor.numel() * own.numel() != 1:
            faults.append(f"{key} is {tuple(tensor.shape)}, expected {tuple(own.shape)}")
        elif own.is_floating_point() and not tensor.is_floating_point():
            faults.append(f"{key} has numbers of {tensor.dtype}, expected {own.dtype}")
    return faults


def _first_line_within(error: Exception) -> str:
    """Of torch's error on loading, a heading and lines below it, the first of these."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)[:200]


def _show(keys: list) -> str:
    more = len(keys) - SHOWN_KEYS
    return ", ".join(str(key) for key in keys[:SHOWN_KEYS]) + (f" and {more} more" if more > 0 else "")
