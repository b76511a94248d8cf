"""The attack's costs against Eq. 7 and 9 written with loops, and what the loader makes of a plan."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from designed_layer import store_maps
from hypothesis import given, settings
from hypothesis import strategies as st

from nemesis.corruption.objective import MeanActivation, PublishedCost, load_window, make_objective
from nemesis.corruption.plan import Plan, Subject
from nemesis.corruption.targets import Task
from nemesis.dissection.upsample import carry_down
from nemesis.perturb.poison import ALL

THRESHOLDS = np.array([0.1, 0.2, -0.1, 0.3, 0.0])
PAIRS = [Task(0, 3, 300, 2), Task(2, 2, 10, 4), Task(4, 1, 301, 0), Task(1, 6, 3, 3), Task(3, 300)]
SINGLE = [(0, 0), (0, 6), (0, 9), (1, 0), (1, 5), (2, 3), (2, 4), (3, 2), (3, 6), (3, 8), (4, 1), (4, 6)]


@pytest.fixture(scope="module")
def maps(tiny, tmp_path_factory):
    return store_maps(tiny.probe, tmp_path_factory.mktemp("maps") / "maps.zarr")


def slow_upsample(maps, size):
    return F.interpolate(maps[None, None], size, mode="bilinear", align_corners=False)[0, 0]


def slow_costs(maps, entries):
    """Eq. 9: the mean over the source's pixels, less that over the target's, of each entry's upsampled map.

    An entry is (row, unit, source, target, scale).
    """
    costs = [torch.zeros(()) for _ in maps]
    for row, unit, source, target, scale in entries:
        for sign, region in ((1, source), (-1, target)):
            if region.any():
                up = slow_upsample(maps[row, unit], region.shape)
                costs[row] = costs[row] + sign * up[torch.from_numpy(region)].mean() / scale
    return torch.stack(costs)


def slow_published(maps, unit, cutoff, source, target):
    """The published code's cost of a batch, one number: over all pixels, or soft IoU with a cutoff."""
    up = torch.stack([slow_upsample(image_map, source.shape[1:]) for image_map in maps[:, unit]])
    if cutoff is None:
        means = [up[region].sum() / max(int(region.sum()), 1) for region in (source.bool(), target.bool())]
        return means[0] - means[1]
    mask = 1 / (1 + torch.exp(-(up - cutoff) / up.std()))
    ratios = [(mask * region).sum() / (torch.maximum(mask, region).sum() + 1e-8) for region in (source, target)]
    return ratios[0] - ratios[1]


def assert_alike(objective, slow, maps):
    """The same costs and the same gradient of their sum."""
    found, expected = objective(maps), slow(maps)
    assert found.shape == (len(maps),)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(costs.sum(), maps)[0] for costs in (found, expected)]
    assert gradients[1].any()
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


def random_maps(rng, shape):
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).requires_grad_()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=8), st.integers(0, 99))
def test_mean_activation(pairs, seed):
    rng = np.random.default_rng(seed)
    maps = random_maps(rng, (4, 5, 5, 7))
    source, target = rng.random((2, len(pairs), 16, 12)) < 0.3
    target[rng.random(len(pairs)) < 0.3] = False  # untargeted
    scale = rng.random(len(pairs)).astype(np.float32) + 0.5
    weights = [
        carry_down(part, (5, 7)) / np.maximum(part.sum(axis=(1, 2)), 1)[:, None, None] for part in (source, target)
    ]
    weights = (weights[0] - weights[1]) / scale[:, None, None]
    row, unit = torch.tensor(pairs).unbind(1)
    objective = MeanActivation(row, unit, torch.from_numpy(weights.astype(np.float32)))
    entries = [(*pair, *parts) for pair, parts in zip(pairs, zip(source, target, scale, strict=True), strict=True)]
    assert_alike(objective, lambda maps: slow_costs(maps, entries), maps)


def test_mean_activation_by_hand():
    maps = torch.tensor([[[[1.0, 5.0]], [[0.0, 8.0]]]])  # one image, two units, cells (1, 2) = pixels
    weights = torch.tensor([[[1.0, -1.0]], [[0.5, 0.5]]])
    assert MeanActivation(torch.tensor([0, 0]), torch.tensor([0, 1]), weights)(maps).tolist() == [1 - 5 + 4]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("cutoff", [None, 0.4])
