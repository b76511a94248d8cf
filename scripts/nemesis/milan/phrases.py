"""What several regions have in common, in words: their own descriptions, less what only few of them share.

A word that too few members share is dropped (an adjective, a clause) or gives way to a hypernym ("a
dog on the grass" -> "an animal on the grass"). So "the black wheels of a white car" becomes "the black
wheels of a vehicle" in a set of wheels of cars and buses.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

HYPERNYMS: dict[str, tuple[str, ...]] = {
    "animal": (
        *("dog", "cat", "horse", "zebra", "cow", "sheep", "elephant", "giraffe"),
        *("bird", "duck", "fish", "turtle", "jellyfish", "starfish"),
    ),
    "vehicle": ("car", "bus", "truck", "train", "bicycle", "tractor", "boat", "ship", "airplane", "balloon"),
    "building": ("house", "building", "skyscraper", "lighthouse", "barn", "windmill", "tent"),
    "plant": ("tree", "pine", "palm", "bush", "hedge", "flower", "cactus", "seaweed", "grass", "mushroom"),
    "furniture": ("chair", "table", "sofa", "bed", "bench", "cabinet", "bookcase", "lamp"),
    "appliance": ("stove", "refrigerator", "sink", "bathtub", "toilet", "television", "monitor", "laptop"),
    "dish": ("cup", "bottle", "bowl", "vase", "pan", "teapot", "cake"),
    "ground": ("floor", "road", "pavement", "field", "sand", "snow", "path", "rug"),
    "room": ("kitchen", "living room", "bedroom", "bathroom", "office"),
    "landscape": ("park", "forest", "farm", "savanna", "desert", "snowfield", "airfield"),
    "shore": ("beach", "harbour", "reef"),
    "curved": ("swirly", "spiralled", "scaly", "bubbly", "marbled"),
    "lined": ("striped", "banded", "zigzagged", "crosshatched"),
    "checked": ("chequered", "grid", "woven", "honeycombed"),
    "spotted": ("dotted", "sprinkled", "starry", "bubbly"),
    "veined": ("cracked", "cobwebbed", "marbled"),
}
"""Hypernym: the names it covers. Names that no probe shows do no harm."""
WITHOUT_ARTICLE = frozenset({"furniture", "ground"})
_HYPERNYMS_OF = {
    name: tuple(word for word, names in HYPERNYMS.items() if name in names)
    for covered in HYPERNYMS.values()
    for name in covered
}
PREPOSITIONS = frozenset({"with", "in", "on", "of", "at", "by", "under", "over", "near", "behind", "above", "below"})
ARTICLES = frozenset({"a", "an", "the"})
NEUTRAL = frozenset({"pattern", "texture", "surface"})  # say nothing by themselves
NEED_ADJECTIVE, NEED_NOUN, NEED_HYPERNYM = 0.5, 0.45, 0.6  # share of the set for which a word must hold
MORE_WORDS = 2.0  # how much likelier a description is for each word that says something


def find_hypernyms(name: str) -> tuple[str, ...]:
    """The hypernyms of a concept's name, none for most parts and materials."""
    return _HYPERNYMS_OF.get(name, ())


@dataclass(frozen=True)
class Lexicon:
    """Words with a role: `adjectives` are colours and textures, `names` all concepts (spaces as _)."""

    adjectives: frozenset[str]
    names: frozenset[str]

    def split(self, text: str) -> list[str]:
        """Words of a description; a name of several words is one word with _ in it, "a close-up of" says nothing."""
        text = text.lower().removeprefix("a close-up of ")
        for name in self.names:
            if "_" in name:
                text = text.replace(name.replace("_", " "), name)
        return text.split()

    def base(self, word: str) -> str:
        """The concept behind a word in the plural; other words stay."""
        if word in self.names:
            return word
        return next((word[:-cut] for cut in (1, 2) if word.endswith("s") and word[:-cut] in self.names), word)


@dataclass(frozen=True)
class Member:
    """A region of a set: the words of its description, those that hold for itself, and for what is around it."""

    text: tuple[str, ...]
    own: frozenset[str]
    around: frozenset[str]


def make_member(text: str, own: Iterable[str], around: Iterable[str], lexicon: Lexicon) -> Member:
    """A region described by `text`; the text's words and all hypernyms are added to what holds."""
    words = tuple(lexicon.split(text))
    return Member(
        words,
        _add_hypernyms({*own}, _split_clauses(words)[0], lexicon),
        _add_hypernyms({*own, *around}, words, lexicon),
    )


def describe_together(members: Sequence[Member], lexicon: Lexicon, rng, count: int = 3) -> tuple[str, ...]:
    """`count` descriptions that hold for the set, drawn from its members' own; () if they share nothing.

    The more members a description comes from and the more it says, the likelier it is; one is used
    twice only when there are no others.
    """
    own, around = (find_shares([getattr(member, name) for member in members]) for name in ("own", "around"))
    found = Counter(generalise(member.text, own, around, lexicon) for member in members)
    found.pop(None, None)
    if not found:
        return ()
    phrases = sorted(found, key=lambda phrase: (-found[phrase], phrase))
    says = [sum(word not in ARTICLES | PREPOSITIONS | NEUTRAL for word in phrase.split()) for phrase in phrases]
    weights = np.array([found[phrase] * MORE_WORDS**words for phrase, words in zip(phrases, says, strict=True)])
    distinct = min(count, len(phrases))
    order = rng.choice(len(phrases), distinct, replace=False, p=weights / weights.sum())
    return tuple(phrases[order[slot % distinct]] for slot in range(count))


