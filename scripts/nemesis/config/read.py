"""Read a config file strictly: YAML takes the last of two equal keys without a word."""

import json
from pathlib import Path

import yaml

from nemesis.errors import InputError


def read_config(path) -> dict:
    """A config as it was written; InputError when it cannot be read, or a key stands twice in one mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        try:
            found = json.loads(text, object_pairs_hook=_join_pairs)  # which may have tabs
        except ValueError:
            _check_node(yaml.compose(text, yaml.SafeLoader), "", set())
            found = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML file ({' '.join(str(error).split())})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no keys; expected a config like config.yaml")
    return found


def _join_pairs(pairs) -> dict:
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"'{twice[0]}' stands there twice; keep one")
    return dict(pairs)


def _check_node(node, place: str, seen: set):
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _check_node(item, f"{place}[{number}]", seen)
    lines: dict[str, int] = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        name, line = str(key.value), key.start_mark.line + 1
        inside = f"{place}.{name}" if place else name
        if name in lines and name != "<<":
            raise InputError(f"line {line}: '{inside}' stands there already, in line {lines[name]}; keep one")
        lines[name] = line
        _check_node(value, inside, seen)
