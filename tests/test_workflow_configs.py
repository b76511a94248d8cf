"""Two configs in one folder: what they share is stored once, and neither makes the other's results outdated."""

import pytest
import yaml
from workflow_runs import CONFIG, LITE, OF_RUN, assert_same

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
STORE = "drawn/lite/clean/activations.zarr"


def test_two_configs_in_one_folder(finished, tmp_path):
    place = finished.place.copied(tmp_path / "place")
    before = place.bytes_of("**/*")
    other = place.folder / "other.yaml"
    layers = [CONFIG["experiments"][0] | {"layers": ["blocks.4", "blocks.5"]}]
    sections = {name: part for name, part in CONFIG.items() if name not in ("noise", "designed")}
    other.write_text(yaml.safe_dump(sections | {"experiments": layers}, sort_keys=False))
    ended = place.finish("--configfile", other)
    assert ended.jobs == {
        "extract_activations": 2,
        "gather_activations": 1,
        "compute_thresholds": 2,  # of blocks.4, too, as its store is made in this call
        "dissect": 2,
        "plot_tables": 1,
        "show_units": 2,
        "write_report": 1,
    }
    after = place.bytes_of("**/*")
    assert_same({name: after[name] for name in before}, before)
    assert {name.split("/")[4] for name in after if name.startswith(f"{STORE}/blocks")} == {
        "blocks.2",
        "blocks.4",
        "blocks.5",
    }
    assert place.exists("results/runs/other/report/index.html") and place.exists(f"{OF_RUN}/report/index.html")
    assert place.exists(f"{LITE}/blocks.5/clean/dissection.csv")
    assert "Nothing to be done" in place.finish("--dry-run").text
    assert "Nothing to be done" in place.finish("--dry-run", "--configfile", other).text
