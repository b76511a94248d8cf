"""The estimate of a config's cost: jobs as planned, sizes and work against what is known."""

import dataclasses

import pytest
import torch
from tiny_probe import tiny_rows, write_broden
from workflow_runs import ROOT

from nemesis.config import check_config, read_config
from nemesis.devices import choose_batch
from nemesis.errors import InputError
from nemesis.estimate.__main__ import main
from nemesis.estimate.cost import Estimate, Line, estimate, find_sites
from nemesis.estimate.networks import build_meta, measure_layers, measure_whole
from nemesis.estimate.rates import Rate, Rates, load_rates
from nemesis.estimate.table import show_estimate
from nemesis.estimate.work import CORES, Work, attack_bytes, forward_bytes
from nemesis.plan.jobs import count_jobs
from nemesis.plan.plan import Plan
from nemesis.probes.sizes import size_probe

SCHEMA = ROOT / "schemas" / "config.schema.yaml"
VGG16 = {"kind": "vgg16_places365"}
DEVICE_LIMIT = 11e9  # bytes, the paper's GPU
PRESETS = ("config.yaml", "presets/quick.yaml", "presets/paper.yaml")


def checked(**changes) -> dict:
    """A small config with its defaults."""
    config = {
        "device": "cpu",
        "probes": {"drawn": {"kind": "minibroden", "images": 100, "size": 64}},
        "models": {"lite": {"kind": "efficientnet_lite0"}},
        "experiments": [{"probe": "drawn", "model": "lite", "layers": ["blocks.2", "blocks.4"]}],
    }
    return check_config(config | changes, SCHEMA)


def one_rate(value: float = 1.0) -> Rates:
    """Every rate is `value`, whatever the layer's shape; one byte of memory."""
    stages = ("start", "decode", "noise", "poison_row", "show_row", "measure_row", "copy_row", "store", "thresholds")
    stages += (
        "tally",
        "pass",
        "run",
        "redissect",
        "survey",
        "forward_flops",
        "forward_traffic",
        "step_flops",
        "step_traffic",
    )
    about = ("unit", "measured", "a machine", "2026-01-01")
    rows = [Rate("cpu", stage, 1, 1, 1, value, *about) for stage in stages]
    kinds = ("start", "decode", "extract", "thresholds", "tally", "redissect", "attack")
    return Rates("cpu", (*rows, *(Rate("cpu", f"memory_{kind}", 1, 1, 1, 1.0, *about) for kind in kinds)))


def price(config: dict, jobs: dict[str, int], rates: Rates | None = None) -> Estimate:
    return estimate(config, find_sites(config, torch.device("cpu")), jobs, rates or one_rate())


def line(found: Estimate, rule: str) -> Line:
    return next(part for part in found.lines if part.rule == rule)


