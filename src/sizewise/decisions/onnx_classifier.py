"""Build the ONNX graph of a classifier: words, characters and tokens in, calibrated probabilities out.

TF-IDF is part of the graph, with the operation TfIdfVectorizer. The n-grams of characters that scikit-learn counts
within words (`char_wb`) are those of a text whose words have a space at either end: no n-gram of the vocabulary holds
two spaces in a row, so that none reaches from one word into the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sizewise.decisions.calibrators import EPSILON
from sizewise.decisions.scorers import FloatArray, IntArray
from sizewise.records import Calibrator, Question
from sizewise.retrieval import Encoder
from sizewise.retrieval.encoder_graph import OUTPUT
from sizewise.retrieval.onnx_format import Graph

WORDS, CHARACTERS, PROBABILITIES = "words", "characters", "probabilities"
_FLOAT = 1


class ProbabilityGraph:
    """Adds the steps from features to probabilities to a graph. Values are named; each is (texts, columns).

    Args:
        graph: the graph.
        independent: whether each option has a probability of its own.
        options: number of options.
    """

    def __init__(self, graph: Graph, independent: bool, options: int) -> None:
        self.graph, self._independent, self._options = graph, independent, options

    def word_features(self, vocabulary: Mapping[str, int], weights: FloatArray) -> str:
        """Add TF-IDF of words and word pairs, of unit length."""
        words = self.graph.input(WORDS, ["texts", "words"], strings=True)
        split = {name: name.split(" ") for name in vocabulary}
        by_size = [[name for name in vocabulary if len(split[name]) == size] for size in (1, 2)]
        strings = [part for names in by_size for name in names for part in split[name]]
        counts = self._count(words, by_size, vocabulary, strings=strings)
        return self._tfidf(counts, weights)

    def character_features(self, vocabulary: Mapping[str, int], weights: FloatArray) -> str:
        """Add TF-IDF of runs of characters, of unit length."""
        characters = self.graph.input(CHARACTERS, ["texts", "characters"])
        by_size = [[name for name in vocabulary if len(name) == size] for size in range(1, 6)]
        codes = [ord(letter) for names in by_size for name in names for letter in name]
        return self._tfidf(self._count(characters, by_size, vocabulary, codes=codes), weights)

    def _count(
        self,
        source: str,
        by_size: Sequence[Sequence[str]],
        vocabulary: Mapping[str, int],
        *,
        strings: Sequence[str] = (),
        codes: Sequence[int] = (),
    ) -> str:
        starts = np.cumsum([0, *(size * len(names) for size, names in enumerate(by_size, start=1))])
        pool: dict[str, Any] = {"pool_strings": strings} if strings else {"pool_int64s": codes}
        return self.graph.add(
            "TfIdfVectorizer",
            source,
            mode="TF",
            min_gram_length=1,
            max_gram_length=len(by_size),
            max_skip_count=0,
            ngram_counts=starts[:-1].tolist(),
            ngram_indexes=[vocabulary[name] for names in by_size for name in names],
            **pool,
        )

    def _tfidf(self, counts: str, weights: FloatArray) -> str:
        """Dampen counts, weight them by rarity and scale each text to unit length, as scikit-learn does."""
        graph, one = self.graph, self.graph.constant(1.0)
        damped = graph.add("Add", graph.add("Log", graph.add("Max", counts, one)), one)
        present = graph.add("Cast", graph.add("Greater", counts, graph.constant(0.0)), to=_FLOAT)
        weighted = graph.add("Mul", graph.add("Mul", damped, present), graph.constant(weights))
        norm = graph.add("ReduceL2", weighted, graph.constant([1]), keepdims=1)
        return graph.add("Div", weighted, graph.add("Max", norm, graph.constant(1e-12)))

    def linear(self, source: str, weights: npt.NDArray[Any]) -> str:
        """Multiply (texts, features) by (options, features) weights."""
        return self.graph.add("MatMul", source, self.graph.constant(np.asarray(weights).T))

    def of_margins(self, margins: str, columns: int, known: IntArray) -> str:
        """Turn margins into probabilities of all options; one margin tells two options apart."""
        graph = self.graph
        if self._independent:
            found = graph.add("Sigmoid", margins)
        elif columns == 1 and len(known) == 2:
            beside = graph.add("Mul", margins, graph.constant(0.0))
            found = graph.add("Softmax", graph.add("Concat", beside, margins, axis=1), axis=-1)
        else:
            found = graph.add("Softmax", margins, axis=-1)
        if len(known) == self._options:
            return found
        places = np.zeros((len(known), self._options), np.float32)
        places[np.arange(len(known)), known] = 1
        return graph.add("MatMul", found, graph.constant(places))

    def pooled(self, first: str, second: str, share: float) -> str:
        """Pool two predictions log-linearly; the second has the share."""
        parts = (
            self.graph.add("Mul", self._scores(one), self.graph.constant(part))
            for one, part in ((first, 1 - share), (second, share))
        )
        return self._normalized(self.graph.add("Add", *parts))

    def calibrated(self, source: str, calibrator: Calibrator) -> str:
        """Apply a calibration."""
        graph = self.graph
        if calibrator.method == "temperature":
            return self._normalized(
                graph.add("Div", self._scores(source), graph.constant(float(calibrator.temperature)))
            )
        if calibrator.method == "platt":
            scaled = graph.add("Mul", self._scores(source), graph.constant(np.array(calibrator.slopes)))
            return self._normalized(graph.add("Add", scaled, graph.constant(np.array(calibrator.offsets))))
        if calibrator.method == "isotonic":
            return self._interpolated(source, calibrator)
        return source

    def _interpolated(self, source: str, calibrator: Calibrator) -> str:
        """Follow the steps of an isotonic calibration: the sum of what each piece adds to the first value."""
        graph = self.graph
        most = max(len(xs) for xs, _ in calibrator.knots)
        starts, ends, slopes = (np.zeros((len(calibrator.knots), most)) for _ in range(3))
        for row, (xs, ys) in enumerate(calibrator.knots):
            pieces = len(xs) - 1
            starts[row, :pieces], ends[row, :pieces] = xs[:-1], xs[1:]
            slopes[row, :pieces] = np.diff(ys) / np.maximum(np.diff(xs), 1e-12)
        wide = graph.add("Unsqueeze", self._clipped(source), graph.constant([2]))
        inside = graph.add("Min", graph.add("Max", wide, graph.constant(starts)), graph.constant(ends))
        steps = graph.add("Mul", graph.add("Sub", inside, graph.constant(starts)), graph.constant(slopes))
        summed = graph.add("ReduceSum", steps, graph.constant([2]), keepdims=0)
        first = graph.constant(np.array([ys[0] for _, ys in calibrator.knots]))
        each = self._clipped(graph.add("Add", summed, first))
        if self._independent:
            return each
        return graph.add("Div", each, graph.add("ReduceSum", each, graph.constant([1]), keepdims=1))

    def _clipped(self, source: str) -> str:
        return self.graph.add("Clip", source, self.graph.constant(EPSILON), self.graph.constant(1 - EPSILON))

    def _scores(self, source: str) -> str:
        """Turn probabilities into logarithms, or log-odds of independent options."""
        clipped = self._clipped(source)
        found = self.graph.add("Log", clipped)
        if not self._independent:
            return found
        rest = self.graph.add("Log", self.graph.add("Sub", self.graph.constant(1.0), clipped))
        return self.graph.add("Sub", found, rest)

    def _normalized(self, scores: str) -> str:
        if self._independent:
            return self.graph.add("Sigmoid", scores)
        return self.graph.add("Softmax", scores, axis=-1)


class Exportable(Protocol):
    """A classifier that can be written as one ONNX graph."""

    @property
    def encoder(self) -> Encoder | None:
        """The sentence encoder that it reads; None if it reads words alone."""
        ...

    def add_to_graph(self, graph: ProbabilityGraph, vectors: str) -> str:
        """Add the steps to its uncalibrated probabilities.

        Args:
            graph: receives the steps.
            vectors: name of the encoder's unit vectors; empty without an encoder.
        """
        ...


def build_classifier_graph(scorer: Exportable, question: Question, calibrator: Calibrator) -> Graph:
    """Build the graph of a classifier with its calibration, from words, characters and tokens to probabilities.

    Args:
        scorer: the classifier.
        question: the question, whose options are the columns.
        calibrator: the calibration that was fitted for it.
    """
    graph = Graph() if scorer.encoder is None else scorer.encoder.graph()
    builder = ProbabilityGraph(graph, question.type == "multi", len(question.values))
    found = scorer.add_to_graph(builder, OUTPUT if scorer.encoder is not None else "")
    graph.output(PROBABILITIES, builder.calibrated(found, calibrator), ["texts", len(question.values)])
    return graph
