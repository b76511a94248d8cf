"""The inputs of a rule that takes files of many places, by name and by what each is about."""

from collections.abc import Mapping
from dataclasses import dataclass

Key = tuple | str | int


@dataclass(frozen=True)
class Inputs:
    """Files by the input's name and by key, as (probe, model, layer); an input without keys is a path or several."""

    files: Mapping[str, dict[Key, str] | list[str] | str]

    @property
    def paths(self) -> dict[str, list[str] | str]:
        """What the rule declares as its input."""
        return {name: list(part.values()) if isinstance(part, dict) else part for name, part in self.files.items()}

    @property
    def keys(self) -> dict[str, list[Key]]:
        """What the rule tells its script, which pairs it with the paths (nemesis.plan.files.pair_files)."""
        return {name: list(part) for name, part in self.files.items() if isinstance(part, dict)}
