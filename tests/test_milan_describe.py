"""From exemplars to descriptions: the published captions, and no influence of company."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_milan import draw_captioner
from torch import nn

from nemesis.errors import InputError
from nemesis.milan.checkpoint import load_published
from nemesis.milan.describe import Search, describe
from nemesis.milan.encoder import Encoder
from nemesis.milan.exemplar_store import open_exemplars, write_exemplars
from nemesis.milan.exemplars import Exemplars, LazyArray
from nemesis.models.network import Network


def exemplars_of(pictures, picture, masks, unit=None, **columns) -> Exemplars:
    """Exemplars (R, k) of pictures and masks; what describing does not look at is made up."""
    shape = picture.shape
    unit = np.arange(len(picture)) if unit is None else unit
    zeros = np.zeros(shape, np.float32)
    ids = picture.astype(np.uint32)
    lazy = [LazyArray(values.shape, values.dtype, values.__getitem__) for values in (pictures, masks)]
    return Exemplars(unit.astype(np.int32), columns, ids, zeros, zeros[:, 0], picture.astype(np.int32), *lazy)


class GoldenBackbone(nn.Sequential):
    """The network behind the golden captioner; its parameters have the checkpoint's names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(12, 10)


@pytest.fixture(scope="module")
def published(shared):
    """The golden captioner with its encoder, and the exemplars that it described."""
    captioner = load_published(shared("golden/milan/decoder.pth"))
    module = GoldenBackbone()
    module.load_state_dict(captioner.encoder_state)
    mean, std = captioner.encoder["mean"], captioner.encoder["std"]
    encoder = Encoder(Network("tiny", module, mean, std), ["conv1", "layer1", "layer2"])
    arrays = np.load(shared("golden/milan/encoder.npz"))
    pictures, masks = arrays["images"].reshape(-1, 3, 32, 32), arrays["masks"].astype(bool)
    return captioner, encoder, exemplars_of(pictures, np.arange(40).reshape(8, 5), masks)


@pytest.mark.parametrize(
    ("key", "search"),
    [
        ("images_rerank8", {"strategy": "rerank", "beam": 8}),
        ("images_greedy_nomi", {"strategy": "greedy", "mi": False}),
    ],
)
def test_published_descriptions(published, shared, key, search):
    captioner, encoder, exemplars = published
    table = describe(exemplars, captioner, encoder, Search(**search, published=True))
    captions = json.loads(shared("golden/milan/decode.json").read_text())
    scores = np.load(shared("golden/milan/decode.npz"))[f"{key}/scores"]
    assert table["description"].tolist() == captions_of(captions[key])
    np.testing.assert_allclose(table["score"], scores, rtol=1e-5, atol=2e-5)


def test_published_predictions_of_images(published, shared):
    captions = json.loads(shared("golden/milan/decode.json").read_text())["predict_default"]
    table = describe(published[2], *published[:2], Search(published=True))
    assert table["description"].tolist() == captions_of(captions)


def captions_of(entry) -> list[str]:
    return entry["captions"] if isinstance(entry, dict) else list(entry)


@pytest.fixture(scope="module")
def scene():
    """A captioner and an encoder with random weights, and the exemplars of 12 rows."""
    torch.manual_seed(3)
    captioner = draw_captioner(features=24, seed=1)
    encoder = Encoder(
        Network("tiny", GoldenBackbone(), (0.5,) * 3, (0.01,) * 3), ["conv1", "layer1", "layer2"], batch=5
    )
    rng = np.random.default_rng(4)
    pictures = rng.integers(0, 256, (20, 3, 24, 24), dtype=np.uint8)
    masks = rng.random((12, 4, 1, 24, 24)) < rng.random((12, 4, 1, 1, 1))
    columns = {"fraction": np.repeat([0.5, 1.0], 6), "seed": np.zeros(12, int)}
    unit = np.tile([7, 3, 9, 11, 2, 30], 2)
    return captioner, encoder, exemplars_of(pictures, rng.integers(0, 20, (12, 4)), masks, unit, **columns)


def test_columns(scene):
    captioner, encoder, exemplars = scene
    table = describe(exemplars, captioner, encoder)
    assert list(table) == ["unit", "fraction", "seed", "description", "score"]
    assert table["unit"].tolist() == exemplars.unit.tolist()
    assert table["fraction"].tolist() == [0.5] * 6 + [1.0] * 6
    assert len(set(table["description"])) > 3


def some_rows(exemplars: Exemplars, rows) -> Exemplars:
    columns = {name: values[rows] for name, values in exemplars.columns.items()}
    names = ("unit", "ids", "activations", "levels", "picture")
    parts = {name: getattr(exemplars, name)[rows] for name in names}
    masks = exemplars.masks[rows]
    return replace(exemplars, columns=columns, masks=LazyArray(masks.shape, masks.dtype, masks.__getitem__), **parts)


@pytest.mark.arithmetic
@pytest.mark.parametrize("strategy", ["rerank", "beam", "greedy"])
@settings(max_examples=25)
@given(rows=st.lists(st.integers(0, 11), min_size=1, max_size=12), batch=st.integers(1, 13))
def test_a_description_does_not_depend_on_company(scene, strategy, rows, batch):
    captioner, encoder, exemplars = scene
    whole = describe(exemplars, captioner, encoder, Search(strategy))
    found = describe(some_rows(exemplars, rows), captioner, encoder, Search(strategy), batch)
    for column in ("unit", "description", "score"):
        assert found[column].tolist() == whole[column].iloc[rows].tolist()


def test_descriptions_of_stored_exemplars(scene, tmp_path):
    captioner, encoder, exemplars = scene
    write_exemplars(tmp_path / "exemplars.zarr", exemplars)
    stored = describe(open_exemplars(tmp_path / "exemplars.zarr"), captioner, encoder)
    assert stored.equals(describe(exemplars, captioner, encoder))


def test_samples_depend_on_the_seed_alone(scene):
    captioner, encoder, exemplars = scene
    texts = [
        describe(exemplars, captioner, encoder, Search("sample"), batch, seed)["description"].tolist()
        for batch, seed in ((64, 1), (64, 1), (64, 2))
    ]
    assert texts[0] == texts[1] != texts[2]


def test_no_rows(scene):
    captioner, encoder, exemplars = scene
    none = some_rows(exemplars, np.zeros(0, int))
    table = describe(none, captioner, encoder)
    assert len(table) == 0 and list(table) == ["unit", "fraction", "seed", "description", "score"]


def test_features_of_another_encoder(scene):
    _, encoder, exemplars = scene
    with pytest.raises(InputError, match="do not fit the captioner"):
        describe(exemplars, draw_captioner(features=23), encoder)
