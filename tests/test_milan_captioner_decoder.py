"""The decoder's step beside the published code's and a slow copy written from the notes."""

import torch
from slow_milan import close, draw_captioner, draw_features, slow_begin, slow_step

from nemesis.milan.captioner import Decoder

CAPTIONER = draw_captioner()
DECODER, WORDS = CAPTIONER.decoder, CAPTIONER.vocabulary


def test_first_step_equals_the_published_one(decoded, captioner):
    features, words = torch.from_numpy(decoded["features"]), captioner.vocabulary
    state = captioner.decoder.begin(features)
    close(state.h, decoded["init/h"])
    close(state.c, decoded["init/c"])
    start = torch.full((6,), words.start)
    attention, state = captioner.decoder.advance(captioner.decoder.word_gates(start), state, features)
    for kind in ("step_nomi", "step_mi"):
        for name, found in (("attentions", attention), ("h", state.h), ("c", state.c)):
            close(found, decoded[f"{kind}/{name}"])
    log_probs = captioner.decoder.output(state.h)
    close(log_probs, decoded["step_nomi/predictions"])
    prior, h, c = captioner.language.step(start, *captioner.language.begin(6))
    close(log_probs - 0.2 * prior, decoded["step_mi/predictions"])
    close(h.transpose(0, 1), decoded["step_mi/h_lm"])
    close(c.transpose(0, 1), decoded["step_mi/c_lm"])


def test_forced_words_equal_the_published_ones(decoded, captioner):
    features, targets = (torch.from_numpy(decoded[name]) for name in ("features", "forced/targets"))
    starts = torch.full((6, 1), captioner.vocabulary.start)
    log_probs, attentions = captioner.decoder.force(features, torch.cat([starts, targets[:, :-1]], dim=1))
    close(log_probs, decoded["forced_nomi/predictions"])
    close(attentions, decoded["forced_nomi/attentions"])


def test_steps_equal_the_slow_copy():
    features, inputs = draw_features(3), torch.tensor([[WORDS.start, 2, 5], [WORDS.start, 0, 1], [4, WORDS.unk, 4]])
    log_probs, attentions = DECODER.force(features, inputs)
    state = DECODER.begin(features)
    slow = [slow_begin(DECODER, row) for row in features]
    for t in range(inputs.shape[1]):
        attention, state = DECODER.advance(DECODER.word_gates(inputs[:, t]), state, features)
        found = DECODER.output(state.h)
        close(found, log_probs[:, t].detach())
        close(attention, attentions[:, t].detach())
        for row, word in enumerate(inputs[:, t].tolist()):
            values, weights, *slow[row] = slow_step(DECODER, word, *slow[row], features[row])
            close(found[row], values.detach())
            close(attention[row], weights.detach())
            close(state.h[row], slow[row][0].detach())
            close(state.c[row], slow[row][1].detach())


def test_captions_that_share_a_row_of_features_equal_copies_of_it():
    features, row = draw_features(3), torch.tensor([2, 0, 0, 2, 1])
    inputs = torch.arange(20).view(5, 4) % WORDS.size
    for shared_row, copied in zip(
        DECODER.force(features, inputs, row), DECODER.force(features[row], inputs), strict=True
    ):
        close(shared_row, copied.detach())


def test_gradients_reach_every_parameter():
    decoder = Decoder(6, 13, embedding=4, hidden=7)
    log_probs, attentions = decoder.force(draw_features(2), torch.tensor([[9, 1, 2], [9, 3, 10]]))
    (log_probs.mean() + attentions.square().mean()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
    assert decoder.sizes["attention"] == 6  # the smaller of hidden and features


def test_equal_exemplars_get_equal_attention():
    features = draw_features(1, exemplars=1).expand(-1, 5, -1)
    attention, _ = DECODER.advance(DECODER.word_gates(torch.tensor([WORDS.start])), DECODER.begin(features), features)
    close(attention, torch.full((1, 5), 0.2))
