"""A config against the schema: the first bad key in one line, and every default."""

import copy
import difflib
from pathlib import Path

import jsonschema
import yaml

from nemesis.errors import InputError

# For JSON 1e3 is an integer; a seed or a number of steps must be one for Python as well.
_DRAFT = jsonschema.Draft202012Validator
VALIDATOR = jsonschema.validators.extend(
    _DRAFT, type_checker=_DRAFT.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
)


def apply_schema(config: dict, schema_path, where: str) -> dict:
    """A copy of `config` with every default filled in; InputError names the first bad key."""
    schema = yaml.safe_load(Path(schema_path).read_text())
    config = copy.deepcopy(config)
    check_names(config, where)
    errors = sorted(VALIDATOR(schema).iter_errors(config), key=_order)
    if errors:
        raise InputError(f"{where}: {_explain(_deepest(errors[0]))}")
    _fill_defaults(config, schema, schema)
    return config


def check_names(value, where: str, place: tuple = ()):
    """Raise InputError where a key is no text: YAML reads `1:` as a number and `no:` as false."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            check_names(item, where, (*place, number))
    for key, part in value.items() if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise InputError(f"{where}: {_name(place) or 'the config'}: the key {key!r} is no text{_quote(key)}")
        check_names(part, where, (*place, key))


def suggest(name: str, known) -> str:
    """`; did you mean 'near'?`, or nothing."""
    close = difflib.get_close_matches(str(name), list(map(str, known)), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _order(error):
    """By place; an unknown key comes first, as it often explains the missing one."""
    return [str(part) for part in error.absolute_path], error.validator != "additionalProperties"


def _deepest(error):
    while error.validator == "allOf" and error.context:
        error = error.context[0]
    return error


def _name(path) -> str:
    return ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path).replace(".[", "[")


def _explain(error) -> str:
    place = _name(error.absolute_path)
    prefix = f"{place}: " if place else ""
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        unknown = sorted(set(error.instance) - set(known))[0]
        key = f"{place}.{unknown}" if place else unknown
        return f"key '{key}' is not known{suggest(unknown, known)}; expected one of {', '.join(known)}"
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        described = error.schema.get("properties", {}).get(missing, {}).get("description")
        near = difflib.get_close_matches(missing, error.instance, 1)
        hint = f"; '{near[0]}' is not known" if near and near[0] not in error.schema.get("properties", {}) else ""
        return f"{prefix}key '{missing}' is missing{hint}; add it" + (f" ({described})" if described else "")
    described = error.schema.get("description") if isinstance(error.schema, dict) else None
    expected = f" ({described})" if described else ""
    if error.validator == "enum":
        options = [str(option) for option in error.validator_value]
        return (
            f"{prefix}'{error.instance}' is not one of {', '.join(options)}{expected}{suggest(error.instance, options)}"
        )
    return f"{prefix}{_plain(error)}{expected}{_hint(error)}"


def _plain(error) -> str:
    value, limit = error.instance, error.validator_value
    texts = {
        "minimum": f"{value} is below {limit}",
        "maximum": f"{value} is above {limit}",
        "exclusiveMinimum": f"{value} must be above {limit}",
        "exclusiveMaximum": f"{value} must be below {limit}",
        "type": f"{value!r} is not of type {limit}",
        "oneOf": f"{value!r} is none of the accepted forms",
        "pattern": f"'{value}' does not match {limit}",
    }
    return texts.get(error.validator, error.message)


def _hint(error) -> str:
    """What YAML made of a value, where it is not what was meant; nothing where that does not explain the error."""
    for inner in error.context or ():
        if hint := _hint(inner):
            return hint
    value, types = error.instance, error.validator_value if error.validator == "type" else ()
    if value is None:
        return "; nothing stands there: give a value, or leave the key out"
    if "string" in types:
        return "" if isinstance(value, str | list | dict) else _quote(value)
    types = {types} if isinstance(types, str) else set(types)
    if isinstance(value, float) and types == {"integer"} and value.is_integer():
        return f"; write {value:.0f}"
    if isinstance(value, str) and types & {"integer", "number"}:
        return _unquote(value)
    return ""


def _quote(value) -> str:
    if isinstance(value, bool):
        return "; YAML reads yes, no, on, off, true and false as such: put it in quotes"
    kind = {int: "a number", float: "a number", type(None): "nothing"}.get(type(value), "no text")
    return f"; YAML reads it as {kind}: put it in quotes"


def _unquote(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return ""
    digits = f"{number!r}".removesuffix(".0")
    mantissa, power, exponent = digits.partition("e")
    plain = f"{mantissa}.0e{exponent}" if power and "." not in mantissa else digits
    why = "a power needs a point and a sign" if "e" in text.lower() else "it stands in quotes"
    return f"; YAML reads it as text, as {why}: write {plain}"


def _fill_defaults(value, schema: dict, root: dict):
    schema = _resolve(schema, root)
    if isinstance(value, list) and "items" in schema:
        for item in value:
            _fill_defaults(item, schema["items"], root)
    if not isinstance(value, dict):
        return
    for branch in schema.get("allOf", []):
        if _applies(branch, value):
            _fill_defaults(value, branch["then"], root)
    for key, part in schema.get("properties", {}).items():
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            _fill_defaults(value[key], part, root)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        for key in set(value) - set(schema.get("properties", {})):
            _fill_defaults(value[key], others, root)


def _applies(branch: dict, value: dict) -> bool:
    return all(value.get(key) == part.get("const") for key, part in branch["if"]["properties"].items())


def _resolve(schema: dict, root: dict) -> dict:
    if "$ref" in schema:
        return root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema
