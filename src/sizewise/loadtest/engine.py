"""load_test_model(): concurrent users send the questions of a test set to an engine in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import perf_counter

import numpy as np

from sizewise import datasets
from sizewise.datasets.sampling import sample_examples
from sizewise.errors import SizewiseError
from sizewise.loadtest.levels import (
    LOAD_VERSION,
    Limits,
    TimedAnswer,
    check_users,
    interval_notes,
    level_of,
    max_users_within_limits,
)
from sizewise.models import Model, open_model
from sizewise.models.base import Piece
from sizewise.models.machine import describe_machine
from sizewise.models.prompts import choose_shots, make_request, stop_texts
from sizewise.progress import Reporter, Silent
from sizewise.records import Evaluation, LoadLevel, LoadTest, Prompting, Request, fingerprint
from sizewise.store import Saved, Store, versions

MIN_REQUESTS, REQUESTS_PER_USER = 12, 4
MAX_LEVEL_S = 90.0
"""Time after which a level starts no new requests, provided that every user has received an answer."""
MAX_VERIFIED_LEVEL_S = 600.0
"""The same, where a number of requests is given, because a limit is to be verified."""
TIMEOUT_S = 600.0
IN_PROCESS = "in this process"


def load_test_model(
    evaluation: str,
    concurrent_users: Sequence[int],
    *,
    limits: Limits | None = None,
    requests: int | None = None,
    store: Store | None = None,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Saved[LoadTest]:
    """Load-test an evaluated model with the questions and prompts of its evaluation, in a closed loop.

    The engine is the one that `sizewise serve` uses, so the latencies are those of the service without its overhead.

    Args:
        evaluation: id of an evaluation with answers, by a model that runs on this machine.
        concurrent_users: numbers of concurrent users, one load level each.
        limits: latency limits of a request.
        requests: requests per level; by default four per user and at least 12. To verify a limit on p95, 72 are needed.
        store: where records are kept; SIZEWISE_HOME by default.
        seed: part of the id; another seed measures again.
        reporter: receives progress.

    Raises:
        UsageError: no number of users is given, or one is below 1.
        SizewiseError: the model doesn't run on this machine, or the evaluation has no answers.
    """
    store, reporter, limits = store or Store(), reporter or Silent(), limits or Limits()
    counts = check_users(concurrent_users)
    measured = store.read(Evaluation, evaluation)
    prompting = _prompting_of(measured, evaluation)
    identity = [evaluation, counts, limits, seed, LOAD_VERSION, *([requests] if requests else [])]
    load_id = f"loadtest-{fingerprint(identity)}"
    if store.exists("loadtest", load_id):
        return store.get(LoadTest, load_id)
    questions = _requests_of(measured, prompting, store)
    model = open_model(measured.model.uri, store=store, engine="auto", say=reporter.say)
    try:
        engine, levels = _run_levels(model, questions, counts, limits, requests, reporter)
    finally:
        model.close()
    record = LoadTest(
        url=IN_PROCESS,
        uri=measured.model.uri,
        model=measured.model.uri,
        engine=engine,
        max_tokens=prompting.max_tokens,
        prompt_words=_mean_words(questions),
        ttft_slo_s=limits.ttft_s,
        tpot_slo_s=limits.tpot_s,
        levels=tuple(levels),
        max_concurrent_users=max_users_within_limits(levels),
        notes=(
            f"The requests are the questions of {measured.data}, with the prompts of {evaluation}.",
            *interval_notes(levels),
        ),
        machine=describe_machine(),
        versions=versions("openvino-genai", "transformers", "torch"),
    )
    return store.write(load_id, record)


def _prompting_of(measured: Evaluation, evaluation: str) -> Prompting:
    """Return how the model was prompted.

    Raises:
        SizewiseError: the model doesn't run on this machine, or the evaluation has no answers.
    """
    description = measured.model
    if not description.local or description.api or description.engine in ("rule", "recorded"):
        raise SizewiseError(
            f"{description.uri} doesn't run on this machine.",
            "a model that runs on this machine",
            "sizewise loadtest URL of its server",
        )
    if measured.prompting is None:
        raise SizewiseError(
            f"{evaluation} has no answers.",
            "an evaluation with a metric that needs answers",
            f"sizewise evaluate {description.uri} --data {measured.data} --metrics chrf",
        )
    return measured.prompting


def _requests_of(measured: Evaluation, prompting: Prompting, store: Store) -> list[Request]:
    """Rebuild the requests of an evaluation."""
    contents = datasets.load(store, measured.data)
    shots = choose_shots(contents, measured.seed)
    stop = stop_texts(contents.examples["train"] or contents.examples["test"])
    examples = sample_examples(contents.examples["test"], measured.limit, measured.seed)
    takes_tools = "tools" in measured.model.offers
    return [
        make_request(example, prompting.form, shots, prompting.max_tokens, stop, takes_tools) for example in examples
    ]


def _mean_words(requests: Sequence[Request]) -> float:
    return float(np.mean([len((request.text or request.messages[-1].content).split()) for request in requests]))


def _run_levels(
    model: Model,
    questions: Sequence[Request],
    counts: Sequence[int],
    limits: Limits,
    number: int | None,
    reporter: Reporter,
) -> tuple[str, list[LoadLevel]]:
    """Run one level per number of users; return the engine and the levels."""
    running = model.describe()
    engine = f"{running.engine}, {running.precision}"
    _time_request(model, questions[0])  # warm up
    levels = []
    for count in counts:
        timed = _run_level(model, questions, count, number, reporter)
        levels.append(level_of(*timed, limits, concurrent_users=count, where=f"engine:{engine}"))
    return engine, levels


def _run_level(
    model: Model, requests: Sequence[Request], concurrent_users: int, number: int | None, reporter: Reporter
) -> tuple[list[TimedAnswer], float]:
    """Send requests from one thread per user; return the timings, and the seconds that the level took."""
    longest_s = MAX_VERIFIED_LEVEL_S if number else MAX_LEVEL_S
    number = number or max(MIN_REQUESTS, REQUESTS_PER_USER * concurrent_users)
    pending: SimpleQueue[Request] = SimpleQueue()
    for i in range(number):
        pending.put(requests[i % len(requests)])
    answers: list[TimedAnswer] = []

    def user() -> None:
        while perf_counter() - begun < longest_s or len(answers) < concurrent_users:
            try:
                request = pending.get_nowait()
            except Empty:
                return
            try:
                answer = _time_request(model, request)
            except Exception as error:  # any failure counts as a failed request of the level
                answer = TimedAnswer(type(error).__name__, 0.0, 0.0, 0, ())
            answers.append(answer._replace(ended_s=perf_counter() - begun))
            reporter.advance(f"Load test, {concurrent_users} users", len(answers), number)

    begun = perf_counter()
    threads = [threading.Thread(target=user, daemon=True) for _ in range(concurrent_users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, perf_counter() - begun


def _time_request(model: Model, request: Request) -> TimedAnswer:
    pieces: SimpleQueue[Piece] = SimpleQueue()
    begun = perf_counter()
    cancel = model.start(request, pieces.put)
    first: float | None = None
    gaps: list[float] = []
    last = begun
    while True:
        try:
            piece = pieces.get(timeout=max(0.0, begun + TIMEOUT_S - perf_counter()))
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
            latency = now - begun
            if piece.end.finish == "error":
                return TimedAnswer(piece.end.error or "error", 0.0, latency, 0, ())
            return TimedAnswer(
                None, first if first is not None else latency, latency, piece.end.completion_tokens, tuple(gaps)
            )
