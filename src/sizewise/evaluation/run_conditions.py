"""Describes the conditions of a run: time, machine, load, decoding, and what a service says it answered with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sizewise.models.machine import core_count, describe_machine
from sizewise.records import Completion, Evaluation, RunConditions
from sizewise.store.repetitions import number_of


def run_conditions(evaluation_id: str, record: Evaluation, answers: Iterable[Completion]) -> RunConditions:
    """Describe the conditions of a run that has just ended.

    Args:
        evaluation_id: id of the run.
        record: the evaluation.
        answers: its answers, as far as they are known.
    """
    answers = [answer for answer in answers if answer.error is None]
    started = datetime.now(UTC) - timedelta(seconds=record.seconds)
    model, sampling = record.model, record.sampling
    decoding = f"samples:{sampling.samples}, temperature:{sampling.temperature:g}" if sampling else "greedy"
    return RunConditions(
        number=number_of(evaluation_id),
        started=started.isoformat(timespec="seconds"),
        machine=describe_machine(),
        cores=core_count(),
        load_1m=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        decoding=decoding if answers or record.prompting is not None else "",
        hub_commit=model.revision.partition("+")[0] if model.uri.startswith("hf:") else "",
        served_models=dict(Counter(answer.served_model for answer in answers if answer.served_model)),
        fingerprints=dict(Counter(answer.fingerprint for answer in answers if answer.fingerprint)),
    )