class TestNetworks:
    def test_vgg16_by_hand(self):
        # Convolutions 3 x 3 of (inputs, outputs, side of the output): two operations a multiply-add.
        parts = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112)]
        expected = sum(2 * 9 * a * b * side**2 for a, b, side in parts)
        found = measure_layers(build_meta("v", VGG16), ["conv1_2", "conv2_2"], (224, 224))
        assert found["conv2_2"].flops == expected
        assert found["conv2_2"].shape == (128, 112, 112)
        assert found["conv1_2"].largest == 64 * 224 * 224 * 4
        # conv1_1, relu1_1 and conv1_2, each written and read.
        assert found["conv1_2"].traffic == 2 * 3 * 64 * 224 * 224 * 4

    def test_meta_agrees_with_the_network_itself(self):
        from networks import run_to_layers

        from nemesis.models.registry import build_network

        network = build_network("lite", {"kind": "efficientnet_lite0"})
        maps = run_to_layers(network, torch.zeros(1, 3, 64, 96), ["blocks.4", "blocks.10"])
        found = measure_layers(build_meta("lite", {"kind": "efficientnet_lite0"}), maps, (64, 96))
        assert {name: part.shape for name, part in found.items()} == {n: tuple(m.shape[1:]) for n, m in maps.items()}

    def test_a_loader_of_the_users_own(self, tmp_path):
        (tmp_path / "mine.py").write_text(
            "import torch\ndef load():\n    return torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3))\n"
        )
        spec = {"kind": "file", "loader": f"{tmp_path}/mine.py:load", "mean": [0, 0, 0], "std": [1, 1, 1]}
        network = build_meta("mine", spec | {"weights": "not read.pth"})
        assert measure_layers(network, ["0"], (10, 12))["0"].shape == (5, 8, 10)
        assert measure_whole(network, (10, 12)) == 2 * 27 * 5 * 8 * 10

    def test_a_network_that_cannot_be_made_on_the_meta_device(self):
        network = build_meta("r", {"kind": "torchvision", "arch": "regnet_y_400mf"})
        assert measure_layers(network, ["stem"], (64, 64))["stem"].shape == (32, 32, 32)

    def test_unknown_layer(self):
        with pytest.raises(InputError, match="has no layer 'conv9_9'"):
            measure_layers(build_meta("v", VGG16), ["conv9_9"], (64, 64))

    @pytest.mark.parametrize(
        ("kind", "layers"),
        [
            ("vgg16_places365", ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]),
            ("resnet50_imagenet", ["layer1", "layer2", "layer3", "layer4"]),
        ],
    )
    def test_attacks_fit_into_the_papers_gpu(self, kind, layers):
        config = checked(
            probes={"broden": {"kind": "download", "version": "broden1_224"}},
            models={"net": {"kind": kind}},
            experiments=[{"probe": "broden", "model": "net", "layers": layers}],
        )
        (site,) = find_sites(config, torch.device("cuda"))
        assert site.batch == choose_batch("auto", (224, 224), torch.device("cuda")) > 16
        for layer in site.layers.values():
            assert forward_bytes(site, layer) < attack_bytes(site, layer) < DEVICE_LIMIT


class TestBatch:
    @pytest.mark.parametrize(("memory", "images"), [(80e9, 48), (11.5e9, 48), (8e9, 40), (2e9, 10)])
    def test_by_the_memory_of_the_gpu(self, monkeypatch, memory, images):
        properties = dataclasses.make_dataclass("Properties", ["total_memory"])
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties(memory))
        assert choose_batch("auto", (224, 224), torch.device("cuda")) == images
        assert choose_batch("auto", (112, 112), torch.device("cuda")) == 4 * images
        assert choose_batch(7, (224, 224), torch.device("cuda")) == 7


class TestProbes:
    def test_a_folder_that_is_there_is_counted(self, tmp_path):
        write_broden(tmp_path / "broden", tiny_rows())
        found = size_probe("mine", {"kind": "broden", "path": str(tmp_path / "broden")})
        assert (found.images, found.size, found.label_size) == (14, (32, 32), (16, 16))
        assert (found.planes, found.concepts, found.assumed) == (4, 12, False)

    def test_a_folder_that_is_not_there_is_assumed(self, tmp_path):
        found = size_probe("mine", {"kind": "broden", "path": str(tmp_path / "absent")})
        assert (found.images, found.concepts, found.assumed) == (63_305, 1197, True)
        assert "is not there; assumed as large as broden1_224" in found.note

    def test_images_without_masks(self, tmp_path):
        for name in ("a.png", "b.jpg", "notes.txt"):
            (tmp_path / name).touch()
        spec = {"kind": "folder", "path": str(tmp_path), "size": 224}
        assert size_probe("photos", spec).images == 2
        assert size_probe("photos", spec | {"max_images": 1}).images == 1
        assert size_probe("photos", spec | {"path": str(tmp_path / "absent"), "max_images": 5000}).images == 5000

    def test_unknown_version(self):
        with pytest.raises(InputError, match="its size is not known"):
            size_probe("new", {"kind": "download", "version": "broden9"})


