"""A small network in VGG's style, which the workflow trains on its embedded probe."""

from collections.abc import Mapping

import torch
from torch import nn

from nemesis.errors import InputError
from nemesis.models.network import Network

MEAN = STD = (0.5, 0.5, 0.5)
WIDTHS = (32, 48, 64, 96, 128)


class TinyVGG(nn.Module):
    """Layers conv1 ... conv5 (32, 48, 64, 96, 128 units), each convolution, batch normalisation and ReLU.

    conv1 has stride 2; a 2 x 2 max-pool lies before conv2 ... conv4, so that conv4 and conv5 see 1/16 of
    the input's side: at 128 px the layers are 64, 32, 16, 8 and 8 wide. Global average pool, linear.
    (B, 3, H, W) -> (B, classes) logits, one a concept.
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


def make_network(name: str, spec: Mapping, state: dict) -> Network:
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


def find_source(name: str, spec: Mapping) -> None:
    """TinyVGG is published nowhere: InputError."""
    raise InputError(f"model {name}: a tinyvgg has no weights before the workflow trained it on its probe")


def _make_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
