"""Check a config and list what it asks for. Standard library, yaml and jsonschema only: it runs at every start."""

from nemesis.config.absent import list_absent
from nemesis.config.checks import check_config
from nemesis.config.entries import (
    Design,
    Extraction,
    Noise,
    format_number,
    has_masks,
    list_designs,
    list_exemplar_designs,
    list_extractions,
    list_noises,
    wants_gpu,
)
from nemesis.config.read import read_config

__all__ = [
    "Design",
    "Extraction",
    "Noise",
    "check_config",
    "format_number",
    "has_masks",
    "list_absent",
    "list_designs",
    "list_exemplar_designs",
    "list_extractions",
    "list_noises",
    "read_config",
    "wants_gpu",
]
