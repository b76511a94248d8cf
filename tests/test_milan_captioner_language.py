"""The language model and the probability of sequences, beside the published code's and a slow copy."""

import json

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_milan import close, draw_captioner, slow_prior, slow_prior_begin, slow_prior_step

from nemesis.milan.captioner import LanguageModel, sequence_log_probability
from nemesis.milan.text import index_texts

CAPTIONER = draw_captioner()
MODEL, WORDS = CAPTIONER.language, CAPTIONER.vocabulary
sequences = st.lists(
    st.lists(st.integers(0, WORDS.size - 1), min_size=5, max_size=5).map(lambda row: [WORDS.start, *row]),
    min_size=1,
    max_size=12,
)


def test_log_probabilities_equal_the_published_ones(shared, decoded, captioner):
    texts = json.loads(shared("golden/milan/decode.json").read_text())["lm_captions"]
    ids = torch.tensor(index_texts(captioner.vocabulary, texts))
    assert torch.equal(ids, torch.from_numpy(decoded["lm/inputs"]))
    close(captioner.language(ids[:6])[0], decoded["lm/logprobs"])
    found = sequence_log_probability(captioner.language, ids, captioner.vocabulary.stop, published=True)
    close(found, decoded["lm/reduced"])
    close(found, decoded["lm/logp"])


def test_terms_of_reranking_equal_the_published_ones(decoded, captioner):
    words, stop = captioner.vocabulary, captioner.vocabulary.stop
    tokens = torch.from_numpy(decoded["rerank8_t0.2/beam_tokens"])
    ids = torch.nn.functional.pad(tokens, (1, 0), value=words.start).flatten(0, 1)
    for off_by_one, name in ((True, "lm_scores"), (False, "lm_scores_one_stop")):
        found = sequence_log_probability(captioner.language, ids, stop, published=off_by_one)
        close(found.view(6, 8), decoded[f"rerank8/{name}"])
    log_probs = captioner.language(ids[:, :-1])[0].gather(2, ids[:, 1:, None])[..., 0]
    close(log_probs.view(6, 8, -1), decoded["rerank8/lm_token_logprobs"])


def test_a_step_equals_the_slow_copy_and_the_forward_pass():
    ids = torch.tensor([[WORDS.start, 3, 1, WORDS.pad], [0, 7, WORDS.stop, 2]])
    whole, (h_after, c_after) = MODEL(ids)
    slow = [slow_prior_begin(MODEL) for _ in ids]
    h, c = MODEL.begin(len(ids))
    for t in range(ids.shape[1]):
        log_probs, h, c = MODEL.step(ids[:, t], h, c)
        close(log_probs, whole[:, t].detach())
        for row, word in enumerate(ids[:, t].tolist()):
            expected, slow[row] = slow_prior_step(MODEL, word, slow[row])
            close(log_probs[row], expected.detach())
    close(h.transpose(0, 1), h_after.detach())
    close(c.transpose(0, 1), c_after.detach())


@given(sequences)
@settings(max_examples=40)
def test_sequences_are_scored_up_to_their_first_stop(rows):
    found = sequence_log_probability(MODEL, torch.tensor(rows), WORDS.stop)
    close(found, torch.tensor([slow_prior(MODEL, row, WORDS.stop) for row in rows]))


@given(sequences)
@settings(max_examples=40)
def test_the_published_switch_counts_one_entry_more(rows):
    ids = torch.tensor(rows)
    log_probs = MODEL(ids[:, :-1])[0].gather(2, ids[:, 1:, None])[..., 0].detach()
    ends = [row.index(WORDS.stop) if WORDS.stop in row else len(row) for row in rows]
    expected = torch.stack([values[: end + 1].sum() for values, end in zip(log_probs, ends, strict=True)])
    close(sequence_log_probability(MODEL, ids, WORDS.stop, published=True), expected)


@given(sequences, st.data())
def test_a_sequence_does_not_depend_on_the_others(rows, data):
    ids = torch.tensor(rows)
    chosen = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, max_size=80))
    found = sequence_log_probability(MODEL, ids, WORDS.stop)
    assert torch.equal(sequence_log_probability(MODEL, ids[chosen], WORDS.stop), found[chosen])


def test_sequences_in_parts_score_the_same(monkeypatch):
    rows = torch.randint(0, WORDS.size, (30, 6), generator=torch.Generator().manual_seed(3))
    whole = sequence_log_probability(MODEL, rows, WORDS.stop)
    monkeypatch.setattr("nemesis.milan.captioner.SEQUENCES", 7)
    assert torch.equal(sequence_log_probability(MODEL, rows, WORDS.stop), whole)


def test_training_mode_drops_out_of_the_forward_pass_alone():
    torch.manual_seed(0)
    model = LanguageModel(20, 18, embedding=8, hidden=16)
    assert torch.equal(model.embedding.weight[18], torch.zeros(8))
    ids = torch.tensor([[16, 1, 2, 17]])
    assert not torch.equal(model(ids)[0], model(ids)[0])
    assert torch.equal(*(sequence_log_probability(model, ids, 17) for _ in range(2)))
