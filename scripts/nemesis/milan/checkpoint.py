"""Captioners in files: the published MILAN's checkpoints, and our own weights with a card.

Nothing that a file carries is executed. A published checkpoint (Hernandez et al., ICLR 2022) holds one
foreign class, spaCy's settings, for which a plain OrderedDict stands in; any other class is refused.
"""

import json
import pickle
import re
import zipfile
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path

import torch

from nemesis import __version__
from nemesis.errors import InputError
from nemesis.files import atomic_file, sha256_file
from nemesis.milan.captioner import Captioner, Decoder, LanguageModel
from nemesis.milan.encoder import DEFAULT_LAYERS
from nemesis.milan.text import Vocabulary
from nemesis.models.weights import insert_weights, load_weights

SPACY_SETTINGS = ("thinc.config.Config", "confection.Config", "confection._config.Config")
PUBLISHED_SIZE = 224  # px
TOKENIZER = {"lemmatize": False, "lowercase": True, "ignore_stop": False, "ignore_punct": False}
BACKBONE = "encoder.encoder.model."
PARTS = ("decoder", "language", "encoder")
REMEDY = "train the captioner again"


def load_published(path) -> Captioner:
    """The captioner of a published checkpoint, milan-<name>.pth.

    Its encoder is {"kind": "torchvision", "arch", "layers", "size", "mean", "std"} (layers [] for an
    arch that MILAN does not know), its encoder_state has torchvision's names.
    Raises InputError, naming the file, when it wants to load a class, is damaged, is something else,
    or its vocabulary does not fit its weights.
    """
    path = Path(path)
    properties, children, state = _read_checkpoint(path)
    if "encoder" not in children:
        raise InputError(f"{path}: is no decoder of MILAN (a language model alone?); give milan-<name>.pth")
    if children["encoder"] != "PyramidConvEncoder":
        raise InputError(f"{path}: has a {children['encoder']}; only PyramidConvEncoder is supported")
    vocabulary = _read_vocabulary(path, properties)
    own = {name: tensor for name, tensor in state.items() if not name.startswith(("encoder.", "lm."))}
    sizes = {name: _find(path, properties, f"{name}_size") for name in ("embedding", "hidden", "attention_hidden")}
    sizes["attention"] = sizes.pop("attention_hidden")
    features = _find(path, own, "init_h.0.weight").shape[1]
    _check_vocabulary(path, vocabulary, own, "embedding.weight")
    decoder = Decoder(features, vocabulary.size, **sizes, dropout=_find(path, properties, "dropout"))
    insert_weights(decoder, own, path)
    language, prior = None, properties.get("lm")
    if prior is not None:
        parts = {name[3:]: tensor for name, tensor in state.items() if name.startswith("lm.")}
        words, language = _build_language(path, _find(path, prior, "properties"), parts)
        if words != vocabulary:
            raise InputError(f"{path}: its language model has another vocabulary, or another order, than its decoder")
    names = {"length": "length", "strategy": "strategy", "beam": "beam_size", "temperature": "temperature"}
    settings = {ours: _find(path, properties, theirs) for ours, theirs in names.items()}
    encoder = _describe_encoder(path, properties, state)
    backbone = {name.removeprefix(BACKBONE): part for name, part in state.items() if name.startswith(BACKBONE)}
    return Captioner(vocabulary, decoder.eval(), language, encoder, settings, backbone or None)


def save_captioner(captioner: Captioner, weights_path, card_path, **facts) -> None:
    """Write the weights (safetensors) and the card (JSON) of a captioner.

    facts: whatever the card shall say besides, under `facts`, such as training figures.
    """
    from safetensors.torch import save_file

    states = [captioner.decoder.state_dict(), {}, captioner.encoder_state or {}]
    if captioner.language is not None:
        states[1] = captioner.language.state_dict()
    named = zip(PARTS, states, strict=True)
    tensors = {f"{part}.{name}": tensor.cpu().contiguous() for part, state in named for name, tensor in state.items()}
    with atomic_file(weights_path) as partial:
        save_file(tensors, partial)
    card = {
        "vocabulary": list(captioner.vocabulary.words),
        "decoder": captioner.decoder.sizes,
        "language": None if captioner.language is None else captioner.language.sizes,
        "encoder": captioner.encoder,
        "settings": captioner.settings,
        "facts": facts,
        "sha256": sha256_file(weights_path),
        "versions": {"nemesis": __version__} | {name: version(name) for name in ("torch", "safetensors", "spacy")},
    }
    with atomic_file(card_path) as partial:
        partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_captioner(weights_path, card_path) -> Captioner:
    """What save_captioner wrote.

    Raises InputError when a file is missing or damaged, or when the card is not that of the weights.
    """
    card = _read_card(Path(card_path))
    state = load_weights(weights_path)
    if sha256_file(weights_path) != card["sha256"]:
        raise InputError(f"{weights_path}: is not the file that {card_path} describes (sha256 differs); {REMEDY}")
    parts: dict[str, dict] = {part: {} for part in PARTS}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    vocabulary = Vocabulary(tuple(card["vocabulary"]))
    _check_vocabulary(weights_path, vocabulary, parts["decoder"], "embedding.weight")
    decoder = Decoder(size=vocabulary.size, **card["decoder"])
    insert_weights(decoder, parts["decoder"], weights_path)
    language = None
    if card["language"] is not None:
        language = LanguageModel(vocabulary.size, vocabulary.pad, **card["language"])
        insert_weights(language, parts["language"], weights_path)
        language.eval()
    return Captioner(vocabulary, decoder.eval(), language, card["encoder"], card["settings"], parts["encoder"] or None)