class TestRates:
    def test_between_and_beyond_measured_shapes(self):
        rows = tuple(
            Rate("cpu", "tally", 1, side, side, value, "", "", "", "") for side, value in ((10, 100.0), (100, 1.0))
        )
        rates = Rates("cpu", rows)
        assert rates.of_maps("tally", 1000) == pytest.approx(10.0)  # half-way on both logarithmic scales
        assert rates.of_maps("tally", 5) == pytest.approx(100.0)
        assert rates.of_maps("tally", 10**6) == pytest.approx(1.0)

    def test_a_gpu_takes_the_processors_rates_where_it_has_none(self):
        rates = load_rates("h100")
        assert rates.flat("forward_flops") > load_rates("cpu").flat("forward_flops")
        assert rates.flat("noise") == load_rates("cpu").flat("noise")
        assert all(row.basis == "extrapolated" for row in rates.rows if row.device == "h100")

    def test_unknown_device(self):
        with pytest.raises(InputError, match="RATES=tpu: there are no rates of this device; there are cpu, h100"):
            load_rates("tpu")


class TestCost:
    def test_work_by_hand(self):
        config = checked(dissection={"null_replicates": 3}, noise={"std": [0.1, 0.2], "fractions": [0.5, 1.0]})
        jobs = {"extract_activations": 1, "compute_thresholds": 2, "dissect": 2, "extract_noisy": 2, "dissect_noise": 2}
        found = price(config, jobs)
        (site,) = find_sites(config, torch.device("cpu"))
        units = sum(layer.shape[0] for layer in site.layers.values())
        values = sum(layer.values for layer in site.layers.values())
        deepest = site.layers["blocks.4"]
        network = 100 * (deepest.flops + deepest.traffic)
        seconds = lambda rule: line(found, rule).cpu * 3600 - jobs[rule]  # noqa: E731
        assert seconds("extract_activations") == pytest.approx(network + 100 * units)
        assert line(found, "extract_activations").disk == 100 * values * 2
        assert seconds("compute_thresholds") == pytest.approx(100 * units)
        assert seconds("dissect") == pytest.approx((1 + 1 + 3) * 100 * units)  # clean, the pass, three replicates
        noisy = 100 * 64 * 64 / 224**2
        assert seconds("extract_noisy") == pytest.approx(2 * (network + 100 * units + noisy))
        assert seconds("dissect_noise") == pytest.approx(2 * (2 + 2 + 2) * 100 * units)  # two stores, two fractions
        assert line(found, "extract_noisy").temporary == 2 * 100 * values * 2
        assert found.total("gpu") == 0

    def test_an_attack_by_hand(self):
        designed = {"eps": [2, 6], "modes": ["untargeted", "shared"], "units": 3, "max_fraction": 0.1, "budgets": [0.1]}
        config = checked(designed=designed | {"layers": ["blocks.4"], "steps": 5})
        found = price(config, {"poison_images": 2, "dissect_designed": 2})
        layer = find_sites(config, torch.device("cpu"))[0].layers["blocks.4"]
        rows = 2 * (3 * 10 + 10)  # each eps: 10 images a unit, and 10 for all of them
        pixels = 64 * 64 / 224**2
        step, forward = 2 * (layer.flops + layer.traffic), layer.flops + layer.traffic
        survey = 2 * 3 * 100  # once for every eps
        assert line(found, "poison_images").cpu * 3600 - 2 == pytest.approx(rows * (5 * step + pixels) + survey)
        assert line(found, "poison_images").disk == rows * 3 * 64 * 64
        again = 2 * 3 * 100  # of both eps at once
        expected = rows * (2 * forward + 2 * pixels) + again
        assert line(found, "dissect_designed").cpu * 3600 - 2 == pytest.approx(expected)

    def test_what_the_gpu_does_is_counted_there(self):
        config = checked()
        gpu = dataclasses.replace(one_rate(), device="h100")
        found = price(config, {"extract_activations": 1, "compute_thresholds": 2, "plot_tables": 1}, gpu)
        (site,) = find_sites(config, torch.device("cpu"))
        stored, start = 100 * sum(layer.shape[0] for layer in site.layers.values()), 1
        extract = line(found, "extract_activations")
        assert extract.cpu * 3600 == pytest.approx(stored + start)
        assert extract.gpu * 3600 == pytest.approx(max(extract.network * 3600, stored / CORES) + start)
        assert line(found, "compute_thresholds").cpu > 0 == line(found, "compute_thresholds").gpu
        assert not line(found, "plot_tables").priced
        assert line(found, "plot_tables").cpu == pytest.approx(1 / 3600)

    def test_how_long_a_gpu_is_held(self):
        """The network and what goes on beside it share the time; what waits for nothing else adds to it."""
        assert Work("a", 10, beside=40, follows=7, alone=3, gpu=True).held == 13
        assert Work("a", 10, beside=80, follows=7, alone=3, gpu=True).held == 23
        assert Work("a", 10, beside=40, follows=17, alone=3, gpu=True).held == 20
        assert Work("a", 10, beside=40, follows=17, alone=3).held == 0
        assert Work("a", 10, beside=40, follows=17, alone=3).core == 60

    def test_table(self):
        lines = [
            Line("extract_activations", 2, gpu=1.5, network=1.25, disk=2.5e9, host=3e9, priced=True),
            Line("plot", 1, cpu=0.25),
        ]
        text = show_estimate(Estimate(lines, ["drawn: 100 images"]), one_rate(), "my.yaml")
        row = next(part for part in text if part.startswith("extract_activations"))
        assert row.split() == ["extract_activations", "2", "1.50", "1.25", "2.5", "3.0"]
        total = next(part for part in text if part.startswith("total"))
        assert total.split()[-8:] == ["3", "1.50", "0.25", "1.25", "2.5", "0.0", "3.0", "0.0"]
        assert any(part.startswith("plot *") for part in text)
        assert "probe drawn: 100 images" in text


