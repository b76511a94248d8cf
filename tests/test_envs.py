"""The conda environments, the lock file and the imports of the scripts agree. test_conda.py deploys them."""

import ast
import re
import tomllib

import pytest
from environments import ENVS, ROOT, list_rule_environments, packages_of, read_env, read_pins, read_rules, scripts_of

# A module found in another way than by `import` would go unnoticed below. The user's own file is loaded so.
IMPORTERS = {"import_module", "__import__", "find_spec", "run_module", "run_path", "find_loader", "entry_points"}


def test_every_script_belongs_to_a_rule_and_has_one_environment():
    scripts = [script for _, script in list_rule_environments()]
    assert sorted(scripts) == sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
    text = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    assert (
        len(read_rules())
        == len(re.findall(r"^\s*rule\b.*:", text, re.M))
        == len(re.findall(r"^\s*script:$", text, re.M))
    )
    assert {env for env, _ in list_rule_environments()} == set(ENVS)


@pytest.mark.parametrize(("env", "script"), list_rule_environments())
def test_environment_has_what_its_script_imports(env, script):
    assert packages_of(ROOT / "scripts" / f"{script}.py") - set(read_pins(env)) == set()


@pytest.mark.parametrize("env", ENVS)
def test_every_pin_is_imported_by_a_rule_of_its_environment(env):
    assert set(read_pins(env)) - set().union(*map(packages_of, scripts_of(env))) == set()


def test_nothing_is_imported_by_other_means():
    found = set()
    for path in sorted((ROOT / "scripts").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            found |= {(path.name, name)} if name in IMPORTERS else set()
    assert found == set()


@pytest.mark.parametrize("env", ENVS)
def test_environment_agrees_with_the_lock_file(env):
    lock = (ROOT / "requirements.lock").read_text()
    assert read_pins(env)
    for package, version in read_pins(env).items():
        assert f"\n{package}=={version} " in "\n" + lock, f"{package}=={version} is not in requirements.lock"


def test_environments_have_one_python_that_the_project_admits():
    """Conda brings Python and pip alone: the rest is on the Python registry, in the lock file's versions."""
    found = {tuple(read_env(env)[0]) for env in ENVS}
    assert len(found) == 1
    python, pip = found.pop()
    lowest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert pip == "pip" and f">={python.removeprefix('python=')}" == lowest


def test_lock_file_names_no_host():
    assert "http" not in re.sub(r"[-\w]*http[-\w]*|# via.*", "", (ROOT / "requirements.lock").read_text())
