"""Drift detection: test whether recent prompts still come from the distribution of known prompts."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from scipy.stats import ks_2samp, ttest_ind_from_stats

from sizewise.records import Policy
from sizewise.routing.calibrating import PromptFeatures
from sizewise.routing.features import PromptDistribution, fit_distribution

WINDOW, MIN_WINDOW, TEST_EVERY = 200, 60, 10
"""Prompts in the sliding window, the minimum for a test, and the number of prompts between two tests."""
ALPHA = 1e-4
MAX_PER_CLIENT, MAX_CLIENTS = 10, 1_000

Observation = TypeVar("Observation")


def similarity_p(known: PromptDistribution, similarities: Sequence[float]) -> float:
    """Test whether prompts are as similar to the known ones as these are to each other; Welch's t-test of means."""
    if len(similarities) < 2:
        return 1.0
    recent = (float(np.mean(similarities)), float(np.std(similarities, ddof=1)), len(similarities))
    p = float(ttest_ind_from_stats(*recent, known.mean, known.spread, known.prompts, equal_var=False).pvalue)
    return p if np.isfinite(p) else 1.0


def drift_p(policy: Policy, features: Sequence[PromptFeatures]) -> float:
    """Test whether prompts come from the distribution that a policy was calibrated on.

    Tests the predicted probabilities (two-sample Kolmogorov-Smirnov test) and the similarity of the texts (Welch's
    t-test), and returns the smaller p-value with Bonferroni correction.
    """
    calibration = policy.calibration
    p_values = []
    if features and calibration.spread:
        p_values.append(float(ks_2samp([prompt.probability for prompt in features], calibration.spread).pvalue))
    if len(features) > 1 and calibration.similarity:
        known = PromptDistribution(calibration.centre, *calibration.similarity, calibration.prompts)
        p_values.append(similarity_p(known, [prompt.similarity for prompt in features]))
    return min(1.0, len(p_values) * min(p_values)) if p_values else 1.0


class DriftDetector(Generic[Observation]):
    """Tests a sliding window of observations for drift at regular intervals.

    Args:
        test: computes the p-value of a window; small values indicate drift.
        alpha: significance level.
    """

    def __init__(self, test: Callable[[Sequence[Observation]], float], alpha: float) -> None:
        self._test, self._alpha = test, alpha
        self._window: deque[Observation] = deque(maxlen=WINDOW)
        self.seen = 0
        self.p = 1.0
        self.drifted = False

    def add(self, observation: Observation) -> None:
        """Add an observation; once drift is detected, the state persists until the service restarts."""
        self._window.append(observation)
        self.seen += 1
        if self.seen % TEST_EVERY == 0 and len(self._window) >= MIN_WINDOW:
            self.p = self._test(list(self._window))
            self.drifted = self.drifted or self.p < self._alpha


class PolicyDrift(DriftDetector[PromptFeatures]):
    """Detects drift from the prompts that a policy was calibrated on.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(partial(drift_p, policy), policy.drift_p)


class PerClientDrift:
    """Detects drift from a policy per client, so that one client cannot trigger it for all others.

    Drift of a client's own prompts affects that client. All clients are affected if a pooled sample with at most
    `MAX_PER_CLIENT` recent prompts per client drifts, or if several clients drift and make up at least half of the
    clients with enough prompts.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._clients: OrderedDict[str, PolicyDrift] = OrderedDict()
        self._pooled = PolicyDrift(policy)
        self._pooled_clients: deque[str] = deque(maxlen=WINDOW)

    def add(self, features: PromptFeatures, client: str) -> None:
        """Add a prompt of a client."""
        detector = self._clients.setdefault(client, PolicyDrift(self._policy))
        self._clients.move_to_end(client)
        if len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)
        detector.add(features)
        if self._pooled_clients.count(client) < MAX_PER_CLIENT:
            self._pooled_clients.append(client)
            self._pooled.add(features)

    @property
    def drifted_clients(self) -> list[str]:
        """Clients whose own prompts have drifted."""
        return [client for client, detector in self._clients.items() if detector.drifted]

    @property
    def drifted(self) -> bool:
        """Whether all clients are affected."""
        with_enough = sum(detector.seen >= MIN_WINDOW for detector in self._clients.values())
        drifted = len(self.drifted_clients)
        several = drifted > 1 or (drifted == 1 and len(self._clients) == 1)
        return self._pooled.drifted or (several and 2 * drifted >= with_enough)

    def drifted_for(self, client: str) -> bool:
        """Whether a client is affected, by its own drift or that of all clients."""
        return self.drifted or (client in self._clients and self._clients[client].drifted)

    @property
    def p(self) -> float:
        """Minimum p-value over the pooled sample and all clients."""
        return min([self._pooled.p, *(detector.p for detector in self._clients.values())])


class TrainingDrift(DriftDetector[float]):
    """Detects drift of prompts from the training distribution of a model.

    Args:
        prompts: the prompts of the training examples, at least 20.

    Raises:
        SizewiseError: there are too few prompts.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._known = fit_distribution(prompts)
        super().__init__(partial(similarity_p, self._known), ALPHA)

    def add_prompt(self, prompt: str) -> None:
        """Add a prompt."""
        self.add(self._known.similarity(prompt))
