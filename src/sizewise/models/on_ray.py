"""A model on the machines of a Ray cluster, for measuring: each holds the whole model and gets whole batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from sizewise.errors import ScoringError, SizewiseError
from sizewise.inquiry import CHUNK
from sizewise.launch import requested_launch
from sizewise.launch.ray_cluster import Hosts, adopt, connect, is_here, places, settings_of
from sizewise.models.base import Model, ScoredText, bypass_cache, score_after
from sizewise.models.opening import Engine, open_model
from sizewise.models.wrapper import PromptWrapper
from sizewise.records import Completion, ModelDescription, Request
from sizewise.store import Store

REMOTE_BATCH, REMOTE_BATCHES = (16, 1024), 2
"""Minimum and maximum of requests in a batch to a service, which answers each by itself, and batches for each process.
At the end of each batch a process waits for its slowest answers. What a lost process has received is in the store's
cache of answers, and isn't paid for again. Batches of local models are those of one process."""
PASSED = ("SIZEWISE_OFFLINE", "SIZEWISE_DEVICE", "SIZEWISE_PRECISION", "OMP_NUM_THREADS")
"""Environment variables that apply on the cluster's machines, too. Keys of services don't travel."""


class ScoreJob(NamedTuple):
    """A batch of texts to score."""

    texts: tuple[str, ...]
    after: tuple[int, ...] | None
    prefix: bool


class ModelHost:
    """Holds a model in a process of the cluster. Requests and answers travel as JSON.

    Args:
        uri: model URI.
        home: the store's folder, on a disk that all machines share.
        engine: engine of a local model.
        max_usd: budget of this process for a remote model.
        settings: environment variables and the working folder.
        threads: processor cores of this process.
    """

    def __init__(
        self, uri: str, home: str, engine: Engine, max_usd: float | None, settings: dict[str, str], threads: int = 1
    ) -> None:
        adopt(settings, threads)
        self._model = open_model(uri, store=Store(home), engine=engine, max_usd=max_usd)

    def about(self) -> tuple[str, str]:
        """Return the version of Sizewise, and that of the model."""
        return metadata.version("sizewise"), self._model.describe().revision

    def complete(self, requests: str) -> str:
        """Answer requests."""
        given = [Request.model_validate(request) for request in json.loads(requests)]
        return json.dumps([answer.model_dump(mode="json") for answer in self._model.complete(given)])

    def score(self, texts: Sequence[str], after: Sequence[int] | None, prefix: bool) -> tuple[list[Any], Any]:
        """Score texts; return what was scored, and the failure that ended it."""
        found: list[Any] = []
        try:
            scores = (
                self._model.score(texts, prefix=prefix)
                if after is None
                else score_after(self._model, texts, after, prefix=prefix)
            )
            found.extend((one.nats, one.starts) for one in scores)
        except ScoringError as error:
            return found, (error.what, error.transient)
        return found, None

    def bypass_cache(self) -> None:
        """Make a remote model answer again instead of returning cached answers."""
        bypass_cache(self._model)


