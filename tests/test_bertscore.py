"""BERTScore against the published code's matching, the bert-score package, the paper's formulas, and bad models."""

import contextlib
import json
import socket
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_scorers import CPU, open_minilm, write_bert

from nemesis.errors import InputError
from nemesis.scoring.bertscore import EmbeddedTexts, match_pairs, open_scorer, rescale

TEXTS = ["a red wheel", "the red wheel of a car", "a blue sky", "Green trees on a hill.", "the wing of a bird"]
OTHERS = ["a green wheel", "a red wheel", "the sky over a field", "a park with trees", "a bird with a blue wing"]


def embed_rows(embeddings, masks, weights):
    """Texts as `embed_texts` gives them, from padded arrays (T, L, D), (T, L), (T, L)."""
    length = np.asarray(masks).sum(axis=1).astype(int)
    place, by_length, weight = np.zeros(len(length), int), {}, {}
    for size in set(length.tolist()):
        rows = np.flatnonzero(length == size)
        place[rows] = np.arange(len(rows))
        by_length[size] = torch.as_tensor(embeddings[rows][:, :size])
        weight[size] = torch.as_tensor(weights[rows][:, :size])
    return EmbeddedTexts(length, place, by_length, weight)


def match_slowly(left, right, left_weight, right_weight):
    """Zhang et al. 2020, Eq. 1 and the idf-weighted means: of embeddings (L, D) and weights (L,)."""
    similarity = [[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in right] for a in left]
    precision = sum(w * max(row) for w, row in zip(left_weight, similarity, strict=True)) / sum(left_weight)
    columns = zip(*similarity, strict=True)
    recall = sum(w * max(column) for w, column in zip(right_weight, columns, strict=True)) / sum(right_weight)
    return precision, recall, 2 * precision * recall / (precision + recall)


@pytest.fixture(scope="module")
def published(shared):
    with np.load(shared("golden/milan/bertscore_match.npz")) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture
def bert(tmp_path):
    return write_bert(tmp_path / "bert")


def spec_of(bert, **more):
    return {"kind": "folder", "path": str(bert.folder), **more}


# The published code's matching.


def published_names(published):
    names = {name.lower(): name for name in published}
    parts = [("ref_emb", "ref_mask", "ref_idf"), ("hyp_emb", "hyp_mask", "hyp_idf")]
    return [[published[names.get(name, names.get(f"{name}s"))] for name in part] for part in parts]


def test_package_matches_as_published(published):
    from bert_score.utils import greedy_cos_idf

    reference, candidate = published_names(published)
    found = greedy_cos_idf(*(torch.tensor(array) for array in (*reference, *candidate)))
    for values, name in zip(found, "PRF", strict=True):
        np.testing.assert_allclose(values.numpy(), published[name], atol=1e-6)


def test_own_pairing_matches_as_published(published):
    reference, candidate = (embed_rows(*arrays) for arrays in published_names(published))
    count = len(reference.length)
    length = np.concatenate([reference.length, candidate.length])
    for row in range(count):  # pairs of texts from two stores: joined pair by pair
        left = candidate.embeddings[int(candidate.length[row])][candidate.place[row]][None]
        right = reference.embeddings[int(reference.length[row])][reference.place[row]][None]
        weights = [texts.weights[int(texts.length[row])][texts.place[row]][None] for texts in (candidate, reference)]
        texts = join_two(left, right, *weights)
        found = match_pairs(texts, np.array([0]), np.array([1]))[0]
        np.testing.assert_allclose(found, [published[name][row] for name in "PRF"], atol=1e-6)
    assert len(length) == 2 * count


def join_two(left, right, left_weight, right_weight) -> EmbeddedTexts:
    """Two texts (1, L, D) in one store."""
    sizes = left.shape[1], right.shape[1]
    if sizes[0] == sizes[1]:
        embeddings, weights = torch.cat([left, right]), torch.cat([left_weight, right_weight])
        return EmbeddedTexts(np.array(sizes), np.array([0, 1]), {sizes[0]: embeddings}, {sizes[0]: weights})
    embeddings = dict(zip(sizes, (left, right), strict=True))
    weights = dict(zip(sizes, (left_weight, right_weight), strict=True))
    return EmbeddedTexts(np.array(sizes), np.array([0, 0]), embeddings, weights)


def test_rescaled_as_published(published):
    raw = np.stack([published[name] for name in "PRF"], axis=1)
    np.testing.assert_allclose(rescale(raw, published["baseline"]), published["rescaled"], atol=1e-5)
    assert (rescale(raw, None) == raw).all()


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(3, 6), min_size=2, max_size=5))
def test_matching_follows_the_paper(seed, lengths):
    rng = np.random.default_rng(seed)
    count, longest = len(lengths), max(lengths)
    embeddings, weights = rng.normal(size=(count, longest, 4)) + 0.5, rng.random((count, longest)) + 0.1
    masks = np.arange(longest) < np.array(lengths)[:, None]
    left, right = (part.ravel() for part in np.meshgrid(range(count), range(count)))
    found = match_pairs(embed_rows(embeddings, masks, weights), left, right)
    for row, (a, b) in enumerate(zip(left, right, strict=True)):
        parts = [array[index, : lengths[index]] for array in (embeddings, weights) for index in (a, b)]
        np.testing.assert_allclose(found[row], match_slowly(*parts), atol=1e-9)


