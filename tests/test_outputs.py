"""Which layers and designs the designed stage is about."""

import itertools

from nemesis.config import Design, Extraction
from nemesis.figures.outputs import choose_designs, controlled_designs, design_files, list_attacked, list_bisected

SECTION = {"modes": ["untargeted"], "methods": ["pgd"], "masks": ["segmentation"]}
BISECTED = [{"method": "pgd", "masks": "segmentation"}]


def test_attacked_layers_and_their_files():
    extractions = [Extraction("p", "a", ("x", "y"), {}), Extraction("p", "b", ("z",), {})]
    found = list_attacked(extractions, {"layers": ["y"]})
    assert found == [{"probe": "p", "model": "a", "layers": ["y"]}]
    assert [line["layers"] for line in list_attacked(extractions, {"layers": "all"})] == [["x", "y"], ["z"]]
    assert list_attacked(extractions, {}) == []
    assert design_files(found, ["n"], "d.csv") == ["results/p/a/y/designed/n/d.csv"]
    assert design_files(found, ["m.csv"]) == ["results/p/a/y/designed/m.csv"]


def test_which_attacks_are_looked_at_again():
    modes, masks = ["shared", "targeted", "untargeted"], ["baseline", "segmentation"]
    designs = [Design(*kind) for kind in itertools.product(["fgsm", "pgd"], [6, 2], modes, masks)]
    assert [design.name for design in choose_designs(designs)] == [
        *("pgd-2-untargeted-segmentation", "pgd-6-untargeted-segmentation")
    ]
    assert [design.mode for design in choose_designs(designs[:2])] == ["shared"]
    section = {"modes": modes, "collateral": {"eps": [6]}}
    found = controlled_designs(designs, section, "collateral")
    assert {(design.mode, design.eps) for design in found} == {("shared", 6), ("untargeted", 6)}
    assert controlled_designs(designs, section, "compare_storage") == []
    targeted = controlled_designs(designs, section | {"modes": ["targeted"]}, "collateral")
    assert {design.mode for design in targeted} == {"targeted"}
    assert controlled_designs([], {}, "collateral") == []
    assert list_bisected(SECTION) == list_bisected({}) == []
    assert list_bisected(SECTION | {"minimum_epsilon": {}}) == BISECTED
