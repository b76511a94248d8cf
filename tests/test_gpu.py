"""The library on a CUDA device against the processor. `make gpu` runs these where only the library's packages are.

So nothing here needs tests/conftest.py. With NEMESIS_GPU_TESTS=cpu in the environment they run on the processor, which
says nothing of a GPU and all of the tests themselves.
"""

import logging
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from device_runs import (
    Case,
    count_streamed,
    dissect,
    draw_scenes,
    extract,
    find_smallest,
    list_changes,
    open_layer,
    plan_attack,
    poison,
    precision,
    read_all,
    redissect_on,
    show,
    write_attack,
)
from networks import run_to_layers

from nemesis.corruption.attack import UnitPGD
from nemesis.corruption.objective import MeanActivation
from nemesis.corruption.plan import Subject, survey_probe
from nemesis.devices import choose_batch, choose_device
from nemesis.dissection.dissect import Run, dissect_layer, load_concepts
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network
from nemesis.perturb.pgd import round_inside
from nemesis.perturb.quality import compare_images
from nemesis.probes.probe import open_probe, prepare_probe

DEVICE = os.environ.get("NEMESIS_GPU_TESTS", "cuda")
HERE = not torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(HERE, reason="no CUDA device: torch.cuda.is_available() is false")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(HERE and DEVICE != "cpu", reason="no CUDA device: torch.cuda.is_available() is false"),
]
IMAGES, SIDE, LAYER = 24, 64, "layer2"
# Both run in float32, in another order of summation, and cuDNN may take Winograd's convolutions, which lose some bits.
CLOSE = 5e-4  # of the largest value, after some 15 layers
FLOAT16 = 2**-10  # a step of a stored value


def build_resnet():
    return build_network("resnet", {"kind": "torchvision", "arch": "resnet18", "weights": "random"})


