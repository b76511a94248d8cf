"""Descriptions of units from their exemplars."""

import pandas as pd
import torch

from nemesis.milan.decoder import Captioner
from nemesis.milan.encoder import Encoder
from nemesis.milan.exemplars import Exemplars
from nemesis.milan.search import decode
from nemesis.progress import Progress
from nemesis.stores import blocks

BATCH, PUBLISHED_BATCH = 64, 16


def describe(
    exemplars: Exemplars,
    captioner: Captioner,
    encoder: Encoder,
    batch: int | None = None,
    published: bool = False,
    seed: int = 0,
    **search,
) -> pd.DataFrame:
    """One row a row of `exemplars`: unit, its columns, description, score.

    score: log p of the description, less the language model's part where the strategy has one (see
    search.decode). batch: rows decoded together; a description depends on it only with `published`
    (default: as published). seed: of the strategy `sample`. search: strategy, beam, temperature, mi of
    `decode`, by default the captioner's own. Moves the captioner to the encoder's device.
    Raises InputError when the features are not those that the captioner was trained with.
    """
    for module in (captioner.decoder, captioner.language):
        if module is not None:
            module.to(encoder.device)
    generator = torch.Generator().manual_seed(seed) if search.get("strategy") == "sample" else None
    table = pd.DataFrame({"unit": exemplars.unit, **exemplars.columns})
    features = encoder.encode(exemplars.pictures, exemplars.picture, exemplars.masks)  # (R, k, F)
    captions, scores, progress = [], [], Progress("describe", len(features), "units")
    for first, last in blocks(len(features), batch or (PUBLISHED_BATCH if published else BATCH)):
        rows = torch.from_numpy(features[first:last]).to(encoder.device)
        found = decode(captioner, rows, published=published, generator=generator, **search)
        captions += found.captions
        scores += found.scores.tolist()
        progress.add(last - first)
    return table.assign(description=pd.Series(captions, dtype=str), score=pd.Series(scores, dtype=float))