def find_shares(words: Sequence[frozenset[str]]) -> dict[str, float]:
    """Share of the sets of words in which each word occurs."""
    counts = Counter(word for member in words for word in member)
    return {word: number / len(words) for word, number in counts.items()}


def generalise(
    words: Sequence[str], own: Mapping[str, float], around: Mapping[str, float], lexicon: Lexicon
) -> str | None:
    """A description, given as words, without what holds for too few; None when nothing is left of it.

    own, around: share of the set for which a word holds, for what is described and for what is around
    it ("of a car", "on a street").
    """
    head, *clauses = _split_clauses(words)
    kept = _trim(head, own, lexicon, stand_in="thing")
    if not kept:
        return None
    says = any(word not in ARTICLES | NEUTRAL for word in kept)
    for preposition, *rest in clauses:
        clause = _trim(rest, around, lexicon)
        if not clause:
            break
        says = True
        kept += [preposition, *clause]
    if not says:
        return None
    return " ".join(_set_articles(kept)).replace("_", " ")


def _add_hypernyms(words: set[str], more: Sequence[str], lexicon: Lexicon) -> frozenset[str]:
    """All words, with the concepts behind them and the hypernyms of these."""
    together = words | {lexicon.base(word) for word in more} | set(more)
    return frozenset(together | {above for word in together for above in find_hypernyms(word.replace("_", " "))})


def _split_clauses(words: Sequence[str]) -> list[list[str]]:
    """The head, then every clause with its preposition in front."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in PREPOSITIONS:
            parts.append([])
        parts[-1].append(word)
    return parts


def _trim(words: Sequence[str], shares: Mapping[str, float], lexicon: Lexicon, stand_in: str = "") -> list[str]:
    """A head's or clause's words that hold for enough of the set, [] if none does."""
    nouns: list[list[str]] = [[]]
    for word in words:
        if word == "and":
            nouns.append([])
        else:
            nouns[-1].append(word)
    kept: list[list[str]] = []
    for noun in nouns:
        found = _trim_noun(noun, shares, lexicon, stand_in)
        if not found or any(lexicon.base(found[-1]) == lexicon.base(other[-1]) for other in kept):
            continue
        lost = kept and kept[-1][-1] in lexicon.adjectives and found[0] != noun[0]  # red and (black) striped texture
        kept.append(found if lost or not kept else ["and", *found])
    return [word for found in kept for word in found]


def _trim_noun(words: list[str], shares: Mapping[str, float], lexicon: Lexicon, stand_in: str) -> list[str]:
    article = [word for word in words[:1] if word in ARTICLES]
    *before, last = words[len(article) :] or [""]
    if last in lexicon.adjectives:  # "red" of "red and white"
        before, last = [*before, last], ""
    kept = [found for word in before if (found := _trim_adjective(word, shares, lexicon))]
    if last in NEUTRAL:
        return [*article, *kept, last] if kept or stand_in else []
    noun = _trim_last(last, shares, lexicon) if last else ""
    if last and not noun:
        if not (stand_in and kept):
            return []
        noun = stand_in
    if noun in WITHOUT_ARTICLE:
        article = []
    elif not article and noun and noun != last and not noun.endswith("s"):
        article = ["a"]
    return [*article, *kept, noun] if noun else kept


def _trim_adjective(word: str, shares: Mapping[str, float], lexicon: Lexicon) -> str:
    if shares.get(word, 0) >= (NEED_ADJECTIVE if word in lexicon.adjectives else NEED_NOUN):
        return word
    return _find_shared_hypernym(word, shares)


def _trim_last(word: str, shares: Mapping[str, float], lexicon: Lexicon) -> str:
    base = lexicon.base(word)
    if max(shares.get(word, 0), shares.get(base, 0)) >= NEED_NOUN:
        return word
    hypernym = _find_shared_hypernym(base, shares)
    return f"{hypernym}s" if hypernym and word != base and hypernym not in WITHOUT_ARTICLE else hypernym


def _find_shared_hypernym(name: str, shares: Mapping[str, float]) -> str:
    """The most shared hypernym of a name, "" if none holds for enough."""
    hypernym = max(find_hypernyms(name.replace("_", " ")), key=lambda word: shares.get(word, 0), default="")
    return hypernym if hypernym and shares.get(hypernym, 0) >= NEED_HYPERNYM else ""


def _set_articles(words: list[str]) -> list[str]:
    """ "a" or "an", as the next word begins."""
    following = [*words[1:], ""]
    return [
        ("an" if after[:1] in set("aeiou") else "a") if word in ("a", "an") else word
        for word, after in zip(words, following, strict=True)
    ]
