"""What docs/scale.md says: the measurements, what is made from them, and the bounds of the paper's machines."""

import csv
import math

import pytest
import torch
from bench_scale import COLUMNS, COUNTS, QUICK, describe_machine, list_measurements, run_apart, run_here, write_rows
from scale_data import LAYERS
from scale_rates import derive_gpu_rates, derive_rates, measure_vgg16, read_gpu_rates, read_measurements
from scale_tables import (
    DEVICE_LIMIT,
    DOCUMENT,
    GRID,
    HOST_LIMIT,
    HOURS_LIMIT,
    fill,
    grid_hours,
    growth,
    keep_rates,
    tables,
    write_documents,
)
from workflow_runs import ROOT

from nemesis.config import check_config
from nemesis.estimate import rates as rate_table
from nemesis.estimate.cost import find_sites
from nemesis.estimate.rates import load_rates
from nemesis.estimate.work import Prices, attack_bytes

FLAT, LINEAR = 1.10, 1.25  # largest growth of memory, and of the time of an image


@pytest.fixture(scope="module")
def measured():
    return read_measurements()


@pytest.fixture(scope="module")
def grid():
    config = check_config(GRID, ROOT / "schemas" / "config.schema.yaml")
    return config, find_sites(config, torch.device("cuda"))


@pytest.mark.slow
def test_every_stage_runs_and_becomes_a_document(tmp_path):
    rows = []
    threads = torch.get_num_threads()
    about = describe_machine("cpu")
    for stage, layer, images, place in list_measurements(QUICK, quick=True):
        if stage == "start":  # calls the workflow; test_estimate does, too
            found = {"amount": 1, "seconds": 1.0, "cpu_seconds": 1.0, "peak_mb": 1.0, "device_mb": 0.0}
        else:
            (tmp_path / place).mkdir(exist_ok=True)
            found = run_here(stage, tmp_path / place, layer, images, "cpu")
        assert found["amount"] > 0 and found["seconds"] > 0
        rows.append(
            {name: ({"stage": stage, "layer": layer, "images": images} | found | about)[name] for name in COLUMNS}
        )
    assert torch.get_num_threads() == threads
    write_rows(tmp_path / "scale.csv", rows)
    (tmp_path / "scale.md").write_text(DOCUMENT.read_text())
    write_documents(tmp_path / "scale.csv", tmp_path / "rates.csv", tmp_path / "scale.md")
    rates = load_rates("h100", tmp_path / "rates.csv")
    assert rates.find("measure_row")[0].basis == "extrapolated"
    assert len(rates.find("store")) == len(QUICK)
    last = next(row for row in rows if (row["stage"], row["images"]) == ("thresholds", max(QUICK["conv5_3"])))
    found = next(row for row in rates.find("thresholds") if row.units == LAYERS["conv5_3"][0])
    assert found.value == pytest.approx(last["amount"] / last["seconds"], rel=1e-3)
    assert f"| thresholds conv5_3 | {last['images']} |" in (tmp_path / "scale.md").read_text()


@pytest.mark.slow
def test_peak_memory_is_that_of_the_process_alone(tmp_path):
    ballast = bytearray(2**30)
    ballast[:: 2**12] = b"x" * len(ballast[:: 2**12])
    found = run_apart("make_probe", tmp_path, "", 2, "cpu")
    assert 50 < found["peak_mb"] < 1000 and len(ballast) == 2**30


def test_a_document_without_markers():
    with pytest.raises(ValueError, match="no markers of rates"):
        fill("<!-- network -->\n<!-- /network -->\n", {"network": "| a |", "rates": "| b |"})
    assert fill("<!-- a -->\nold\n<!-- /a -->\n", {"a": "new"}) == "<!-- a -->\nnew\n<!-- /a -->\n"


def write_table(path, rows):
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, rate_table.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_rates_are_those_of_the_measurements(measured):
    with open(rate_table.TABLE, newline="") as stream:
        written = list(csv.DictReader(stream))
    assert written == [{name: str(row[name]) for name in rate_table.COLUMNS} for row in derive_rates(measured)]


