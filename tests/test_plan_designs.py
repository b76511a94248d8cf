"""Which of a config's attacks are looked at further: by storage, by what else they change, in Figure 3."""

import itertools

import pytest

from nemesis.entries import Design
from nemesis.plan.plan import Plan

EVERY = {"methods": ["fgsm", "pgd"], "eps": [6, 2], "modes": ["shared", "targeted", "untargeted"]}
EVERY |= {"masks": ["baseline", "segmentation"]}


def plan(**designed) -> Plan:
    return Plan({"designed": EVERY | designed})


def test_the_first_kind_of_attack_is_shown_at_every_eps():
    assert [design.name for design in plan().shown_designs] == [
        *("pgd-2-untargeted-segmentation", "pgd-6-untargeted-segmentation")
    ]
    one = plan(modes=["shared"], methods=["fgsm"], masks=["baseline"], eps=[6])
    assert one.shown_designs == [Design("fgsm", 6, "shared", "baseline")]
    assert Plan({}).shown_designs == []


@pytest.mark.parametrize(
    ("section", "modes"), [("collateral", {"shared", "untargeted"}), ("compare_storage", {"untargeted"})]
)
def test_controls_are_of_the_eps_that_they_name(section, modes):
    found = plan(**{section: {"eps": [6]}}).controlled(section)
    assert {(design.mode, design.eps) for design in found} == {(mode, 6) for mode in modes}
    assert len(found) == len(modes) * len(list(itertools.product(EVERY["methods"], EVERY["masks"])))


def test_controls_of_targeted_attacks_where_there_are_no_others():
    found = plan(modes=["targeted"], collateral={"eps": [6]}).controlled("collateral")
    assert {design.mode for design in found} == {"targeted"}


def test_no_controls():
    assert plan().controlled("compare_storage") == Plan({}).controlled("collateral") == []
