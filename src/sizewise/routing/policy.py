"""A policy: a file that says which model answers what, how it decides, and how it did on other prompts."""

from __future__ import annotations

import json
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, ttest_ind_from_stats

from sizewise.errors import SizewiseError, UsageError
from sizewise.records import Calibration, Policy, Replay
from sizewise.records.upgrades import SCHEMA, upgrade
from sizewise.routing.calibrating import Likeness, Look, likeness_of, look_at
from sizewise.routing.labelled import groups_of, mark_of, read_answers, share_of
from sizewise.store import write_atomically

CONFIDENTIAL = "confidential: it does not leave the small model"
LATEST, LEAST_FOR_DRIFT, LOOK_EVERY = 200, 60, 10
DRIFT_P = 1e-4
FEW, MOST_ASKERS = 10, 1_000


class Decision(NamedTuple):
    """Who answers a prompt, and why."""

    model: Literal["small", "large"]
    look: Look
    """What was seen of the prompt."""
    why: str
    may_leave: bool
    """False where the prompt is confidential: no other model may see it, whatever happens."""
    forced: bool = False
    """Whether a rule sends it to the large model, whatever the small one would answer."""


def make_policy(
    calibration: Calibration,
    small: str | None = None,
    large: str | None = None,
    confidential: Sequence[str] = (),
    longest: int | None = None,
) -> Policy:
    """Make a policy of a calibration.

    Raises:
        SizewiseError: the calibration chose no threshold.
        UsageError: a rule is no regular expression.
    """
    if calibration.chosen is None:
        raise SizewiseError(
            "This calibration chose no threshold, so there is nothing to decide by.",
            "a risk that so many prompts can vouch for",
            "sizewise route calibrate FILE.csv --risk 0.05",
        )
    for rule in confidential:
        _check_rule(rule)
    return Policy(
        small=small,
        large=large,
        threshold=calibration.chosen.threshold,
        confidential=tuple(confidential),
        longest=longest,
        calibration=calibration,
    )


def _check_rule(rule: str) -> None:
    try:
        re.compile(rule)
    except re.error as error:
        raise UsageError(f"'{rule}' is no regular expression: {error}.", "a rule such as '(?i)salary'", "") from error


def write_policy(policy: Policy, path: Path) -> None:
    """Write a policy as JSON."""
    write_atomically(path, json.dumps({"schema": SCHEMA} | policy.model_dump(mode="json"), indent=1) + "\n")


def read_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        SizewiseError: it cannot be read, or is none.
    """
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        schema = written.pop("schema", 1)  # the first schema was not written down
        policy = Policy.model_validate(upgrade(written, schema), extra="ignore")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise SizewiseError(
            f"{path} is no policy: {str(error).splitlines()[0]}",
            "a file that --out wrote",
            "sizewise route calibrate FILE.csv --risk 0.02 --out policy.json",
        ) from error
    for rule in policy.confidential:
        _check_rule(rule)
    return policy


@lru_cache(maxsize=64)
def _rule(text: str) -> re.Pattern[str]:
    return re.compile(text)


def decide_prompt(policy: Policy, prompt: str) -> Decision:
    """Decide before anything is answered; needs no model and no network.

    Args:
        policy: what it goes by.
        prompt: the conversation as text; the last question counts for the chance, all of it for the rules.
    """
    look = look_at(policy.calibration, prompt)
    if any(_rule(rule).search(prompt) for rule in policy.confidential):
        return Decision("small", look, CONFIDENTIAL, False)
    if policy.longest is not None and len(prompt) > policy.longest:
        return Decision("large", look, f"longer than {policy.longest:,} characters", True, True)
    said = f"probability {look.probability:.3f} of a good answer"
    if look.probability >= policy.threshold:
        return Decision("small", look, f"{said}, at least {policy.threshold:.3f}", True)
    return Decision("large", look, f"{said}, below {policy.threshold:.3f}", True)


def drift_p(policy: Policy, looks: Sequence[Look]) -> float:
    """Give the p-value of these prompts being like those that the policy was made from.

    Both how sure the router is and how like the letters are may change; the smaller p-value of the two counts, doubled.

    Source: Kolmogorov and Smirnov's test of two samples for the chances, Welch's for the mean likeness; Bonferroni.
    """
    known = policy.calibration
    found = []
    if looks and known.spread:
        found.append(float(ks_2samp([look.probability for look in looks], known.spread).pvalue))
    if len(looks) > 1 and known.similarity:
        like = Likeness(known.centre, *known.similarity, known.prompts)
        found.append(likeness_p(like, [look.similarity for look in looks]))
    return min(1.0, len(found) * min(found)) if found else 1.0


Seen = TypeVar("Seen")


class Watch(Generic[Seen]):
    """Looks every few prompts whether the latest ones are still like those that something was made from.

    Args:
        p_of: gives the p-value of prompts being like those.
        drift_p: below it they have drifted.
    """

    def __init__(self, p_of: Callable[[Sequence[Seen]], float], drift_p: float) -> None:
        self._p_of, self._drift_p = p_of, drift_p
        self._latest: deque[Seen] = deque(maxlen=LATEST)
        self.seen = 0
        self.p = 1.0
        self.drifted = False

    def add(self, one: Seen) -> None:
        """Take one more prompt; once drifted, it stays so until the service starts anew."""
        self._latest.append(one)
        self.seen += 1
        if self.seen % LOOK_EVERY == 0 and len(self._latest) >= LEAST_FOR_DRIFT:
            self.p = self._p_of(list(self._latest))
            self.drifted = self.drifted or self.p < self._drift_p


class DriftWatch(Watch[Look]):
    """Looks whether the latest prompts are still like those that a policy was made from.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(partial(drift_p, policy), policy.drift_p)