class TestRateFiles:
    HEADER = "device,stage,units,height,width,value,unit,basis,name,date\n"

    def test_a_file_of_one_gpu_comes_first(self, tmp_path):
        path = tmp_path / "rates.csv"
        path.write_text(f"{self.HEADER}h200,forward_flops,0,0,0,2e14,FLOP/s,measured,NVIDIA H200,2026-01-01\n")
        rates = load_rates(str(path))
        assert rates.device == "h200" and rates.flat("forward_flops") == 2e14
        assert rates.flat("store") == load_rates("cpu").flat("store")
        assert rates.sources()[0] == "NVIDIA H200 (measured, 2026-01-01): forward_flops"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (None, "cannot be read"),
            ("a,b\n1,2\n", "expected the columns device"),
            (HEADER, "expected the rates of one device"),
            (f"{HEADER}h200,store,0,0,0,fast,FLOP/s,measured,x,y\n", "expected the columns device"),
        ],
    )
    def test_a_bad_file(self, tmp_path, text, said):
        if text is not None:
            (tmp_path / "rates.csv").write_text(text)
        with pytest.raises(InputError, match=said):
            load_rates(str(tmp_path / "rates.csv"))

    def test_an_unknown_device(self):
        with pytest.raises(InputError, match="RATES=abacus: there are no rates of this device; there are cpu, h100"):
            load_rates("abacus")


@pytest.mark.slow
@pytest.mark.parametrize("config", PRESETS)
def test_printed_jobs_are_those_of_the_plan(config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(ROOT / config)]) == 0
    text = capsys.readouterr().out
    expected = count_jobs(Plan(check_config(read_config(ROOT / config), SCHEMA, config)))
    rows = [part.replace(" *", "").split() for part in text.splitlines()]
    printed = {row[0]: int(row[1]) for row in rows if row and row[0] in expected}
    assert printed == expected
    assert any(row[:2] == ["total", "(memory:"] and int(row[3]) == sum(expected.values()) for row in rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.workflow
def test_own_preset_whose_folder_is_not_there(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(ROOT / "presets/own.yaml"), "h100"]) == 0
    text = capsys.readouterr().out
    assert "mine: /path/to/probe is not there; assumed as large as broden1_224" in text
    assert "extrapolated" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("- a\n", "holds no keys"),
        ("a: [\n", "is no YAML file"),
        ("probes: {}\nmodels: {}\nexperiments: []\n", "my.yaml: "),
    ],
)
def test_bad_config_in_one_line(tmp_path, capsys, text, said):
    if text is not None:
        (tmp_path / "my.yaml").write_text(text)
    assert main([str(tmp_path / "my.yaml")]) == 1
    found = capsys.readouterr()
    assert found.out == "" and found.err.startswith("nemesis: ") and found.err.count("\n") == 1
    assert said in found.err
