"""BLEU against the published code's value and cases computed by hand."""

import json
import math

import pytest

from nemesis.errors import InputError
from nemesis.scoring.bleu import corpus_bleu, normalise


def test_published_value(shared):
    golden = json.loads(shared("golden/milan/metrics.json").read_text())
    found = corpus_bleu(golden["predictions"], golden["references"])
    assert found == pytest.approx(golden["bleu"]["score"], abs=1e-9)


def test_normalised_text():
    assert normalise(" . A Red Wheel... ") == "a red wheel"
    assert normalise("e.g. U.S.") == "e.g. u.s"
    assert normalise(" .. ") == normalise("") == ""


def test_equal_texts_score_100():
    texts = ["the red wheel of a car", "A green field on a hill."]
    assert corpus_bleu(texts, [["something else", "The red wheel of a car"], ["x", " a green field on a hill"]]) == (
        pytest.approx(100)
    )


def test_by_hand():
    # 4 of 5 words, 2 of 4 pairs, 1 of 3 triples, 0 of 2 fours (smoothed to 1 / (2 * 2)); no brevity penalty.
    found = corpus_bleu(["the red wheel on car"], [["the red wheel of car"]])
    assert found == pytest.approx(100 * math.prod((4 / 5, 2 / 4, 1 / 3, 1 / 4)) ** 0.25)
    # 4 words against 6: brevity penalty exp(1 - 6 / 4)
    found = corpus_bleu(["the red wheel of"], [["the red wheel of a car"]])
    assert found == pytest.approx(100 * math.exp(1 - 6 / 4))


def test_every_unit_has_as_many_references_as_the_unit_with_fewest():
    candidates = ["the red wheel of a car", "a green field on a hill"]
    second = ["something else altogether here now", candidates[1]]
    one, two = (
        corpus_bleu(candidates, [[candidates[0]], second]),
        corpus_bleu(candidates, [[candidates[0]] * 2, second]),
    )
    assert one == corpus_bleu(candidates, [[candidates[0]], second[:1]])
    assert one < 60 < two


def test_empty_candidates_score_nothing():
    assert corpus_bleu(["", " . "], [["a wheel"], ["a car"]]) == 0
    assert corpus_bleu(["a wheel of a car", ""], [["a wheel of a car"], ["a sky"]]) > 0


def test_nothing_to_compare():
    with pytest.raises(InputError, match="no description to score"):
        corpus_bleu([], [])
    with pytest.raises(InputError, match=r"description 1 \('b'\) has no reference"):
        corpus_bleu(["a", "b"], [["a"], []])
