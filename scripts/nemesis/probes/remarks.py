"""What is remarkable about a probe: nothing that was brought is dropped or changed without a word."""

import logging
from pathlib import Path


class Remarks:
    """Sentences about the files below `root`, shown as warnings; they become the attribute `notes` of a store.

    Any thread may count files; their order does not matter.
    """

    def __init__(self, root):
        self.root = Path(root)
        self._said: list[str] = []
        self._counted: dict[str, list[str]] = {}

    def say(self, sentence: str, level: int = logging.WARNING):
        """Remark something now. What the user asked for is no warning: level INFO keeps it in the log."""
        self._said.append(sentence)
        logging.log(level, "%s: %s", self.root, sentence)

    def count(self, what: str, path):
        """Remark that `what` holds for a file, to be said once for all such files."""
        self._counted.setdefault(what, []).append(str(path))

    def finish(self) -> list[str]:
        """Say what was counted, and return all sentences."""
        for what, paths in sorted(self._counted.items()):
            first = str(Path(min(paths)).relative_to(self.root))
            self.say(f"{what}: {len(paths)} ({'first ' * (len(paths) > 1)}{first})")
        self._counted.clear()
        return list(self._said)


def name_some(names, limit: int = 3) -> str:
    """Names for a sentence: the first `limit`, and how many more."""
    names = [str(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
