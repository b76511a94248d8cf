"""Read and check a config. Standard library, yaml and jsonschema only: it runs at every start."""

from nemesis.config.absent import list_absent
from nemesis.config.checks import check_config
from nemesis.config.read import read_config

__all__ = ["check_config", "list_absent", "read_config"]
