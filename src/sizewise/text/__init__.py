"""Words and n-grams of every script."""

from sizewise.text.ngrams import NGRAM, SeenText, pieces_of, words_of

__all__ = ["NGRAM", "SeenText", "pieces_of", "words_of"]
