"""load_test_model(): many users at once ask a model of this machine what the test set asks, without a connection."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np

from sizewise import datasets
from sizewise.datasets.sampling import sample_examples
from sizewise.errors import SizewiseError, UsageError
from sizewise.loadtest.levels import Limits, TimedAnswer, level_of
from sizewise.models import Model, open_model
from sizewise.models.base import Piece
from sizewise.models.prompts import choose_shots, make_request, stop_texts
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, LoadTest, Request, fingerprint
from sizewise.store import Saved, Store, versions

LEAST_REQUESTS, REQUESTS_A_USER = 12, 3
MOST_S = 90.0
"""After so long no further request is begun at a level, once every user has had an answer."""
TIMEOUT_S = 600.0
IN_PROCESS = "in this process"


def load_test_model(
    evaluation: str,
    concurrent_users: Sequence[int],
    *,
    limits: Limits | None = None,
    store: Store | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Saved[LoadTest]:
    """Let users ask a measured model the questions of its test set, in the prompts it was measured with.

    The engine is the one that `sizewise serve` takes, so this is what the service has before its own milliseconds.

    Args:
        evaluation: id of an evaluation of a model of this machine, with answers.
        concurrent_users: numbers of users at once, each asking again when answered.
        limits: what users bear.
        store: where records live; by default SIZEWISE_HOME.
        seed: seed of the sample and of the resampling.
        reporter: told how far it is.

    Raises:
        UsageError: there are no users.
        SizewiseError: the model answers elsewhere, or nothing was asked of it.
    """
    store, reporter, limits = store or Store(), reporter or Silent(), limits or Limits()
    if not concurrent_users or min(concurrent_users) < 1:
        raise UsageError("There is nobody to ask.", "--concurrency 1,8", "")
    measured = store.read(Evaluation, evaluation)
    description, prompting = measured.model, measured.prompting
    if not description.local or description.api or description.engine in ("rule", "recorded"):
        raise SizewiseError(
            f"{description.uri} does not answer on this machine.", "a model that runs here",
            "sizewise loadtest URL, where it is served",
        )  # fmt: skip
    if prompting is None:
        raise SizewiseError(f"{evaluation} holds no answers.", "an evaluation with metrics of answers", "")
    load_id = f"loadtest-{fingerprint([evaluation, sorted(set(concurrent_users)), limits, seed])}"
    if store.exists("loadtest", load_id):
        return store.get(LoadTest, load_id)
    contents = datasets.load(store, measured.data)
    shots = choose_shots(contents, measured.seed)
    stop = stop_texts(contents.examples["train"] or contents.examples["test"])
    examples = sample_examples(contents.examples["test"], measured.limit, measured.seed)
    requests = [make_request(one, prompting.form, shots, prompting.max_tokens, stop) for one in examples]
    model = open_model(description.uri, store=store, engine="auto", say=reporter.say)
    try:
        running = model.describe()
        engine = f"{running.engine}, {running.precision}"
        _ask(model, requests[0])
        levels = []
        for count in sorted(set(concurrent_users)):
            number = max(LEAST_REQUESTS, REQUESTS_A_USER * count)
            answers, seconds = _together(model, [requests[i % len(requests)] for i in range(number)], count, reporter)
            levels.append(
                level_of(answers, seconds, limits, concurrent_users=count, where=f"engine:{engine}", seed=seed)
            )
    finally:
        model.close()
    good = [
        one.concurrent_users
        for one in levels
        if one.concurrent_users and (one.scores["within_limits"].value or 0) >= 0.95
    ]
    record = LoadTest(
        url=IN_PROCESS,
        uri=description.uri,
        model=description.uri,
        engine=engine,
        max_tokens=prompting.max_tokens,
        prompt_words=float(np.mean([len((one.text or one.messages[-1].content).split()) for one in requests])),
        ttft_slo_s=limits.ttft_s,
        tpot_slo_s=limits.token_s,
        levels=tuple(levels),
        max_concurrent_users=max(good) if good else None,
        notes=(f"questions of {measured.data}, as {evaluation} asked them",),
        versions=versions("openvino-genai", "transformers", "torch"),
    )
    return store.write(load_id, record)


def _together(
    model: Model, requests: Sequence[Request], concurrent_users: int, reporter: Reporter
) -> tuple[list[TimedAnswer], float]:
    """Let threads, one a user, take turns at requests; give their answers, and the seconds of all."""
    left: SimpleQueue[Request] = SimpleQueue()
    for request in requests:
        left.put(request)
    answers: list[TimedAnswer] = []

    def user() -> None:
        while perf_counter() - begun < MOST_S or len(answers) < concurrent_users:
            try:
                request = left.get_nowait()
            except Empty:
                return
            try:
                answers.append(_ask(model, request))
            except Exception as error:  # a user's failure is one of the level, whatever it is
                answers.append(TimedAnswer(type(error).__name__, 0.0, 0.0, 0, ()))
            reporter.advance(f"{concurrent_users} users at once", len(answers), len(requests))

    begun = perf_counter()
    threads = [threading.Thread(target=user, daemon=True) for _ in range(concurrent_users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, perf_counter() - begun


def _ask(model: Model, request: Request) -> TimedAnswer:
    pieces: SimpleQueue[Piece] = SimpleQueue()
    begun = perf_counter()
    cancel = model.start(request, pieces.put)
    first: float | None = None
    gaps: list[float] = []
    last = begun
    while True:
        try:
            piece = pieces.get(timeout=TIMEOUT_S)
        except Empty:
            cancel()
            return TimedAnswer("timed out", 0.0, TIMEOUT_S, 0, ())
        now = perf_counter()
        if piece.text:
            if first is None:
                first = now - begun
            else:
                gaps.append(now - last)
            last = now
        if piece.end is not None:
            whole = now - begun
            if piece.end.finish == "error":
                return TimedAnswer(piece.end.error or "error", 0.0, whole, 0, ())
            return TimedAnswer(
                None, first if first is not None else whole, whole, piece.end.completion_tokens, tuple(gaps)
            )
