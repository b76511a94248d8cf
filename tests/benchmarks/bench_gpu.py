"""What the library does on a GPU: the tests that need one, and every stage of VGG16 over bare passes of the network.

    python tests/benchmarks/bench_gpu.py --out bench/gpu

needs no make, no Snakemake and no network, only the packages of gpu_requirements.txt, and takes some minutes.
Where torch finds no GPU (or with --toy) everything runs in small on the processor, to see that it runs. After each
section the folder holds what is known: gpu.md, results.json, timings.csv, shares.csv, of the tests tests.xml and
tests.log, and, from a GPU, rates.csv for `make estimate RATES=FOLDER/rates.csv`. A section that fails is counted, and
the others go on.
"""

import argparse
import datetime
import faulthandler
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "support"), str(Path(__file__).parent)]

import torch  # noqa: E402
from gpu_sections import GPU, TOY, Bench, list_sections  # noqa: E402
from gpu_tables import (  # noqa: E402
    Results,
    name_device,
    read_results,
    read_tests,
    show_results,
    write_rates,
    write_results,
)
from scale_rates import derive_gpu_rates  # noqa: E402

from nemesis.arithmetic import fix_products  # noqa: E402
from nemesis.estimate.rates import COLUMNS  # noqa: E402

TESTS, TEST_SECONDS = "tests", 240
GRACE = 120  # seconds above the budget after which a section that hangs is ended


def main(arguments=None) -> int:
    """Run the sections; 1 when one failed."""
    fix_products()  # as in every job
    options = parse_arguments(arguments)
    on_gpu = torch.cuda.is_available() and not options.toy
    start = time.monotonic()
    results = read_results(options.out) if options.resume else Results(describe(on_gpu))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        device = torch.device("cuda" if on_gpu else "cpu")
        bench = Bench(Path(folder), device, GPU if on_gpu else TOY, results)
        wanted = options.sections or [TESTS, *list_sections()]
        faulthandler.dump_traceback_later(60 * options.minutes + GRACE, exit=True)
        try:
            for place, name in enumerate(wanted):
                left = 60 * options.minutes - (time.monotonic() - start)
                run_section(name, bench, options.out, left)
                write_results(results, options.out)
                if not is_alive(bench.device):
                    return continue_anew(options, wanted[place + 1 :], left)
        finally:
            faulthandler.cancel_dump_traceback_later()
    if on_gpu:
        save_rates(results, options.out)
    print(show_results(results))
    print(f"{options.out}: {len(results.failed)} of {len(results.sections)} sections failed", flush=True)
    return 1 if results.failed else 0


def parse_arguments(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("OUT") or ROOT / "bench" / "gpu")
    parser.add_argument("--out", type=Path, default=default, help="a folder (default: as OUT says, else bench/gpu)")
    parser.add_argument("--toy", action="store_true", help="in small, on the processor")
    parser.add_argument("--minutes", type=float, default=8, help="no section starts later (default: 8)")
    parser.add_argument("--folder", help="where the made-up data lie for a while, some 5 GB (default: as TMPDIR says)")
    parser.add_argument("--sections", nargs="+", choices=[TESTS, *list_sections()], help="these alone, in this order")
    parser.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def describe(on_gpu: bool) -> dict:
    """The machine."""
    about = {"device": "cuda" if on_gpu else "cpu", "name": torch.cuda.get_device_name() if on_gpu else "processor"}
    about |= {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count() or 0}
    if on_gpu:
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        about["memory"] = f"{torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB"
    return about | {"threads": torch.get_num_threads(), "date": datetime.datetime.now(datetime.UTC).date().isoformat()}


def run_section(name: str, bench: Bench, out: Path, left: float):
    """Run one section, unless no time is left; whatever it raises is printed and noted."""
    results = bench.results
    if left <= 0:
        results.sections[name] = "skipped: no time is left"
        print(f"{name}: skipped, no time is left", flush=True)
        return
    start, known = time.monotonic(), len(results.timings) + len(results.shares)
    try:
        if name == TESTS:
            outcome = run_tests(out, min(left, TEST_SECONDS))
        else:
            for record in list_sections()[name](bench):
                results.add([record])
            outcome = "done"
    except Exception as error:  # whatever it is: the other sections are wanted
        traceback.print_exc()
        outcome = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    found = len(results.timings) + len(results.shares) - known
    results.sections[name] = f"{outcome} ({time.monotonic() - start:.0f} s, {found} measurements)"
    print(f"{name}: {results.sections[name]}", flush=True)


def run_tests(out: Path, seconds: float) -> str:
    """The tests marked gpu, in a process of their own; no fixture of tests/conftest.py is needed."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", ROOT / "tests" / "test_gpu.py", "-m", "gpu", "--noconftest", "-v"]
    command += ["-p", "no:cacheprovider", f"--rootdir={ROOT}", f"--junitxml={out / 'tests.xml'}"]
    (out / "tests.xml").unlink(missing_ok=True)
    with open(out / "tests.log", "w", encoding="utf-8") as log:
        done = subprocess.run(
            list(map(str, command)), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, timeout=seconds, check=False
        )
    if not (out / "tests.xml").exists():
        raise RuntimeError(f"pytest ended with {done.returncode} and no result; see {out / 'tests.log'}")
    passed, failed, skipped = read_tests(out / "tests.xml")
    if failed or done.returncode:
        print((out / "tests.log").read_text(encoding="utf-8")[-12_000:], flush=True)
    counts = f"{passed} passed, {failed} failed, {skipped} skipped"
    return f"failed: {counts}" if failed or done.returncode else counts


def is_alive(device: torch.device) -> bool:
    """Does the device still answer? After some errors a process cannot use it again."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize()
        except RuntimeError as error:
            print(f"the device does not answer any more: {error}", flush=True)
            return False
    return True


def continue_anew(options, sections: list[str], left: float) -> int:
    """Run the sections that are left in a fresh process; what was found so far is in the folder."""
    command = [sys.executable, __file__, "--resume", "--out", options.out, "--minutes", max(left, 0) / 60]
    command += ["--folder", options.folder] if options.folder else []
    command += ["--sections", *sections]
    if not sections:
        return 1
    return subprocess.run(list(map(str, command)), check=False).returncode or 1


def save_rates(results: Results, out: Path):
    """rates.csv for `make estimate`, from the bare passes."""
    forward, step = results.seconds("forward"), results.seconds("step")
    measure = results.seconds("measure images").get("", 0.0)
    batch = next((one.note for one in results.timings if one.stage == "forward" and one.note), "no batch")
    about = {"device": name_device(results.about["name"]), "date": results.about["date"]}
    about["name"] = f"{results.about['name']}, torch {results.about['torch']}, {batch}"
    rows = derive_gpu_rates(forward, step, measure, about)
    if rows:
        write_rates(out / "rates.csv", rows, COLUMNS)
        print(f"make estimate RATES={out / 'rates.csv'} uses these rates; make gpu-rates FROM={out} keeps them")


if __name__ == "__main__":
    warnings.simplefilter("default")
    raise SystemExit(main())
