"""Which images are poisoned: counts and ranks against loops, budgets, and batches."""

import numpy as np
import pytest
from designed_layer import ArrayProbe, hold_maps, store_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_tally import slow_mask

from nemesis.corruption.attack import plan_windows
from nemesis.corruption.objective import concept_masks
from nemesis.corruption.plan import Subject, Survey, plan_rows, select_tasks, survey_probe, take_tasks
from nemesis.corruption.targets import Task
from nemesis.errors import InputError
from nemesis.perturb.poison import ALL, budget_images

THRESHOLDS = np.array([0.1, 0.2, -0.1, 0.3, 9.0])
# Concepts of one plane an image; unit 4 never fires.
TASKS = [Task(0, 2, 10, 3), Task(2, 301, 0, 0), Task(2, 5, 1), Task(1, 9, 2, 2), Task(4, 10, 0, 1), Task(3, 1)]
OBJECTIVES = ("equation7", "published", "soft_iou")


@pytest.fixture(scope="module", params=["float16", "float32"])
def maps(request, tiny, tmp_path_factory):
    return store_maps(tiny.probe, tmp_path_factory.mktemp("maps") / "maps.zarr", request.param)


def pixels_of(row, number):
    """Pixels (16, 16) of a concept on any plane; 0 has none."""
    return np.any([plane == number for plane in row.planes()], axis=0) & (number > 0)


def slow_survey(tiny, maps, tasks, thresholds, masks):
    """source, target, overlap (T, N), one image and task at a time."""
    counts = np.zeros((3, len(tasks), len(tiny.rows)), int)
    for number, row in enumerate(tiny.rows):
        cells = maps.read(slice(number, number + 1))[:, 0].astype(np.float32)
        for index, task in enumerate(tasks):
            mine, other = task.unit, task.target_unit
            if masks == "segmentation":
                source, target = pixels_of(row, task.source), pixels_of(row, task.target)
                seen = slow_mask(cells[mine], thresholds[mine], (16, 16))
            else:
                source = seen = cells[mine] > np.float32(thresholds[mine])
                target = cells[other] > np.float32(thresholds[other]) if other >= 0 else np.zeros(1)
            counts[:, index, number] = source.sum(), target.sum(), (source & seen).sum()
    return counts


def survey_of(tiny, maps, tasks, masks="segmentation", thresholds=THRESHOLDS):
    return survey_probe(tasks, Subject(tiny.probe, maps, thresholds, masks, "equation7"), "cpu", shared=True)


@pytest.mark.parametrize("masks", ["segmentation", "baseline"])
def test_survey_is_that_of_loops(tiny, maps, masks):
    found = survey_of(tiny, maps, TASKS, masks)
    source, target, overlap = slow_survey(tiny, maps, TASKS, THRESHOLDS, masks)
    assert (overlap > 0).any(axis=1).tolist() == [True] * 4 + [False, True]
    assert (overlap < source).any() == (masks == "segmentation")
    np.testing.assert_array_equal(found.source, source)
    np.testing.assert_array_equal(found.target, target)
    np.testing.assert_array_equal(found.overlap, overlap)
    values = maps.read(slice(0, 12)).astype(float)[[task.unit for task in TASKS]]
    np.testing.assert_array_equal(found.highest, values.max(axis=(2, 3)))
    np.testing.assert_allclose(found.deviation, values.std(axis=(1, 2, 3)), rtol=1e-6)
    influence = sum(part / np.maximum(part.sum(axis=1, keepdims=True), 1) for part in (overlap, target))
    np.testing.assert_allclose(found.influence, influence, rtol=1e-12)


def test_a_pixel_on_two_planes_counts_once(tiny, maps):
    """The size of a region is that of the masks which the attack takes its mean over."""
    tasks, scalars = [Task(0, 3, 300), Task(1, 8, 7), Task(2, 6, 4)], tiny.probe.scalars
    found = survey_of(tiny, maps, tasks)
    for index, task in enumerate(tasks):
        for name in ("source", "target"):
            numbers = np.full(12, getattr(task, name))
            sizes = concept_masks(tiny.probe.labels(0, 12), scalars, numbers).sum(axis=(1, 2))
            np.testing.assert_array_equal(getattr(found, name)[index], sizes, err_msg=f"{task}, {name}")


