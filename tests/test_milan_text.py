"""Tokeniser, vocabulary, texts as numbers and captions, beside the published code's."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemesis.milan.text import Vocabulary, build_vocabulary, index_texts, join_words, read_caption, tokenize

WORDS = Vocabulary(("red", "dog", "-", ".", "eared", "u.s."))
flags = st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("start", "stop")})
texts = st.lists(st.lists(st.sampled_from(["red", "dog", "cat", "."]), max_size=6).map(" ".join), max_size=5)


@pytest.fixture(scope="module")
def published(shared):
    return json.loads(shared("golden/milan/language.json").read_text())


@pytest.fixture(scope="module")
def vocabulary(published):
    return Vocabulary(tuple(published["vocab"]["tokens_in_order"]))


def test_tokens_equal_the_published_ones(published):
    assert [[text, tokenize(text)] for text, _ in published["tokenize"]] == published["tokenize"]


def test_vocabulary_equals_the_published_one(published, vocabulary):
    assert build_vocabulary([document] for document in published["vocab"]["documents"]) == vocabulary
    assert {name: getattr(vocabulary, name) for name in published["special"]} == published["special"]


def test_numbers_equal_the_published_ones(published, vocabulary):
    cases = [case for case in published["index"] if case["options"].keys() <= {"start", "stop"}]
    assert len(cases) == 3
    for case in cases:
        assert index_texts(vocabulary, case["texts"], **case["options"]) == case["ids"], case["options"]
    for case in published["index_single"]:
        assert index_texts(vocabulary, [case["text"]]) == [case["ids"]]


def test_captions_equal_the_published_ones(published, vocabulary):
    for words, caption in published["reconstruct_tokens"]:
        kept = words[: words.index("<stop>")] if "<stop>" in words else words
        assert join_words(word for word in kept if not word.startswith("<")) == caption
    for ids, caption in published["reconstruct_ids"]:
        assert read_caption(vocabulary, ids) == caption


def test_vocabulary_orders_words_by_count_then_by_first_occurrence():
    found = build_vocabulary([["a dog", "the dog"], ["The cat, the end"]])
    assert found.words == ("the", "dog", "a", "cat", ",", "end")
    assert (found.start, found.stop, found.pad, found.unk, found.size) == (6, 7, 8, 9, 10)


def test_no_documents_give_a_vocabulary_of_special_entries():
    assert build_vocabulary([]) == Vocabulary(())
    assert index_texts(Vocabulary(()), ["a dog"]) == [[0, 3, 3, 1]]


@pytest.mark.parametrize(
    ("ids", "caption"),
    [
        ((1, 2, 4, 0, 3, 1), "Dog-eared red. Dog"),
        ((6, 0, 9, 1, 8), "Red dog"),  # start, unk and pad leave no trace
        ((0, 7, 1), "Red"),
        ((5, 1), "U. S. Dog"),
        ((7,), ""),
        ((), ""),
    ],
)
def test_caption_of_numbers(ids, caption):
    assert read_caption(WORDS, ids) == caption


@given(texts, flags)
def test_rows_of_numbers_have_the_asked_form(texts, flags):
    rows = index_texts(WORDS, texts, **flags)
    start, stop = (flags.get(name, True) for name in ("start", "stop"))
    longest = max([len(text.split()) for text in texts], default=0)
    for text, row in zip(texts, rows, strict=True):
        assert len(row) == longest + start + stop
        assert row.count(WORDS.stop) == stop
        assert row[:1] == [WORDS.start] or not start
        inner = [number for number in row if number < len(WORDS.words) or number == WORDS.unk]
        assert inner == [WORDS.numbers.get(word, WORDS.unk) for word in text.split()]


@given(st.lists(st.sampled_from(["red", "dog", "."]), max_size=6))
def test_a_caption_is_numbered_and_read_again(words):
    (ids,) = index_texts(WORDS, [" ".join(words)])
    assert read_caption(WORDS, ids) == join_words(words)
