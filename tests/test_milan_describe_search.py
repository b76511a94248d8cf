"""Greedy, sampled, forced, beam and re-ranked decoding: published results, a slow copy, and no influence of company."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_milan import close, draw_captioner, draw_features, slow_beam_search, slow_prior

from nemesis.errors import InputError
from nemesis.milan.describe import Search, decode
from nemesis.milan.text import index_texts

SEARCHES = {
    "beam8_nomi": {"strategy": "beam", "mi": False},
    "beam8_mi": {"strategy": "beam"},
    "beam1_nomi": {"strategy": "beam", "beam": 1, "mi": False},
    "beam8_len4": {"strategy": "beam", "length": 4, "mi": False},
    "rerank8_t0.2": {"strategy": "rerank"},
    "rerank8_t1.0": {"strategy": "rerank", "temperature": 1.0},
    "rerank40_t0.2": {"strategy": "rerank", "beam": 40},
    "default": {},
}
CHOICES = {
    "greedy_nomi": {"strategy": "greedy", "mi": False},
    "greedy_mi": {"strategy": "greedy", "mi": True},
    "greedy_default": {"strategy": "greedy"},
    "sample_nomi_seed0": {"strategy": "sample", "mi": False},
    "sample_mi_seed0": {"strategy": "sample"},
    "forced_nomi": {"strategy": "forced", "mi": False},
    "forced_mi": {"strategy": "forced"},
}
CAPTIONER = draw_captioner()
PLAIN = draw_captioner(prior=False)
WORDS = CAPTIONER.vocabulary
each_strategy = pytest.mark.parametrize("strategy", ["greedy", "beam", "rerank"])


@pytest.fixture(scope="module")
def captions(shared):
    return json.loads(shared("golden/milan/decode.json").read_text())


def compare(found, key, decoded, captions):
    """Everything that was published under a key: word numbers and captions equal, values close."""
    for name in ("tokens", "beam_tokens"):
        if f"{key}/{name}" in decoded:
            assert torch.equal(getattr(found, name), torch.from_numpy(decoded[f"{key}/{name}"])), name
    for name in ("scores", "beam_scores", "predictions", "attentions"):
        if f"{key}/{name}" in decoded:
            close(getattr(found, name), decoded[f"{key}/{name}"])
    assert found.captions == captions[key]["captions"]
    assert found.beam_captions == captions[key].get("beam_captions")


@pytest.mark.parametrize("key", SEARCHES)
def test_searches_equal_the_published_ones(key, captioner, decoded, captions):
    found = decode(captioner, torch.from_numpy(decoded["features"]), Search(**SEARCHES[key], published=True))
    compare(found, key, decoded, captions)


@pytest.mark.parametrize("row", range(6))
def test_rows_alone_equal_the_published_ones(row, captioner, decoded, captions):
    features = torch.from_numpy(decoded["features"])[row : row + 1]
    compare(decode(captioner, features, Search(published=True)), f"rerank8_t0.2_alone{row}", decoded, captions)


@pytest.mark.parametrize("key", CHOICES)
def test_words_chosen_in_turn_equal_the_published_ones(key, captioner, decoded, captions):
    options = dict(CHOICES[key])
    if options["strategy"] == "forced":
        options["strategy"] = torch.from_numpy(decoded["forced/targets"])
    generator = torch.Generator().manual_seed(0)
    features = torch.from_numpy(decoded["features"])
    found = decode(captioner, features, Search(**options, published=True), generator)
    compare(found, key, decoded, captions)


def score_captions(captioner, captions, features, mi=None):
    """Value of each caption for its row of features (B, n, F) or (1, n, F): words and stop summed, (B,)."""
    ids = torch.tensor(index_texts(captioner.vocabulary, captions, start=False))
    return decode(captioner, features.expand(len(ids), -1, -1), Search(ids, mi=mi)).scores


def test_scores_of_captions_equal_the_published_ones(captioner, decoded, captions):
    features, texts = torch.from_numpy(decoded["features"]), captions["forced_captions"]
    close(score_captions(captioner, texts, features, mi=False), decoded["score_nomi"])
    close(score_captions(captioner, texts, features), decoded["score_mi"])
    close(score_captions(captioner, texts, features[:1], mi=False), decoded["score_nomi_one_neuron"])


def test_reranked_scores_equal_the_published_ones(captioner, decoded):
    features = torch.from_numpy(decoded["features"])
    for temperature in (0.2, 1.0):
        found = decode(captioner, features, Search(temperature=temperature, published=True))
        close(found.scores, decoded[f"rerank8/scores_t{temperature}"].max(axis=1))


def test_only_the_published_mode_depends_on_the_batch(captioner, decoded):
    """Row 2 of the published features is described differently beside the others, and alone."""
    features = torch.from_numpy(decoded["features"])
    described = {
        mode: [decode(captioner, rows, Search(published=mode)) for rows in (features, features[2:3])]
        for mode in (True, False)
    }
    together, alone = described[True]
    assert together.captions[2] != alone.captions[0]
    together, alone = described[False]
    assert together.captions[2] == alone.captions[0]
    assert torch.equal(together.beam_tokens[2], alone.beam_tokens[0])


@pytest.mark.arithmetic
@given(st.data())
@settings(max_examples=60)
@each_strategy
def test_a_description_does_not_depend_on_the_rows_beside_it(strategy, data):
    seed, count = data.draw(st.integers(0, 5)), data.draw(st.integers(1, 9))
    captioner, features = draw_captioner(seed), draw_features(count, seed)
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=20))
    mi = data.draw(st.booleans()) if strategy != "rerank" else None
    search = Search(strategy, data.draw(st.integers(1, 13)), mi=mi)
    whole = decode(captioner, features, search)
    found = decode(captioner, features[rows], search)
    assert found.captions == [whole.captions[row] for row in rows]
    for name in ("tokens", "scores", "beam_tokens", "beam_scores", "predictions", "attentions"):
        expected = getattr(whole, name)
        assert (expected is None and getattr(found, name) is None) or torch.equal(getattr(found, name), expected[rows])


@pytest.mark.arithmetic
@each_strategy
def test_rows_in_parts_are_described_the_same(strategy, monkeypatch):
    features = draw_features(23)
    whole = decode(CAPTIONER, features, Search(strategy))
    monkeypatch.setattr("nemesis.milan.describe.BEAMS", 10)
    found = decode(CAPTIONER, features, Search(strategy))
    assert torch.equal(found.tokens, whole.tokens)
    assert torch.equal(found.scores, whole.scores)


@pytest.mark.arithmetic
def test_company_changes_no_bit_at_a_size_where_products_depend_on_it():
    captioner = draw_captioner(words=300, features=700, hidden=256, spread=0.5, beam=20)
    features = draw_features(9, exemplars=15, features=700)
    whole = decode(captioner, features)
    for rows in ([4], [8, 0], [3, 3, 7, 1, 5], list(range(9)) * 4):
        found = decode(captioner, features[rows])
        assert torch.equal(found.beam_tokens, whole.beam_tokens[rows])
        assert torch.equal(found.beam_scores, whole.beam_scores[rows])
        assert torch.equal(found.scores, whole.scores[rows])


@given(seed=st.integers(0, 30), beam=st.integers(1, 13), length=st.integers(1, 6), mi=st.booleans())
@settings(max_examples=25)
def test_beam_search_equals_the_slow_copy(seed, beam, length, mi):
    captioner, features = draw_captioner(seed), draw_features(3, seed)
    found = decode(captioner, features, Search("beam", beam, length=length, mi=mi))
    for row in range(3):
        expected = slow_beam_search(captioner, features[row], beam, length, 0.2 if mi else None)
        close(found.beam_scores[row], torch.tensor([score for score, _ in expected]))
        padded = [words + [WORDS.stop] * (length - len(words)) for _, words in expected]
        assert found.beam_tokens[row].tolist() == padded


def test_reranking_weighs_each_beam_with_the_language_model():
    features = draw_features(4, seed=8)
    found = decode(CAPTIONER, features, Search(beam=6, temperature=0.7))
    for row in range(4):
        beams = slow_beam_search(CAPTIONER, features[row], 6, 8)
        start, stop = WORDS.start, WORDS.stop
        totals = [score - 0.7 * slow_prior(CAPTIONER.language, [start, *words], stop) for score, words in beams]
        best = int(np.argmax(totals))
        assert found.tokens[row].tolist() == beams[best][1] + [stop] * (8 - len(beams[best][1]))
        close(found.scores[row], torch.tensor(totals[best]))


def test_greedy_is_a_beam_of_one():
    features = draw_features(12)
    for mi in (False, True):
        greedy = decode(CAPTIONER, features, Search("greedy", mi=mi))
        beam = decode(CAPTIONER, features, Search("beam", 1, mi=mi))
        assert torch.equal(greedy.tokens, beam.tokens)
        close(greedy.scores, beam.scores)


@pytest.mark.arithmetic
def test_nothing_counts_after_the_first_stop():
    features = draw_features(40)
    found, whole = (decode(CAPTIONER, features, Search("greedy", published=mode)) for mode in (False, True))
    stopped = (whole.tokens == WORDS.stop).cumsum(1).bool()
    after = stopped.roll(1, 1).index_fill(1, torch.tensor([0]), False)
    assert after.any(dim=1).any() and not after.any(dim=1).all()
    assert torch.equal(found.tokens, whole.tokens.masked_fill(after, WORDS.stop))
    assert torch.equal(found.predictions, whole.predictions.masked_fill(after[..., None], 0))
    assert torch.equal(found.attentions, whole.attentions.masked_fill(after[..., None], 0))
    chosen = whole.predictions.gather(2, whole.tokens[..., None])[..., 0]
    close(found.scores, chosen.masked_fill(after, 0).sum(1))
    close(whole.scores, chosen.sum(1))
    assert found.captions == whole.captions


def test_forced_captions_score_what_greedy_scored():
    features = draw_features(10)
    greedy = decode(CAPTIONER, features, Search("greedy"))
    forced = decode(CAPTIONER, features, Search(greedy.tokens))
    assert torch.equal(forced.scores, greedy.scores)
    assert torch.equal(forced.predictions, greedy.predictions)


def test_samples_follow_the_probabilities_and_the_generator():
    features = draw_features(1).expand(4000, -1, -1)

    def draw(count, seed=1):
        generator = torch.Generator().manual_seed(seed)
        return decode(PLAIN, features[:count], Search("sample", length=2), generator)

    found = draw(4000)
    odds = torch.bincount(found.tokens[:, 0], minlength=WORDS.size) / 4000
    assert (odds - found.predictions[0, 0].exp()).abs().max() < 0.03
    assert torch.equal(found.tokens[:7], draw(7).tokens)  # a row's draws do not depend on the rows after it
    assert not torch.equal(found.tokens, draw(4000, seed=2).tokens)


def test_no_rows_give_no_captions():
    for strategy in ("greedy", "beam", "rerank"):
        assert decode(CAPTIONER, draw_features(0), Search(strategy)).captions == []


def test_modules_keep_their_mode_and_nothing_drops_out():
    captioner = draw_captioner()
    captioner.decoder.train()
    captioner.decoder.output[0].p = 0.9
    found = decode(captioner, draw_features(5))
    assert captioner.decoder.training and not captioner.language.training
    assert torch.equal(found.scores, decode(CAPTIONER, draw_features(5)).scores)


@pytest.mark.parametrize(
    ("captioner", "options", "message"),
    [
        (CAPTIONER, {"strategy": "best"}, "strategy: 'best' is not known; choose one of greedy, sample, beam, rerank"),
        (CAPTIONER, {"mi": True}, "mi: rerank weighs whole captions"),
        (PLAIN, {"strategy": "rerank"}, "strategy: rerank needs a language model"),
        (PLAIN, {"mi": True}, "mi: true needs a language model"),
        (CAPTIONER, {"beam": 14}, "beam: 14 is not between 1 and 13"),
        (CAPTIONER, {"beam": 0}, "beam: 0 is not between 1 and 13"),
        (CAPTIONER, {"strategy": torch.tensor([[13]])}, "numbers from 0 to 12"),
    ],
)
def test_what_a_captioner_cannot_do_is_one_line(captioner, options, message):
    with pytest.raises(InputError, match=message) as caught:
        decode(captioner, draw_features(2), Search(**options))
    assert "\n" not in str(caught.value)


def test_features_of_another_encoder_are_one_line():
    with pytest.raises(InputError, match=r"features of shape \(2, 4, 5\) do not fit the captioner"):
        decode(CAPTIONER, draw_features(2, features=5))


def test_settings_of_the_captioner_are_the_default():
    features = draw_features(3)
    greedy = replace(CAPTIONER, settings=CAPTIONER.settings | {"strategy": "greedy", "length": 3})
    expected = decode(CAPTIONER, features, Search("greedy", length=3))
    assert torch.equal(decode(greedy, features).tokens, expected.tokens)
