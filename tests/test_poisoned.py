"""What a designed corruption changed, stored and read back inside its eps."""

import dataclasses
from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from designed_layer import LAYER, store_maps, take_shard, tiny_reader
from hypothesis import given
from hypothesis import strategies as st

from nemesis.corruption import attack as attack_module
from nemesis.corruption.attack import UnitPGD, attack_rows
from nemesis.corruption.objective import load_window, make_objective
from nemesis.corruption.plan import Plan, Subject, plan_rows, survey_probe
from nemesis.corruption.targets import Task
from nemesis.errors import InputError
from nemesis.perturb import pgd
from nemesis.perturb import poison as poison_module
from nemesis.perturb.poison import ALL, join_poison, open_poison, write_poison
from nemesis.perturb.storage import store_image
from nemesis.stores import Origin

TASKS = [Task(2, 3, 10, 1), Task(0, 1), Task(4, 301, 2)]
PLAN = Plan(
    TASKS,
    image=np.array([0, 3, 5, 11, 1, 3, 2, 6]),
    task=np.array([0, 0, 0, 0, 1, 1, 2, 2]),
    rank=np.array([2, 0, 1, 3, 0, 1, 1, 0]),
    group=np.zeros(8, int),
    scale=np.ones(3),
)


def round_inside(clean, attacked, eps):
    return pgd.round_inside(clean, torch.as_tensor(attacked), eps)


EPS = [0, 0.5, 2, 2.5, 4, 6, 127, 127.5, 128, 200, 255]


def project(clean, attacked, eps):
    """As an attack leaves images: float32, in the ball and in [0, 1]."""
    clean, eps = clean.astype(np.float32) / np.float32(255), np.float32(eps) / np.float32(255)
    return np.clip(np.clip(attacked.astype(np.float32), clean - eps, clean + eps), 0, 1)


def fake_attack(probe, plan, eps, seed=0):
    """Yields rows in uneven parts: values all over the ball, its edges and the clean image among them."""
    rng = np.random.default_rng(seed)
    for start, stop in ((0, 3), (3, 4), (4, len(plan))):
        clean = probe.take_images(plan.image[start:stop])
        share = rng.choice([-1, 0, 1, 0.5, *rng.uniform(-1, 1, 20)], clean.shape)
        yield slice(start, stop), clean, torch.from_numpy(project(clean, (clean + eps * share) / 255, eps))


def write_and_open(tiny, path, eps, residue=True, plan=PLAN, attacked=None, chunk=3, **attrs):
    attacked = fake_attack(tiny.probe, plan, eps) if attacked is None else attacked
    differences = pgd.round_rows(attacked, eps, residue)
    with mock.patch.object(poison_module, "DELTA_BYTES", chunk * 3 * np.prod(tiny.probe.size)):
        write_poison(path, plan, differences, tiny.probe.size, Origin("hash"), **attrs)
    return open_poison(path, Task)


def images_of(tiny, eps, plan=PLAN):
    """The clean and the attacked images of all rows."""
    parts = list(fake_attack(tiny.probe, plan, eps))
    return np.concatenate([part[1] for part in parts]), torch.cat([part[2] for part in parts]).numpy()


@given(st.one_of(st.sampled_from(EPS), st.floats(0, 255)), st.integers(0, 999))
def test_rounding_stays_inside(eps, seed):
    rng = np.random.default_rng(seed)
    clean = rng.choice([0, 1, 127, 254, 255, *rng.integers(0, 256, 9)], (2, 3, 6, 5)).astype(np.uint8)
    attacked = project(clean, rng.uniform(-0.2, 1.2, clean.shape), eps)
    delta = round_inside(clean, attacked, np.full(2, eps))
    difference = attacked.astype(float) * 255 - clean
    assert delta.dtype == np.int16
    assert (np.abs(delta) <= eps + 2e-6).all()
    assert ((clean + delta >= 0) & (clean + delta <= 255)).all()
    assert (np.abs(delta - difference) <= max(0.5, eps - np.floor(eps)) + 1e-4).all()
    assert (delta * difference >= -1e-3).all()


def test_rounding_by_hand():
    clean = np.array([10, 10, 10, 10, 0, 255], np.uint8).reshape(1, 1, 1, 6)
    attacked = (np.array([12.4, 7.5, 10.4, 9.7, 2.5, 252.6], np.float32) / 255).reshape(clean.shape)
    for eps, expected in ((2.5, [2, -2, 0, 0, 2, -2]), (2, [2, -2, 0, 0, 2, -2]), (3, [2, -2, 0, 0, 2, -2])):
        assert round_inside(clean, attacked, np.array([eps])).ravel().tolist() == expected
    two = round_inside(np.repeat(clean, 2, 0), np.repeat(attacked, 2, 0), np.array([1, 0.9]))
    assert two.reshape(2, 6).tolist() == [[1, -1, 0, 0, 1, -1], [0] * 6]


