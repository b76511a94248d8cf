"""Words and their numbers: tokeniser, vocabulary, texts as numbers, captions from numbers.

As the published MILAN does it (Hernandez et al., ICLR 2022), with spaCy's rules for English.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Words, numbered from 0 by their place, and four special entries after them."""

    words: tuple[str, ...]

    @property
    def start(self) -> int:
        return len(self.words)

    @property
    def stop(self) -> int:
        return len(self.words) + 1

    @property
    def pad(self) -> int:
        return len(self.words) + 2

    @property
    def unk(self) -> int:
        """Number of every word that is not in the vocabulary."""
        return len(self.words) + 3

    @property
    def size(self) -> int:
        """Words and special entries."""
        return len(self.words) + 4

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}


def tokenize(text: str) -> list[str]:
    """Lower-case tokens of a text; punctuation counts, white space does not.

    spaCy's rules for English: "Dog's black-and-white ears." -> dog 's black - and - white ears .
    """
    return [token.lower_ for token in _load_tokenizer()(text) if not token.is_space]


def build_vocabulary(documents: Iterable[Sequence[str]]) -> Vocabulary:
    """Every word of the documents, frequent ones first, ties by first occurrence.

    A document is the list of one unit's annotations, which are joined with a space.
    """
    counts = Counter(word for texts in documents for word in tokenize(" ".join(texts)))
    return Vocabulary(tuple(word for word, _ in counts.most_common()))


def index_texts(
    vocabulary: Vocabulary, texts: Iterable[str], *, start: bool = True, stop: bool = True
) -> list[list[int]]:
    """Texts as numbers, each [start] words [stop] pad..., as long as the longest one."""
    tokens = [tokenize(text) for text in texts]
    width = max(map(len, tokens), default=0) + start + stop  # of a row
    found = []
    for words in tokens:
        row = [vocabulary.start] if start else []
        row += [vocabulary.numbers.get(word, vocabulary.unk) for word in words]
        row += [vocabulary.stop] if stop else []
        found.append(row + [vocabulary.pad] * (width - len(row)))
    return found


def read_caption(vocabulary: Vocabulary, ids: Iterable[int]) -> str:
    """The caption that numbers stand for, up to the first stop; special entries are not shown."""
    words = []
    for number in map(int, ids):
        if number == vocabulary.stop:
            break
        if number < len(vocabulary.words):
            words.append(vocabulary.words[number])
    return join_words(words)


def join_words(words: Iterable[str]) -> str:
    """Words as a caption: no space before . , ; : nor around -, sentences begin with a capital letter.

    What follows any full stop counts as a sentence, as in the published code: u.s. -> U. S.
    """
    text = " ".join(words)
    for mark in ".,;:-":
        text = text.replace(f" {mark}", mark)
    text = text.replace("- ", "-")
    return ". ".join(sentence.strip().capitalize() for sentence in text.split(".")).strip()


@functools.lru_cache(maxsize=1)
def _load_tokenizer():
    import spacy

    return spacy.blank("en").tokenizer
