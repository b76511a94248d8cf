"""Can Snakemake start scripts with this Python? Standard library only: it runs at every start."""

import shlex
import sys

from nemesis.errors import InputError


def check_interpreter(path: str = sys.executable):
    """Raise InputError when a shell would read the path otherwise: Snakemake hands it over as it is."""
    if shlex.quote(path) != path:
        raise InputError(
            f"{path}: Snakemake cannot start scripts with a Python whose path has a blank, a quote or another sign that"
            " a shell reads; move the folder with .venv to a path without (the working directory may have such a path)"
        )