def test_what_a_gpu_did_replaces_what_was_extrapolated(measured, tmp_path):
    about = {"device": "h100", "name": "NVIDIA H100", "date": "2026-01-01"}
    work = measure_vgg16(["conv1_2", "conv5_3"])
    forward = {layer: of.flops / 2e14 + of.traffic / 3e12 for layer, of in work.items()}
    step = {layer: 2 * (of.flops / 1e14 + of.traffic / 2e12) for layer, of in work.items()}
    kept = derive_gpu_rates(forward, step, 0.0, about)
    write_table(tmp_path / "rates.csv", kept)
    keep_rates(tmp_path, tmp_path / "kept.csv")
    write_table(tmp_path / "all.csv", derive_rates(measured, read_gpu_rates(tmp_path / "kept.csv")))
    rates = load_rates("h100", tmp_path / "all.csv")
    for stage, value in (("forward_flops", 2e14), ("forward_traffic", 3e12), ("step_flops", 1e14)):
        (row,) = rates.find(stage)
        assert row.value == pytest.approx(value, rel=1e-3) and row.basis == "measured"
    assert [row.basis for row in rates.find("measure_row")] == ["extrapolated"]
    measured_line, extrapolated_line = rates.sources()
    assert measured_line.startswith("NVIDIA H100 (measured, 2026-01-01): forward_flops")
    assert extrapolated_line.endswith("(extrapolated): measure_row")


def test_rates_of_a_processor_are_not_kept_as_a_gpus(measured, tmp_path):
    with pytest.raises(ValueError, match=r"has no rates\.csv"):
        keep_rates(tmp_path, tmp_path / "kept.csv")
    write_table(tmp_path / "rates.csv", derive_rates(measured, kept=[]))
    with pytest.raises(ValueError, match="not measured on a GPU"):
        keep_rates(tmp_path, tmp_path / "kept.csv")
    assert not (tmp_path / "kept.csv").exists()


def test_document_agrees_with_the_measurements(measured):
    text = DOCUMENT.read_text()
    assert fill(text, tables(measured)) == text


def test_measurements_are_complete(measured):
    """The committed measurements are those of the whole run, not of --quick."""
    wanted = {(stage, layer, float(images)) for stage, layer, images, _ in list_measurements(COUNTS, quick=False)}
    assert {(row["stage"], row["layer"], row["images"]) for row in measured} == wanted


def test_memory_is_flat_and_time_linear(measured):
    """But for redissect, which holds the clean maps of some units (256 MB of them), or of one."""
    pairs = list(growth(measured))
    assert {"tally", "thresholds", "redissect", "extract"} <= {stage for stage, *_ in pairs}
    for stage, layer, first, last in pairs:
        where = f"{stage} {layer}, {first['images']:.0f} to {last['images']:.0f} images"
        assert last["peak_mb"] <= FLAT * first["peak_mb"] or stage == "redissect", where
        assert last["seconds"] / last["images"] <= LINEAR * first["seconds"] / first["images"], where


def test_host_memory_is_below_the_papers(measured):
    assert max(row["peak_mb"] for row in measured) * 1e6 < HOST_LIMIT


def test_device_memory_is_below_the_papers(grid):
    _, sites = grid
    sizes = [attack_bytes(site, layer) for site in sites for layer in site.layers.values()]
    assert len(sizes) == 9 and max(sizes) < DEVICE_LIMIT


def test_the_grid_holds_a_gpu_for_less_than_a_day(grid):
    config, sites = grid
    hours = grid_hours(config, sites, Prices(load_rates("h100")))
    assert {"extract_activations", "dissect", "extract_noisy", "poison_images", "dissect_designed"} <= set(hours)
    network, held = (sum(part[name] for part in hours.values()) for name in ("network", "held"))
    assert 0 < network < held < HOURS_LIMIT


def test_hours_of_the_attack_by_hand(grid, measured, tmp_path):
    """One layer's attack, from the published peaks alone."""
    _, sites = grid
    write_table(tmp_path / "rates.csv", derive_rates(measured, kept=[]))
    prices = Prices(load_rates("h100", tmp_path / "rates.csv"))
    layer = sites[0].layers["conv5_3"]
    rows = 50 * 6330 * 3 * 2  # units, a tenth of the images, eps, modes
    seconds = rows * 10 * 2 * (layer.flops / (0.25 * 494e12) + layer.traffic / (0.75 * 3.35e12))
    assert 10 * prices.step(layer, rows) == pytest.approx(seconds, rel=1e-3)
    assert math.isclose(layer.flops, 30.69e9, rel_tol=1e-3)