class RayModel(PromptWrapper):
    """Answers and scores on a cluster, in the same batches as one process would, so that results are the same.

    Args:
        model: the same model in this process: it describes itself, counts tokens and streams.
        hosts: the processes that hold the model.
    """

    takes_all = True
    """Whether `complete` wants all requests at once."""

    def __init__(self, model: Model, hosts: Hosts) -> None:
        super().__init__(model)
        self._hosts = hosts
        self._jobs: list[ScoreJob] = []
        self._scored: dict[ScoreJob, Any] = {}
        self._scoring: Iterator[tuple[int, Any]] = iter(())

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Generate answers, batch by batch as they arrive."""
        size = CHUNK
        if self.describe().api:
            wanted = -(-len(requests) // (REMOTE_BATCHES * max(1, len(self._hosts))))
            size = min(max(wanted, REMOTE_BATCH[0]), REMOTE_BATCH[1])
        batches = [
            (json.dumps([request.model_dump(mode="json") for request in requests[start : start + size]]),)
            for start in range(0, len(requests), size)
        ]
        for _, answers in self._hosts.run("complete", batches):
            for answer in json.loads(answers):
                yield Completion.model_validate(answer)

    def expect_scores(self, jobs: Sequence[ScoreJob]) -> None:
        """Begin to score batches that will be asked for, in any order."""
        self._jobs, self._scored = list(dict.fromkeys(jobs)), {}
        self._scoring = self._hosts.run("score", [tuple(job) for job in self._jobs])

    def score(self, texts: Sequence[str], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute log-likelihoods of texts."""
        return self._scores(ScoreJob(tuple(texts), None, prefix))

    def score_after(self, texts: Sequence[str], after: Sequence[int], *, prefix: bool = True) -> Iterator[ScoredText]:
        """Compute log-likelihoods of the ends of texts."""
        return self._scores(ScoreJob(tuple(texts), tuple(after), prefix))

    def _scores(self, job: ScoreJob) -> Iterator[ScoredText]:
        while job not in self._scored:
            number, found = next(self._scoring, (None, None))
            if number is None:  # nothing of this kind was expected
                ((_, self._scored[job]),) = self._hosts.run("score", [tuple(job)])
            else:
                self._scored[self._jobs[number]] = found
        scores, failure = self._scored.pop(job)
        for nats, starts in scores:
            yield ScoredText(np.asarray(nats), np.asarray(starts))
        if failure is not None:
            raise ScoringError(failure[0], transient=failure[1])

    def bypass_cache(self) -> None:
        """Make a remote model answer again instead of returning cached answers."""
        super().bypass_cache()
        self._hosts.tell_all("bypass_cache")

    def close(self) -> None:
        """End the processes and close the model."""
        self._hosts.close()
        super().close()


def open_spread(
    uri: str,
    *,
    store: Store,
    engine: Engine = "transformers",
    max_usd: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Model:
    """Open a model for measuring: on the Ray cluster of `use_launch`, or in this process.

    Where the cluster is this machine alone, a local model stays in this process, which has loaded it anyway.

    Args:
        uri: model URI.
        store: where weights and runs live; on a cluster, a folder that all machines share.
        engine: engine of a local model.
        max_usd: budget of a remote model, shared by the processes.
        say: called with one line of progress at a time.

    Raises:
        SizewiseError: the model or the cluster can't be opened, or a node has another version.
    """
    launch = requested_launch()
    model = open_model(uri, store=store, engine=engine, max_usd=max_usd, say=say)
    description = model.describe()
    if launch is None or description.engine == "recorded" or description.role == "baseline":
        return model
    try:
        ray = connect(launch.address)
        if not description.api and is_here(ray, places(ray), launch.address):
            return model
        return RayModel(model, _hosts(uri, store, engine, max_usd, description, launch.address, say))
    except BaseException:
        model.close()
        raise


def _hosts(
    uri: str,
    store: Store,
    engine: Engine,
    max_usd: float | None,
    description: ModelDescription,
    address: str,
    say: Callable[[str], None],
) -> Hosts:
    settings = settings_of(PASSED)

    def arguments(count: int) -> tuple[Any, ...]:
        return uri, str(store.home), engine, None if max_usd is None else max_usd / max(1, count), settings

    say(f"Opening {uri} on the Ray cluster at {address}")
    hosts = Hosts(connect(address), ModelHost, arguments, say)
    expected = (metadata.version("sizewise"), description.revision)
    for found in hosts.about:
        if tuple(found) != expected:
            hosts.close()
            raise SizewiseError(
                f"A node of the cluster has Sizewise {found[0]} and revision '{found[1]}' of {uri}; here it is "
                f"{expected[0]} and '{expected[1]}'.",
                "the same on all nodes",
                "install the same version everywhere, and put SIZEWISE_HOME on a disk that all nodes share",
            )
    say(f"{uri} runs on {len(hosts)} workers of the Ray cluster")
    return hosts
