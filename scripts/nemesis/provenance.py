"""Which library code does a rule depend on? Snakemake does not see imported modules.

`code_hash` goes into a rule's `params:`, so that editing a module reruns exactly the rules
whose script imports it, directly or through other modules.
"""

import ast
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

LIBRARY = "nemesis"
DATA = (".csv", ".yaml", ".json", ".mplstyle")


def code_hash(script) -> str:
    """Return 16 hex digits over every library module that the script at this path imports.

    Data files count that travel with a module: those in or below its folder that the module names.
    """
    root = Path(script).parent
    files = _list_files(root)
    data = [name for name in files if name.endswith(DATA)]
    digest = hashlib.sha256()
    for name in _reach(Path(script), files):
        text = _read(root / name)
        digest.update(f"{name}\0{text}".encode())
        below = name.rpartition("/")[0] + "/"
        for other in data:
            if other.startswith(below) and PurePosixPath(other).name in text:
                digest.update(_read(root / other).encode())
    return digest.hexdigest()[:16]


def imported_modules(script) -> list[Path]:
    """List the files of the library modules that a script imports, transitively, sorted."""
    root = Path(script).parent
    return [root / name for name in _reach(Path(script), _list_files(root))]


def _reach(script: Path, files: dict[str, None]) -> list[str]:
    """Names, among `files`, of the modules that a script imports."""
    seen: set[str] = set()
    todo = [script]
    while todo:
        for name in _find_imports(_read(todo.pop())):
            new = [path for path in _name_files(name) if path in files and path not in seen]
            seen.update(new)
            todo += [script.parent / path for path in new]
    return sorted(seen, key=lambda name: name.split("/"))


def _list_files(root: Path) -> dict[str, None]:
    """Files of the library below a folder, as sorted relative names."""
    found = []
    for folder, _, names in os.walk(root / LIBRARY):
        place = Path(folder).relative_to(root).as_posix()
        found += [f"{place}/{name}" for name in names]
    return dict.fromkeys(sorted(found))


def _read(path: Path) -> str:
    about = os.stat(path)
    return _read_once(str(path), about.st_mtime_ns, about.st_size)


@functools.cache
def _read_once(path: str, time: int, size: int) -> str:
    """The text of a file as it was at that time; many scripts share modules, and each is read once."""
    return Path(path).read_text(encoding="utf-8")


@functools.cache
def _find_imports(text: str) -> tuple[str, ...]:
    """Modules of the library that a module's text imports, or may import from a package."""
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= dict.fromkeys([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return tuple(name for name in names if name.partition(".")[0] == LIBRARY)


def _name_files(name: str) -> Iterator[str]:
    """Files that `import name` executes if they are there: the packages on the way and the module itself."""
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        base = "/".join(parts[:depth])
        yield f"{base}/__init__.py"
        yield f"{base}.py"
