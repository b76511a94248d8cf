"""Equal rows have equal bits, wherever they lie and whatever they are computed beside."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from nemesis.arithmetic import MKL_MODE
from nemesis.models.network import LayerReader
from nemesis.models.registry import build_network

pytestmark = pytest.mark.arithmetic
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SIZES = [(5, 7), (13, 16), (24, 12), (128, 512), (700, 256)]  # inputs and outputs of a layer
ROWS = 128
NEW_PROCESS = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import torch
from nemesis.job import job
with job(sys.argv[2]):
    found = os.environ["MKL_CBWR"]
print(json.dumps(found))
"""


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_a_row_of_a_product_has_the_same_bits_in_every_place(inputs, outputs):
    row, weight, bias = draw(inputs), draw(outputs, inputs, seed=1), draw(outputs, seed=2)
    everywhere = F.linear(row.expand(ROWS, -1).contiguous(), weight, bias)  # (ROWS, outputs)
    assert torch.equal(everywhere, everywhere[:1].expand_as(everywhere))
    for place in (0, 1, 63, ROWS - 1):
        others = draw(ROWS, inputs, seed=place)
        others[place] = row
        assert torch.equal(F.linear(others, weight, bias)[place], everywhere[0])


@pytest.mark.parametrize(("inputs", "outputs"), SIZES)
def test_a_product_has_the_same_bits_at_every_address(inputs, outputs):
    rows, weight = draw(ROWS, inputs), draw(outputs, inputs, seed=1)
    expected = F.linear(rows, weight)
    for offset in range(1, 16):  # in floats: a vector register holds up to 16
        moved = torch.empty(rows.numel() + offset)[offset:].view_as(rows).copy_(rows)
        assert torch.equal(F.linear(moved, weight), expected)


@pytest.mark.parametrize(("given", "expected"), [(None, MKL_MODE), ("COMPATIBLE", "COMPATIBLE")])
def test_every_job_sets_the_mode_unless_the_user_did(given, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("MKL_CBWR", given) if given else monkeypatch.delenv("MKL_CBWR", raising=False)
    command = [sys.executable, "-c", NEW_PROCESS, str(SCRIPTS), str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("side", [64, 65])
def test_an_image_has_the_same_maps_in_every_place_of_a_batch(threads, side):
    network = build_network("lite", {"kind": "efficientnet_lite0"})
    layers = ["stem", "blocks.4", "blocks.15", "head"]
    generator = torch.Generator().manual_seed(side)
    images = torch.randint(0, 256, (7, 3, side, side), dtype=torch.uint8, generator=generator)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with LayerReader(network, layers, "cpu", pad_to=7) as reader, torch.inference_mode():
        whole = reader.read(images)
        alone = [reader.read(images[place : place + 1]) for place in range(7)]
        turned = reader.read(images.flip(0))
    torch.set_num_threads(before)
    for layer, maps in whole.items():
        assert torch.equal(torch.cat([one[layer] for one in alone]), maps)
        assert torch.equal(turned[layer].flip(0), maps)
