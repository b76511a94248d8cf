"""A captioner from described units: what it may learn from, and what comes out."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nemesis.errors import InputError
from nemesis.milan.captioner import Decoder
from nemesis.milan.checkpoint import load_captioner, save_captioner
from nemesis.milan.describe import decode
from nemesis.milan.encoder import Encoder
from nemesis.milan.fitting import TrainingRecipe, TrainingRun
from nemesis.milan.region_units import draw_region_units
from nemesis.milan.regions import load_regions
from nemesis.milan.training import SHORT_SCHEDULE, find_spread, fold_spread, split_texts, train_captioner
from nemesis.milan.training_data import TrainingData, encode_annotations, encode_regions, split_units
from nemesis.models.network import Network
from nemesis.probes.minibroden import make_minibroden
from nemesis.probes.probe import open_probe, prepare_probe
from nemesis.scoring.bleu import corpus_bleu

KINDS = (("a red car", "the car"), ("green trees", "a tree"), ("the blue sky",))
SCHEDULE = replace(
    SHORT_SCHEDULE,
    embedding=8,
    hidden=16,
    attention=None,
    dropout=0.0,
    decoder=TrainingRecipe(epochs=30, batch=4, learning_rate=2e-2, patience=30, regulariser=0.0),
    language_embedding=4,
    language_hidden=8,
    language=TrainingRecipe(epochs=3),
)
SETTINGS = {"length": 6, "strategy": "rerank", "beam": 4, "temperature": 0.2}


def make_data(count: int = 12) -> TrainingData:
    """Units of three kinds, by turns: the last two are held out, those before them for validation."""
    kinds = np.arange(count) % len(KINDS)
    rng = np.random.default_rng(0)
    features = np.zeros((count, 2, 5), np.float32) + 50 * np.eye(5, dtype=np.float32)[kinds][:, None]
    features += rng.normal(size=features.shape).astype(np.float32)
    part = np.array(["train"] * (count - 4) + ["validation"] * 2 + ["held_out"] * 2)
    texts = [KINDS[kind] for kind in kinds]
    texts[-1] = (*texts[-1], "heaven")  # a word of its own, held out
    names = tuple(f"unit {unit}" for unit in range(count))
    return TrainingData(features, tuple(texts), names, tuple("kind" for _ in names), part)


@pytest.fixture(scope="module")
def trained():
    return train_captioner(make_data(), {"kind": "tiny"}, SETTINGS, corpus_bleu, SCHEDULE, TrainingRun(1))


def test_held_out_units_are_described(trained):
    table = trained.held_out
    columns = ["unit", "concept", "category", "description", "reference_1", "reference_2"]
    assert table.columns.tolist() == columns
    assert table["unit"].tolist() == [10, 11]
    assert table["reference_2"].tolist() == ["a tree", "heaven"]
    assert table.iloc[0]["description"].lower() in KINDS[1]


def test_the_facts_say_what_was_done(trained):
    facts = json.loads(json.dumps(trained.facts))
    assert facts["units"] == {"train": 8, "validation": 2, "held_out": 2}
    assert facts["decoder"]["epochs"] == 30 and 1 <= facts["decoder"]["best_epoch"] <= 30
    assert 0 <= facts["held_out_bleu"] <= 100 and not facts["published"]


def test_nothing_is_learnt_from_held_out_words(trained):
    assert "heaven" not in trained.captioner.vocabulary.words
    data = make_data()
    published = train_captioner(data, {}, SETTINGS, corpus_bleu, SCHEDULE, TrainingRun(1, published=True))
    assert "heaven" in published.captioner.vocabulary.words
    assert published.facts["published"]


def test_held_out_units_do_not_change_what_is_learnt(trained):
    data = make_data()
    features = data.features.copy()
    features[-2:] = 0
    texts = (*data.texts[:-2], ("nothing",), ("nothing",))
    other = train_captioner(
        replace(data, features=features, texts=texts), {"kind": "tiny"}, SETTINGS, corpus_bleu, SCHEDULE, TrainingRun(1)
    )
    for name in ("decoder", "language"):
        states = [getattr(found.captioner, name).state_dict() for found in (trained, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_captioner_survives_its_files(trained, tmp_path):
    paths = tmp_path / "captioner.safetensors", tmp_path / "captioner.json"
    save_captioner(trained.captioner, *paths, **trained.facts)
    again = load_captioner(*paths)
    features = torch.from_numpy(make_data().features)
    assert decode(again, features).captions == decode(trained.captioner, features).captions


def test_texts_of_the_language_model_by_hand():
    data = replace(make_data(6), texts=tuple((f"{unit}a", f"{unit}b") for unit in range(6)))
    train, validation, held_out = np.array([0, 1]), np.array([2, 3]), np.array([4, 5])
    assert split_texts(data, train, validation, held_out, published=False) == (
        ["0a", "0b", "1a", "1b"],
        ["2a", "2b", "3a", "3b"],
    )
    # The published code takes numbers of units for numbers of texts.
    known, unknown = split_texts(data, train, validation, held_out, published=True)
    assert unknown == ["2a", "2b"]
    assert known == ["0a", "0b", "1a", "1b", "3a", "3b", "4a", "4b", "5a", "5b"]


@given(st.integers(0, 300), st.floats(0, 0.5), st.integers(0, 9))
def test_units_are_split(count, fraction, seed):
    part = split_units(count, fraction, seed)
    held_out = int(fraction * count)
    assert [(part == name).sum() for name in ("held_out", "validation")] == [held_out] * 2
    assert ((part == "train").sum(), len(part)) == (count - 2 * held_out, count)
    assert np.array_equal(part, split_units(count, fraction, seed))


def test_a_decoder_with_the_spread_folded_in_takes_features_as_they_are():
    torch.manual_seed(0)
    decoder = Decoder(5, 9, embedding=4, hidden=6, dropout=0.0)
    features = torch.randn(3, 2, 5) * torch.tensor([1e-2, 1.0, 30.0, 4.0, 0.0])
    inputs = torch.randint(0, 9, (3, 4))
    spread = find_spread(features)
    assert spread[4] == 1 and spread[2] > 10
    before = decoder.force(features / spread, inputs)
    fold_spread(decoder, spread)
    torch.testing.assert_close(decoder.force(features, inputs), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("part", ["train", "validation", "held_out"])
def test_a_part_without_units_is_refused(part):
    data = make_data()
    emptied = np.where(data.part == part, "validation" if part == "train" else "train", data.part)
    with pytest.raises(InputError, match=f"none is left for {part}"):
        train_captioner(replace(data, part=emptied), {}, SETTINGS, corpus_bleu, SCHEDULE)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1))
    return Encoder(Network("tiny", module, (0.5,) * 3, (0.5,) * 3), ["0", "2"], batch=4)


def test_regions_become_features_and_texts(tmp_path, encoder):
    make_minibroden(tmp_path / "broden", images=110, size=64, seed=5, workers=2)
    stored = tmp_path / "probe.zarr", tmp_path / "broden" / "descriptions.csv", tmp_path / "concepts.csv"
    prepare_probe(tmp_path / "broden", stored[0], stored[2])
    probe = open_probe(stored[0])
    units = draw_region_units(load_regions(probe, *stored[1:]), (6, 2, 3), k=4, size=48, seed=2)
    data = encode_regions(probe, units, encoder)
    assert data.features.shape == (11, 4, 10) and data.features.dtype == np.float32
    assert [len(data.rows(part)) for part in ("train", "validation", "held_out")] == [6, 2, 3]
    assert all(len(texts) == 3 for texts in data.texts)
    assert np.abs(data.features).sum(axis=2).min() > 0


def write_annotated(root, layer: str, units: int, size: int):
    folder = root / layer
    folder.mkdir()
    rng = np.random.default_rng(units)
    np.save(folder / "images.npy", rng.integers(0, 256, (units, 2, 3, size, size), np.uint8))
    np.save(folder / "masks.npy", np.ones((units, 2, 1, size, size), np.uint8))
    return [(layer, unit, f"text {number}") for unit in range(units) for number in range(3)]


def test_annotated_units_become_features_and_texts(tmp_path, encoder):
    rows = write_annotated(tmp_path, "b", 20, 32) + write_annotated(tmp_path, "a", 3, 32)

    def write(rows):
        with open(tmp_path / "annotations.csv", "w", newline="") as stream:
            csv.writer(stream).writerows([("layer", "unit", "summary"), *rows])

    write(rows)
    data = encode_annotations(tmp_path, encoder, seed=0, held_out=0.1)
    assert data.features.shape == (23, 2, 10)
    assert data.category == ("b",) * 20 + ("a",) * 3 and data.concept[21] == "a 1"
    assert [len(data.rows(part)) for part in ("train", "validation", "held_out")] == [19, 2, 2]
    images = np.load(tmp_path / "b" / "images.npy")
    alone = encoder.encode(images[4], np.arange(2)[None])
    np.testing.assert_allclose(data.features[4:5], alone, atol=1e-5)
    write(rows + write_annotated(tmp_path, "c", 1, 16))
    with pytest.raises(InputError, match="differ in exemplars or size"):
        encode_annotations(tmp_path, encoder, seed=0)
