"""The inputs of a rule that takes files of many places, by name and by what each is about."""

from collections.abc import Mapping
from dataclasses import dataclass

Key = tuple | str | int


@dataclass(frozen=True)
class Inputs:
    """Files by the input's name and by key, as (probe, model, layer); an input without keys is one path."""

    files: Mapping[str, dict[Key, str] | str]

    @property
    def paths(self) -> dict[str, list[str] | str]:
        """What the rule declares as its input."""
        return {name: part if isinstance(part, str) else list(part.values()) for name, part in self.files.items()}

    @property
    def keys(self) -> dict[str, list[Key]]:
        """What the rule tells its script, which pairs it with the paths (nemesis.plan.files.pair_files)."""
        return {name: list(part) for name, part in self.files.items() if not isinstance(part, str)}