# The embedded scorer.


@pytest.mark.parametrize("idf", [True, False])
def test_equals_the_package(idf):
    from bert_score import BERTScorer

    scorer = open_minilm(idf)
    package = BERTScorer(
        model_type=scorer.loaded.model.name_or_path,
        num_layers=6,
        idf=idf,
        nthreads=0,
        device="cpu",
        use_fast_tokenizer=True,
    )
    candidates, references = [text.lower().strip(".") for text in TEXTS], [[other, "a field"] for other in OTHERS]
    if idf:
        package.compute_idf([text for group in references for text in group])
    expected = torch.stack(package.score(candidates, references), dim=1).numpy()
    np.testing.assert_allclose(scorer.score(TEXTS, references), expected, atol=2e-6)


def test_equal_texts_score_one():
    table = open_minilm().score(TEXTS, [f" {text.upper()} ." for text in TEXTS])
    np.testing.assert_allclose(table, 1, atol=1e-6)
    np.testing.assert_allclose(open_minilm().score(["a red wheel"], ["a red wheel"]), 1, atol=1e-6)  # every idf is 0
    assert (open_minilm().score(TEXTS, OTHERS)["f1"] < 0.95).all()


@pytest.mark.parametrize("empty", ["", " . ", "\u200b", "\n"])
def test_empty_texts_score_zero(empty, capfd, recwarn):
    table = open_minilm().score(
        [empty, empty, "a red wheel", "a red wheel"], [empty, "a wheel", empty, [empty, "a wheel"]]
    )
    assert (table.iloc[:3] == 0).all(axis=None)
    assert table["f1"][3] == pytest.approx(open_minilm().score(["a red wheel"], ["a wheel"], ["", "a wheel"])["f1"][0])
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_nothing_to_score():
    table = open_minilm().score([], [])
    assert list(table) == ["precision", "recall", "f1"]
    assert not len(table)


def test_several_references_give_the_highest_of_each_column():
    scorer, candidate, references = (
        open_minilm(),
        "the red wheel of a car",
        ["a wheel", "a very fast red car on a road"],
    )
    single = scorer.score([candidate] * 2, references, OTHERS)
    best = scorer.score([candidate], [references], OTHERS)
    assert best.iloc[0].tolist() == single.max().tolist()
    assert single["precision"].idxmax() != single["recall"].idxmax()


def test_scores_do_not_depend_on_the_order_of_rows():
    forward = open_minilm().score(TEXTS, OTHERS)
    backward = open_minilm().score(TEXTS[::-1], OTHERS[::-1])[::-1].reset_index(drop=True)
    assert forward.equals(backward)


def test_scores_hardly_depend_on_other_rows_when_the_frequencies_are_given():
    together = open_minilm().score(TEXTS, OTHERS, TEXTS)
    for row, (text, other) in enumerate(zip(TEXTS, OTHERS, strict=True)):
        np.testing.assert_allclose(open_minilm().score([text], [other], TEXTS).iloc[0], together.iloc[row], atol=1e-6)


def test_rare_words_weigh_more():
    often = ["a red car", "a red sky", "a red bird", "a red hill", "a blue wheel"]
    pairs = ["a red wheel", "a red wheel"], ["a red hat", "a green wheel"]  # shares what is frequent, or what is rare
    plain, weighted = open_minilm(False).score(*pairs)["f1"], open_minilm(True).score(*pairs, often)["f1"]
    assert weighted[1] - weighted[0] > plain[1] - plain[0]


def test_facts_say_what_was_used_and_where_nothing_is():
    facts = open_minilm().facts
    assert facts["hash"].startswith("all-MiniLM-L6-v2_L6_idf_version=")
    assert len(facts["model_sha256"]) == 64
    assert facts["versions"]["bert-score"] == "0.3.13"
    assert facts["idf"] and not facts["rescaled"]
    assert "/" not in json.dumps(facts)
    assert open_minilm(False).facts["hash"] != facts["hash"]


