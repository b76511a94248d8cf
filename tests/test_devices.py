"""The library on a device that is not the processor: nothing mixes the two, and the numbers are the processor's."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from designed_layer import LAYER, tiny_network
from device_runs import (
    Case,
    count_collateral,
    count_streamed,
    dissect,
    extract,
    find_smallest,
    list_changes,
    open_layer,
    poison,
    precision,
    read_all,
    redissect_on,
    show,
)
from pretend_device import DEVICE, MixedDevices, pretend_device
from slow_milan import draw_captioner
from test_milan_describe import exemplars_of
from test_milan_training import SCHEDULE, SETTINGS, make_data

from nemesis.dissection.stored import open_maps
from nemesis.milan.describe import Search, describe
from nemesis.milan.encoder import Encoder
from nemesis.milan.fitting import TrainingRun
from nemesis.milan.training import train_captioner
from nemesis.models import network
from nemesis.scoring.bleu import corpus_bleu

ROUNDED = 2**-9  # two steps of float16: the pretended device is the processor, by another of its kernels perhaps


@pytest.fixture
def both(tiny, tmp_path):
    """both(work) gives what work(case) gives on the processor, and on the pretended device."""
    case = Case(tiny.probe, tiny.concepts, tiny_network, LAYER, tmp_path)

    def run(work):
        here = work(case.on("cpu"))
        with pretend_device():
            return here, work(case.on(str(DEVICE)))

    return run


class TestThePretence:
    def test_mixing_is_found(self):
        with pretend_device():
            there = torch.ones(2, 3).to(DEVICE)
            assert there.device == DEVICE and (2 * there).device == DEVICE
            with pytest.raises(MixedDevices, match="add"):
                there + torch.ones(2, 3)
            with pytest.raises(MixedDevices, match="index"):
                torch.ones(4)[torch.tensor([0, 1], device=DEVICE)]
            with pytest.raises(MixedDevices, match="numpy"):
                there.numpy()
            with pytest.raises(MixedDevices, match="embedding"):
                torch.nn.Embedding(3, 2).to(DEVICE)(torch.tensor([1]))

    def test_what_cuda_takes_is_taken(self):
        with pretend_device():
            there = torch.ones(4, device=DEVICE)
            assert (there + torch.tensor(2.0)).tolist() == [3] * 4
            assert there[torch.tensor([0, 1])].device == DEVICE
            here = torch.zeros(4)
            here[:2] = there[:2]
            assert here.tolist() == [1, 1, 0, 0] and there.cpu().numpy().sum() == 4


def test_extraction(both):
    here, there = both(lambda case: read_all(open_maps(extract(case), case.layer)))
    np.testing.assert_allclose(here, there, rtol=ROUNDED, atol=1e-3)


def test_dissection_counted_on_the_device(both):
    here, there = both(lambda case: dissect(case, open_maps(extract(case), case.layer), replicates=2))
    assert len(here) == len(there) == 3
    for (_, iou, table), (_, other, found) in zip(here, there, strict=True):
        np.testing.assert_array_equal(iou, other)
        pd.testing.assert_frame_equal(table, found)


def test_streamed_dissection(both):
    here, there = both(count_streamed)
    np.testing.assert_array_equal(here[0][1], there[0][1])


@pytest.mark.parametrize("objective", ["equation7", "published", "soft_iou"])
def test_attack_and_what_follows(both, objective):
    def work(case):
        layer = open_layer(case)
        stored = poison(case, layer, objective=objective)
        found = show(case, stored)
        again = redissect_on(case.device, layer, list_changes(stored, found))
        return stored.store["delta"][...], found.maps, found.measures, again.numbers

    here, there = both(work)
    assert np.abs(here[0]).max() == 8
    assert (here[0] != there[0]).mean() < 0.05  # sign steps amplify last bits
    assert np.abs(here[1] - there[1]).max() < 0.05 * np.abs(here[1]).max()
    assert all(np.allclose(here[2][name], there[2][name], rtol=0.02) for name in here[2])
    np.testing.assert_array_equal(here[3], there[3])


def test_minimum_epsilon_and_collateral(both):
    def work(case):
        layer = open_layer(case)
        return find_smallest(case, layer), count_collateral(case, layer, poison(case, layer))

    here, there = both(work)
    for table, found in zip(here, there, strict=True):
        pd.testing.assert_frame_equal(table, found)


def describe_rows(device, seed, **search):
    """Captions of some rows by a drawn captioner on a device."""
    captioner = draw_captioner(features=4 + 5, words=7)
    encoder = Encoder(tiny_network(), ["0", LAYER], device, batch=3)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    exemplars = exemplars_of(pictures, rng.integers(0, 6, (5, 3)), rng.random((5, 3, 1, 32, 32)) < 0.5)
    return describe(exemplars, captioner, encoder, Search(**search), seed=seed)


@pytest.mark.parametrize(
    ("strategy", "published"),
    [("greedy", False), ("sample", False), ("sample", True), ("rerank", False), ("rerank", True)],
)
def test_descriptions(strategy, published, monkeypatch):
    monkeypatch.setattr(network, "_share_memory", lambda *_: True)  # a pretended tensor has none to compare
    here = describe_rows("cpu", strategy=strategy, published=published, seed=4)
    with pretend_device():
        there = describe_rows(str(DEVICE), strategy=strategy, published=published, seed=4)
    pd.testing.assert_frame_equal(here, there)


@pytest.mark.parametrize("published", [False, True])
def test_training_a_captioner(published):
    decoder, language = (replace(recipe, epochs=2) for recipe in (SCHEDULE.decoder, SCHEDULE.language))
    arguments = (make_data(), {}, SETTINGS, corpus_bleu, replace(SCHEDULE, decoder=decoder, language=language))
    here = train_captioner(*arguments, TrainingRun(1, published))
    with pretend_device():
        there = train_captioner(*arguments, TrainingRun(1, published, device=str(DEVICE)))
    pd.testing.assert_frame_equal(here.held_out, there.held_out)
    assert here.facts == there.facts


def test_precision_is_set_without_a_warning_and_put_back():
    """As `make gpu` sets it, and its tests."""
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tf32, word in ((True, "tf32"), (False, "ieee")):
            with precision(tf32):
                assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == word
                torch.ones(2, 2) @ torch.ones(2, 2)
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