@pytest.mark.parametrize("cells", [(16, 16), (5, 5), (12, 10), (32, 32)])
def test_a_unit_that_fires_nowhere_in_a_block(tiny, cells):
    """Maps of any resolution against label maps of 16 x 16 pixels; in the second block no mask exists."""
    values = np.random.default_rng(0).normal(size=(2, 12, *cells)).astype(np.float16)
    values[:, 5:10] = -9
    maps, tasks, thresholds = hold_maps(values), [Task(1, 2)], np.array([1.0, 1.0])
    overlap = slow_survey(tiny, maps, tasks, thresholds, "segmentation")[2]
    np.testing.assert_array_equal(survey_of(tiny, maps, tasks, thresholds=thresholds).overlap, overlap)


@st.composite
def surveys(draw, tasks=3):
    """Random sizes, with ties of influence and of activation, and images without a region."""
    rng, count = np.random.default_rng(draw(st.integers(0, 9999))), draw(st.integers(8, 40))
    source, target, overlap = rng.integers(0, 4, (3, tasks, count)) * (rng.random((3, tasks, count)) < 0.6)
    source[:, 0], target[0] = 2, 0
    highest = rng.integers(0, 3, (tasks, count)).astype(np.float32)
    return Survey(source, target, np.minimum(overlap, source), highest, rng.random(tasks))


def slow_rows(influence, highest, candidates, budget):
    """[(image, rank)] of the most influential candidates, ascending image."""
    order = sorted(candidates, key=lambda n: (-influence[n], -highest[n], n))[:budget]
    return sorted((image, rank) for rank, image in enumerate(order))


@settings(max_examples=60)
@given(surveys(), st.floats(0.13, 1))
def test_rows_are_the_most_influential_images(survey, fraction):
    tasks = [Task(unit, 1) for unit in range(3)]
    count = survey.source.shape[1]
    plan, budget = plan_rows(tasks, survey, fraction), int(fraction * count + 1e-9)
    assert plan.tasks == tasks
    assert (np.diff(plan.task) >= 0).all()
    for index in range(3):
        mine = plan.task == index
        candidates = [n for n in range(count) if survey.source[index, n] or survey.target[index, n]]
        expected = slow_rows(survey.influence[index], survey.highest[index], candidates, budget)
        assert list(zip(plan.image[mine].tolist(), plan.rank[mine].tolist(), strict=True)) == expected
        assert 0 < mine.sum() <= fraction * count + 1e-6
        order = survey.influence[index, plan.image[mine][np.argsort(plan.rank[mine])]]
        assert (np.diff(order) <= 0).all()
    np.testing.assert_array_equal(plan.scale, survey.deviation)


@settings(max_examples=30)
@given(surveys(), st.floats(0.13, 1))
def test_a_shared_plan_is_one_choice_for_all(survey, fraction):
    count = survey.source.shape[1]
    plan = plan_rows([Task(unit, 1) for unit in range(3)], survey, fraction, shared=True)
    candidates = [n for n in range(count) if survey.source[:, n].any() or survey.target[:, n].any()]
    influence, highest = survey.influence.sum(axis=0), survey.highest.max(axis=0)
    expected = slow_rows(influence, highest, candidates, int(fraction * count + 1e-9))
    assert list(zip(plan.image.tolist(), plan.rank.tolist(), strict=True)) == expected
    assert set(plan.task.tolist()) == {ALL}


