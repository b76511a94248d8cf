"""Features of exemplars beside the published code's, and beside a slow pooling."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import run_to_layers
from torch import nn
from torch.nn import functional

from nemesis.errors import InputError
from nemesis.milan.encoder import DEFAULT_LAYERS, Encoder, build_encoder, pack_masks, pool_maps
from nemesis.milan.exemplars import LazyArray
from nemesis.models.network import Network

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RAW = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LAYERS = ("conv1", "layer1", "layer2")
PREFIX = "encoder.encoder.model."


class TinyBackbone(nn.Sequential):
    """The golden encoder's network; conv1's own output is a level, so its ReLU must not be in place."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(12, 10)


@pytest.fixture(scope="module")
def published(shared):
    return np.load(shared("golden/milan/encoder.npz"))


@pytest.fixture(scope="module")
def backbone(shared):
    state = torch.load(shared("golden/milan/state_dict.pth"), weights_only=True)
    module = TinyBackbone()
    module.load_state_dict({name[len(PREFIX) :]: part for name, part in state.items() if name.startswith(PREFIX)})
    return module


def encoder_of(module, normalisation=IMAGENET, batch=7) -> Encoder:
    return Encoder(Network("tiny", module, *normalisation), LAYERS, batch=batch)


def encode_published(published, encoder, masks=True):
    pictures = published["images"].reshape(-1, 3, 32, 32)
    masks = published["masks"].astype(bool) if masks else None
    return encoder.encode(pictures, np.arange(40).reshape(8, 5), masks)


@pytest.mark.parametrize(
    ("name", "normalisation", "masks"),
    [("features", IMAGENET, True), ("features_no_mask", IMAGENET, False), ("features_no_normalize", RAW, True)],
)
def test_published_features(published, backbone, name, normalisation, masks):
    found = encode_published(published, encoder_of(backbone, normalisation), masks)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, published[name], rtol=1e-5, atol=1e-5)
    print(f"{name}: at most {np.abs(found - published[name]).max():.1e} off")


def test_published_maps(published, backbone):
    network = Network("tiny", backbone, *IMAGENET)
    images = published["images"].reshape(-1, 3, 32, 32)[:2]
    with torch.inference_mode():
        found = run_to_layers(network, images, LAYERS)
    for layer in LAYERS:
        np.testing.assert_allclose(found[layer], published[f"raw_{layer}"], rtol=1e-5, atol=1e-5)


def test_an_empty_mask_gives_zeros(published, backbone):
    found = encode_published(published, encoder_of(backbone))
    assert not found[1, 2].any()
    # A single pixel: seen at conv1, lost where only some pixels of the mask are looked at.
    assert found[3, 1, :4].any() and not found[3, 1, 12:].any()