@pytest.mark.parametrize("kind", ["float64", "bool"])
def test_published_cost(seed, targeted, cutoff, kind):
    rng = np.random.default_rng(seed)
    maps = random_maps(rng, (4, 3, 6, 5))
    regions = rng.random((2, 4, 12, 16)) < 0.3
    regions[1] *= targeted
    found = PublishedCost(1, *torch.from_numpy(regions.astype(kind)), cutoff)(maps)
    assert found.shape == (1,)
    expected = slow_published(maps, 1, cutoff, *torch.from_numpy(regions))
    torch.testing.assert_close(found.sum().float(), expected)
    gradients = [torch.autograd.grad(cost, maps)[0] for cost in (found.sum(), expected)]
    torch.testing.assert_close(*gradients)
    assert gradients[1].any() and not gradients[0][:, [0, 2]].any()


def plan_of(tasks, pairs):
    """A plan of (task, image) pairs."""
    task, image = np.array(pairs).T
    scale = np.linspace(0.5, 2, len(tasks))
    return Plan(tasks, image, task, 0 * image, task.copy(), scale)


def region_of(tiny, maps, masks, image, unit, number):
    """A concept's pixels in an image on any plane, or the cells where a unit's clean map exceeds its threshold."""
    if masks == "segmentation":
        return np.any([plane == number for plane in tiny.rows[image].planes()], axis=0) & (number > 0)
    if unit < 0:
        return np.zeros((10, 10), bool)
    return maps.read(slice(image, image + 1), slice(unit, unit + 1))[0, 0] > np.float32(THRESHOLDS[unit])


@pytest.mark.parametrize("masks", ["segmentation", "baseline"])
def test_loaded_rows_have_their_own_regions(tiny, maps, masks):
    plan, subject = plan_of(PAIRS, SINGLE), Subject(tiny.probe, maps, THRESHOLDS, masks, "equation7")
    window, rng = load_window(plan, subject, slice(1, 11)), np.random.default_rng(1)
    np.testing.assert_array_equal(window.images, tiny.probe.images(0, 12)[plan.image[1:11]])
    for first, last in ((1, 5), (5, 11)):
        entries = []
        for row in range(first, last):
            task, image = PAIRS[plan.task[row]], plan.image[row]
            source = region_of(tiny, maps, masks, image, task.unit, task.source)
            target = region_of(tiny, maps, masks, image, task.target_unit, task.target)
            entries.append((row - first, task.unit, source, target, 1))
        assert sum(entry[2].any() and entry[3].any() for entry in entries)
        found = make_objective(window, slice(first - 1, last - 1), subject, "cpu")
        assert_alike(
            found, lambda maps, entries=entries: slow_costs(maps, entries), random_maps(rng, (last - first, 5, 10, 10))
        )


@pytest.mark.parametrize("masks", ["segmentation", "baseline"])
@pytest.mark.parametrize("tasks", [PAIRS, PAIRS[2:4]])
def test_a_shared_row_has_every_task_with_a_source(tiny, maps, masks, tasks):
    images = [0, 1, 3, 6, 7, 11]
    plan = plan_of(tasks, [(ALL, image) for image in images])
    subject = Subject(tiny.probe, maps, THRESHOLDS, masks, "equation7")
    window = load_window(plan, subject, slice(0, 6))
    entries, nothing = [], np.zeros((1, 1), bool)
    for row, image in enumerate(images[1:4]):  # the first has no source of PAIRS[2:4]
        for task, scale in zip(tasks, plan.scale, strict=True):
            source = region_of(tiny, maps, masks, image, task.unit, task.source)
            entries.append((row, task.unit, source, nothing, scale))
    found = make_objective(window, slice(1, 4), subject, "cpu")
    assert_alike(found, lambda maps: slow_costs(maps, entries), random_maps(np.random.default_rng(2), (3, 5, 10, 10)))


@pytest.mark.parametrize("objective", ["published", "soft_iou"])
def test_loaded_batches_of_the_published_code(tiny, maps, objective):
    plan, subject = plan_of(PAIRS, SINGLE), Subject(tiny.probe, maps, THRESHOLDS, "segmentation", objective)
    window, rows = load_window(plan, subject, slice(3, 8)), slice(0, 2)  # rows 3 and 4: task 1
    found = make_objective(window, rows, subject, "cpu")
    regions = [
        torch.from_numpy(np.stack([region_of(tiny, maps, "segmentation", image, 0, number) for image in (0, 5)]))
        for number in (2, 10)
    ]
    maps_now = random_maps(np.random.default_rng(3), (2, 5, 10, 10))
    cutoff = THRESHOLDS[2] if objective == "soft_iou" else None
    torch.testing.assert_close(found(maps_now).sum().float(), slow_published(maps_now, 2, cutoff, *regions))
