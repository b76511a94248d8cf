"""Packages import each other as docs/contributing.md says, and what rules import needs no large library."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "scripts" / "nemesis"
HELPERS, RULES = "helpers", "rules"
PACKAGES = sorted(path.parent.name for path in LIBRARY.glob("*/__init__.py"))
LARGE = ("torch", "torchvision", "transformers", "pandas", "zarr", "matplotlib")


def read_lines() -> dict[str, list[str]]:
    """What each package may import by the document, from its first line to the last."""
    text = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
    section = text.partition("## What may import what")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return {row[0].strip(" `"): re.findall(r"`([\w.]+)`", row[2]) for row in rows if set(row[0]) - set("- ")}


LINES = {name: allowed for name, allowed in read_lines().items() if name != "package"}


def find_module(name: str) -> str:
    """The module of the library behind a dotted name: probes.scan of probes.scan.fingerprint."""
    parts = name.split(".")
    while len(parts) > 1 and not (
        LIBRARY.joinpath(*parts).is_dir() or LIBRARY.joinpath(*parts[:-1], f"{parts[-1]}.py").is_file()
    ):
        parts.pop()
    return ".".join(parts)


def list_imports(source: str) -> set[str]:
    """Modules in packages of the library that Python code imports, in functions too."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports begin with nemesis"
            names |= {f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
    modules = {find_module(name.removeprefix("nemesis.")) for name in names if name.startswith("nemesis.")}
    return {name for name in modules if name.partition(".")[0] in PACKAGES}


def imports_of(part: str) -> dict[str, set[str]]:
    """What the files of a package import from other packages."""
    if part == RULES:
        texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk")}
        found = {
            path: list_imports("\n".join(re.findall(r"^from nemesis[^(\n]*(?:\([^)]*\))?", text, re.M)))
            for path, text in texts.items()
        }
    else:
        paths = LIBRARY.glob("*.py") if part == HELPERS else (LIBRARY / part).rglob("*.py")
        found = {path: list_imports(path.read_text(encoding="utf-8")) for path in paths}
    others = {
        str(path.relative_to(ROOT)): {name for name in names if name.split(".")[0] != part}
        for path, names in found.items()
    }
    assert others
    return others


def permits(line: str, module: str) -> bool:
    """Does an entry of a line, a package or one of its modules, permit a module?"""
    return module == line or module.startswith(f"{line}.")


def test_every_package_has_a_line():
    assert sorted(LINES) == sorted([HELPERS, *PACKAGES, RULES])


def test_a_package_imports_those_above_it():
    """So imports run one way, and go round in no circle."""
    above = set()
    for part, line in LINES.items():
        assert {name.partition(".")[0] for name in line} <= above, part
        above.add(part)


@pytest.mark.parametrize("part", LINES)
def test_packages_import_what_their_lines_say(part):
    foreign = {
        path: sorted(name for name in names if not any(permits(line, name) for line in LINES[part]))
        for path, names in imports_of(part).items()
    }
    assert {path: names for path, names in foreign.items() if names} == {}


@pytest.mark.parametrize("part", LINES)
def test_lines_say_nothing_that_is_not_there(part):
    imported = set().union(*imports_of(part).values())
    assert [line for line in LINES[part] if not any(permits(line, name) for name in imported)] == []


def test_what_rules_import_needs_no_large_library():
    modules = {f"nemesis.{name}" for names in imports_of(RULES).values() for name in names}
    code = f"import sys, {', '.join(sorted(modules))}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(set(done.stdout.split()) & set(LARGE)) == []


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("from nemesis.probes.scan import fingerprint", {"probes.scan"}),
        ("from nemesis.plan import paths, gathered", {"plan.paths", "plan.gathered"}),
        ("from nemesis.config import (\n    Design,\n    Noise,\n)", {"config"}),
        ("import nemesis.models.registry as kinds", {"models.registry"}),
        ("def late():\n    from nemesis.milan.text import Vocabulary", {"milan.text"}),
        ("from nemesis.files import atomic_file\nfrom nemesis import __version__\nimport torch", set()),
    ],
)
def test_imports_are_found(source, modules):
    assert list_imports(source) == modules
