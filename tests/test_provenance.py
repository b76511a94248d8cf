"""Editing a module must rerun exactly the scripts that import it, directly or through others."""

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import pytest

from nemesis.provenance import code_hash, imported_modules

ROOT = Path(__file__).resolve().parents[1]
# Kinds of dependence: used by all, by one, through another module, a package's own file, data beside a module.
EDITED = [
    "nemesis/errors.py",
    "nemesis/dissection/__init__.py",
    "nemesis/dissection/masks.py",
    "nemesis/perturb/storage.py",
    "nemesis/probes/minibroden/catalogue.yaml",
    "nemesis/figures/style.mplstyle",
    "nemesis/figures/published/claims.csv",
]
OWNER = {  # who reads a data file
    "nemesis/probes/minibroden/catalogue.yaml": "nemesis/probes/minibroden/catalogue.py",
    "nemesis/figures/style.mplstyle": "nemesis/figures/noise.py",
    "nemesis/figures/published/claims.csv": "nemesis/figures/tables.py",
}


@pytest.fixture
def scripts(tmp_path):
    """A copy of scripts/, to be edited."""
    copy = tmp_path / "scripts"
    shutil.copytree(ROOT / "scripts", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def found_by_python(script):
    """Library files that the interpreter's own module finder reaches from a script."""
    finder = ModuleFinder(path=[str(script.parent)])
    finder.run_script(str(script))
    return sorted(Path(m.__file__) for name, m in finder.modules.items() if name.split(".")[0] == "nemesis")


def test_modules_are_those_that_python_finds(scripts):
    found = list(scripts.glob("*.py"))
    assert len(found) >= 8
    for script in found:
        assert imported_modules(script) == found_by_python(script), script.name


def test_editing_changes_exactly_the_scripts_that_depend_on_it(scripts):
    reached = {script: set(found_by_python(script)) for script in scripts.glob("*.py")}
    before = {script: code_hash(script) for script in reached}
    assert {script: code_hash(script) for script in reached} == before
    for name in EDITED:
        path = scripts / name
        original = path.read_bytes()
        path.write_bytes(original + b"# edited\n")
        changed = {script.name for script, old in before.items() if code_hash(script) != old}
        path.write_bytes(original)
        module = scripts / OWNER.get(name, name)
        expected = {script.name for script, modules in reached.items() if module in modules}
        assert expected, f"no script imports {name}: choose another"
        assert changed == expected, name


def test_every_file_of_the_library_counts_somewhere(scripts):
    """Data that no hash sees would give stale results; addresses of files and rates of estimates change no result."""
    library = scripts / "nemesis"
    data = [path for path in library.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    data = [path for path in data if path.name != "sources.csv" and path.parent.name != "estimate"]
    assert data
    before = {script: code_hash(script) for script in scripts.glob("*.py")}
    for path in data:
        path.write_bytes(path.read_bytes() + b"\n")
        after = {script: code_hash(script) for script in before}
        assert after != before, path.relative_to(scripts)
        before = after


def test_moving_code_between_modules_changes_the_hash(tmp_path):
    (tmp_path / "nemesis").mkdir()
    (tmp_path / "nemesis/__init__.py").write_text("")
    (tmp_path / "nemesis/a.py").write_text("from nemesis import b\nx = 1\n")
    (tmp_path / "nemesis/b.py").write_text("y = 1\n")
    (tmp_path / "run.py").write_text("def run():\n    import nemesis.a\n")
    first = code_hash(tmp_path / "run.py")
    assert len(first) == 16
    (tmp_path / "nemesis/a.py").write_text("from nemesis import b\n")
    (tmp_path / "nemesis/b.py").write_text("x = 1\ny = 1\n")
    assert code_hash(tmp_path / "run.py") != first
    (tmp_path / "nemesis/c.py").write_text("z = 1\n")
    second = code_hash(tmp_path / "run.py")
    (tmp_path / "nemesis/c.py").write_text("z = 2\n")
    assert code_hash(tmp_path / "run.py") == second


def test_imports_in_a_circle_end(tmp_path):
    (tmp_path / "nemesis").mkdir()
    (tmp_path / "nemesis/a.py").write_text("import nemesis.b\n")
    (tmp_path / "nemesis/b.py").write_text("import nemesis.a\nimport json\n")
    (tmp_path / "run.py").write_text("import nemesis.a\n")
    assert [path.name for path in imported_modules(tmp_path / "run.py")] == ["a.py", "b.py"]
