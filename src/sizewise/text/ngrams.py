"""Hash words, word n-grams and letter n-grams with numpy, in every script, the same on every machine.

Letters of scripts that are written without spaces and letter by letter (Thai, Lao, Khmer, Myanmar) count as a third of
a word. Hashes have 64 bits: two of a billion n-grams share one by chance with a probability of 3 %.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizewise.text.scripts import IDEOGRAPHS, LETTERS_PER_WORD, UNSPACED_LETTERS
from sizewise.text.words import words_of

Hashes = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NGRAM = 13
NO_HASHES: Hashes = np.zeros(0, np.uint64)
MAX_CACHED = 1_000_000
_BASE, _MIX_1, _MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_IS_UNSPACED = re.compile(f"[{UNSPACED_LETTERS}]")
_FIRST_UNSPACED = "\u0e01"
# Letters that carry about as much information as one word character of an alphabet (2 bits), an ideograph (5 bits) and
# a Hangul syllable (4 bits); see `seed_length`.
_IDEOGRAPHS_PER_WORD = 2
_BITS_ALPHABET, _BITS_IDEOGRAPH, _BITS_HANGUL = 2.4, 5, 4


class _HashOf(dict[str, int]):
    """Word -> 64-bit hash, computed once."""

    def __missing__(self, word: str) -> int:
        if len(self) >= MAX_CACHED:
            self.clear()
        value = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        self[word] = value
        return value


_hash_of = _HashOf()


class Words(NamedTuple):
    """The words of a text, hashed."""

    hashes: Hashes
    """(words,) hash of each word."""
    unspaced: Mask | None
    """(words,) whether a word is one letter of a script such as Thai; None if none is."""
    words: list[str]
    """The words."""

    def __len__(self) -> int:
        return len(self.hashes)

    def whole(self) -> int:
        """Compute the hash of the whole text."""
        return int.from_bytes(blake2b(self.hashes.tobytes(), digest_size=8).digest(), "little")


class Ngrams(NamedTuple):
    """N-grams of a text in the order of their first word."""

    starts: Positions
    """(n-grams,) index of the first word."""
    sizes: Positions
    """(n-grams,) number of words, or of letters in an unspaced script."""
    hashes: Hashes
    """(n-grams,) hash."""

    def covered(self, chosen: Mask, count: int) -> Mask:
        """Return which of `count` words the chosen n-grams cover."""
        edges = np.zeros(count + 1, np.int64)
        np.add.at(edges, self.starts[chosen], 1)
        np.add.at(edges, self.starts[chosen] + self.sizes[chosen], -1)
        return np.cumsum(edges[:-1]) > 0


def hash_words(text: str) -> Words:
    """Split a text into words and hash them."""
    words = words_of(text)
    hashes = np.fromiter(map(_hash_of.__getitem__, words), np.uint64, len(words))
    unspaced = None
    if not text.isascii() and words and max(words) >= _FIRST_UNSPACED:
        found = np.fromiter((bool(_IS_UNSPACED.match(word)) for word in words), np.bool_, len(words))
        unspaced = found if found.any() else None
    return Words(hashes, unspaced, words)


def join_words(parts: Sequence[Words]) -> Words:
    """Join the words of several texts."""
    if len(parts) == 1:
        return parts[0]
    unspaced = None
    if any(part.unspaced is not None for part in parts):
        masks = [np.zeros(len(part), np.bool_) if part.unspaced is None else part.unspaced for part in parts]
        unspaced = np.concatenate(masks)
    words = [word for part in parts for word in part.words]
    return Words(np.concatenate([part.hashes for part in parts]), unspaced, words)


def ngrams(words: Words, length: int, left_out: Mask | None = None) -> Ngrams:
    """Hash the n-grams of a text.

    Args:
        words: The words.
        length: Number of words in an n-gram.
        left_out: (words,) words that no n-gram may contain, such as those of a template.
    """
    starts, hashes = _rolling(words.hashes, length)
    sizes = np.full(len(starts), length, np.int64)
    if words.unspaced is not None:
        long_starts, long_hashes = _rolling(words.hashes, length * LETTERS_PER_WORD)
        short, long = ~words.unspaced[starts], words.unspaced[long_starts]
        starts = np.concatenate([starts[short], long_starts[long]])
        sizes = np.repeat([length, length * LETTERS_PER_WORD], [short.sum(), long.sum()])
        hashes = np.concatenate([hashes[short], long_hashes[long]])
        order = np.argsort(starts, kind="stable")
        starts, sizes, hashes = starts[order], sizes[order], hashes[order]
    if left_out is not None and len(starts):
        before = np.concatenate([[0], np.cumsum(left_out)])
        whole = before[starts + sizes] == before[starts]
        starts, sizes, hashes = starts[whole], sizes[whole], hashes[whole]
    return Ngrams(starts, sizes, hashes)


def isin_sorted(values: Hashes, known: Hashes) -> Mask:
    """Return which values occur in a sorted array."""
    if not len(known):
        return np.zeros(len(values), np.bool_)
    places = np.searchsorted(known, values)
    places[places == len(known)] = 0
    found: Mask = known[places] == values
    return found


def left_out(words: Words, common: Hashes) -> Mask | None:
    """Return the words that common 13-grams cover; None if there are none."""
    if not len(common):
        return None
    grams = ngrams(words, NGRAM)
    covered = grams.covered(isin_sorted(grams.hashes, common), len(words))
    return covered if covered.any() else None


def letters_of(words: Words, left_out: Mask | None = None) -> npt.NDArray[np.uint32]:
    """Return the code points of a text's words, without spaces and punctuation.

    Args:
        words: The words.
        left_out: (words,) words to leave out.
    """
    kept = (
        words.words if left_out is None else [word for word, out in zip(words.words, left_out, strict=True) if not out]
    )
    return np.frombuffer("".join(kept).encode("utf-32-le", "surrogatepass"), np.uint32)


def seed_lengths(letters: int) -> tuple[int, int, int]:
    """Return the letters of a seed in alphabets, ideographs and Hangul.

    A seed is so long that a random one occurs about once among all letters of the training text.
    """
    bits = max(16, int(max(1, letters)).bit_length())
    return tuple(int(-(-bits // each)) for each in (_BITS_ALPHABET, _BITS_IDEOGRAPH, _BITS_HANGUL))  # type: ignore[return-value]


def seeds(letters: npt.NDArray[np.uint32], lengths: tuple[int, int, int]) -> tuple[Positions, Hashes]:
    """Hash the letter n-grams of a text whose hash is divisible by four: a sample that is the same in every text.

    Args:
        letters: Code points from `letters_of`.
        lengths: Result of `seed_lengths`.

    Returns:
        Positions of the first letters, and hashes.
    """
    values = (letters.astype(np.uint64) + np.uint64(1)) * _MIX_2
    starts, hashes = _rolling(values, lengths[0])
    if len(letters) and letters.max() >= 0x1100:
        kinds = _kinds(letters)
        parts = [(starts[kinds[starts] == 0], hashes[kinds[starts] == 0])]
        for kind in (1, 2):
            some, found = _rolling(values, lengths[kind])
            parts.append((some[kinds[some] == kind], found[kinds[some] == kind]))
        starts, hashes = (np.concatenate(part) for part in zip(*parts, strict=True))
    sampled = (hashes & np.uint64(1)) == 0
    return starts[sampled], hashes[sampled]


def shingles(letters: npt.NDArray[np.uint32], length: int) -> Hashes:
    """Hash the letter n-grams of a text; one hash of the whole text if it is shorter than that.

    In scripts whose letters say more, n-grams are shorter: two ideographs or kana are about a word, as are three
    letters of Korean, Thai, Lao, Khmer and Burmese.

    Args:
        letters: Code points from `letters_of`.
        length: Letters of an n-gram in an alphabet.
    """
    values = (letters.astype(np.uint64) + np.uint64(1)) * _MIX_2
    if not len(letters) or letters.max() < ord(_FIRST_UNSPACED):
        return _rolling(values, max(1, min(length, len(values))))[1]
    kinds = _kinds(letters)
    for first, last in _ranges(UNSPACED_LETTERS):
        kinds[(letters >= first) & (letters <= last)] = 2
    parts = []
    for kind, size in ((0, length), (1, _IDEOGRAPHS_PER_WORD), (2, LETTERS_PER_WORD)):
        starts, hashes = _rolling(values, max(1, min(size, len(values))))
        parts.append(hashes[kinds[starts] == kind])
    return np.concatenate(parts)


def _kinds(letters: npt.NDArray[np.uint32]) -> npt.NDArray[np.int8]:
    """Return 1 for ideographs, 2 for Hangul, 0 for other letters."""
    kinds = np.zeros(len(letters), np.int8)
    for first, last in _ranges(IDEOGRAPHS):
        kinds[(letters >= first) & (letters <= last)] = 1
    kinds[((letters >= 0xAC00) & (letters <= 0xD7AF)) | ((letters >= 0x1100) & (letters <= 0x11FF))] = 2
    return kinds


def _ranges(characters: str) -> list[tuple[int, int]]:
    return [(ord(found[0]), ord(found[-1])) for found in re.findall(r"(?s).-.|.", characters)]


def _rolling(values: Hashes, length: int) -> tuple[Positions, Hashes]:
    """Hash each window of `length` values."""
    count = len(values) - length + 1
    if count <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.uint64)
    hashes = values[:count].copy()
    for i in range(1, length):
        hashes *= _BASE
        hashes += values[i : count + i]
    hashes ^= hashes >> np.uint64(31)
    hashes *= _MIX_1
    hashes ^= hashes >> np.uint64(27)
    hashes *= _MIX_2
    hashes ^= hashes >> np.uint64(31)
    return np.arange(count), hashes
