"""Described regions, what several have in common, and the units that are made of them."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemesis.errors import InputError
from nemesis.milan.phrases import (
    HYPERNYMS,
    Lexicon,
    describe_together,
    find_hypernyms,
    find_shares,
    generalise,
    make_member,
)
from nemesis.milan.region_units import PARTS, draw_masks, draw_region_units, find_groups
from nemesis.milan.regions import COLUMNS, DescribedRegion, collect_regions, find_mask, read_regions
from nemesis.probes.minibroden import make_minibroden
from nemesis.probes.probe import open_probe, prepare_probe, read_concepts

NAMES = frozenset({"car", "bus", "wheel", "dog", "cat", "grass", "traffic_light", "street", "striped", "red", "black"})
LEXICON = Lexicon(frozenset({"red", "black", "striped"}), NAMES)


def member(text: str, *own: str, around: tuple = ()):
    return make_member(text, own, around, LEXICON)


def share(**words) -> dict:
    return {word.replace("_", " "): value for word, value in words.items()}


@pytest.mark.parametrize(
    ("text", "own", "around", "wanted"),
    [
        ("a red car on a street", share(car=1, red=1), share(street=1), "a red car on a street"),
        ("a red car on a street", share(car=1, red=0.4), share(street=0.3), "a car"),
        ("an orange car", share(car=1), {}, "an orange car"),  # orange is no name here: a noun before a noun
        ("a dog on the grass", share(animal=0.7), share(plant=0.7), "an animal on the plant"),
        ("dogs on the grass", share(animal=0.7), share(grass=0.5), "animals on the grass"),
        ("a dog", share(animal=0.5), {}, None),
        ("a red dog", share(red=0.9), {}, "a red thing"),
        ("the black wheels of a red car", share(wheel=1, black=1), share(vehicle=1), "the black wheels of a vehicle"),
        ("a striped pattern in red and black", share(striped=1), share(red=0.9), "a striped pattern in red"),
        ("red and black striped texture", share(striped=1, black=1), {}, "black striped texture"),
        ("red and black striped texture", share(striped=1, red=1), {}, "red striped texture"),
        ("red and black striped texture", share(striped=1, red=1, black=1), {}, "red and black striped texture"),
        ("a street with a car and a bus", share(street=1), share(vehicle=1), "a street with a vehicle"),
        ("a traffic light", {"traffic_light": 1.0}, {}, "a traffic light"),
        ("a close-up of a striped texture", share(striped=1), {}, "a striped texture"),
        ("a striped surface", share(lined=1), {}, "a lined surface"),
    ],
)
def test_generalising_by_hand(text, own, around, wanted):
    own = {"orange": 1.0} | own if "orange" in text else own
    assert generalise(tuple(LEXICON.split(text)), own, around, LEXICON) == wanted


def test_a_set_of_one_thing_keeps_what_all_share():
    members = [member(f"a {colour} car on a street", "car", colour, around=("street",)) for colour in ("red", "black")]
    texts = describe_together(members * 3, LEXICON, np.random.default_rng(0))
    assert len(texts) == 3
    # Half are red and half are black, which is just enough.
    assert set(texts) == {"a red car on a street", "a black car on a street"}
    members.append(member("a car", "car"))
    assert set(describe_together(members, LEXICON, np.random.default_rng(0))) == {"a car on a street", "a car"}


def test_a_set_of_several_things_gets_a_hypernym():
    members = [member(f"a {name} on the grass", name, around=("grass",)) for name in ("dog", "cat", "cow", "horse")]
    assert set(describe_together(members, LEXICON, np.random.default_rng(0))) == {"an animal on the grass"}


def test_a_set_without_anything_in_common_has_no_description():
    members = [member("a dog", "dog"), member("a car", "car"), member("the grass", "grass")]
    assert describe_together(members, LEXICON, np.random.default_rng(0)) == ()


words = st.sampled_from(["a", "the", "red", "black", "striped", "car", "dogs", "of", "on", "with", "and", "pattern"])


@given(
    st.lists(words, min_size=1, max_size=9),
    st.dictionaries(words, st.floats(0, 1)),
    st.dictionaries(words, st.floats(0, 1)),
)
def test_what_is_generalised_again_stays(text, own, around):
    found = generalise(tuple(text), own, around, LEXICON)
    if found is None:
        return
    assert found and "  " not in found
    known = dict.fromkeys(found.split(), 1.0) | {LEXICON.base(word): 1.0 for word in found.split()}
    again = generalise(tuple(LEXICON.split(found)), known, known, LEXICON)
    assert again == found


def test_shares_by_hand():
    assert find_shares([frozenset("ab"), frozenset("b")]) == {"a": 0.5, "b": 1.0}


def test_hypernyms():
    assert find_hypernyms("bubbly") == ("curved", "spotted")
    assert find_hypernyms("wheel") == ()
    assert all(find_hypernyms(word) in ((), (word,)) for word in HYPERNYMS)


def write_csv(path, rows, header=COLUMNS):
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(rows)
    return path


ROW = ("b.png", "object", 3, "car", 1, 2, 5, 6, "a red car")


def test_regions_of_the_probes_images_alone(tmp_path):
    path = write_csv(tmp_path / "descriptions.csv", [ROW, ("z.png", *ROW[1:])])
    assert read_regions(path, ["a.png", "b.png"]) == [DescribedRegion(1, "object", 3, "car", (1, 2, 5, 6), "a red car")]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ((*ROW[:2], "x", *ROW[3:]), "line 2: number, x0, y0, x1 and y1 must be whole numbers"),
        ((*ROW[:4], 5, 2, 5, 6, "a car"), "line 2: the box 5, 2, 5, 6 is empty"),
        ((*ROW[:8], " "), "line 2: the description is empty"),
        (ROW[:6], "line 2: has 6 cells, the header has 9; is it cut off?"),
        (("z.png", *ROW[1:]), "describes no image of the probe"),
    ],
)
def test_bad_rows(tmp_path, row, match):
    path = write_csv(tmp_path / "descriptions.csv", [row])
    with pytest.raises(InputError, match=match) as caught:
        read_regions(path, ["b.png"])
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_bad_files(tmp_path):
    with pytest.raises(InputError, match="lacks column 'description'"):
        read_regions(write_csv(tmp_path / "a.csv", [], COLUMNS[:-1]), ["b.png"])
    with pytest.raises(InputError, match="not found"):
        read_regions(tmp_path / "b.csv", ["b.png"])


def test_a_mask_is_the_concept_in_the_box_or_the_box():
    planes = np.zeros((2, 4, 6), np.uint16)
    planes[0, 1:, 2:] = planes[1, 0, 0] = 3
    region = DescribedRegion(0, "object", 3, "car", (0, 0, 4, 3), "a car")
    found = np.argwhere(find_mask(planes, region)).tolist()
    assert found == [[0, 0], [1, 2], [1, 3], [2, 2], [2, 3]]
    assert find_mask(planes, DescribedRegion(0, "scene", 9, "street", (0, 0, 6, 4), "a street")).all()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small minibroden, its described regions, and the rows behind them."""
    root = tmp_path_factory.mktemp("regions")
    make_minibroden(root / "broden", images=110, size=64, seed=5, workers=2)
    prepare_probe(root / "broden", root / "probe.zarr", root / "concepts.csv")
    probe = open_probe(root / "probe.zarr")
    concepts = {row["number"]: (row["name"], row["category"]) for row in read_concepts(root / "concepts.csv")}
    regions = read_regions(root / "broden" / "descriptions.csv", probe.names)
    return SimpleNamespace(root=root, probe=probe, rows=regions, regions=collect_regions(probe, regions, concepts))