def build_vgg():
    return build_network("vgg", {"kind": "vgg16_places365", "weights": "random"})


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A layer of a ResNet18 with random weights on drawn scenes, on the device."""
    folder = tmp_path_factory.mktemp("gpu")
    draw_scenes(folder / "scenes", IMAGES, SIDE)
    prepare_probe(folder / "scenes", folder / "probe.zarr", folder / "concepts.csv")
    probe = open_probe(folder / "probe.zarr")
    return Case(probe, load_concepts(folder / "concepts.csv", probe), build_resnet, LAYER, folder).on(DEVICE)


@pytest.fixture(scope="module")
def clean(case):
    """The clean dissection of the layer, in float32: on the processor (`here`) and on the device (`there`)."""
    with precision(tf32=False):
        return SimpleNamespace(here=open_layer(case.on("cpu")), there=open_layer(case))


@pytest.fixture(autouse=True)
def float32():
    with precision(tf32=False):
        yield


def draw_images(count: int, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return float((found.cpu() - expected.cpu()).abs().max() / expected.abs().max())


class TestNetwork:
    @pytest.mark.parametrize(
        ("build", "layers"), [(build_resnet, ["conv1", "layer2", "layer4"]), (build_vgg, ["conv1_2", "conv5_3"])]
    )
    def test_float32_is_the_processors(self, build, layers):
        images = draw_images(4, 96)
        here, there = run_to_layers(build(), images, layers), run_to_layers(build(), images, layers, DEVICE)
        for name in layers:
            assert there[name].device.type == DEVICE
            assert distance(there[name], here[name]) < CLOSE

    def test_tf32_is_near(self):
        images = draw_images(4, 96)
        here = run_to_layers(build_vgg(), images, ["conv5_3"])["conv5_3"]
        with precision(tf32=True):
            there = run_to_layers(build_vgg(), images, ["conv5_3"], DEVICE)["conv5_3"]
        assert distance(there, here) < 2e-2  # ten bits of each factor, through 13 layers

    @pytest.mark.parametrize("channels_last", [True, False])
    def test_either_layout(self, channels_last):
        images = draw_images(4)
        here = run_to_layers(build_resnet(), images, [LAYER])[LAYER]
        with (
            torch.inference_mode(),
            LayerReader(build_resnet(), [LAYER], DEVICE, channels_last=channels_last) as reader,
        ):
            assert distance(reader.read(images)[LAYER], here) < CLOSE

    def test_an_image_does_not_depend_on_the_others_of_a_full_batch(self):
        """The last batch is filled up, so that every pass has the same shape: the same bits."""
        images = draw_images(16)
        with torch.inference_mode(), LayerReader(build_resnet(), [LAYER], DEVICE, pad_to=16) as reader:
            together = reader.read(images)[LAYER]
            for rows in ([3], [9, 4], list(range(15, -1, -2))):
                assert torch.equal(reader.read(images[rows])[LAYER], together[rows])

    @pytest.mark.parametrize("batch", [1, 5, 16])
    def test_batches_of_another_size_are_near(self, batch):
        images = draw_images(16)
        with torch.inference_mode(), LayerReader(build_resnet(), [LAYER], DEVICE) as reader:
            together = reader.read(images)[LAYER]
            assert distance(torch.cat([reader.read(part)[LAYER] for part in images.split(batch)]), together) < CLOSE

    def test_what_is_read_is_not_altered_afterwards(self):
        """layer1.0.bn2 is added to in the block that it is a part of."""
        images, layers = draw_images(4), ["layer1.0.bn2", LAYER]
        together = run_to_layers(build_resnet(), images, layers, DEVICE)
        alone = run_to_layers(build_resnet(), images, layers[:1], DEVICE)
        assert torch.equal(together[layers[0]], alone[layers[0]])


class TestExtraction:
    @pytest.mark.parametrize("batch", [5, 24])
    def test_stored_is_what_the_network_gave(self, case, batch):
        """Copied and turned to float16 on the way."""
        maps = open_maps(extract(case, f"batch-{batch}", batch=batch), LAYER)
        with torch.inference_mode(), LayerReader(build_resnet(), [LAYER], DEVICE, pad_to=batch) as reader:
            parts = [case.probe.images(first, min(first + batch, IMAGES)) for first in range(0, IMAGES, batch)]
            expected = torch.cat([reader.read(part)[LAYER] for part in parts]).transpose(0, 1)
        np.testing.assert_array_equal(read_all(maps), expected.half().cpu().numpy())
        np.testing.assert_array_equal(np.asarray(maps.max[...]), expected.half().amax(dim=(2, 3)).cpu().numpy())

    def test_the_processors_values_but_for_rounding(self, clean):
        here, there = (read_all(layer.maps).astype(np.float32) for layer in (clean.here, clean.there))
        assert np.abs(here - there).max() < (CLOSE + FLOAT16) * np.abs(here).max()

    @needs_cuda
    def test_out_of_memory_halves_the_batch(self, case, caplog):
        """With 3 GB of the device for this process, a batch of 512 images of 224 px does not fit."""
        images = draw_images(512, 224)
        probe = SimpleNamespace(
            count=512, size=(224, 224), names=[str(n) for n in range(512)], images=lambda a, b: images[a:b].numpy()
        )
        large = Case(probe, None, build_resnet, "layer1", case.folder, DEVICE, 512)
        torch.cuda.empty_cache()
        used = torch.cuda.memory_reserved() + 3e9
        torch.cuda.set_per_process_memory_fraction(min(1.0, used / torch.cuda.get_device_properties(0).total_memory))
        try:
            with caplog.at_level(logging.WARNING):
                maps = open_maps(extract(large, "large"), "layer1")
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        assert "out of memory: the batch is halved from 512 to 256 images" in caplog.text
        with torch.inference_mode(), LayerReader(build_resnet(), ["layer1"], DEVICE) as reader:
            expected = reader.read(images[500:])["layer1"].transpose(0, 1).cpu().numpy()
        found = maps.read(slice(500, 512)).astype(np.float32)
        assert np.abs(found - expected).max() < (CLOSE + FLOAT16) * np.abs(expected).max()


class TestDissection:
    def test_thresholds_are_the_processors_but_for_rounding(self, clean):
        here, there = clean.here.thresholds, clean.there.thresholds
        assert np.abs(here - there).max() < (CLOSE + FLOAT16) * np.abs(here).max()

    def test_counting_on_the_device_is_exact(self, case, clean):
        """Whole numbers, and upsampled values by the same products and sums: not one pixel more or less."""
        for (tally, iou, table), (other, known, labels) in zip(
            dissect(case, clean.there.maps, DEVICE, replicates=3),
            dissect(case, clean.there.maps, "cpu", replicates=3),
            strict=True,
        ):
            for name, counts in vars(tally).items():
                assert torch.equal(counts.cpu(), getattr(other, name)), name
            np.testing.assert_array_equal(iou, known)
            assert table.equals(labels)

    def test_maps_as_large_as_the_labels(self, case):
        """Those are not cut into tiles, and torch upsamples them: a pixel on the edge of a mask may turn."""
        early = Case(case.probe, case.concepts, build_resnet, "conv1", case.folder, DEVICE)
        maps = open_maps(extract(early, "early"), "conv1")
        threshold = layer_thresholds(maps, 0.01, "exact").threshold
        run = [Run(maps, threshold)]
        ((there, *_),), ((here, *_),) = (
            dissect_layer(run, case.probe, case.concepts, torch.device(device), "published")
            for device in (DEVICE, "cpu")
        )
        difference = (there.intersection.cpu() - here.intersection).abs().sum()
        assert difference <= 1e-4 * here.intersection.sum()

    def test_a_streamed_layer_is_dissected_as_a_stored_one(self, case, clean):
        """Its maps are made again, bit for bit, and counted on the device."""
        ((_, _, there),), ((_, _, here),) = count_streamed(case), dissect(case, clean.there.maps, "cpu")
        assert (there["number"] == here["number"]).all()
        np.testing.assert_array_equal(there["iou"], here["iou"])

    def test_labels_are_the_processors_where_they_are_clear(self, clean):
        """A unit may change its label only where two concepts are nearly as good."""
        here, there = clean.here.table, clean.there.table
        changed = (here["number"] != there["number"]).to_numpy()
        assert changed.mean() <= 0.05
        assert ((here["iou"] - here["iou_2"])[changed] < 0.01).all()


class TestAttack:
    def test_the_gradient_is_the_processors(self, case, clean):
        images = torch.from_numpy(case.probe.images(0, 4)).float() / 255
        gradients = []
        for device in ("cpu", DEVICE):
            rows = torch.arange(4, device=device)
            shape = (4, *clean.here.maps.shape[2:])
            objective = MeanActivation(rows, rows, torch.full(shape, 1 / shape[1] / shape[2], device=device))
            with LayerReader(build_resnet(), [LAYER], device) as reader:
                attack = UnitPGD(reader, LAYER, 1)
                gradients.append(attack.find_gradient(images.to(device), objective).cpu())
        here, there = gradients
        # On average: where two cells are nearly the largest of a pool, either may carry the gradient.
        assert (there - here).abs().mean() < 1e-3 * here.abs().mean()
        assert (here.sign() == there.sign()).float().mean() > 0.99

    @pytest.mark.parametrize("objective", ["equation7", "published", "soft_iou"])
    def test_inside_the_ball_and_at_a_lower_cost(self, case, clean, objective):
        _, plan = plan_attack(clean.there)
        with case.reader(pad=False) as reader:
            attack = UnitPGD(reader, LAYER, 5)
            subject = Subject(case.probe, clean.there.maps, clean.there.thresholds, "segmentation", objective)
            stored = write_attack(case, subject, plan, attack, f"poison-{objective}")
        delta = stored.store["delta"][...]
        assert np.abs(delta).max() == 8 and (delta != 0).mean() > 0.5
        assert attack.costs[-1].sum() < attack.costs[0].sum()  # of the last batch
        found = show(case, stored)
        assert np.isfinite(found.maps).all() and found.measures["linf"].max() <= 8

    def test_rounding_is_the_processors(self):
        clean, eps = draw_images(6).numpy(), np.array([0, 0.5, 2, 6, 60, 255])
        noise = torch.rand(clean.shape, generator=torch.Generator().manual_seed(1)) - 0.5
        radius = torch.from_numpy(eps.astype(np.float32)).view(-1, 1, 1, 1) / 255
        attacked = (torch.from_numpy(clean).float() / 255 + 2 * radius * noise).clamp(0, 1)
        here, there = round_inside(clean, attacked, eps), round_inside(clean, attacked.to(DEVICE), eps)
        np.testing.assert_array_equal(here, there)

    def test_the_survey_is_the_processors(self, case, clean):
        layer = clean.there
        subject, plan = plan_attack(layer)
        here, there = (survey_probe(plan.tasks, subject, torch.device(device)) for device in ("cpu", DEVICE))
        for name, values in vars(here).items():
            np.testing.assert_array_equal(values, getattr(there, name), err_msg=name)

    def test_measures_are_the_processors(self):
        clean = draw_images(6)
        stored = (clean.int() + torch.randint(-6, 7, clean.shape)).clamp(0, 255).to(torch.uint8)
        here, there = compare_images(clean, stored), compare_images(clean.to(DEVICE), stored.to(DEVICE))
        for name, values in here.items():
            np.testing.assert_allclose(there[name], values, rtol=1e-4, atol=1e-5, err_msg=name)

    def test_redissection_counted_on_the_device_is_exact(self, case, clean):
        stored = poison(case, clean.there, "again")
        changes = list_changes(stored, show(case, stored))
        here, there = (redissect_on(device, clean.there, changes) for device in ("cpu", DEVICE))
        np.testing.assert_array_equal(here.iou, there.iou)
        np.testing.assert_array_equal(here.numbers, there.numbers)

    def test_redissection_of_the_same_images_is_the_processors_where_it_is_clear(self, case, clean):
        """The images that the device made, shown on the processor."""
        stored = poison(case, clean.there, "shown")
        numbers, margins = [], []
        for where, layer in ((case.on("cpu"), clean.here), (case, clean.there)):
            found = redissect_on("cpu", layer, list_changes(stored, show(where, stored)))
            numbers.append(found.numbers)
            best = np.sort(found.iou, axis=1)
            margins.append(best[:, -1] - best[:, -2])
        assert (margins[0][numbers[0] != numbers[1]] < 0.01).all()

    def test_minimum_epsilon(self, case, clean):
        found = find_smallest(case, clean.there)
        assert len(found) == len(plan_attack(clean.there)[1].tasks)
        assert (found["minimum_epsilon"].isna() | (found["minimum_epsilon"] <= 8)).all()
        assert (found["attacks"] >= 1).all()


class TestDevices:
    @needs_cuda
    def test_devices_by_name(self):
        assert choose_device("auto").type == "cuda"
        assert choose_device("cuda:0") == torch.device("cuda", 0)
        with pytest.raises(InputError, match="cuda:99 is not there"):
            choose_device("cuda:99")

    @needs_cuda
    def test_a_loaders_network_on_cuda_is_taken_to_the_processor(self, tmp_path):
        (tmp_path / "net.py").write_text("from torch import nn\n\ndef load():\n    return nn.Conv2d(3, 4, 3).cuda()\n")
        spec = {"kind": "file", "loader": f"{tmp_path}/net.py:load", "mean": [0.5] * 3, "std": [0.5] * 3}
        network = build_network("mine", spec)
        assert {parameter.device.type for parameter in network.module.parameters()} == {"cpu"}

    @needs_cuda
    def test_the_batch_fits(self):
        """An attack on VGG16's last layer, whose backward pass takes the most memory, with the batch of `auto`."""
        batch = choose_batch("auto", (224, 224), torch.device("cuda"))
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        images = draw_images(batch, 224).to(DEVICE).float() / 255
        rows = torch.arange(batch, device=DEVICE)
        objective = MeanActivation(rows, rows, torch.full((batch, 14, 14), 1 / 196, device=DEVICE))
        with LayerReader(build_vgg(), ["conv5_3"], DEVICE) as reader:
            attacked = UnitPGD(reader, "conv5_3", 2)(images, objective, torch.full((batch,), 6 / 255))
        assert (attacked - images).abs().max() <= 6 / 255 + 1e-6
        assert torch.cuda.max_memory_allocated() < 11e9