def long_survey(count=150, tasks=2):
    rng = np.random.default_rng(3)
    source, target = rng.integers(0, 50, (2, tasks, count))
    source[:, ::3], target[:, ::4] = 0, 0
    return Survey(source, target, source // 2, rng.random((tasks, count)).astype(np.float32), np.ones(tasks))


def test_published_batches_are_of_64_images_of_a_task():
    row = 0
    plan = plan_rows([Task(0, 1), Task(1, 2)], long_survey(), 0.9)
    groups = []
    for index in range(2):
        chosen = plan.image[plan.task == index]
        assert 64 < len(chosen) <= 135
        for start in range(0, len(chosen), 64):
            batch = chosen[start : start + 64]
            here = slice(row, row + len(batch))
            assert len(np.unique(plan.group[here])) == 1
            groups.append(plan.group[row])
            row += len(batch)
    assert row == len(plan)
    assert len(set(groups)) == len(groups) > 3


@given(st.integers(1, 5000), st.floats(0, 1))
def test_a_budget_is_at_most_its_fraction(count, fraction):
    images = budget_images(fraction, count)
    assert images / count <= fraction + 1e-9 < (images + 1) / count + 2e-9
    assert budget_images(images / count, count) == images


def test_budgets_of_decimal_fractions():
    assert [budget_images(*pair) for pair in ((0.29, 100), (0.1, 63325), (0.1, 9), (0.07, 100))] == [29, 6332, 0, 7]


def test_nothing_to_poison_is_one_line():
    survey, tasks = long_survey(9), [Task(5, 1), Task(7, 2)]
    with pytest.raises(InputError, match=r"^designed\.max_fraction: 0\.1 of 9 images is none; raise it$"):
        plan_rows(tasks, survey, 0.1)
    survey.source[1] = survey.target[1] = 0
    for shared in (False, True):
        with pytest.raises(
            InputError, match=r"^designed: layer conv, unit 7: no image has a pixel of its source or.*$"
        ):
            plan_rows(tasks, survey, 0.5, shared, "conv")


def test_some_tasks_of_a_plan():
    plan = plan_rows([Task(0, 1), Task(1, 2)], long_survey(), 0.9)
    part, mine = select_tasks(plan, np.array([False, True])), plan.task == 1
    assert part.tasks == plan.tasks
    for name in ("image", "task", "rank", "group"):
        np.testing.assert_array_equal(getattr(part, name), getattr(plan, name)[mine])


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
@pytest.mark.parametrize("shared", [False, True])
def test_shards_hold_every_row_once(shards, shared):
    tasks = [Task(unit, 1) for unit in range(5)]
    survey = long_survey(30, 5)
    plan = plan_rows(tasks, survey, 0.5, shared)
    found, start = [], 0
    for shard in range(shards):
        part = take_tasks(tasks, shard, shards, shared)
        if part:
            chosen = slice(start, start + len(part))
            seen = Survey(*(values[chosen] for values in vars(survey).values()))
            found.append((start, plan_rows(part, seen, 0.5, shared)))
        start += len(part)
    assert [task for _, part in found for task in part.tasks] == tasks
    shifted = [np.where(part.task == ALL, ALL, part.task + first) for first, part in found]
    np.testing.assert_array_equal(np.concatenate(shifted), plan.task)
    np.testing.assert_array_equal(np.concatenate([part.group + 30 * first for first, part in found]), plan.group)
    for name in ("image", "rank", "scale"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for _, p in found]), getattr(plan, name))


def subject_of(objective):
    probe = ArrayProbe(np.zeros((1, 1, 4, 4), np.uint16), np.zeros((1, 1), np.uint16))
    return Subject(probe, None, THRESHOLDS, "segmentation", objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("window", [1, 5, 10**6])
def test_batches_are_full_or_the_published_groups(objective, batch, window, monkeypatch):
    monkeypatch.setattr("nemesis.corruption.attack.WINDOW_BYTES", window * batch * 3 * 20 * 30)
    monkeypatch.setattr(ArrayProbe, "size", (20, 30), raising=False)
    plan = plan_rows([Task(0, 1), Task(1, 2)], long_survey(), 0.9)
    spans = plan_windows(plan, subject_of(objective), batch)
    batches = [pair for _, inside in spans for pair in inside]
    rows = [row for first, last in batches for row in range(first, last)]
    assert rows == list(range(len(plan)))
    for rows, inside in spans:
        assert (rows.start, rows.stop) == (inside[0][0], inside[-1][1])
        assert len(inside) <= window
    if objective != "equation7":
        assert [len(set(plan.group[first:last])) for first, last in batches] == [1] * len(set(plan.group))
    else:
        assert [last - first for first, last in batches[:-1]] == [batch] * (len(batches) - 1)
