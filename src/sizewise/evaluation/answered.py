"""How far an evaluation that was cut short has come."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import get_args

from sizewise import datasets
from sizewise.datasets.sampling import in_order_of_samples
from sizewise.evaluation.identity import evaluation_ids
from sizewise.evaluation.options import EvaluationOptions
from sizewise.models import open_model
from sizewise.models.prompts import Form
from sizewise.store import Store


def answered_items(model: str, data: str, metrics: Sequence[str], *, options: EvaluationOptions, store: Store) -> int:
    """Count the first test examples, in the order of samples, that a model has answered already.

    An evaluation with this number as its limit needs no further answers.

    Args:
        model: model URI.
        data: dataset id.
        metrics: metrics of the evaluation that was cut short.
        options: its options.
        store: where its answers are kept.
    """
    opened = open_model(model, store=store, engine=options.engine)
    try:
        _, ledger_id = evaluation_ids(opened.describe(), data, tuple(dict.fromkeys(metrics)), None, options)
    finally:
        opened.close()
    examples = in_order_of_samples(datasets.load(store, data).examples["test"], options.seed)
    with store.lock("evaluation", ledger_id), store.ledger("evaluation", ledger_id) as ledger:
        by_form = [ledger.entries(f"test:{form}").keys() for form in get_args(Form)]
    return max(sum(1 for _ in takewhile(keys.__contains__, (one.id for one in examples))) for keys in by_form)
