"""Which library code does a rule depend on? Snakemake does not see imported modules.

`code_hash` goes into a rule's `params:`, so that editing a module reruns exactly the rules
whose script imports it, directly or through other modules.
"""

import ast
import functools
import hashlib
from pathlib import Path

LIBRARY = "nemesis"


def code_hash(script) -> str:
    """Return 16 hex digits over every library module that the script at this path imports."""
    digest = hashlib.sha256()
    root = Path(script).parent
    for path in imported_modules(script):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
        for data in _data_files(path):
            digest.update(data.read_bytes())
    return digest.hexdigest()[:16]


def imported_modules(script) -> list[Path]:
    """List the files of the library modules that a script imports, transitively, sorted."""
    root = Path(script).parent
    seen, todo = set(), [Path(script)]
    while todo:
        for name in _imports(todo.pop().read_text()):
            for path in _module_files(root, name):
                if path not in seen:
                    seen.add(path)
                    todo.append(path)
    return sorted(seen)


@functools.cache
def _imports(text: str) -> list[str]:
    """Names that a module's text imports; many scripts share modules, and each is parsed once."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _module_files(root: Path, name: str):
    """Files that `import name` executes: the packages on the way and the module itself."""
    parts = name.split(".")
    if parts[0] != LIBRARY:
        return
    for depth in range(1, len(parts) + 1):
        base = root.joinpath(*parts[:depth])
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                yield path


def _data_files(module: Path):
    """Data files that travel with a module: those in or below its folder that the module names."""
    text = module.read_text()
    for path in sorted(module.parent.rglob("*.*")):
        if path.suffix in {".csv", ".yaml", ".json", ".mplstyle"} and path.name in text:
            yield path