def test_embedded_scorer_needs_no_network_and_no_slow_package(monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    open_scorer({"kind": "minilm"}, CPU).score(TEXTS, OTHERS)
    assert "sentence_transformers" not in sys.modules


# A model in a folder.


def test_folder_uses_the_layers_asked_for(bert):
    # a text of one word: its precision against another is the cosine of two embeddings
    scorer = open_scorer(spec_of(bert, layers=2, idf=False), CPU)
    ids = torch.tensor([[2, 5 + 1, 3], [2, 5 + 2, 3]])  # [CLS] red [SEP], [CLS] blue [SEP]
    with torch.no_grad():
        states = bert.model(ids, output_hidden_states=True).hidden_states
    for layers, states_of in ((2, states[2]), (3, states[3])):
        scorer = open_scorer(spec_of(bert, layers=layers, idf=False), CPU)
        expected = torch.cosine_similarity(states_of[0, 1], states_of[1, 1], dim=0).item()
        assert scorer.score(["red"], ["blue"])["f1"][0] == pytest.approx(expected, abs=1e-5)
    assert open_scorer(spec_of(bert), CPU).loaded.layers == 3


def test_folder_with_a_baseline(bert, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text("LAYER,P,R,F\n0,0,0,0\n1,0.5,0.25,0.2\n")
    plain, rescaled = (open_scorer(spec_of(bert, layers=1, **more), CPU) for more in ({}, {"baseline": str(table)}))
    raw, values = plain.score(["red car", ""], ["blue sky", "a"]), rescaled.score(["red car", ""], ["blue sky", "a"])
    np.testing.assert_allclose(values.iloc[0], (raw.iloc[0] - [0.5, 0.25, 0.2]) / [0.5, 0.75, 0.8], atol=1e-6)
    assert (values.iloc[1] == 0).all()
    assert rescaled.facts["rescaled"] and "custom-rescaled" in rescaled.facts["hash"]


def test_published_baseline_by_name(published):
    from nemesis.scoring.language_models import _read_baseline

    np.testing.assert_allclose(_read_baseline("roberta-large", 17), published["baseline"], atol=1e-7)


def test_texts_longer_than_the_model_takes(bert):
    table = open_scorer(spec_of(bert), CPU).score(["red " * 100, "red"], ["red " * 100, "blue " * 600])
    assert table["f1"][0] == pytest.approx(1, abs=1e-5)
    assert np.isfinite(table).all(axis=None)


def test_model_whose_path_has_the_letters_t5(tmp_path):
    bert = write_bert(tmp_path / "t5" / "bert", layers=1)  # bert-score takes such a path for a T5 model's
    assert open_scorer(spec_of(bert), CPU).facts["model"] == "bert"


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop_tensor(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.0.attention.self.query.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def drop_tokeniser(folder):
    for path in [*folder.glob("vocab*"), *folder.glob("tokenizer*")]:
        path.unlink()


FAULTS = {
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "has no weights; expected model.safetensors",
    ),
    "damaged weights": (cut_weights, "cannot be loaded"),
    "missing weight": (drop_tensor, "its weights do not fit its config.json"),
    "other sizes": (lambda folder: edit_config(folder, hidden_size=32), "cannot be loaded|do not fit"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "config.json is missing or damaged"),
    "damaged config": (lambda folder: (folder / "config.json").write_text("{"), "config.json is missing or damaged"),
    "no model type": (lambda folder: (folder / "config.json").write_text("{}"), "names no model_type"),
    "code": (lambda folder: edit_config(folder, auto_map={"AutoModel": "x.Y"}), "wants to run code of its own"),
    "no tokeniser": (drop_tokeniser, "has no tokeniser"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_folder(bert, fault, capfd):
    break_it, message = FAULTS[fault]
    break_it(bert.folder)
    with pytest.raises(InputError, match=message) as caught:
        open_scorer(spec_of(bert), CPU)
    assert str(bert.folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "bert"}, "kind: 'bert' is not known; expected one of minilm, roberta-large, folder"),
        ({"path": "nowhere/at/all"}, "nowhere/at/all is no folder"),
        ({"layers": 4}, "layers: 4; .* has layers 1 to 3"),
        ({"layers": 0}, "layers: 0; .* has layers 1 to 3"),
        ({"baseline": "no-such-model"}, "baseline: no-such-model has no row for layer 3"),
        ({"baseline": "roberta-large", "layers": 3}, None),
    ],
)
def test_bad_spec(bert, changes, message):
    with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
        open_scorer(spec_of(bert) | changes, CPU)


def test_folder_without_path():
    with pytest.raises(InputError, match="needs the key path"):
        open_scorer({"kind": "folder"}, CPU)


def test_hub_model_without_network(tmp_path, monkeypatch, capfd):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(
        InputError, match="roberta-large is not in the model hub's cache and cannot be downloaded"
    ) as caught:
        open_scorer({"kind": "roberta-large"}, CPU)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_hub_model_in_the_cache_needs_no_network(bert, tmp_path, monkeypatch):
    """A stand-in for roberta-large: 17 layers, in the cache where the hub puts them."""
    from huggingface_hub import constants

    made = write_bert(tmp_path / "made", layers=17)
    home = tmp_path / "cache" / "models--roberta-large"
    revision = "0" * 40
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(revision)
    (home / "snapshots").mkdir()
    made.folder.rename(home / "snapshots" / revision)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket.socket, "connect", lambda *args: pytest.fail("connects"))
    scorer = open_scorer({"kind": "roberta-large"}, CPU)
    assert scorer.facts["hash"].startswith("roberta-large_L17_idf_version=")
    assert scorer.facts["hash"].endswith("-rescaled_fast-tokenizer")
    np.testing.assert_allclose(scorer.loaded.baseline, [0.83150584, 0.8314941, 0.83122575], atol=1e-7)
    np.testing.assert_allclose(scorer.score(["a red car"], ["a red car"]), 1, atol=1e-5)
