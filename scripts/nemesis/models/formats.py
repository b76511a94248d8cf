"""What a weight file holds, read without ever running code that it carries."""

import json
import pickle
import re
import zipfile
from collections import OrderedDict
from pathlib import Path

import torch

from nemesis.errors import InputError

ADVICE = "save the network's weights alone: torch.save(model.state_dict(), 'weights.pth')"
HEADER = "nemesis"  # what our own files say of themselves, JSON; one key, since safetensors keeps no order of several
VERSIONS = "versions"  # in it: module path -> version of its state
FOREIGN = {  # how files begin that are mistaken for weights
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`",
    b"\x89HDF": "an HDF5 file (Keras?); only networks of PyTorch can be read",
}


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