def test_a_set_of_regions_knows_what_holds_for_its_regions(drawn):
    described = drawn.regions
    assert 0 < len(described.regions) < len(drawn.rows)  # small ones are left out
    labels = drawn.probe.labels(0, drawn.probe.count)
    grey = next(row["number"] for row in read_concepts(drawn.root / "concepts.csv") if row["name"] == "grey-c")
    for region, mask, member_, colours in zip(
        described.regions, described.masks, described.members, described.colours, strict=True
    ):
        assert region.name.replace(" ", "_") in member_.own
        assert member_.own <= member_.around | set(region.text.lower().split())
        share = (labels[region.image][:, mask] == grey).any(axis=0).mean()
        assert ("grey" in colours) == (share >= 0.3)
    assert all(not main or main in colours for main, colours in zip(described.main, described.colours, strict=True))


def test_groups_are_large_enough_and_share_what_they_are_named_after(drawn):
    described = drawn.regions
    pool = find_groups(described, np.arange(len(described.regions)), 5)
    for group in pool.groups["concept"]:
        assert {(described.regions[n].name, described.regions[n].category) for n in group.regions} == {
            (group.name, group.category)
        }
        assert sum(min(count, 2) for count in np.unique(described.images[group.regions], return_counts=True)[1]) >= 5
    for group in pool.groups["coloured"]:
        assert all(group.name.split()[0] in described.colours[n] for n in group.regions)
    for group in pool.groups["hypernym"]:
        assert {described.regions[n].name for n in group.regions} <= set(HYPERNYMS[group.name])
    for group in pool.groups["colour"]:
        assert all(described.main[n] == group.name for n in group.regions)


