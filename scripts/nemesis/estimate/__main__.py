"""Print what a config will cost: `python -m nemesis.estimate CONFIG [RATES]` (make estimate).

RATES: whose rates, e.g. h100, or a rates.csv that `make gpu` wrote; default: those of the config's device.
"""

import sys
from pathlib import Path

import torch

from nemesis.config import check_config, read_config
from nemesis.entries import wants_gpu
from nemesis.errors import InputError
from nemesis.estimate.cost import estimate, find_sites
from nemesis.estimate.rates import load_rates
from nemesis.estimate.table import show_estimate
from nemesis.plan.jobs import count_jobs
from nemesis.plan.plan import Plan

GPU = "h100"  # the GPU that there are rates of
ROOT = Path(__file__).resolve().parents[3]


def main(arguments: list[str]) -> int:
    """Read the config, price it, print the table; 1 after a line that says what is wrong."""
    path = arguments[0] if arguments else "config.yaml"
    try:
        print("\n".join(describe(Path(path), arguments[1] if len(arguments) > 1 else "")))
    except InputError as error:
        print(f"nemesis: {error}", file=sys.stderr)
        return 1
    return 0


def describe(path: Path, wanted: str = "") -> list[str]:
    """The lines to print for a config file."""
    config = check_config(read_config(path), ROOT / "schemas" / "config.schema.yaml", str(path))
    rates = load_rates(wanted or (GPU if wants_gpu(config["device"]) else "cpu"))
    sites = find_sites(config, torch.device("cpu" if rates.device == "cpu" else "cuda"))
    return show_estimate(estimate(config, sites, count_jobs(Plan(config)), rates), rates, str(path))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