@pytest.fixture(scope="module")
def scene():
    """Pictures (9, ...), which of them 6 rows of 4 exemplars show, and masks; picture 7 is never shown."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (9, 3, 20, 20), dtype=np.uint8)
    picture = rng.choice([0, 1, 2, 3, 4, 5, 6, 8], (6, 4))
    picture[:, 0] = 5  # one is shown more often than masks are pooled at once
    picture[:3] = 5
    return pictures, picture.astype(np.int32), rng.random((6, 4, 1, 20, 20)) < 0.3


def slow_features(module, pictures, picture, masks, normalisation=IMAGENET):
    """Each exemplar by itself, with everything spelled out."""
    network = Network("tiny", module, *normalisation)
    rows = []
    for number, mask in zip(picture.ravel(), masks.reshape(-1, *masks.shape[-2:]), strict=True):
        with torch.inference_mode():
            maps = run_to_layers(network, pictures[number][None], LAYERS)
        parts = []
        for layer in LAYERS:
            level = maps[layer][0].double()
            weights = torch.from_numpy(mask[None, None].astype(float))
            weights = functional.interpolate(weights, level.shape[1:], mode="bilinear")[0, 0]
            total = float(weights.sum())
            parts.append((level * weights).sum(dim=(1, 2)) / (total if total else 1))
        rows.append(torch.cat(parts).numpy())
    return np.array(rows).reshape(*picture.shape, -1)


def test_features_are_those_of_exemplars_one_by_one(scene, backbone):
    encoder = encoder_of(backbone, batch=3)
    np.testing.assert_allclose(encoder.encode(*scene), slow_features(backbone, *scene), rtol=1e-4, atol=1e-5)
    assert encoder.feature_size == 24


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8))
def test_features_do_not_depend_on_company(scene, backbone, rows):
    pictures, picture, masks = scene
    encoder = encoder_of(backbone, batch=4)
    whole = encoder.encode(pictures, picture, masks)
    used, place = np.unique(picture[rows], return_inverse=True)
    found = encoder.encode(pictures[used], place.reshape(len(rows), -1), masks[rows])
    np.testing.assert_array_equal(found, whole[rows])


def test_each_picture_passes_once(scene, backbone):
    pictures, picture, masks = scene
    seen = []
    hook = backbone.conv1.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    lazy = LazyArray(pictures.shape, pictures.dtype, lambda rows: pictures[rows])
    encoder = encoder_of(backbone, batch=4)
    seen.clear()
    found = encoder.encode(lazy, picture, LazyArray(masks.shape, masks.dtype, lambda rows: masks[rows]))
    hook.remove()
    assert seen == [4] * -(-len(np.unique(picture)) // 4)
    np.testing.assert_array_equal(found, encoder.encode(pictures, picture, masks))


def test_no_rows(backbone):
    shape = (0, 3, 20, 20)
    found = encoder_of(backbone).encode(np.zeros(shape, np.uint8), np.zeros((0, 5), int), np.zeros((0, 5, 1, 20, 20)))
    assert found.shape == (0, 5, 24)


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 20))
def test_packed_masks_are_the_masks(rows, k, size):
    masks = np.random.default_rng(size).random((rows, k, 1, size, size)) < 0.5
    packed = pack_masks(masks)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=-1, count=size).reshape(masks.shape), masks)


def test_hand_computed_pooling():
    maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 8.0]]])  # (2, 2, 2)
    masks = torch.zeros(3, 1, 4, 4)
    masks[0, 0, :2, :2] = 1  # the first cell alone
    masks[1, 0, :, 3] = 1  # half of each right cell
    np.testing.assert_allclose(pool_maps(maps, masks), [[1, 0], [3, 4], [0, 0]], rtol=1e-6)


@pytest.mark.slow
def test_the_default_encoder():
    encoder = build_encoder({"kind": "efficientnet_lite0", "size": 64})
    assert encoder.layers == DEFAULT_LAYERS["efficientnet_lite0"]
    assert encoder.feature_size == 32 + 24 + 40 + 112 + 320
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    found = encoder.encode(pictures, np.array([[0, 1, 0]]))
    assert found.shape == (1, 3, 528) and np.isfinite(found).all()
    np.testing.assert_array_equal(found[0, 0], found[0, 2])


@pytest.mark.slow
def test_published_encoders_take_their_weights_from_the_checkpoint():
    from torchvision import models

    torch.manual_seed(0)
    module = models.resnet18(num_classes=5)
    encoder = build_encoder({"kind": "torchvision", "arch": "resnet18", "size": 64}, module.state_dict())
    assert encoder.feature_size == 1024
    pictures = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    features = encoder.encode(pictures, np.zeros((1, 1), int))[0, 0]
    with torch.inference_mode():
        inputs = torch.from_numpy(pictures).float() / 255
        inputs = (inputs - torch.tensor(IMAGENET[0]).view(3, 1, 1)) / torch.tensor(IMAGENET[1]).view(3, 1, 1)
        expected = module.eval().conv1(inputs).mean(dim=(2, 3))[0]
    np.testing.assert_allclose(features[:64], expected, rtol=1e-4, atol=1e-5)  # conv1: before its ReLU
    lacking = {name: part for name, part in module.state_dict().items() if name != "layer3.0.conv1.weight"}
    with pytest.raises(InputError, match=r"checkpoint: does not fit ResNet: lacks layer3\.0\.conv1\.weight"):
        build_encoder({"kind": "torchvision", "arch": "resnet18"}, lacking)


@pytest.mark.slow
def test_alexnets_levels_are_after_the_relu():
    from torchvision import models

    torch.manual_seed(0)
    module = models.alexnet(num_classes=5)
    encoder = build_encoder({"kind": "torchvision", "arch": "alexnet", "size": 64}, module.state_dict())
    assert encoder.feature_size == 1152
    pictures = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    assert encoder.encode(pictures, np.zeros((1, 1), int)).min() >= 0


def test_bad_encoders(backbone):
    with pytest.raises(InputError, match="no layer 'layer9'"):
        Encoder(Network("tiny", backbone, *IMAGENET), ["layer9"])
    with pytest.raises(InputError, match="layer fc gives no maps"):
        Encoder(Network("tiny", backbone, *IMAGENET), ["fc"])
    with pytest.raises(InputError, match="encoder vgg9 is not known; name its layers"):
        build_encoder({"kind": "torchvision", "arch": "vgg9"})
