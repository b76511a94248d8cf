"""What a script was given, by what each file is about. Standard library only: every script imports it."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path


def pair_files(files, keys: Mapping[str, Sequence[Hashable]]) -> dict[str, dict[Hashable, str]]:
    """{input's name: {key: path}} of the inputs that `keys` names, from `snakemake.input`.

    `keys` has, for each of these inputs, the keys of its files in their order (what the rule passes as
    `params.places`). Raises ValueError when an input has another number of files, or a key stands twice.
    """
    return {name: _pair(name, getattr(files, name), list(part)) for name, part in keys.items()}


def _pair(name: str, paths: str | Sequence[str], keys: list[Hashable]) -> dict[Hashable, str]:
    paths = [paths] if isinstance(paths, str) else list(paths)
    if len(paths) != len(keys):
        raise ValueError(f"input {name}: {len(paths)} files, {len(keys)} keys")
    if len(set(keys)) != len(keys):
        raise ValueError(f"input {name}: a key stands twice")
    return dict(zip(keys, map(str, paths), strict=True))


def group_files(paths: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, Path]]:
    """{name: {ending: path}} of tables or figures, each of which has several files, in the order of `names`.

    A file is named by what stands before its ending: {labels: {.csv: ..., .md: ..., .tex: ...}}. Raises ValueError
    when a name has no file, or a file no name.
    """
    found: dict[str, dict[str, Path]] = {name: {} for name in names}
    for path in map(Path, paths):
        if path.stem not in found:
            raise ValueError(f"{path}: no such name among {', '.join(found)}")
        found[path.stem][path.suffix] = path
    absent = [name for name, files in found.items() if not files]
    if absent:
        raise ValueError(f"no file for {', '.join(absent)}")
    return found
