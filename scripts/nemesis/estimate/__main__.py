"""Print what a config will cost: `python -m nemesis.estimate CONFIG [RATES]` (make estimate).

RATES: whose rates, e.g. h100, or a rates.csv that `make gpu` wrote; default: those of the config's device.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nemesis.config import check_config, list_extractions, read_config, wants_gpu
from nemesis.errors import InputError
from nemesis.estimate.jobs import ROOT, count_families, count_jobs

GPU = "h100"  # the GPU that there are rates of


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
    written = read_config(path)
    config = check_config(written, ROOT / "schemas" / "config.schema.yaml", str(path))
    with ThreadPoolExecutor(1) as beside:
        planned = beside.submit(count_jobs, written)
        import torch  # takes seconds, while the plan is made

        from nemesis.estimate.cost import estimate, find_sites
        from nemesis.estimate.rates import load_rates
        from nemesis.estimate.table import show_estimate

        rates = load_rates(wanted or (GPU if wants_gpu(config["device"]) else "cpu"))
        device = torch.device("cpu" if rates.device == "cpu" else "cuda")
        sites = find_sites(config, device)
        jobs = count_families(planned.result(), list_extractions(config))
    return show_estimate(estimate(config, sites, jobs, rates), rates, str(path))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
