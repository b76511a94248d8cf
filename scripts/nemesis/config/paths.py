"""The paths in a config."""

from pathlib import Path

from nemesis.errors import InputError

# Those that become inputs of rules, and those that only scripts open.
INPUTS = ("probes.*.path", "models.*.weights", "models.*.loader", "milan.captioner.path", "milan.threshold.pairs")
OPENED = (
    "downloads.*",
    "milan.captioner.images",
    "milan.captioner.encoder.weights",
    "milan.captioner.encoder.loader",
    "milan.scorer.path",
    "milan.scorer.baseline",
)


def expand_paths(config: dict):
    """Replace ~ at the start of every path by the home folder, in place."""
    for holder, key, _ in _find_paths(config, INPUTS + OPENED):
        if holder[key].startswith("~"):
            holder[key] = str(Path(holder[key]).expanduser())


def check_braces(config: dict, where: str):
    """Raise InputError where the path of a rule's input has brackets that Snakemake fills in."""
    for holder, key, place in _find_paths(config, INPUTS):
        if set("{}<>") & set(holder[key]):
            raise InputError(
                f"{where}: {place}: {holder[key]}: braces, {{}} or <>, are not possible in this path, as Snakemake"
                " fills them in; rename it, or make a link to it"
            )


def _find_paths(config: dict, patterns):
    """The (mapping, key, place) of every path that is given."""
    for pattern in patterns:
        found = [(config, "")]
        *parts, last = pattern.split(".")
        for part in parts:
            found = [
                (holder[key], f"{place}{key}.")
                for holder, place in found
                for key in (holder if part == "*" else [part])
                if isinstance(holder.get(key), dict)
            ]
        for holder, place in found:
            for key in list(holder) if last == "*" else [last]:
                if isinstance(holder.get(key), str):
                    yield holder, key, place + key
