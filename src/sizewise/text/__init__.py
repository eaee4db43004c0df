"""Words, sentences and n-grams of texts in every script."""

from sizewise.text.ngrams import NGRAM
from sizewise.text.sentences import sentences_of
from sizewise.text.words import count_words, normalize_text, pieces_of, words_of

__all__ = ["NGRAM", "count_words", "normalize_text", "pieces_of", "sentences_of", "words_of"]
