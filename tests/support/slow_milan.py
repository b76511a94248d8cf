"""MILAN's decoder and language model, slowly: one row, one beam, one word at a time, from the notes' formulas."""

import itertools

import torch

from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
from nemesis.milan.text import Vocabulary


def draw_captioner(seed=0, words=9, features=6, hidden=7, prior=True, spread=1.5, **settings) -> Captioner:
    """A captioner with random weights, large enough for captions of many lengths."""
    generator = torch.Generator().manual_seed(seed)
    vocabulary = Vocabulary(tuple(f"w{number}" for number in range(words)))
    decoder = Decoder(features, vocabulary.size, embedding=4, hidden=hidden, attention=5).eval()
    language = LanguageModel(vocabulary.size, vocabulary.pad, embedding=3, hidden=6, layers=2).eval()
    for module in (decoder, language):
        for parameter in module.parameters():
            parameter.requires_grad_(False)
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread / parameter.shape[-1] ** 0.5
    settings = {"length": 8, "strategy": "rerank" if prior else "beam", "beam": 5, "temperature": 0.2} | settings
    return Captioner(vocabulary, decoder, language if prior else None, {"kind": "tiny"}, settings)


def draw_features(rows, seed=0, exemplars=4, features=6):
    return torch.randn(rows, exemplars, features, generator=torch.Generator().manual_seed(seed)) * 2


def close(found, expected):
    """Equal to within 1e-5."""
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected), atol=1e-5, rtol=1e-5)


def lstm_cell(x, h, c, weight_ih, weight_hh, bias_ih, bias_hh):
    """One LSTM step for vectors; gates in the order i, f, g, o."""
    size = len(h)
    gates = weight_ih @ x + bias_ih + weight_hh @ h + bias_hh
    i, f, g, o = (gates[k * size : (k + 1) * size] for k in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def slow_begin(decoder, features):
    """h, c of one row's features (n, F)."""
    mean = sum(features) / len(features)
    return [torch.tanh(part[0].weight @ mean + part[0].bias) for part in (decoder.init_h, decoder.init_c)]


def slow_step(decoder, word, h, c, features):
    """Log-probabilities, attention, h and c of one row after one word."""
    p = dict(decoder.named_parameters())
    query = p["attend.query_to_hidden.weight"] @ h + p["attend.query_to_hidden.bias"]
    energies = []
    for feature in features:
        key = p["attend.key_to_hidden.weight"] @ feature + p["attend.key_to_hidden.bias"]
        energies.append(p["attend.output.0.weight"][0] @ torch.tanh(query + key) + p["attend.output.0.bias"][0])
    exponents = torch.stack(energies).exp()
    attention = exponents / exponents.sum()
    context = sum(weight * feature for weight, feature in zip(attention, features, strict=True))
    gate = torch.sigmoid(p["feature_gate.0.weight"] @ h + p["feature_gate.0.bias"])
    x = torch.cat([p["embedding.weight"][word], context * gate])
    h, c = lstm_cell(x, h, c, *(p[f"lstm.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
    logits = p["output.1.weight"] @ h + p["output.1.bias"]
    return logits - logits.exp().sum().log(), attention, h, c


def slow_prior_step(language, word, state):
    """Log-probabilities after one word, and the new state: a list of (h, c), one a layer."""
    p = dict(language.named_parameters())
    x, after = p["embedding.weight"][word], []
    for layer, before in enumerate(state):
        names = (f"lstm.{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        after.append(lstm_cell(x, *before, *(p[name] for name in names)))
        x = after[-1][0]
    logits = p["output.0.weight"] @ x + p["output.0.bias"]
    return logits - logits.exp().sum().log(), after


def slow_prior_begin(language):
    zeros = torch.zeros(language.sizes["hidden"])
    return [(zeros, zeros)] * language.sizes["layers"]


def slow_prior(language, ids, stop) -> float:
    """log p of one sequence that begins with start, up to and including its first stop."""
    total, state = 0.0, slow_prior_begin(language)
    for word, after in itertools.pairwise(ids):
        log_probs, state = slow_prior_step(language, word, state)
        total += float(log_probs[after])
        if after == stop:
            break
    return total


def slow_beam_search(captioner, features, beam, length, temperature=None):
    """Beams [(score, words)] of one row, best first; a temperature values words with mi."""
    decoder, language, vocabulary = captioner.decoder, captioner.language, captioner.vocabulary
    prior = None if temperature is None else slow_prior_begin(language)
    beams = [(0.0, [], (*slow_begin(decoder, features), prior))]
    for _ in range(length):
        proposals = []
        for score, words, state in beams:
            if words and words[-1] == vocabulary.stop:
                proposals.append((score, words, state))
                continue
            h, c, prior = state
            last = words[-1] if words else vocabulary.start
            values, _, h, c = slow_step(decoder, last, h, c, features)
            if prior is not None:
                log_prior, prior = slow_prior_step(language, last, prior)
                values = values - temperature * log_prior
            for word in range(vocabulary.size):
                proposals.append((score + float(values[word]), [*words, word], (h, c, prior)))
        beams = sorted(proposals, key=lambda proposal: -proposal[0])[:beam]
    return [(score, words) for score, words, _ in beams]