def _read_checkpoint(path: Path) -> tuple[dict, dict, dict]:
    """Properties, children and tensors of a published file; nothing in it is executed."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    stand_ins = [(OrderedDict, name) for name in SPACY_SETTINGS]
    try:
        with torch.serialization.safe_globals(stand_ins):
            tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise InputError(
                f"{path}: refused, for it wants to load {wanted[1]}, which could run code;"
                " use a checkpoint of the published MILAN as it was downloaded"
            ) from error
        raise InputError(f"{path}: damaged or no checkpoint of MILAN; download it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged or no checkpoint of MILAN; download it again") from error
    parts = tuple(_find(path, tree, name) for name in ("properties", "children", "state_dict"))
    if not all(isinstance(part, dict) for part in parts) or not all(map(torch.is_tensor, parts[2].values())):
        raise InputError(f"{path}: no checkpoint of MILAN: its parts are not what they should be")
    return parts


def _find(path: Path, tree, *names: str):
    """tree[names[0]][names[1]]...; InputError when it is not there."""
    for place, name in enumerate(names):
        if not isinstance(tree, dict) or name not in tree:
            raise InputError(f"{path}: no checkpoint of MILAN: lacks {'.'.join(names[: place + 1])}")
        tree = tree[name]
    return tree


def _read_vocabulary(path: Path, properties: dict) -> Vocabulary:
    """The words of an indexer, which must number and tokenise as ours does."""
    indexer = _find(path, properties, "indexer", "properties")
    words = _find(path, indexer, "vocab", "properties", "tokens")
    tokenizer = _find(path, indexer, "tokenize", "properties")
    flags = {name: indexer.get(name, True) for name in ("start", "stop", "pad", "unk")}
    flags |= {name: tokenizer.get(name, usual) for name, usual in TOKENIZER.items()}
    odd = [name for name, value in flags.items() if value is not TOKENIZER.get(name, True)]
    if odd:
        raise InputError(f"{path}: its indexer has {odd[0]}: {flags[odd[0]]}, which is not supported")
    return Vocabulary(tuple(map(str, words)))


def _build_language(path: Path, properties: dict, state: dict) -> tuple[Vocabulary, LanguageModel]:
    vocabulary = _read_vocabulary(path, properties)
    _check_vocabulary(path, vocabulary, state, "embedding.weight")
    names = {"embedding": "embedding_size", "hidden": "hidden_size", "layers": "layers", "dropout": "dropout"}
    sizes = {ours: _find(path, properties, theirs) for ours, theirs in names.items()}
    language = LanguageModel(vocabulary.size, vocabulary.pad, **sizes)
    insert_weights(language, state, path)
    return vocabulary, language.eval()


def _check_vocabulary(path, vocabulary: Vocabulary, state: dict, name: str) -> None:
    rows = len(_find(path, state, name))
    if rows != vocabulary.size:
        raise InputError(
            f"{path}: vocabulary and weights do not fit: {len(vocabulary.words)} words and 4 special entries,"
            f" but {name} has {rows} rows"
        )


def _describe_encoder(path: Path, properties: dict, state: dict) -> dict:
    arch = str(_find(path, properties, "encoder", "properties", "config"))
    layers = list(DEFAULT_LAYERS.get(arch, ()))
    encoder = {"kind": "torchvision", "arch": arch, "layers": layers, "size": PUBLISHED_SIZE}
    return encoder | {name: _find(path, state, f"encoder.{name}").flatten().tolist() for name in ("mean", "std")}


def _read_card(path: Path) -> dict:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such card of a captioner") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable card of a captioner; {REMEDY}") from error
    wanted = ("vocabulary", "decoder", "language", "encoder", "settings", "sha256")
    lacking = [name for name in wanted if not isinstance(card, dict) or name not in card]
    if lacking:
        raise InputError(f"{path}: no card of a captioner: lacks '{lacking[0]}'; {REMEDY}")
    return card