def test_what_was_written_is_read_back(tiny, tmp_path):
    poison = write_and_open(tiny, tmp_path / "poison.zarr", 6, layer="conv", steps=10)
    assert poison.tasks == TASKS
    assert {"eps": 6, "layer": "conv", "steps": 10, "config_hash": "hash"}.items() <= poison.attrs.items()
    for name in ("task", "image", "rank"):
        np.testing.assert_array_equal(getattr(poison, name), getattr(PLAN, name))
    for name in ("unit", "source", "target", "target_unit"):
        assert poison.store[name][...].tolist() == [getattr(TASKS[task], name) for task in PLAN.task]
    assert [poison.rows_of(task).tolist() for task in range(3)] == [[0, 1, 2, 3], [4, 5], [6, 7]]
    clean, attacked = images_of(tiny, 6)
    np.testing.assert_array_equal(poison.store["delta"][...], round_inside(clean, attacked, np.full(8, 6)))
    assert poison.store["delta"].attrs["units"] == "1/255"


def test_a_shared_attacks_rows_are_every_tasks(tiny, tmp_path):
    plan = dataclasses.replace(PLAN, task=np.full(8, ALL), image=np.array([0, 1, 2, 3, 5, 6, 8, 11]))
    poison = write_and_open(tiny, tmp_path / "poison.zarr", 4, plan=plan)
    assert poison.tasks == TASKS
    assert poison.store["unit"][...].tolist() == poison.store["target"][...].tolist() == [-1] * 8
    for task in range(3):
        assert poison.rows_of(task).tolist() == list(range(8))


@pytest.mark.parametrize("eps", EPS)
def test_storages(tiny, tmp_path, eps):
    poison, (clean, attacked) = write_and_open(tiny, tmp_path / "poison.zarr", eps), images_of(tiny, eps)
    assert poison.store["delta"].dtype == ("int8" if eps < 128 else "int16")
    for rows in (slice(0, 8), slice(2, 5), slice(7, 8)):
        exact = poison.stored(rows, clean[rows], "float")
        assert exact.dtype == np.float32
        np.testing.assert_allclose(exact, attacked[rows], rtol=0, atol=1e-5)
        assert (np.abs(exact * 255.0 - clean[rows]) <= eps + 1e-3).all()
        assert 0 <= exact.min() <= exact.max() <= 1
        lossless = poison.stored(rows, clean[rows], "lossless")
        assert lossless.dtype == np.uint8
        difference = lossless.astype(float) - clean[rows]
        assert np.abs(difference).max() <= eps
        np.testing.assert_array_equal(difference, round_inside(clean[rows], attacked[rows], np.full(8, eps)[rows]))
        jpeg = poison.stored(rows, clean[rows], "jpeg-90")
        for number, image in enumerate(lossless):
            np.testing.assert_array_equal(
                jpeg[number], store_image(image.astype(np.float32) / np.float32(255), "jpeg-90")
            )
    if eps >= 128:
        assert np.abs(poison.store["delta"][...]).max() > 127


def test_published_storage_truncates_the_attacked_images(tiny, tmp_path):
    poison, (clean, attacked) = write_and_open(tiny, tmp_path / "poison.zarr", 4), images_of(tiny, 4)
    found = poison.stored(slice(0, 8), clean, "published")
    expected = np.stack([store_image(image, "published") for image in attacked])
    assert (found == expected).mean() > 0.999
    assert (found != poison.stored(slice(0, 8), clean, "jpeg-75")).any()


@pytest.mark.parametrize("residue", [True, False])
def test_no_eps_changes_nothing(tiny, tmp_path, residue):
    poison, (clean, _) = write_and_open(tiny, tmp_path / "poison.zarr", 0, residue), images_of(tiny, 0)
    assert not poison.store["delta"][...].any()
    assert ("residue" in poison.store) == residue
    np.testing.assert_array_equal(poison.stored(slice(0, 8), clean, "lossless"), clean)
    if residue:
        assert not poison.store["residue"][...].any()
        np.testing.assert_array_equal(poison.stored(slice(0, 8), clean, "float"), clean / np.float32(255))