@pytest.fixture(scope="module")
def units(drawn):
    return draw_region_units(drawn.regions, (12, 4, 4), k=6, size=32, seed=0)


def test_units_have_pictures_masks_and_three_texts(units):
    assert units.picture.shape == (20, 6) and units.masks.shape == (20, 6, 1, 32, 32) and units.masks.dtype == bool
    assert units.masks.any(axis=(2, 3, 4)).all()
    assert [len(texts) for texts in units.texts] == [3] * 20
    assert all(text.strip() for texts in units.texts for text in texts)
    assert units.part.tolist() == [part for part, count in zip(PARTS, (12, 4, 4), strict=True) for _ in range(count)]


def test_no_picture_is_in_two_parts(units):
    pictures = [set(units.picture[units.part == part].ravel().tolist()) for part in PARTS]
    assert not (pictures[0] & pictures[1] or pictures[0] & pictures[2] or pictures[1] & pictures[2])


def test_units_depend_on_the_seed_alone(drawn, units):
    again = draw_region_units(drawn.regions, (12, 4, 4), k=6, size=32, seed=0)
    assert again.texts == units.texts and np.array_equal(again.masks, units.masks)
    assert draw_region_units(drawn.regions, (12, 4, 4), k=6, size=32, seed=1).texts != units.texts


def test_a_probe_that_is_too_small_is_refused(drawn):
    with pytest.raises(InputError, match="too few described regions"):
        draw_region_units(drawn.regions, (1, 0, 0), k=400, size=32, seed=0)


@given(st.sampled_from([4, 8, 16]), st.integers(0, 1000))
def test_masks_lie_mostly_on_their_regions(cells, seed):
    regions = np.zeros((5, 64, 64), bool)
    regions[:, 16:48, 16:48] = True  # a quarter of the picture
    masks = draw_masks(regions, cells, 64, np.random.default_rng(seed))
    assert masks.shape == (5, 1, 64, 64) and masks.any(axis=(1, 2, 3)).all()
    on = (masks[:, 0] & regions).sum() / masks.sum()
    assert on > 0.5 and masks.mean() < 0.6


def test_masks_look_like_maps_of_a_unit():
    """A unit fires in few cells; the finer its maps, the smaller its masks."""
    regions = np.ones((15, 64, 64), bool)
    areas = [
        np.mean([draw_masks(regions, cells, 64, np.random.default_rng(seed)).mean() for seed in range(40)])
        for cells in (4, 8, 16)
    ]
    assert 0.5 > areas[0] > areas[1] > areas[2] > 0.002
