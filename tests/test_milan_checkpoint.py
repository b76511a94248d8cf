"""Published checkpoints load without running anything, others are refused; our own files make a round trip."""

import json
import os
from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_milan import draw_captioner, draw_features

from nemesis.errors import InputError
from nemesis.milan.checkpoint import (
    SPACY_SETTINGS,
    load_captioner,
    load_published,
    save_captioner,
)
from nemesis.milan.describe import decode


class Foreign:
    """Any class that a file may ask for."""

    def __init__(self):
        self.value = 1


class Attack:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.fixture(scope="module")
def checkpoint(shared):
    return shared("golden/milan/decoder.pth")


@pytest.fixture
def changed(checkpoint, tmp_path):
    """changed(change) writes the published checkpoint after `change(tree)`."""

    def write(change):
        with torch.serialization.safe_globals([(OrderedDict, name) for name in SPACY_SETTINGS]):
            tree = torch.load(checkpoint, weights_only=True)
        change(tree)
        torch.save(tree, tmp_path / "changed.pth")
        return tmp_path / "changed.pth"

    return write


def expect_refusal(path, message, load=load_published):
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_published_checkpoint_loads(shared, checkpoint):
    captioner = load_published(checkpoint)
    expected = json.loads(shared("golden/milan/vocab_and_config.json").read_text())
    words = captioner.vocabulary
    assert list(words.words) == expected["vocab_tokens"]
    assert (words.start, words.stop, words.pad, words.unk, words.size) == (45, 46, 47, 48, 49)
    assert captioner.settings == {"length": 15, "strategy": "rerank", "beam": 8, "temperature": 0.2}
    assert captioner.decoder.sizes["attention"] == expected["attention_hidden_size_effective"]
    assert {name: captioner.encoder[name] for name in ("kind", "arch", "size")} == {
        "kind": "torchvision",
        "arch": "tiny",
        "size": 224,
    }
    found = {name: list(tensor.shape) for name, tensor in captioner.decoder.state_dict().items()}
    found |= {f"lm.{name}": list(tensor.shape) for name, tensor in captioner.language.state_dict().items()}
    prefix = "encoder.encoder.model."
    found |= {prefix + name: list(tensor.shape) for name, tensor in captioner.encoder_state.items()}
    shapes = {name: shape for name, (shape, _) in expected["state_dict_keys"].items()}
    assert found == {name: shape for name, shape in shapes.items() if name not in ("encoder.mean", "encoder.std")}
    torch.testing.assert_close(torch.tensor(captioner.encoder["mean"]), torch.tensor([0.485, 0.456, 0.406]))
    assert not captioner.decoder.training and not captioner.language.training


def test_all_tensors_are_those_of_the_file(shared, checkpoint):
    captioner = load_published(checkpoint)
    expected = torch.load(shared("golden/milan/state_dict.pth"), weights_only=True)
    for name, tensor in captioner.decoder.state_dict().items():
        assert torch.equal(expected[name], tensor)
    for name, tensor in captioner.language.state_dict().items():
        assert torch.equal(expected[f"lm.{name}"], tensor)


@pytest.mark.parametrize("arch", ["resnet18", "resnet101", "alexnet"])
def test_encoder_of_the_paper_has_five_layers(arch, changed):
    captioner = load_published(changed(lambda tree: tree["properties"]["encoder"]["properties"].update(config=arch)))
    assert captioner.encoder["arch"] == arch and len(captioner.encoder["layers"]) == 5


def test_a_checkpoint_without_language_model_loads(changed):
    def drop(tree):
        tree["properties"]["lm"] = None
        for name in [name for name in tree["state_dict"] if name.startswith("lm.")]:
            del tree["state_dict"][name]

    assert load_published(changed(drop)).language is None


@pytest.mark.parametrize(
    ("value", "name"),
    [(Foreign(), f"{__name__}.Foreign"), (Attack(), "posix.system"), (Foreign, f"{__name__}.Foreign")],
)
def test_any_other_class_is_refused(value, name, changed):
    path = changed(lambda tree: tree["properties"].update(extra=value))
    expect_refusal(path, f"refused, for it wants to load {name}")


@given(name=st.sampled_from(["properties", "children", "state_dict"]), cut=st.booleans(), place=st.floats(0, 1))
@settings(max_examples=30)
def test_damaged_files_are_one_line(checkpoint, tmp_path_factory, name, cut, place):
    content = bytearray(checkpoint.read_bytes())
    index = int(place * (len(content) - 1))
    content = content[:index] if cut else content.replace(name.encode(), b"x" * len(name))
    path = tmp_path_factory.mktemp("damaged") / "damaged.pth"
    path.write_bytes(content)
    expect_refusal(path, "MILAN")


