"""Words, sentences, characters, n-grams and languages of texts in every script."""

from sizewise.text.graphemes import graphemes_of, shorten_text
from sizewise.text.languages import count_languages, detect_language, language_name, main_language
from sizewise.text.level_words import ordered_levels
from sizewise.text.ngrams import NGRAM
from sizewise.text.normalization import fold_text, legible_text, normalize_text, visible_text
from sizewise.text.opposites import positive_first, same_answers
from sizewise.text.sentences import sentences_of
from sizewise.text.stated import distinct_labels, read_label
from sizewise.text.words import character_ngrams, count_words, phrase_pattern, pieces_of, words_of

__all__ = [
    "NGRAM",
    "character_ngrams",
    "count_languages",
    "count_words",
    "detect_language",
    "distinct_labels",
    "fold_text",
    "graphemes_of",
    "language_name",
    "legible_text",
    "main_language",
    "normalize_text",
    "ordered_levels",
    "phrase_pattern",
    "pieces_of",
    "positive_first",
    "read_label",
    "same_answers",
    "sentences_of",
    "shorten_text",
    "visible_text",
    "words_of",
]