class DriftWatches:
    """Looks whether prompts are still like those that a policy was made from, without one asker deciding for all.

    Each asker's own prompts decide for that asker. For all decide a share of at most `FEW` prompts of each asker, or
    several askers whose own prompts have drifted, if they are half of those that asked enough.

    Args:
        policy: the policy.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._own: OrderedDict[str, DriftWatch] = OrderedDict()
        self._of_all = DriftWatch(policy)
        self._counted: deque[str] = deque(maxlen=LATEST)

    def add(self, look: Look, asker: str) -> None:
        """Take one more prompt."""
        own = self._own.setdefault(asker, DriftWatch(self._policy))
        self._own.move_to_end(asker)
        if len(self._own) > MOST_ASKERS:
            self._own.popitem(last=False)
        own.add(look)
        if self._counted.count(asker) < FEW:
            self._counted.append(asker)
            self._of_all.add(look)

    @property
    def askers(self) -> list[str]:
        """Those whose own prompts have drifted."""
        return [name for name, one in self._own.items() if one.drifted]

    @property
    def drifted(self) -> bool:
        """Whether the prompts of all have drifted."""
        enough = sum(one.seen >= LEAST_FOR_DRIFT for one in self._own.values())
        gone = len(self.askers)
        several = gone > 1 or (gone == 1 and len(self._own) == 1)
        return self._of_all.drifted or (several and 2 * gone >= enough)

    def drifted_for(self, asker: str) -> bool:
        """Whether the prompts of all, or this asker's own, have drifted."""
        return self.drifted or (asker in self._own and self._own[asker].drifted)

    @property
    def p(self) -> float:
        """Least p-value of the prompts of one asker, or of all, being like those."""
        return min([self._of_all.p, *(one.p for one in self._own.values())])


class DomainWatch(Watch[float]):
    """Looks whether the latest prompts of a model are like those that it was trained for.

    Args:
        prompts: what stands in its training examples, at least 20.

    Raises:
        SizewiseError: there are too few.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._known = likeness_of(prompts)
        super().__init__(partial(likeness_p, self._known), DRIFT_P)

    def add_prompt(self, prompt: str) -> None:
        """Take one more prompt."""
        self.add(self._known.of(prompt))


def likeness_p(known: Likeness, seen: Sequence[float]) -> float:
    """Give the p-value of prompts being as like the known ones as those are to each other: Welch's test of means."""
    if len(seen) < 2:
        return 1.0
    now = (float(np.mean(seen)), float(np.std(seen, ddof=1)), len(seen))
    p = float(ttest_ind_from_stats(*now, known.mean, known.spread, known.prompts, equal_var=False).pvalue)
    return p if np.isfinite(p) else 1.0


def replay(path: Path, policy: Policy) -> Replay:
    """Let a policy decide on labelled prompts. Prompts that it was learnt from flatter it, and do not count.

    Args:
        path: CSV with `prompt`, `weak_ok`, `strong_ok`.
        policy: the policy.

    Raises:
        SizewiseError: the file is not of this form.
    """
    prompts, weak, strong, _ = read_answers(path)
    new = _new(prompts, policy.calibration, path)
    learnt = 0
    if new.any():
        learnt = len(prompts) - int(new.sum())
        prompts = [prompt for prompt, one in zip(prompts, new, strict=True) if one]
        weak, strong = weak[new], strong[new]
    decisions = [decide_prompt(policy, prompt) for prompt in prompts]
    small = np.array([decision.model == "small" for decision in decisions])
    worse = small & (strong > weak)
    alone = max(float(weak.mean()), float(strong.mean()))
    drawn = float(small.mean()) * weak.mean() + (1 - float(small.mean())) * strong.mean()
    risk = policy.calibration.risk
    rate = partial(share_of, different=int(groups_of(prompts).max()) + 1)
    return Replay(
        source=path.name,
        prompts=len(prompts),
        small_share=rate("small_share", small.mean()),
        quality=rate("quality", np.where(small, weak, strong).mean()),
        worse=rate("worse", worse.mean()),
        best_single=rate("best_single", alone),
        random=rate("random", drawn),
        oracle=rate("oracle", np.maximum(weak, strong).mean()),
        calls_saved=rate("calls_saved", small.mean()),
        risk=risk,
        kept=None if risk is None or not new.any() else bool(worse.mean() <= risk),
        drift=drift_p(policy, [decision.look for decision in decisions]),
        confidential=sum(not decision.may_leave for decision in decisions),
        learnt=learnt,
        new=bool(new.any()),
    )


def _new(prompts: Sequence[str], known: Calibration, path: Path) -> npt.NDArray[np.bool_]:
    """Say which prompts the router was not learnt from: (prompts,)."""
    if not known.marks:  # a policy of before has the name of its file alone
        return np.full(len(prompts), known.source != path.name)
    marks = set(known.marks)
    return np.array([mark_of(prompt) not in marks for prompt in prompts])