def test_wrong_files_are_one_line(shared, tmp_path):
    expect_refusal(tmp_path / "absent.pth", "no such checkpoint")
    expect_refusal(shared("golden/milan/lm.pth"), "is no decoder of MILAN")
    expect_refusal(shared("golden/milan/state_dict.pth"), "no checkpoint of MILAN: lacks properties")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    expect_refusal(tmp_path / "tensor.pth", "no checkpoint of MILAN: lacks properties")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    expect_refusal(tmp_path / "text.pth", "damaged or no checkpoint of MILAN")


def more_words(tree):
    indexer = tree["properties"]["indexer"]["properties"]
    indexer["vocab"]["properties"]["tokens"] += ("surplus",)


def other_prior(tree):
    indexer = tree["properties"]["lm"]["properties"]["indexer"]["properties"]
    tokens = indexer["vocab"]["properties"]["tokens"]
    indexer["vocab"] = {"properties": {"tokens": tokens[::-1]}, "children": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (more_words, "46 words and 4 special entries, but embedding.weight has 49 rows"),
        (other_prior, "its language model has another vocabulary"),
        (lambda tree: tree["state_dict"].pop("lstm.bias_ih"), "lacks lstm.bias_ih"),
        (lambda tree: tree["state_dict"].update({"output.1.bias": torch.zeros(3)}), r"output.1.bias is \(3,\)"),
        (lambda tree: tree["properties"].pop("beam_size"), "lacks beam_size"),
        (lambda tree: tree["state_dict"].update(extra=3), "its parts are not what they should be"),
        (lambda tree: tree.update(children=3), "its parts are not what they should be"),
        (lambda tree: tree["children"].update(encoder="SpatialConvEncoder"), "has a SpatialConvEncoder"),
        (lambda tree: tree["properties"]["indexer"]["properties"].update(unk=False), "indexer has unk: False"),
    ],
)
def test_checkpoints_that_do_not_fit_together_are_one_line(change, message, changed):
    expect_refusal(changed(change), message)


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("backbone", [None, {"conv1.weight": torch.arange(6.0).view(2, 3), "n": torch.tensor(7)}])
def test_captioner_is_saved_and_loaded_again(prior, backbone, tmp_path):
    captioner = replace(
        draw_captioner(prior=prior), encoder_state=backbone, encoder={"kind": "x", "layers": ["a", "b"]}
    )
    paths = tmp_path / "captioner.safetensors", tmp_path / "captioner.json"
    save_captioner(captioner, *paths, loss=[0.5, 0.25])
    loaded = load_captioner(*paths)
    for name in ("vocabulary", "encoder", "settings"):
        assert getattr(loaded, name) == getattr(captioner, name)
    features = draw_features(4)
    found, expected = decode(loaded, features), decode(captioner, features)
    assert torch.equal(found.scores, expected.scores) and found.captions == expected.captions
    if backbone:
        assert all(torch.equal(loaded.encoder_state[name], tensor) for name, tensor in backbone.items())
    else:
        assert loaded.encoder_state is None
    card = json.loads(paths[1].read_text())
    assert card["facts"] == {"loss": [0.5, 0.25]} and len(card["sha256"]) == 64 and "torch" in card["versions"]


def test_published_captioner_is_saved_and_loaded_again(checkpoint, tmp_path):
    captioner = load_published(checkpoint)
    paths = tmp_path / "captioner.safetensors", tmp_path / "captioner.json"
    save_captioner(captioner, *paths)
    features = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(0))
    assert decode(load_captioner(*paths), features).captions == decode(captioner, features).captions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda card: card["vocabulary"].append("surplus"),
            "10 words and 4 special entries, but embedding.weight has 13",
        ),
        (lambda card: card.update(sha256="0" * 64), "sha256 differs"),
        (lambda card: card.pop("decoder"), "lacks 'decoder'"),
        (lambda card: card["decoder"].update(hidden=8), "does not fit Decoder"),
    ],
)
def test_a_card_that_does_not_fit_is_one_line(change, message, tmp_path):
    weights, path = tmp_path / "captioner.safetensors", tmp_path / "captioner.json"
    save_captioner(draw_captioner(), weights, path)
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(card))
    with pytest.raises(InputError, match=message):
        load_captioner(weights, path)
    path.write_text("{")
    with pytest.raises(InputError, match="not a readable card"):
        load_captioner(weights, path)
    path.unlink()
    with pytest.raises(InputError, match="no such card"):
        load_captioner(weights, path)