@pytest.mark.parametrize("name", ["delta", "residue", "image", "task_unit"])
def test_a_missing_chunk_is_one_line(tiny, tmp_path, name):
    write_and_open(tiny, tmp_path / "poison.zarr", 4)
    next(path for path in (tmp_path / "poison.zarr" / name / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(InputError, match=rf"^.*poison\.zarr: array '{name}' lacks chunk .*$"):
        open_poison(tmp_path / "poison.zarr")


def test_an_attack_that_fails_leaves_nothing(tiny, tmp_path):
    def broken():
        yield next(fake_attack(tiny.probe, PLAN, 4))
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        write_and_open(tiny, tmp_path / "poison.zarr", 4, attacked=broken())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", [PLAN.task, np.full(8, ALL)])
def test_joined_shards_are_the_whole(tiny, tmp_path, task):
    plan = dataclasses.replace(PLAN, task=task)
    whole = write_and_open(tiny, tmp_path / "whole.zarr", 4, plan=plan, layer="conv")
    shards, start = [tmp_path / f"{shard}.zarr" for shard in range(4)], 0
    for shard, path in enumerate(shards):  # the last one is empty, as are all but the first of a shared attack
        part = take_shard(plan, shard, 4)
        clean, attacked = (images[start : start + len(part)] for images in images_of(tiny, 4, plan))
        rows = iter([(slice(0, len(part)), clean, torch.from_numpy(attacked))] if len(part) else [])
        write_and_open(tiny, path, 4, plan=part, attacked=rows, chunk=shard + 1, layer="conv")
        start += len(part)
    join_poison(shards, tmp_path / "joined.zarr")
    joined = open_poison(tmp_path / "joined.zarr", Task)
    assert joined.tasks == whole.tasks
    assert {"eps": 4, "layer": "conv", "config_hash": "hash"}.items() <= joined.attrs.items()
    for name, array in whole.store.arrays():
        np.testing.assert_array_equal(joined.store[name][...], array[...], err_msg=name)
        assert joined.store[name].dtype == array.dtype


THRESHOLDS = np.array([0.1, 0.2, -0.1, 0.3, 0.0])


@pytest.fixture(scope="module")
def maps(tiny, tmp_path_factory):
    return store_maps(tiny.probe, tmp_path_factory.mktemp("maps") / "maps.zarr")


def plan_of(tiny, maps, masks, shared):
    survey = survey_probe(TASKS, Subject(tiny.probe, maps, THRESHOLDS, masks, "equation7"), "cpu")
    return plan_rows(TASKS, survey, 0.5, shared)


MODES = [
    ("segmentation", "equation7", False),
    ("segmentation", "published", False),
    ("segmentation", "soft_iou", False),
]
MODES += [
    ("baseline", "published", False),
    ("baseline", "equation7", False),
    ("segmentation", "equation7", True),
    ("baseline", "equation7", True),
]


@pytest.mark.parametrize("mode", MODES)
def test_an_attacks_images_are_stored(tiny, maps, tmp_path, mode, monkeypatch):
    """From a plan to stored images of a lower cost, the same however many rows are loaded at once."""
    masks, objective, shared = mode
    plan = plan_of(tiny, maps, masks, shared)
    subject = Subject(tiny.probe, maps, THRESHOLDS, masks, objective)
    eps, batch = np.full(len(plan), 8.0), 4
    with tiny_reader() as reader:
        attack = UnitPGD(reader, LAYER, 3)
        parts = list(attack_rows(attack, plan, subject, eps, batch))
        monkeypatch.setattr(attack_module, "WINDOW_BYTES", 1)
        smaller = list(attack_rows(attack, plan, subject, eps, batch))
        assert len(parts) == 1 < len(smaller)
        np.testing.assert_array_equal(np.concatenate([part[2] for part in smaller]), parts[0][2])
        poison = write_and_open(tiny, tmp_path / "poison.zarr", 8, plan=plan, attacked=iter(smaller))
        clean = tiny.probe.take_images(plan.image)
        np.testing.assert_array_equal(parts[0][1], clean)
        stored = poison.stored(slice(0, len(plan)), clean, "lossless")
        assert 4 < np.abs(stored - clean.astype(float)).max() <= 8
        window = load_window(plan, subject, slice(0, len(plan)))
        for first, last in pairwise([0, *np.flatnonzero(np.diff(plan.task)) + 1, len(plan)]):
            cost = make_objective(window, slice(first, last), subject, "cpu")
            with torch.inference_mode():
                before, after = (cost(reader.read(images[first:last])[LAYER]) for images in (clean, stored))
            assert after.sum() < before.sum()


def test_eps_differs_by_row(tiny, maps):
    plan, subject = (
        plan_of(tiny, maps, "segmentation", False),
        Subject(tiny.probe, maps, THRESHOLDS, "segmentation", "equation7"),
    )
    eps = np.arange(len(plan)) % 5 * 1.5
    with tiny_reader() as reader:
        ((_, clean, attacked),) = attack_rows(UnitPGD(reader, LAYER, 3), plan, subject, eps, 4)
    reached = np.abs(attacked.numpy() * 255.0 - clean).max(axis=(1, 2, 3))
    np.testing.assert_allclose(reached, eps, atol=1e-3)
