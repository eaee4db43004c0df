"""explain_decision(): which parts of a text drove the decision of a model of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sizewise.decisions.explaining import (
    MAX_PARTS,
    Effects,
    Predict,
    check_removal,
    removal_effects,
    summed_effects,
)
from sizewise.decisions.scorers import FloatArray
from sizewise.errors import SizewiseError, UsageError
from sizewise.models.base import Model
from sizewise.models.classifier import ClassifierModel
from sizewise.models.deciding import decide
from sizewise.records import Explanation, Message, Passage, Question, Request

MAX_PASSAGES = 20
NOT_CAUSES = (
    "Effects describe the model, not the world: another word may mean the same, and the model would not know it."
)


def explain_decision(
    model: Model,
    text: str,
    *,
    question: Question | None = None,
    option: str | None = None,
    passages: int = 5,
    seed: int = 0,
) -> Explanation:
    """Explain a decision about a text: which words, sentences or passages drove it, and how far.

    Of a linear classifier the effects are exact and cost nothing. Any other model reads up to 40 shortened texts in one
    batch, and up to 6 more to check the explanation.

    Args:
        model: a model that makes decisions.
        text: what is decided about.
        question: the question; by default that of the classifier.
        option: option to explain; by default the most likely one.
        passages: number of passages to list, 1 to 20.
        seed: seed of the random parts that the check removes.

    Raises:
        UsageError: there is no question, it has no such option, or the number of passages is out of range.
        SizewiseError: the model doesn't answer with probabilities.
    """
    if not 1 <= passages <= MAX_PASSAGES:
        raise UsageError(f"The number of passages is {passages}.", f"1 to {MAX_PASSAGES}", "use 5")
    asked = question or model.describe().question
    if asked is None:
        raise UsageError(f"{model.describe().uri} has no question of its own.", "a question with options", "")
    if option is not None and option not in asked.values:
        raise UsageError(f"The question has no option '{option}'.", ", ".join(asked.values[:20]), "")
    trained = model if isinstance(model, ClassifierModel) else None
    predict = _predictor(model, asked) if trained is None else trained.probabilities
    options = list(asked.values if trained is None else trained.question.values)
    row = predict([text])[0]
    allowed = [options.index(value) for value in asked.values]
    place = options.index(option) if option is not None else max(allowed, key=lambda i: row[i])
    attribution = None if trained is None else trained.attribute(text, place)
    if attribution is not None:
        effects = summed_effects(attribution.characters, text, attribution.log_odds)
    else:
        effects = removal_effects(predict if trained is None else trained.uncalibrated, text, place, MAX_PARTS)
    return _explanation(text, options[place], float(row[place]), effects, predict, place, passages, seed)


def _explanation(
    text: str,
    option: str,
    probability: float,
    effects: Effects,
    predict: Predict,
    place: int,
    passages: int,
    seed: int,
) -> Explanation:
    chosen = effects.largest(passages)
    removed = check_removal(predict, text, place, effects, chosen, seed)
    return Explanation(
        option=option,
        probability=probability,
        method="weights" if effects.exact else "removal",
        unit=effects.unit,
        parts=len(effects.spans),
        passages=tuple(
            Passage(start=start, stop=stop, text=text[start:stop], effect=float(effects.values[i]))
            for i in chosen
            for start, stop in [effects.spans[i]]
        ),
        log_odds=effects.log_odds,
        rest=effects.rest,
        without=removed.strongest,
        without_random=removed.random,
        texts=effects.texts + removed.texts,
        notes=(NOT_CAUSES,),
    )


def _predictor(model: Model, question: Question) -> Predict:
    """Return the function that asks a model without weights of its own here for the probabilities of texts."""

    def predict(texts: Sequence[str]) -> FloatArray:
        requests = [
            Request(id=str(i), messages=(Message(role="user", content=text),), max_tokens=0, question=question)
            for i, text in enumerate(texts)
        ]
        rows = []
        for answer in decide(model, requests):
            if answer.probabilities is None:
                reason = answer.error or "it declined, or named none of the options"
                raise SizewiseError(
                    f"{model.describe().uri} gave no probabilities for a shortened text: {reason}.",
                    "a model that answers every text",
                    "",
                )
            rows.append([answer.probabilities.get(value, 0.0) for value in question.values])
        found: FloatArray = np.array(rows, dtype=np.float64).reshape(len(texts), len(question.values))
        return found

    return predict
