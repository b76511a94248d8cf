"""Makes the card, dissects two layers and attacks a unit of many torchvision architectures with random weights.

No test: it takes some minutes. With PYTHONPATH=scripts:tests/support, `try_architectures.py [arch ...]` prints the
Markdown table that stands in docs/tried.md. It needs no network and no files; the probe is one that nemesis draws, of
64 px, or of 224 px where an architecture refuses that (its line stands in the table).
"""

import logging
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from nemesis.corruption.attack import UnitPGD
from nemesis.dissection.clean import dissect_clean
from nemesis.dissection.dissect import load_concepts
from nemesis.dissection.extract import ExtractionSettings, extract_layers, probe_images
from nemesis.dissection.stored import open_maps
from nemesis.dissection.thresholds import layer_thresholds
from nemesis.errors import InputError
from nemesis.models.card import prepare_weights
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network
from nemesis.probes.minibroden import make_minibroden
from nemesis.probes.probe import open_probe, prepare_probe

SIZES = (64, 224)
IMAGES = 8
ARCHITECTURES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16",
    "wide_resnet50_2",
)  # fmt: skip
SETTINGS = {"quantile": 0.005, "threshold": "exact", "iou": "published", "min_iou": 0.04, "null_replicates": 0}
SETTINGS |= {"seed": 0}
HEADER = "| arch | image | layers | layer | units x h x w | axes | labelled | attacked | s | said |"


def draw_probe(folder: Path, size: int):
    """A drawn probe and its concepts."""
    make_minibroden(folder / "broden", images=IMAGES, size=size, workers=1)
    prepare_probe(folder / "broden", folder / "probe.zarr", folder / "concepts.csv")
    probe = open_probe(folder / "probe.zarr")
    return probe, load_concepts(folder / "concepts.csv", probe)


def choose_layers(layers: list[dict]) -> list[dict]:
    """Two layers with maps of more than 3 x 3: one in the middle, and the deepest container but the network's last."""
    maps = [layer for layer in layers if min(layer["shape"][1:]) > 3]
    return [maps[len(maps) // 2], maps[-1]]


def attack_unit(network, layer: str, probe) -> str:
    """The mean activation of the most active unit on two images before and after five steps of PGD, eps 8/255."""
    images = torch.from_numpy(probe.images(0, 2)).float() / 255
    with LayerReader(network, [layer], "cpu") as reader:
        attack = UnitPGD(reader, layer, steps=5)
        with torch.no_grad():
            unit = int(reader.read(images)[layer].mean(dim=(0, 2, 3)).argmax())
        cost = lambda maps: maps[:, unit].mean(dim=(1, 2))  # noqa: E731
        moved = attack(images, cost, torch.full((2,), 8 / 255))
        after = cost(reader.read(moved)[layer]).mean()
    return f"{attack.costs[0].mean():.3g} to {after:.3g}"


def try_architecture(arch: str, folder: Path, probe, concepts) -> list[list]:
    """Rows of the table, one a layer. Raises InputError, the one line that a user would read."""
    spec = {"kind": "torchvision", "arch": arch, "weights": "random"}
    weights, card = folder / "weights.safetensors", folder / "card.json"
    prepare_weights(arch, spec, weights, card, {"drawn": probe.size})
    found = pd.read_json(card, typ="series")["layers"]
    chosen = choose_layers(found)
    names = [layer["name"] for layer in chosen]
    network, store = build_network(arch, spec, weights), folder / "activations.zarr"
    extract_layers(network, names, probe_images(probe), store, ExtractionSettings(4, dtype="float32"))
    rows = []
    for layer, name in zip(chosen, names, strict=True):
        maps = open_maps(store, name)
        thresholds = layer_thresholds(maps, SETTINGS["quantile"], SETTINGS["threshold"]).threshold
        iou = dissect_clean(maps, thresholds, probe, concepts, SETTINGS).table["iou"]
        attacked = attack_unit(network, name, probe) if layer is chosen[-1] else ""
        shape = " x ".join(map(str, layer["shape"]))
        rows.append(
            [len(found), name, shape, layer["axes"], f"{(iou >= SETTINGS['min_iou']).sum()}/{len(iou)}", attacked]
        )
    return rows


def main(architectures):
    torch.set_num_threads(1)
    remarks = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = remarks.append
    logging.getLogger().addHandler(handler)
    print(f"{HEADER}\n|{'---|' * HEADER.count(' | ')}---|")
    with tempfile.TemporaryDirectory() as place:
        probes = {}
        for arch in architectures:
            for size in SIZES:
                if size not in probes:
                    probes[size] = draw_probe(Path(place) / str(size), size)
                start, failed = time.monotonic(), False
                remarks.clear()
                try:
                    with tempfile.TemporaryDirectory() as folder:
                        rows = try_architecture(arch, Path(folder), *probes[size])
                except Exception as error:
                    rows, failed = [["", "", "", "", "", ""]], True
                    said = str(error) if isinstance(error, InputError) else f"internal error: {error!r}"
                    said = said.replace("|", "\\|")
                else:
                    said = "; ".join(record.getMessage() for record in remarks).replace("|", "\\|")
                spent = f"{time.monotonic() - start:.1f}"
                for number, (layers, *rest) in enumerate(rows):
                    first = [arch, size, layers] if number == 0 else ["", "", ""]
                    last = [spent, said] if number == 0 else ["", ""]
                    print("| " + " | ".join(map(str, [*first, *rest, *last])) + " |", flush=True)
                if not failed:
                    break


if __name__ == "__main__":
    main(sys.argv[1:] or ARCHITECTURES)
